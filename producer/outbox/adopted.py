"""Outboxes of processes that are gone: each is taken over by exactly one that lives.

The claim on a file ends with its process, so a file whose claim can be had is an orphan. Only files
for the same destination are taken: what was meant for one server is never sent to another. A
damaged file is set aside, and what can be read from it goes on under its own ids. Whatever happens
here, a message is in at least one file until JetStream has acknowledged it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from voicecosts.producer.config import ProducerConfig, mask
from voicecosts.producer.errors import OutboxDamaged, OutboxError, OutboxUnavailable
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.lock import DATABASE, LOCK, Claim, label
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.outbox.row import COLUMNS, as_text, border, file_of, remove, whole

DAMAGED: Final = ".damaged"
EMBEDDED: Final = "local"
"""The destination of a configuration without servers: a ledger of this host."""

EVERYWHERE: Final = "*"
"""Any destination."""

_PIECE: Final = 64
_PASSWORD = re.compile(r"(//[^:@/]+):[^@]*@")

logger = logging.getLogger(__name__)


def destination(config: ProducerConfig) -> str:
    """Return a name for where a configuration publishes to, and with whose right.

    The same after a password or a token changed: what waits is then sent with the new one.
    """
    if config.is_embedded:
        return EMBEDDED
    servers = sorted(
        _PASSWORD.sub(r"\1@", url) if _PASSWORD.search(url) else mask(url) for url in config.servers
    )
    text = "\n".join([*servers, config.credentials or ""])
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def adopt(folder: Path, place: str, *, now_us: int, most_bytes: int | None = None) -> Outbox | None:
    """Take over an orphan for the destination `place`; `None` when there is none now.

    With `most_bytes` only files up to that size are looked at.
    """
    for path in sorted(folder.glob(f"{place}-*{DATABASE}")):
        try:
            if most_bytes is not None and path.stat().st_size > most_bytes:
                continue
            # 1. The claim is ours or this raises. From here on nobody else touches the file, and
            #    if we die, the claim ends with us and the next process starts again.
            outbox: Outbox | None = Outbox.adopt(path)
        except (OutboxUnavailable, FileNotFoundError):
            continue  # its owner lives, or has just ended in order
        except OutboxDamaged as error:
            outbox = rescue(error, now_us=now_us)
        if outbox is None:
            continue
        if outbox.rows:
            return outbox
        outbox.close()  # its owner died between its last acknowledgement and its end
    _sweep(folder, place)
    return None


def absorb(outbox: Outbox, orphan: Outbox) -> int:
    """Move the messages of one orphan into another, so that many small files become one.

    Returns how many events were damaged and left out.

    Raises:
        OutboxError: One of the two cannot be read or written; nothing is lost.
    """
    logger.debug("absorbing %r", orphan)
    oldest_at = orphan.oldest_at or 0
    lost = 0
    try:
        while True:
            messages, damaged = orphan.oldest(_PIECE)
            if not messages and not damaged:
                return lost
            # 1. Committed here, under their own ids and new row numbers. If we die now they are
            #    in both files, and sent twice under one id.
            outbox.add(outbox.renumbered(messages), now_us=oldest_at)
            # 2. Only now they leave the other file.
            orphan.remove(messages)
            lost += left_out(orphan, damaged)
    finally:
        orphan.close()


def left_out(outbox: Outbox, damaged: list[int]) -> int:
    """Remove damaged messages, say so, and return how many events that costs.

    A checksum that is wrong could be a wrong sum.
    """
    if not damaged:
        return 0
    lost = outbox.discard(damaged)
    logger.error(
        "%d messages with %d events in %r are damaged and left out", len(damaged), lost, outbox
    )
    return lost


def rescue(damage: OutboxError, *, now_us: int) -> Outbox | None:
    """Set a damaged file aside; return an outbox with what could be read from it, if anything."""
    path = damage.path
    try:
        claim = Claim(path)
    except OutboxUnavailable:
        return None  # somebody else is at it
    if not path.exists():
        claim.release(remove=True)
        return None
    fresh: Outbox | None = None
    try:
        # 1. Everything readable is committed to a new file, which we hold. If we die here, both
        #    files are found again; a message that is in both has the same id in both.
        place = path.name.partition("-")[0]
        file = file_of(path.parent, place, secrets.token_hex(8))
        fresh = Outbox.create(file, target=label(path).target)
        for piece in _readable(path):
            fresh.add(piece, now_us=now_us)
        # 2. Only now the damaged file leaves the place where it would be looked for.
        aside = _set_aside(path)
    except OutboxUnavailable as error:
        logger.warning("the damaged outbox %s stays where it is: %s", path, error.reason)
        claim.release(remove=False)
        if fresh is not None:
            remove(fresh.path)
            fresh.claim.release(remove=True)
        return None
    claim.release(remove=True)
    logger.error(
        "the outbox %s is damaged (%s): %d messages could be read and are published, "
        "the rest is kept in %s",
        path,
        damage.reason,
        fresh.rows,
        aside,
    )
    return fresh


def _readable(path: Path) -> Iterator[list[Packed]]:
    """Yield what can be read: from the front up to the damage, then from the back down to it."""
    low, high = 0, 2**62
    for order in ("ASC", "DESC"):
        query = (
            f"SELECT {COLUMNS} FROM messages WHERE number > ? AND number < ? "  # noqa: S608 - our own text
            f"ORDER BY number {order} LIMIT ?"
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
                break  # nothing is left, or a damaged tree that turns in circles
            bounds = low, high
            low, high = (edge, high) if order == "ASC" else (low, edge)
            # A damaged tree may return rows that were not asked for.
            asked = [row for row in rows if bounds[0] < row[0] < bounds[1]]
            yield [message for row in asked if (message := whole(row)) is not None]


def _rows(path: Path, query: str, parameters: tuple[int, ...]) -> list[tuple[Any, ...]]:
    with border(path), contextlib.closing(sqlite3.connect(path)) as db:
        db.text_factory = as_text
        db.execute(
            "PRAGMA writable_schema = ON"
        )  # else a file that is cut short is not read at all
        return db.execute(query, parameters).fetchall()


def _set_aside(path: Path) -> Path:
    aside = path.with_name(path.name + DAMAGED)
    with border(path):
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def _sweep(folder: Path, place: str) -> None:
    """Remove locks whose file is gone: their process died while it ended."""
    for path in folder.glob(f"{place}-*{LOCK}"):
        database = path.with_suffix(DATABASE)
        if not database.exists():
            with contextlib.suppress(OutboxUnavailable):
                Claim(database).release(remove=not database.exists())
