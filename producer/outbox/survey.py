"""What waits in the outboxes of a host, file by file, for people and for decisions. It only looks.

Files of living processes change while they are read, and go away; what is said is of one moment.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from voicecosts.producer.errors import OutboxError
from voicecosts.producer.outbox.lock import DATABASE, is_held, label
from voicecosts.producer.outbox.quarantine import NAME
from voicecosts.producer.outbox.rescue import DAMAGED
from voicecosts.producer.outbox.row import EMBEDDED, ROW_BYTES, border

_COUNT: Final = """
SELECT count(*), coalesce(sum(events), 0), coalesce(sum(length(data) + ?), 0), min(stored_at)
FROM messages
WHERE number > ?
"""
_REFUSED: Final = "SELECT count(*), coalesce(sum(events), 0) FROM messages"
_REASONS: Final = "SELECT reason FROM messages GROUP BY reason ORDER BY count(*) DESC LIMIT 3"


class Waiting(Struct, frozen=True, kw_only=True):
    """One outbox. `bytes` count as in the bound; `oldest_at` is in microseconds since 1970, UTC.

    `pid` is of the process that has the file, or had it when it died. `problem` says why its
    messages could not be counted.
    """

    path: Path
    target: str
    is_embedded: bool
    is_held: bool
    pid: int
    messages: int = 0
    events: int = 0
    bytes: int = 0
    oldest_at: int | None = None
    problem: str | None = None


class PutAway(Struct, frozen=True, kw_only=True):
    """What no server will ever take, and the most frequent reasons."""

    path: Path
    messages: int
    events: int
    reasons: tuple[str, ...]


def outboxes(folder: Path) -> list[Waiting]:
    """Return every outbox of `folder`; an empty list when there is no such folder.

    Raises:
        OutboxUnavailable: The folder cannot be looked through.
    """
    return [_looked_at(path) for path in _listed(folder) if path.match(f"*-*{DATABASE}")]


def quarantine(folder: Path) -> PutAway | None:
    """Return what was put away, `None` when there is nothing."""
    path = folder / NAME
    if not path.exists():
        return None
    with border(path), contextlib.closing(_opened(path)) as db:
        messages, events = db.execute(_REFUSED).fetchone()
        reasons = tuple(reason for (reason,) in db.execute(_REASONS))
    if not messages:
        return None
    return PutAway(path=path, messages=messages, events=events, reasons=reasons)


def damaged(folder: Path) -> list[Path]:
    """Return the files that were set aside because they could not be read whole."""
    return [path for path in _listed(folder) if path.name.endswith(f"{DATABASE}{DAMAGED}")]


def _listed(folder: Path) -> list[Path]:
    with border(folder):
        try:
            return sorted(folder.iterdir())
        except FileNotFoundError:
            return []


def _looked_at(path: Path) -> Waiting:
    told = label(path)
    found = Waiting(
        path=path,
        target=told.target or "a server that is not on its label",
        is_embedded=path.name.startswith(f"{EMBEDDED}-"),
        is_held=is_held(path),
        pid=told.pid,
    )
    try:
        with border(path), contextlib.closing(_opened(path)) as db:
            row = db.execute(_COUNT, (ROW_BYTES, told.booked)).fetchone()
    except OutboxError as error:
        return replace(found, problem=error.reason)
    messages, events, held_bytes, oldest_at = row
    return replace(found, messages=messages, events=events, bytes=held_bytes, oldest_at=oldest_at)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1.0)
