"""What waits in the outboxes of a host, file by file. Nothing is changed by looking.

Files of living processes change while they are read, and vanish; the counts are of one moment.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from voicecosts.producer.errors import OutboxError
from voicecosts.producer.outbox.lock import DATABASE, is_held, label
from voicecosts.producer.outbox.quarantine import NAME
from voicecosts.producer.outbox.rescue import DAMAGED
from voicecosts.producer.outbox.row import EMBEDDED, ROW_BYTES, border, listed, read_only

_COUNT: Final = """
SELECT count(*), coalesce(sum(events), 0), coalesce(sum(length(data) + ?), 0), min(stored_at)
FROM messages
WHERE number > ?
"""
_QUARANTINED: Final = "SELECT count(*), coalesce(sum(events), 0) FROM messages"
_REASONS: Final = "SELECT reason FROM messages GROUP BY reason ORDER BY count(*) DESC LIMIT 3"


class Waiting(Struct, frozen=True, kw_only=True):
    """One outbox. `bytes` count as in the bound; `oldest_at` is in microseconds since 1970, UTC.

    `destination` says in words where the messages go. `pid` is of the process that holds the file,
    or held it last. `problem` says why its messages could not be counted.
    """

    path: Path
    destination: str
    is_embedded: bool
    is_held: bool
    pid: int
    messages: int = 0
    events: int = 0
    bytes: int = 0
    oldest_at: int | None = None
    problem: str | None = None


class Quarantined(Struct, frozen=True, kw_only=True):
    """Messages that no server will ever take, and the most frequent reasons."""

    path: Path
    messages: int
    events: int
    reasons: tuple[str, ...]


def outboxes(folder: Path) -> list[Waiting]:
    """Return every outbox of `folder`; an empty list when there is no such folder.

    Raises:
        OutboxUnavailable: The folder cannot be listed.
    """
    return [_counted(path) for path in listed(folder) if path.match(f"*-*{DATABASE}")]


def unsent(folder: Path, stored_before: int) -> int:
    """Return how many messages for servers wait since before a moment, in microseconds since 1970.

    What cannot be counted counts as one message.

    Raises:
        OutboxUnavailable: The folder cannot be listed.
    """
    total = 0
    for path in listed(folder):
        is_ours = path.match(f"*-*{DATABASE}") and not path.name.startswith(f"{EMBEDDED}-")
        if is_ours and label(path).held_bytes:
            found = _counted(path)
            waits = found.oldest_at is not None and found.oldest_at < stored_before
            total += 1 if found.problem else found.messages * waits
    return total


def quarantine(folder: Path) -> Quarantined | None:
    """Return what is quarantined, `None` when nothing is."""
    path = folder / NAME
    if not path.exists():
        return None
    with border(path), contextlib.closing(read_only(path)) as db:
        messages, events = db.execute(_QUARANTINED).fetchone()
        reasons = tuple(reason for (reason,) in db.execute(_REASONS))
    if not messages:
        return None
    return Quarantined(path=path, messages=messages, events=events, reasons=reasons)


def damaged(folder: Path) -> list[Path]:
    """Return the files that were set aside because they are damaged."""
    return [path for path in listed(folder) if path.name.endswith(f"{DATABASE}{DAMAGED}")]


def _counted(path: Path) -> Waiting:
    known = label(path)
    found = Waiting(
        path=path,
        destination=known.destination or "a server that is not on its label",
        is_embedded=path.name.startswith(f"{EMBEDDED}-"),
        is_held=is_held(path),
        pid=known.pid,
    )
    try:
        with border(path), contextlib.closing(read_only(path)) as db:
            row = db.execute(_COUNT, (ROW_BYTES, known.booked)).fetchone()
    except OutboxError as error:
        return replace(found, problem=error.reason)
    messages, events, held_bytes, oldest_at = row
    return replace(found, messages=messages, events=events, bytes=held_bytes, oldest_at=oldest_at)
