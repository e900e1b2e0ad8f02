"""Messages that no server will ever take, kept on this host with the reason, for a person to read.

One file for all processes, beside the outboxes and outside of their bound: at most a thousand
messages and 16 MB, beyond which the oldest are deleted. Nothing sends them again.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from voicecosts.producer.errors import OutboxError
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.outbox.row import border

logger = logging.getLogger(__name__)

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


class Quarantine:
    """The quarantine in the folder of the outboxes; without a folder its messages are lost.

    `refused` counts all events that were added, `quarantined` those of them that are on disk.
    """

    def __init__(self, folder: Path | None, now_us: Callable[[], int]) -> None:
        self.folder = folder
        self.refused = 0
        self.quarantined = 0
        self._now_us = now_us

    def __repr__(self) -> str:
        return f"<Quarantine {self.quarantined} of {self.refused} events kept>"

    def add(self, message: Packed, reason: str) -> None:
        """Keep a message with the reason why no server takes it; a second time changes nothing."""
        self.refused += message.events
        where = "lost: no outbox folder is configured"
        if self.folder is not None:
            try:
                self._store(self.folder / NAME, message, reason)
                self.quarantined += message.events
                where = f"kept in {self.folder / NAME}"
            except OutboxError as error:
                where = f"lost: {error}"
        logger.error("%d events were refused for good (%s): %s", message.events, reason, where)

    def _store(self, path: Path, message: Packed, reason: str) -> None:
        names = (message.message_id, message.subject, message.events)
        row = (*names, self._now_us(), reason, message.data)
        with border(path), contextlib.closing(sqlite3.connect(path, timeout=2.0)) as db, db:
            path.chmod(0o600)
            db.execute(_SCHEMA)
            db.execute("INSERT OR IGNORE INTO messages VALUES (?, ?, ?, ?, ?, ?)", row)
            db.execute(_MAKE_ROOM, (_MOST_MESSAGES, _MOST_BYTES))
