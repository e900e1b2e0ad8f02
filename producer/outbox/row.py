"""The parts of an outbox file that need no open outbox: its rows, its name, and its errors.

A row carries a checksum over what is sent, because SQLite keeps none. Errors of SQLite and of the
file system end at `border`: they become `OutboxUnavailable` (the disk is full or read-only) or
`OutboxDamaged` (the file is not what was written).
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import ValidationError, convert

from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.errors import OutboxDamaged, OutboxUnavailable
from voicecosts.producer.outbox.lock import DATABASE
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.settings import mask

ROW_BYTES: Final = 200
"""What a message counts for beside its data: ids, subject, numbers, and its share of a page."""

COLUMNS: Final = "number, id, subject, events, checksum, data"
"""What `whole` reads, in its order."""

EMBEDDED: Final = "local"
"""The id of the destination without servers: a ledger of this host."""

ANY_DESTINATION: Final = "*"
"""Matches every id of a destination."""

_PASSWORD: Final = re.compile(r"(//[^:@/]+):[^@]*@")
_MISSING: Final = re.compile(r"no such (table|column)")
_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def cost(message: Packed) -> int:
    """Return what a message counts for in the bound of the outbox."""
    return len(message.data) + ROW_BYTES


def checksum(message: Packed) -> int:
    """Return a checksum over what is sent."""
    names = f"{message.message_id} {message.subject}".encode()
    return zlib.crc32(message.data, zlib.crc32(names))


def whole(row: Sequence[Any]) -> Packed | None:
    """Return the message in a row, `None` when the row is not as it was written."""
    number, message_id, subject, events, stored_checksum, data = row
    if number < 1:
        return None
    try:
        message = convert(
            {
                "subject": subject,
                "message_id": message_id,
                "data": data,
                "events": events,
                "batch_number": number,
            },
            Packed,
        )
    except ValidationError:
        return None
    return message if checksum(message) == stored_checksum else None


def remove(path: Path) -> None:
    """Remove a database and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink()


def destination_id(config: ProducerConfig) -> str:
    """Return a short id of the servers that a configuration publishes to, and of its user.

    A new password or token does not change it: what waits is then sent with the new one.
    """
    if config.is_embedded:
        return EMBEDDED
    servers = sorted(
        _PASSWORD.sub(r"\1@", url) if _PASSWORD.search(url) else mask(url) for url in config.servers
    )
    text = "\n".join([*servers, config.credentials or ""])
    # A path may hold any bytes, so this text may be one that UTF-8 does not know.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def file_of(folder: Path, destination: str, producer_id: str) -> Path:
    """Return where a producer keeps its messages; `destination` is an id."""
    return folder / f"{destination}-{producer_id}{DATABASE}"


def listed(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted; nothing where there is no such folder.

    Raises:
        OutboxUnavailable: The folder cannot be listed.
    """
    with border(folder):
        try:
            return sorted(folder.iterdir())  # `glob` would pass over a folder it may not read
        except FileNotFoundError:
            return []


def read_only(path: Path) -> sqlite3.Connection:
    """Open a file that another process may be writing; raises errors of SQLite."""
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1.0)
    db.text_factory = as_text
    return db


def as_text(raw: bytes) -> str:
    """Return text of a file that may be damaged."""
    return raw.decode("utf-8", "replace")


@contextlib.contextmanager
def border(path: Path) -> Iterator[None]:
    """Translate errors of SQLite and of the file system."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _DAMAGE or _MISSING.match(str(error)):
            raise OutboxDamaged(path, str(error)) from error
        raise OutboxUnavailable(path, str(error)) from error
    except OSError as error:
        raise OutboxUnavailable(path, error.strerror or str(error)) from error
