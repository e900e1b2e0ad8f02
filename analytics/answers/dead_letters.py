"""What could not be booked, from the view `dead_letters` of the newest snapshot."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from voicecosts.analytics.answers.states import schema_of
from voicecosts.analytics.errors import NotALedger
from voicecosts.analytics.snapshot.connection import closing, open_newest, read

if TYPE_CHECKING:
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

FIRST_SCHEMA: Final = 7
"""Ledgers before it kept the bytes in the table, and counted a batch as one."""

_GROUPS: Final = """
SELECT
    reason, project, count(*), sum(events)::BIGINT, coalesce(sum(bytes), 0)::BIGINT,
    count(*) FILTER (payload_state = 'kept'), min(received_at), max(received_at),
    arg_max(id, received_at), arg_max(detail, received_at)
FROM dead_letters
WHERE state = 'open'
GROUP BY reason, project
ORDER BY sum(events) DESC, reason, project
"""

_LETTERS: Final = """
SELECT
    id, state, reason, detail, received_at, project, subject, stream_sequence, event_index, events,
    producer_id, batch_number, bytes, sha256, payload_state, file, place
FROM dead_letters
WHERE starts_with(id, $1)
ORDER BY received_at DESC
LIMIT 100
"""


class Group(Struct, frozen=True):
    """The open letters of one reason and project; `detail` and `example` are of the newest."""

    reason: str
    project: str | None
    letters: int
    events: int
    bytes: int
    kept: int
    first_at: datetime
    last_at: datetime
    example: str
    detail: str


class Letter(Struct, frozen=True):
    """One letter, open or not."""

    id: str
    state: str
    reason: str
    detail: str
    received_at: datetime
    project: str | None
    subject: str
    stream_sequence: int
    event_index: int
    events: int
    producer_id: str | None
    batch_number: int | None
    bytes: int | None
    sha256: str | None
    payload_state: str
    file: str | None
    place: int | None


def groups(data_dir: Path | None) -> list[Group]:
    """Return the open letters by reason and project, those of most events first."""
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        _require_schema(connection, snapshot)
        found = read(
            connection,
            snapshot.path,
            _GROUPS,
            row=tuple[str, str | None, int, int, int, int, datetime, datetime, str, str],
        )
    return [Group(*row) for row in found]


def letters(data_dir: Path | None, letter_id: str) -> tuple[list[Letter], Path]:
    """Return the letters whose id begins so, and the snapshot that was read."""
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        _require_schema(connection, snapshot)
        found = read(
            connection,
            snapshot.path,
            _LETTERS,
            [letter_id],
            row=tuple[
                str, str, str, str, datetime, str | None, str, int, int, int,
                str | None, int | None, int | None, str | None, str, str | None, int | None,
            ],
        )  # fmt: skip
    return [Letter(*row) for row in found], snapshot.path


def _require_schema(connection: Connection, snapshot: Snapshot) -> None:
    if schema_of(connection, snapshot) < FIRST_SCHEMA:
        raise NotALedger(
            snapshot.path, "an earlier version wrote it; start the ledger once, which upgrades it"
        )
