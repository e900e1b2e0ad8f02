"""What to do with damage: drop a message, or set a file aside and go on with what can be read.

Messages that are read from a damaged file keep their ids.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from voicecosts.producer.errors import OutboxDamaged, OutboxUnavailable
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.lock import Lock, label
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.outbox.row import COLUMNS, as_text, border, file_of, remove, whole

DAMAGED: Final = ".damaged"

_PIECE: Final = 64

logger = logging.getLogger(__name__)


def drop_damaged(outbox: Outbox, damaged: list[int]) -> int:
    """Remove messages by number, log that, and return how many events are lost.

    A message with a wrong checksum is never sent: it could hold a wrong sum.
    """
    if not damaged:
        return 0
    lost = outbox.discard(damaged)
    logger.error(
        "damaged messages in the outbox %s are dropped; messages: %d, events in them: %d",
        outbox.path,
        len(damaged),
        lost,
    )
    return lost


def rescue(damage: OutboxDamaged, *, now_us: int) -> Outbox | None:
    """Set a damaged file aside; return an outbox with what could be read from it, if anything."""
    path = damage.path
    try:
        lock = Lock(path)
    except OutboxUnavailable:
        return None  # another process is at work on it
    if not path.exists():
        lock.release(remove=True)
        return None
    fresh: Outbox | None = None
    try:
        # 1. Everything readable is committed to a new file, which we hold. If we die here, both
        #    files are found again; a message that is in both has the same id in both.
        destination = path.name.partition("-")[0]
        file = file_of(path.parent, destination, secrets.token_hex(8))
        fresh = Outbox.create(file, destination=label(path).destination)
        for piece in _readable(path):
            fresh.add(piece, now_us=now_us)
        # 2. Only now the damaged file gets a name under which no process looks for it.
        aside = _set_aside(path)
    except OutboxUnavailable as error:
        logger.warning("the damaged outbox %s stays where it is: %s", path, error.reason)
        lock.release(remove=False)
        if fresh is not None:
            remove(fresh.path)
            fresh.lock.release(remove=True)
        return None
    lock.release(remove=True)
    logger.error(
        "the outbox %s is damaged (%s): what can be read is published, messages: %d; the rest is "
        "kept in %s",
        path,
        damage.reason,
        fresh.rows,
        aside,
    )
    return fresh


def _readable(path: Path) -> Iterator[list[Packed]]:
    """Yield what can be read: from the front up to the damage, then from the end down to it."""
    low, high = 0, 2**62
    for order in ("ASC", "DESC"):
        query = (
            f"SELECT {COLUMNS} FROM messages "  # noqa: S608 - our own text
            f"WHERE number > ? AND number < ? ORDER BY number {order} LIMIT ?"
        )
        size = _PIECE
        while size:
            try:
                rows = _rows(path, query, (low, high, size))
            except OutboxDamaged:
                size = 0 if size == 1 else 1  # row by row up to the one that cannot be read
                continue
            edge = rows[-1][0] if rows else low
            if not low < edge < high:
                break  # nothing is left, or the damaged tree has a cycle
            bounds = low, high
            low, high = (edge, high) if order == "ASC" else (low, edge)
            # A damaged tree may return rows that were not asked for.
            asked = [row for row in rows if bounds[0] < row[0] < bounds[1]]
            yield [message for row in asked if (message := whole(row)) is not None]


def _rows(path: Path, query: str, parameters: tuple[int, ...]) -> list[tuple[Any, ...]]:
    with border(path), contextlib.closing(sqlite3.connect(path)) as db:
        db.text_factory = as_text
        # Otherwise SQLite refuses a file that is cut short.
        db.execute("PRAGMA writable_schema = ON")
        return db.execute(query, parameters).fetchall()


def _set_aside(path: Path) -> Path:
    aside = path.with_name(path.name + DAMAGED)
    with border(path):
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside
