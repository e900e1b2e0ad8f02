"""Outboxes of processes that have ended: each is adopted by exactly one that lives.

The lock of a file ends with its process, so a file whose lock is free is an orphan. Only files for
the same destination are adopted: what was meant for one server is never sent to another. Whatever
happens here, a message is in at least one file until JetStream has acknowledged it.

Looking costs a listing of the folder and a question to each lock in it. A process looks twice a
minute, and the more processes there are, the more rarely each of them: all of them together look
every few seconds. A large orphan is worked off alone; small ones are moved into the one that is
held, so that a thousand killed processes do not leave a thousand files.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from voicecosts.producer.errors import OutboxDamaged, OutboxUnavailable
from voicecosts.producer.outbox.ended import note_ended
from voicecosts.producer.outbox.file import BEFORE_ALL, Outbox
from voicecosts.producer.outbox.lock import DATABASE, LOCK_SUFFIX, Lock, is_held
from voicecosts.producer.outbox.rescue import drop_damaged, rescue
from voicecosts.producer.outbox.row import ANY_DESTINATION

_PIECE: Final = 64
_LOOK_S: Final = 30.0
_LOOK_AT_MOST_S: Final = 300.0
_FOR_EACH_LOOK: Final = 8
"""Living neighbours beyond which a process looks more rarely."""

_AT_ONCE: Final = 16
_SMALL_BYTES: Final = 4 * 2**20

logger = logging.getLogger(__name__)


class AdoptedMessages:
    """Used by the publisher's thread only; `outbox`, `is_done` and `damaged` may be read from any.

    `outbox` is the adopted one, if there is one; only files of the destination `destination_id` are
    adopted. `is_done` says that nothing is held and that the last look found nothing, `damaged` how
    many events were dropped when messages were moved. Nothing outside assigns a field.
    """

    def __init__(
        self,
        folder: Path | None,
        destination_id: str,
        *,
        monotonic: Callable[[], float],
        now_us: Callable[[], int],
    ) -> None:
        self.folder = folder
        self.destination_id = destination_id
        self.outbox: Outbox | None = None
        self.is_done = folder is None
        self.damaged = 0
        self._monotonic = monotonic
        self._now_us = now_us
        self._look_at = 0.0
        self._found: deque[Path] = deque()  # by the last look, and not adopted yet
        self._has_adopted = False  # since the last look

    def __repr__(self) -> str:
        return f"<AdoptedMessages {self.outbox!r}>"

    @property
    def oldest_at(self) -> int | None:
        """Since when the oldest message waits, in microseconds since 1970, UTC."""
        outbox = self.outbox
        return outbox.oldest_at if outbox else None

    @property
    def is_at_work(self) -> bool:
        """Whether there is more to adopt now."""
        return bool(self._found) or (self.outbox is not None and self.outbox.rows == 0)

    def tend(self) -> None:
        """Close an outbox that is empty, and adopt what is there when it is time to look.

        Raises:
            OutboxError: A file cannot be read or written; nothing is lost.
            OSError: The folder cannot be listed.
        """
        if self.folder is None:
            return
        if self.outbox is not None and self.outbox.rows == 0:
            self.close()
            self._look_at = 0.0
        if not self._found and self._monotonic() >= self._look_at:
            self._look(self.folder)
        if self._found:
            self._adopt_some()

    def rescue(self, damage: OutboxDamaged) -> None:
        """Set a damaged file aside, and go on with what can be read from it."""
        rescued = rescue(damage, now_us=self._now_us())
        if self.outbox is None:
            self.outbox = rescued
        elif rescued is not None:
            rescued.close()  # one is held already: this one waits until it is adopted

    def close(self, *, keep: bool = False) -> None:
        """Close the file; without `keep` an empty one is removed."""
        if self.outbox is not None:
            self.outbox.close(keep=keep)
            self.outbox = None

    def _look(self, folder: Path) -> None:
        """List the folder, once for all that is in it."""
        self._look_at = self._monotonic() + _LOOK_S  # also where it cannot be listed
        found, living = orphans(folder, self.destination_id)
        pause_s = min(_LOOK_S * max(1.0, living / _FOR_EACH_LOOK), _LOOK_AT_MOST_S)
        spread = random.uniform(0.6, 1.4)  # noqa: S311 - so that not all look at once
        self._look_at = self._monotonic() + pause_s * spread
        self._found, self._has_adopted = deque(found), False
        self.is_done = self.outbox is None and not found

    def _adopt_some(self) -> None:
        """Adopt one orphan, and move further small ones into it."""
        for _ in range(min(_AT_ONCE, len(self._found))):
            path = self._found.popleft()
            # A large one waits for its turn: that is when the first one is empty.
            most_bytes = None if self.outbox is None else _SMALL_BYTES
            orphan = adopt(path, now_us=self._now_us(), most_bytes=most_bytes)
            if orphan is None:
                continue
            if self.outbox is None:
                self.outbox = orphan
                logger.info(
                    "adopted the outbox of a process that has ended: %s, messages: %d",
                    orphan.path.name,
                    orphan.rows,
                )
            else:
                self.damaged += absorb(self.outbox, orphan)
            self._has_adopted = True
        if not self._found:
            self.is_done = self.outbox is None
            if self._has_adopted:
                self._look_at = 0.0  # there may be more


def orphans(folder: Path, destination_id: str) -> tuple[list[Path], int]:
    """Return the outboxes of a destination whose processes have ended, and the number of others.

    Locks without an outbox are removed: their process died while it ended.

    Raises:
        OSError: The folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = {entry.name for entry in entries}
    except FileNotFoundError:
        return [], 0
    found: list[Path] = []
    living = 0
    for name in sorted(names):
        destination, dash, _ = name.partition("-")
        if not dash or destination_id not in (destination, ANY_DESTINATION):
            continue
        path = folder / name
        if name.endswith(DATABASE):
            if is_held(path):
                living += 1
            else:
                found.append(path)
        elif name.endswith(LOCK_SUFFIX) and path.with_suffix(DATABASE).name not in names:
            _remove_stale_lock(path)
    return found, living


def adopt(path: Path, *, now_us: int, most_bytes: int | None = None) -> Outbox | None:
    """Adopt an orphan; `None` when it is none any more, or when nothing is in it.

    With `most_bytes` only a file up to that size is adopted.
    """
    try:
        if most_bytes is not None and path.stat().st_size > most_bytes:
            return None
        # 1. The lock is ours or this raises. From here on no other process touches the file, and
        #    if we die, the lock ends with us and the next process starts again.
        outbox: Outbox | None = Outbox.adopt(path)
    except (OutboxUnavailable, FileNotFoundError):
        return None  # its process lives, or has just ended in order
    except OutboxDamaged as error:
        outbox = rescue(error, now_us=now_us)
    note_ended(path)
    if outbox is not None and not outbox.rows:
        outbox.close()  # its process died between its last acknowledgement and its end
        return None
    return outbox


def absorb(outbox: Outbox, orphan: Outbox) -> int:
    """Move the messages of an orphan into another outbox, and return how many events were damaged.

    Raises:
        OutboxError: One of the two cannot be read or written; nothing is lost.
    """
    logger.debug("moving the messages of %s to %s", orphan.path.name, outbox.path.name)
    oldest_at = orphan.oldest_at or 0
    after = BEFORE_ALL
    lost = 0
    try:
        while True:
            messages, damaged = orphan.oldest(_PIECE, after=after)
            if not messages and not damaged:
                break
            after = max([message.batch_number for message in messages] + damaged)
            # 1. Committed here, under their own ids and new row numbers. If we die now they are
            #    in both files, and sent twice under one id.
            outbox.add(outbox.renumbered(messages), now_us=oldest_at)
            lost += drop_damaged(orphan, damaged)
    except BaseException:
        orphan.close(keep=True)
        raise
    # 2. Only now the other file goes, in one piece: to empty it first would cost a hundred times
    #    as much.
    orphan.delete()
    return lost


def _remove_stale_lock(path: Path) -> None:
    database = path.with_suffix(DATABASE)
    with contextlib.suppress(OutboxUnavailable):
        Lock(database).release(remove=not database.exists())
