"""The outboxes of this host as a log, for a ledger that reads them with no server in between.

The outbox of a process that has ended is adopted, and removed as it is booked. The file of a living
one is only read: the ledger's progress is written on its label, and its process forgets what has
been booked.
So a message is in a file until a ledger has committed it; one that is read twice books nothing.
A folder has one reader at a time, and one ledger that owns it for good: readings of one session
that went to two ledgers would be counted in both.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from voicecosts.producer.errors import OutboxDamaged, OutboxError, OutboxUnavailable
from voicecosts.producer.outbox.ended import forget_ended, is_noted, producer_of, take_ended
from voicecosts.producer.outbox.file import BEFORE_ALL, Outbox
from voicecosts.producer.outbox.lock import DATABASE, Lock, label, mark_booked
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.outbox.rescue import drop_damaged, rescue
from voicecosts.producer.outbox.row import COLUMNS, EMBEDDED, border, listed, read_only, whole

logger = logging.getLogger(__name__)

GROUP: Final = 64
"""Messages that are read, and booked, at once."""

_READER: Final = "reader"
_LEDGER: Final = "ledger"


class LocalLog:
    """What no ledger has booked yet, group by group. Used by one thread; close it when done.

    `data_dir` is the ledger's. An outbox outside of it that no ledger owns yet is opened only with
    `may_own`. `problems` names each file that could not be read in the last pass, with the reason.
    `ended` names the producers that are known to have ended: after a pass nothing of theirs waits.

    Raises:
        OutboxHeld: Another process reads it.
        OutboxUnavailable: Another ledger owns it, or none yet.
    """

    def __init__(
        self,
        folder: Path,
        data_dir: Path,
        *,
        now_us: Callable[[], int],
        may_own: bool = True,
    ) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self.ended: list[str] = []
        self._data_dir = data_dir
        self._now_us = now_us
        self._files: deque[Path] | None = None
        self._file: _File | None = None
        self._refuse_another_ledger(may_own=may_own)
        self._lock = Lock(folder / _READER)

    def __repr__(self) -> str:
        return f"<LocalLog {self.folder}: {self._file!r}>"

    def next_group(self) -> list[tuple[str, bytes]]:
        """Return subject and data of the next messages; nothing at the end of a pass over all.

        What is returned comes again in a later pass, or to the next process, unless `booked` is
        called.
        """
        if self._files is None:
            self.problems = []
            # Before any file is read: what was moved from one to another by then is not missed.
            self.ended = take_ended(self.folder)
            try:
                self._files = deque(files(self.folder))
            except OutboxError as error:
                self._failed(error)
                return []
        while self._file is not None or self._files:
            try:
                if self._file is None:
                    self._file = _opened(self._files.popleft(), self._now_us())
                if self._file is not None:
                    if messages := self._file.next_group():
                        return [(message.subject, message.data) for message in messages]
                    self.ended += self._file.ended
            except OutboxError as error:
                self._failed(error)
            self._close_file()
        self._files = None
        return []

    def own(self) -> bool:
        """Note that this ledger owns the outbox from here on; return whether it does.

        Before the first commit: if we die between the two, the ledger owns an outbox of which it
        has nothing yet. The other way round another ledger could book the same messages.
        """
        note = self.folder / _LEDGER
        if self._is_inside() or note.exists():
            return True
        draft = note.with_suffix(".tmp")
        try:
            with border(self.folder):
                draft.write_text(f"{self._data_dir}\n", "utf-8")
                draft.replace(note)
        except OutboxError as error:
            self._failed(error)
            return False
        return True

    def booked(self) -> None:
        """Note that what `next_group` returned last is committed in the ledger."""
        if self._file is not None:
            try:
                self._file.booked()
            except OutboxError as error:
                # Booked a second time it changes nothing.
                logger.warning("messages are booked, but could not be removed: %s", error)

    def noted(self) -> None:
        """Note that the ledger knows of those that have `ended`."""
        self.ended = []
        forget_ended(self.folder)

    def close(self) -> None:
        """Close every file."""
        self._close_file()
        self._lock.release(remove=False)

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _refuse_another_ledger(self, *, may_own: bool) -> None:
        owner = _text(self.folder / _LEDGER)
        if not owner and not may_own and not self._is_inside():
            raise OutboxUnavailable(
                self.folder,
                "no ledger owns this outbox yet, and ownership is permanent: "
                f"`costs outbox drain --data-dir {self._data_dir}` makes this ledger the owner",
            )
        if owner not in ("", str(self._data_dir)):
            raise OutboxUnavailable(
                self.folder,
                f"this outbox belongs to the ledger in {owner}: query that one, or remove "
                f"{self.folder / _LEDGER} to let the one in {self._data_dir} own it",
            )

    def _is_inside(self) -> bool:
        """Whether the outbox lies in the ledger's data directory, and so belongs to it."""
        return self.folder.parent == self._data_dir

    def _failed(self, error: OutboxError) -> None:
        logger.warning("an outbox is not booked now: %s", error)
        self.problems.append(f"{error.path.name}: {error.reason}")


def files(folder: Path) -> list[Path]:
    """Return the outboxes of `folder` that a ledger of this host reads.

    Raises:
        OutboxUnavailable: The folder is there and cannot be listed.
    """
    return [path for path in listed(folder) if path.match(f"{EMBEDDED}-*{DATABASE}")]


def has_news(folder: Path) -> bool:
    """Whether there is anything for a ledger of this host: outboxes, or the end of a process.

    Raises:
        OutboxUnavailable: The folder is there and cannot be listed.
    """
    return bool(files(folder)) or is_noted(folder)


class _File(Protocol):
    """One outbox, read from front to back; `ended` is its producer, if that has ended."""

    path: Path
    ended: tuple[str, ...]

    def next_group(self) -> list[Packed]: ...

    def booked(self) -> None: ...

    def close(self) -> None: ...


def _opened(path: Path, now_us: int) -> _File | None:
    """Adopt an outbox, or only read it when its process lives; `None` when it is gone."""
    try:
        return _Orphan(Outbox.adopt(path), producer_of(path))
    except OutboxUnavailable:
        return _Living(path) if path.exists() else None
    except OutboxDamaged as error:
        rescued = rescue(error, now_us=now_us)
        return None if rescued is None else _Orphan(rescued, producer_of(path))


class _Orphan:
    """The outbox of a process that has ended, adopted."""

    def __init__(self, outbox: Outbox, producer_id: str) -> None:
        self.path = outbox.path
        self.ended: tuple[str, ...] = (producer_id,)
        self._outbox = outbox
        self._after = BEFORE_ALL
        self._read: list[Packed] = []

    def next_group(self) -> list[Packed]:
        while True:
            self._read, damaged = self._outbox.oldest(GROUP, after=self._after)
            if not damaged:
                self._after = self._read[-1].batch_number if self._read else self._after
                return self._read
            drop_damaged(self._outbox, damaged)

    def booked(self) -> None:
        self._outbox.remove(self._read)

    def close(self) -> None:
        self._outbox.close()


class _Living:
    """The outbox of a living process, up to what was in it when it was opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ended: tuple[str, ...] = ()
        self._after = label(path).booked
        with border(path):
            self._db = read_only(path)
        try:
            [(self._last,)] = self._rows("SELECT coalesce(max(number), 0) FROM messages", ())
        except OutboxError:
            self._db.close()
            raise

    def next_group(self) -> list[Packed]:
        while self._after < self._last:
            rows = self._rows(
                f"SELECT {COLUMNS} FROM messages "  # noqa: S608 - our own columns
                "WHERE number > ? AND number <= ? ORDER BY number LIMIT ?",
                (self._after, self._last, GROUP),
            )
            # A damaged row is passed over here; its process counts it as dropped.
            self._after = int(rows[-1][0]) if rows else self._last
            if messages := [message for row in rows if (message := whole(row)) is not None]:
                return messages
        return []

    def booked(self) -> None:
        mark_booked(self.path, self._after)

    def close(self) -> None:
        self._db.close()

    def _rows(self, query: str, values: tuple[int, ...]) -> list[tuple[Any, ...]]:
        with border(self.path):
            return self._db.execute(query, values).fetchall()


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""
