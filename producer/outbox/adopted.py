"""Outboxes of processes that have ended: each is adopted by exactly one that lives.

The lock of a file ends with its process, so a file whose lock is free is an orphan. Only files for
the same destination are adopted: what was meant for one server is never sent to another. Whatever
happens here, a message is in at least one file until JetStream has acknowledged it.

Looking costs a listing of the folder, so it is done twice a minute, and at once while there is
more. A large orphan is worked off alone; small ones are moved into the one that is held, so that a
thousand killed processes do not leave a thousand files.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from voicecosts.producer.errors import OutboxDamaged, OutboxUnavailable
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.lock import DATABASE, LOCK_SUFFIX, Lock
from voicecosts.producer.outbox.rescue import drop_damaged, rescue

_PIECE: Final = 64
_LOOK_S: Final = 30.0
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

    def __repr__(self) -> str:
        return f"<AdoptedMessages {self.outbox!r}>"

    @property
    def oldest_at(self) -> int | None:
        """Since when the oldest message waits, in microseconds since 1970, UTC."""
        outbox = self.outbox
        return outbox.oldest_at if outbox else None

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
        if self._monotonic() >= self._look_at:
            pause_s = _LOOK_S * random.uniform(0.8, 1.2)  # noqa: S311 - so that not all look at once
            self._look_at = self._monotonic() + pause_s
            self._look(self.folder)

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
        """Adopt one orphan, and move further small ones into it."""
        for _ in range(_AT_ONCE):
            # A large one waits for its turn: that is when the first one is empty.
            most_bytes = None if self.outbox is None else _SMALL_BYTES
            orphan = adopt(
                folder, self.destination_id, now_us=self._now_us(), most_bytes=most_bytes
            )
            if orphan is None:
                self.is_done = self.outbox is None
                return
            self.is_done = False
            if self.outbox is None:
                self.outbox = orphan
                logger.info(
                    "adopted the outbox of a process that has ended: %s, messages: %d",
                    orphan.path.name,
                    orphan.rows,
                )
            else:
                self.damaged += absorb(self.outbox, orphan)
        self._look_at = 0.0  # there may be more


def adopt(
    folder: Path, destination_id: str, *, now_us: int, most_bytes: int | None = None
) -> Outbox | None:
    """Adopt an orphan of a destination; `None` when there is none now.

    With `most_bytes` only files up to that size are looked at.
    """
    for path in sorted(folder.glob(f"{destination_id}-*{DATABASE}")):
        try:
            if most_bytes is not None and path.stat().st_size > most_bytes:
                continue
            # 1. The lock is ours or this raises. From here on no other process touches the file,
            #    and if we die, the lock ends with us and the next process starts again.
            outbox: Outbox | None = Outbox.adopt(path)
        except (OutboxUnavailable, FileNotFoundError):
            continue  # its process lives, or has just ended in order
        except OutboxDamaged as error:
            outbox = rescue(error, now_us=now_us)
        if outbox is None:
            continue
        if outbox.rows:
            return outbox
        outbox.close()  # its process died between its last acknowledgement and its end
    _remove_stale_locks(folder, destination_id)
    return None


def absorb(outbox: Outbox, orphan: Outbox) -> int:
    """Move the messages of an orphan into another outbox, and return how many events were damaged.

    Raises:
        OutboxError: One of the two cannot be read or written; nothing is lost.
    """
    logger.debug("moving the messages of %s to %s", orphan.path.name, outbox.path.name)
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
            lost += drop_damaged(orphan, damaged)
    finally:
        orphan.close()


def _remove_stale_locks(folder: Path, destination_id: str) -> None:
    """Remove locks whose outbox is gone: their process died while it ended."""
    for path in folder.glob(f"{destination_id}-*{LOCK_SUFFIX}"):
        database = path.with_suffix(DATABASE)
        if not database.exists():
            with contextlib.suppress(OutboxUnavailable):
                Lock(database).release(remove=not database.exists())
