"""The outboxes of this host as a log, for a ledger that reads them with no server in between.

What a dead process left is taken over and removed as it is booked. The file of a living one is only
read: the ledger's progress is written on its label, and its process forgets what has been booked.
So a message is in a file until a ledger has committed it; one that is read twice books nothing.
There is one reader of a folder at a time, and one ledger: readings of one call that went to two
ledgers would be counted in both.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from voicecosts.producer.errors import OutboxDamaged, OutboxError, OutboxUnavailable
from voicecosts.producer.outbox.file import BEFORE_ALL, Outbox
from voicecosts.producer.outbox.lock import DATABASE, Claim, label, mark_booked
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.outbox.rescue import left_out, rescue
from voicecosts.producer.outbox.row import COLUMNS, EMBEDDED, as_text, border, whole

logger = logging.getLogger(__name__)

GROUP: Final = 64
"""Messages that are read, and booked, at once."""

_READER: Final = "reader"
_LEDGER: Final = "ledger"


class LocalLog:
    """What no ledger has booked yet, group by group. Used by one thread; close it when done.

    `data_dir` is the ledger's. An outbox outside of it that no ledger has read yet is taken for it
    only with `may_claim`. `problems` says of each file that could not be read why, in the last pass
    over all of them.

    Raises:
        OutboxHeld: Another process reads it.
        OutboxUnavailable: It belongs to another ledger, or to none yet.
    """

    def __init__(
        self,
        folder: Path,
        data_dir: Path,
        *,
        now_us: Callable[[], int],
        may_claim: bool = True,
    ) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self._data_dir = data_dir
        self._now_us = now_us
        self._files: deque[Path] | None = None
        self._file: _File | None = None
        self._refuse_another_ledger(may_claim=may_claim)
        self._claim = Claim(folder / _READER)

    def __repr__(self) -> str:
        return f"<LocalLog {self.folder}: {self._file!r}>"

    def next_group(self) -> list[tuple[str, bytes]]:
        """Return subject and data of the next messages; nothing at the end of a pass over all files.

        What is returned comes again in a later pass, or to the next process, unless `booked` is
        called.
        """
        if self._files is None:
            self.problems = []
            try:
                self._files = deque(files(self.folder))
            except OutboxError as error:
                self._failed(error)
                return []
        while self._file is not None or self._files:
            try:
                if self._file is None:
                    self._file = _opened(self._files.popleft(), self._now_us())
                if self._file is not None and (messages := self._file.next_group()):
                    return [(message.subject, message.data) for message in messages]
            except OutboxError as error:
                self._failed(error)
            self._let_go()
        self._files = None
        return []

    def claim(self) -> bool:
        """Note that the outbox belongs to this ledger from here on; tell whether that is so.

        Before the first commit: if we die between the two, the outbox is a ledger's that has
        nothing of it yet. The other way round another ledger could book the same messages.
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
        """Say that what `next_group` returned last is committed in the ledger."""
        if self._file is not None:
            try:
                self._file.booked()
            except OutboxError as error:
                # It is booked, and books nothing when it comes again.
                logger.warning("booked, and still in the outbox: %s", error)

    def close(self) -> None:
        """Let go of every file."""
        self._let_go()
        self._claim.release(remove=False)

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _refuse_another_ledger(self, *, may_claim: bool) -> None:
        owner = _text(self.folder / _LEDGER)
        if not owner and not may_claim and not self._is_inside():
            raise OutboxUnavailable(
                self.folder,
                "what waits there belongs to no ledger yet, and to whose it is given, it stays: "
                f"`costs outbox drain --data-dir {self._data_dir}` gives it to this one",
            )
        if owner not in ("", str(self._data_dir)):
            raise OutboxUnavailable(
                self.folder,
                f"what waits there belongs to the ledger in {owner}: ask that one, or remove "
                f"{self.folder / _LEDGER} to give it to the one in {self._data_dir}",
            )

    def _is_inside(self) -> bool:
        """Whether the outbox lies in the ledger's own folder, and so is its own."""
        return self.folder.parent == self._data_dir

    def _failed(self, error: OutboxError) -> None:
        logger.warning("not booked now: %s", error)
        self.problems.append(f"{error.path.name}: {error.reason}")


def files(folder: Path) -> list[Path]:
    """Return the outboxes of `folder` that wait for a ledger of this host.

    Raises:
        OutboxUnavailable: The folder is there and cannot be looked through.
    """
    with border(folder):
        try:
            found = list(folder.iterdir())  # a pattern would pass over a folder that is locked
        except FileNotFoundError:
            return []
    return sorted(path for path in found if path.match(f"{EMBEDDED}-*{DATABASE}"))


class _File(Protocol):
    """One outbox, read from front to back."""

    path: Path

    def next_group(self) -> list[Packed]: ...

    def booked(self) -> None: ...

    def close(self) -> None: ...


def _opened(path: Path, now_us: int) -> _File | None:
    """Take over an outbox, or only look into it when its process lives; `None` when it is gone."""
    try:
        return _Orphan(Outbox.adopt(path))
    except OutboxUnavailable:
        return _Living(path) if path.exists() else None
    except OutboxDamaged as error:
        rescued = rescue(error, now_us=now_us)
        return None if rescued is None else _Orphan(rescued)


class _Orphan:
    """The outbox of a dead process, which is ours now."""

    def __init__(self, outbox: Outbox) -> None:
        self.path = outbox.path
        self._outbox = outbox
        self._after = BEFORE_ALL
        self._read: list[Packed] = []

    def next_group(self) -> list[Packed]:
        while True:
            self._read, damaged = self._outbox.oldest(GROUP, after=self._after)
            if not damaged:
                self._after = self._read[-1].batch_number if self._read else self._after
                return self._read
            left_out(self._outbox, damaged)

    def booked(self) -> None:
        self._outbox.remove(self._read)

    def close(self) -> None:
        self._outbox.close()


class _Living:
    """The outbox of a living process, up to what was in it at the first look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._after = label(path).booked
        with border(path):
            self._db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1.0)
        self._db.text_factory = as_text
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
            # A row that is damaged is passed over here, and counted as lost by its process.
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
