"""One outbox file: packed messages on disk, from before they are sent until they are acknowledged.

Every change is one transaction of SQLite (WAL, synchronous=NORMAL): a process that is killed at any
moment leaves the file with all of a change or nothing of it. Power loss may take the last
transactions. One process holds a file at a time, by its lock. Errors of SQLite end here: they
become `OutboxUnavailable` (the disk is full or read-only) or `OutboxDamaged` (the file is not what
was written).
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

from msgspec.structs import replace

from voicecosts.producer.errors import OutboxDamaged, OutboxUnavailable
from voicecosts.producer.events import MAX_EVENTS
from voicecosts.producer.outbox.lock import Lock
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.outbox.row import (
    COLUMNS,
    ROW_BYTES,
    as_text,
    border,
    checksum,
    cost,
    remove,
    whole,
)

BEFORE_ALL: Final = -(2**63)
"""Below every number, also one that is damaged."""

_FREE_PAGES: Final = 256
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS messages (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,  -- the batch's: rising, never used twice
    id        TEXT    NOT NULL,     -- Nats-Msg-Id, the same at every try
    subject   TEXT    NOT NULL,
    events    INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,     -- microseconds since 1970, UTC
    checksum  INTEGER NOT NULL,
    data      BLOB    NOT NULL
)
"""

_EVENTS_OF: Final = """
SELECT coalesce(sum(CASE WHEN events BETWEEN 1 AND ? THEN events ELSE 1 END), 0)
FROM messages
WHERE number IN (SELECT value FROM json_each(?))
"""


class Outbox:
    """An open outbox file. Used by one thread; `rows`, `bytes`, … may be read from any."""

    def __init__(self, path: Path, lock: Lock) -> None:
        self.path = path
        self.rows = 0
        self.events = 0
        self.bytes = 0
        self.last = 0
        self.oldest_at: int | None = None
        self.lock = lock
        self._log = path.with_name(f"{path.name}-wal")
        with border(path):
            self._db = sqlite3.connect(path, timeout=1.0, isolation_level=None)
        try:
            with border(path):
                self._prepare()
                self._opened = path.stat()
        except BaseException:
            self._db.close()
            raise

    @classmethod
    def create(cls, path: Path, *, destination: str = "") -> Self:
        """Make a file and hold it; `destination` says in words where its messages go.

        Raises:
            OutboxUnavailable: The disk is full or read-only, or another process holds the file.
        """
        with border(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = Lock(path, destination=destination)
        try:
            return cls(path, lock)
        except BaseException:
            remove(path)
            lock.release(remove=True)
            raise

    @classmethod
    def adopt(cls, path: Path) -> Self:
        """Hold a file that another process has left behind.

        Raises:
            OutboxUnavailable: Its process lives, or it is gone, or it cannot be read now.
            OutboxDamaged: It is not a whole outbox.
        """
        lock = Lock(path)
        if not path.exists():
            lock.release(remove=True)
            raise OutboxUnavailable(path, "its process has emptied it meanwhile")
        try:
            outbox = cls(path, lock)
        except BaseException:
            lock.release(remove=False)
            raise
        try:
            outbox.check()
        except BaseException:
            outbox.close(keep=True)
            raise
        return outbox

    def __repr__(self) -> str:
        return f"<Outbox {self.path.name}: {self.rows} messages, {self.bytes} bytes>"

    def is_in_place(self) -> bool:
        """Whether what is written here can be found again: the files still have their names.

        A cleaner of old files may have removed them; what is written to a file without a name is
        lost with the process.
        """
        with contextlib.suppress(OSError):
            is_same = os.path.samestat(self.path.stat(), self._opened)
            return is_same and self._log.exists() and self.lock.is_in_place()
        return False

    def add(self, messages: Sequence[Packed], *, now_us: int) -> None:
        """Store messages; when this returns, they survive the process."""
        if not messages:
            return
        before = self._db.total_changes
        with self._transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO messages "
                "(number, id, subject, events, stored_at, checksum, data) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (m.batch_number, m.message_id, m.subject, m.events, now_us, checksum(m), m.data)
                    for m in messages
                ],
            )
        self.last = max(self.last, *(message.batch_number for message in messages))
        self._count(messages, 1, self._db.total_changes - before)

    def oldest(
        self, most: int, *, after: int = BEFORE_ALL, without: Iterable[str] = ()
    ) -> tuple[list[Packed], list[int]]:
        """Return the first messages above a number, and the numbers of rows that are damaged.

        Messages on the subjects in `without` are passed over.
        """
        return self._read(
            f"SELECT {COLUMNS} FROM messages WHERE number > ? "  # noqa: S608 - our own columns
            "AND subject NOT IN (SELECT value FROM json_each(?)) ORDER BY number LIMIT ?",
            (after, json.dumps(list(without)), most),
        )

    def newest(self, most: int, *, below: int) -> tuple[list[Packed], list[int]]:
        """Return the last messages below a number, the newest first, and damaged rows."""
        return self._read(
            f"SELECT {COLUMNS} FROM messages WHERE number < ? ORDER BY number DESC LIMIT ?",  # noqa: S608 - our own columns
            (below, most),
        )

    def lowest(self, without: set[int]) -> int | None:
        """Return the lowest number that is stored and not in `without`."""
        with border(self.path):
            rows = self._db.execute(
                "SELECT number FROM messages ORDER BY number LIMIT ?", (len(without) + 1,)
            ).fetchall()
        return next((number for (number,) in rows if number not in without), None)

    def renumbered(self, messages: Iterable[Packed]) -> list[Packed]:
        """Return messages with row numbers that are free here, after all others."""
        return [
            replace(message, batch_number=number)
            for number, message in enumerate(messages, start=self.last + 1)
        ]

    def rewrite(self, changes: Sequence[tuple[Packed, Packed | None]]) -> None:
        """Replace messages by what is left of them, or remove those of which nothing is left."""
        if not changes:
            return
        left = [after for _, after in changes if after is not None]
        with self._transaction():
            self._db.executemany(
                "UPDATE messages SET events = ?, checksum = ?, data = ? WHERE number = ?",
                [(m.events, checksum(m), m.data, m.batch_number) for m in left],
            )
            self._db.executemany(
                "DELETE FROM messages WHERE number = ?",
                [(m.batch_number,) for m, after in changes if after is None],
            )
        self.rows -= len(changes) - len(left)
        for sign, those in ((-1, [m for m, _ in changes]), (1, left)):
            self.events += sign * sum(message.events for message in those)
            self.bytes += sign * sum(cost(message) for message in those)
        self._after_change()

    def discard(self, numbers: Iterable[int]) -> int:
        """Remove rows that are damaged, and return how many events they held, at least one each."""
        gone = list(numbers)
        with self._transaction():
            (events,) = self._db.execute(_EVENTS_OF, (MAX_EVENTS, json.dumps(gone))).fetchone()
            self._db.executemany("DELETE FROM messages WHERE number = ?", [(n,) for n in gone])
        self._measure()
        return int(events)

    def remove(self, messages: Sequence[Packed]) -> None:
        """Forget messages that JetStream has acknowledged."""
        if not messages:
            return
        before = self._db.total_changes
        with self._transaction():
            self._db.executemany(
                "DELETE FROM messages WHERE number = ?", [(m.batch_number,) for m in messages]
            )
        self._count(messages, -1, self._db.total_changes - before)

    def check(self) -> None:
        """Read the whole file once, and compare its end with its label.

        SQLite takes a damaged frame of its write-ahead log for its end, and ignores the rest.

        Raises:
            OutboxDamaged: SQLite finds it damaged, or messages that had been stored are gone.
        """
        with border(self.path):
            (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise OutboxDamaged(self.path, str(found).splitlines()[0])
        if self.last < self.lock.last:
            text = f"it held messages up to number {self.lock.last}, and ends at {self.last}"
            raise OutboxDamaged(self.path, text)

    def close(self, *, keep: bool = False) -> None:
        """Close the file; an empty one is removed, unless `keep` is set."""
        is_empty = self.rows == 0 and not keep
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        if is_empty:
            remove(self.path)
        self.lock.release(remove=is_empty)

    def abandon(self) -> None:
        """Close a file that has lost a name, and touch no name: it may be another's by now."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        self.lock.release(remove=False)

    def delete(self) -> None:
        """Remove the file with what is in it: all of that is stored elsewhere."""
        remove(self.path)
        with contextlib.suppress(sqlite3.Error):
            # Closing writes the log back into the file, which has no name any more.
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.close()
        self.lock.release(remove=True)

    def _prepare(self) -> None:
        db = self._db
        db.text_factory = as_text
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA journal_size_limit = 4194304")
        db.execute("PRAGMA wal_autocheckpoint = 256")
        db.execute(_SCHEMA)
        self.path.chmod(0o600)
        self._measure()

    def _read(self, query: str, parameters: Sequence[Any]) -> tuple[list[Packed], list[int]]:
        with border(self.path):
            rows = self._db.execute(query, parameters).fetchall()
        read = [(row[0], whole(row)) for row in rows]
        return (
            [message for _, message in read if message is not None],
            [number for number, message in read if message is None],
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with border(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def _count(self, messages: Sequence[Packed], sign: int, changed: int) -> None:
        if changed != len(messages):
            self._measure()  # some were stored, or were gone, already
            return
        self.rows += sign * len(messages)
        self.events += sign * sum(message.events for message in messages)
        self.bytes += sign * sum(cost(message) for message in messages)
        self._after_change()

    def _measure(self) -> None:
        with border(self.path):
            self.rows, self.events, self.bytes = self._db.execute(
                "SELECT count(*), coalesce(sum(events), 0), "
                "coalesce(sum(length(data) + ?), 0) FROM messages",
                (ROW_BYTES,),
            ).fetchone()
            row = self._db.execute("SELECT max(seq) FROM sqlite_sequence").fetchone()
            self.last = int(row[0] or 0)
        self._after_change()

    def _after_change(self) -> None:
        with border(self.path):
            first = self._db.execute(
                "SELECT stored_at FROM messages ORDER BY number LIMIT 1"
            ).fetchone()
            self.oldest_at = first[0] if first else None
            if first is None:
                (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
                if free > _FREE_PAGES:  # after an outage: give the space back
                    # Not `execute`: it steps a statement without columns once, for one page.
                    self._db.executescript("PRAGMA incremental_vacuum")
        self.lock.write_label(self.bytes, self.last)
