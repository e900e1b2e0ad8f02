"""Messages that no server will ever take, kept on this host with the reason, for a person to read.

One file for all processes, beside the outboxes and outside of their bound: at most a thousand
messages and 16 MB, the oldest make way. Nothing reads it back by itself.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

from producer.outbox_file import border
from producer.packing import Packed

NAME: Final = "quarantine.db"
_MOST_MESSAGES: Final = 1000
_MOST_BYTES: Final = 16 * 2**20
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS messages (
    id         TEXT PRIMARY KEY,
    subject    TEXT    NOT NULL,
    events     INTEGER NOT NULL,
    refused_at INTEGER NOT NULL,  -- microseconds since 1970, UTC
    reason     TEXT    NOT NULL,
    data       BLOB    NOT NULL
)
"""
_MAKE_ROOM: Final = """
DELETE FROM messages WHERE id IN (
    SELECT id FROM (
        SELECT
            id,
            row_number() OVER newest_first AS place,
            sum(length(data)) OVER newest_first AS bytes
        FROM messages
        WINDOW newest_first AS (ORDER BY refused_at DESC, rowid DESC)
    )
    WHERE place > ? OR bytes > ?
)
"""


def put_away(folder: Path, message: Packed, reason: str, *, now_us: int) -> None:
    """Keep a message with the reason why it was refused; doing it again changes nothing.

    Raises:
        OutboxError: The disk does not allow it.
    """
    path = folder / NAME
    row = (message.message_id, message.subject, message.events, now_us, reason, message.data)
    with border(path), contextlib.closing(sqlite3.connect(path, timeout=2.0)) as db, db:
        path.chmod(0o600)
        db.execute(_SCHEMA)
        db.execute("INSERT OR IGNORE INTO messages VALUES (?, ?, ?, ?, ?, ?)", row)
        db.execute(_MAKE_ROOM, (_MOST_MESSAGES, _MOST_BYTES))
