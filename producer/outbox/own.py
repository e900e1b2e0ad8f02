"""A process's own messages: in its outbox, or in memory while the disk is full or read-only.

A disk that cannot be written stops nothing: messages stay in memory, one line in the log says so,
and all of them go to disk in their order as soon as that works again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.errors import OutboxUnavailable
from voicecosts.producer.outbox.file import BEFORE_ALL, Outbox
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.outbox.row import destination_id, file_of

logger = logging.getLogger(__name__)

MOST_IN_MEMORY: Final = 8
"""Messages that are held in memory before events are left in the buffer, which coalesces them."""

_RETRY_S: Final = 1.0
_PIECE: Final = 64


class OutboxState(StrEnum):
    """Where a process keeps its messages. The values are public: they are `Stats.outbox`.

    `IN_MEMORY`: the disk is full or read-only. `MEMORY_ONLY`: no folder is configured.
    """

    UNUSED = "not used yet"
    ON_DISK = "on disk"
    IN_MEMORY = "in memory"
    MEMORY_ONLY = "in memory only"


class OwnMessages:
    """Used by the publisher's thread only; the numbers and `state` may be read from any.

    `outbox` is the file, `None` until something is stored. Nothing outside assigns a field.
    """

    def __init__(
        self,
        config: ProducerConfig,
        producer_id: str,
        *,
        monotonic: Callable[[], float],
        now_us: Callable[[], int],
    ) -> None:
        self.folder = config.outbox_dir
        self.outbox: Outbox | None = None
        self.state = OutboxState.MEMORY_ONLY if self.folder is None else OutboxState.UNUSED
        self._memory: dict[int, Packed] = {}  # by number
        self._memory_since: int | None = None
        self._config = config
        self._producer_id = producer_id
        self._files = 0
        self._monotonic = monotonic
        self._now_us = now_us
        self._retry_at = 0.0

    def __repr__(self) -> str:
        return f"<OwnMessages {self.state}: {self.outbox!r}, {len(self._memory)} in memory>"

    @property
    def in_memory(self) -> int:
        """Messages that are not on disk."""
        return len(self._memory)

    @property
    def events_in_memory(self) -> int:
        """Events that would be lost if the process ended now."""
        return sum(message.events for message in list(self._memory.values()))

    @property
    def events(self) -> int:
        """Events of this process that are not acknowledged, on disk and in memory."""
        outbox = self.outbox
        return (outbox.events if outbox else 0) + self.events_in_memory

    @property
    def oldest_at(self) -> int | None:
        """Since when the oldest message waits, in microseconds since 1970, UTC."""
        outbox = self.outbox
        times = (outbox.oldest_at if outbox else None, self._memory_since)
        return min((at for at in times if at is not None), default=None)

    def add(self, messages: Sequence[Packed]) -> None:
        """Hold messages in memory, until they are stored."""
        if messages and self._memory_since is None:
            self._memory_since = self._now_us()
        self._memory.update((message.batch_number, message) for message in messages)

    def store(self) -> None:
        """Move what is in memory to the disk, unless the last failure was less than a second ago.

        A file that was removed while it was in use is replaced by a new one, with what waits in it.

        Raises:
            OutboxError: The disk is full or read-only, or the file is damaged.
        """
        if self.folder is None or self._monotonic() < self._retry_at:
            return
        if self.outbox is not None and not self.outbox.is_in_place():
            self._move(self.outbox)
        if not self._memory:
            return
        if self.outbox is None:
            self.outbox = self._new_file(self.folder)
        self.outbox.add(list(self._memory.values()), now_us=self._now_us())
        self._memory.clear()
        self._memory_since = None
        until = "a ledger books them" if self._config.is_embedded else "they are acknowledged"
        self._enter(
            OutboxState.ON_DISK, logging.INFO, f"events wait in {self.folder} until {until}"
        )

    def _new_file(self, folder: Path) -> Outbox:
        name = self._producer_id if not self._files else f"{self._producer_id}.{self._files}"
        path = file_of(folder, destination_id(self._config), name)
        outbox = Outbox.create(path, destination=self._config.destination)
        self._files += 1
        return outbox

    def _move(self, lost: Outbox) -> None:
        """Copy what waits in a file that has lost a name into a new one, under the same numbers.

        Raises:
            OutboxError: That is not possible now; what waits is still in the lost file.
        """
        assert self.folder is not None  # noqa: S101 - there is an outbox
        found = self._new_file(self.folder)
        after, since = BEFORE_ALL, lost.oldest_at or self._now_us()
        try:
            while True:
                messages, damaged = lost.oldest(_PIECE, after=after)
                if not messages and not damaged:
                    break
                after = max([message.batch_number for message in messages] + damaged)
                found.add(messages, now_us=since)
        except BaseException:
            found.delete()
            raise
        logger.warning(
            "the outbox %s was removed while it was in use: what waits in it was copied to %s; see "
            "what cleans that folder",
            *(lost.path, found.path.name),
        )
        self.outbox = found
        lost.abandon()

    def stay_in_memory(self, error: OutboxUnavailable) -> None:
        """Go on from memory, as the disk is full or read-only, and try again in a second."""
        self._retry_at = self._monotonic() + _RETRY_S
        text = f"the outbox cannot be used ({error}): events wait in memory"
        self._enter(OutboxState.IN_MEMORY, logging.WARNING, text)

    def from_memory(self, most: int, *, without: Collection[str]) -> list[Packed]:
        """Return the first messages in memory, less those on the subjects in `without`."""
        first = list(self._memory.values())[:most]
        return [message for message in first if message.subject not in without]

    def forget_in_memory(self, message: Packed) -> None:
        """Forget a message, if it is in memory."""
        self._memory.pop(message.batch_number, None)
        if not self._memory:
            self._memory_since = None

    def lowest(self, done: set[int]) -> int | None:
        """Return the lowest number on disk or in memory that is not in `done`, `None` for none.

        Raises:
            OutboxError: The file cannot be read.
        """
        stored = self.outbox.lowest(done) if self.outbox else None
        numbers = (stored, self.lowest_in_memory())
        return min((number for number in numbers if number is not None), default=None)

    def lowest_in_memory(self) -> int | None:
        """Return the number of the first message that would be lost with the process, or `None`."""
        return min(list(self._memory), default=None)

    def close(self, *, keep: bool = False) -> None:
        """Close the file; without `keep` an empty one is removed."""
        if self.outbox is not None:
            self.outbox.close(keep=keep)
            self.outbox = None

    def _enter(self, state: OutboxState, level: int, text: str) -> None:
        if state != self.state:
            self.state = state
            logger.log(level, "%s", text)
