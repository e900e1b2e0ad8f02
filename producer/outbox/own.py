"""A process's own messages: in its outbox, or in memory while the disk says no.

A disk that is full or not writable never stops anything: messages stay in memory, this is said once,
and they go to disk, all and in their order, as soon as that works again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.errors import OutboxUnavailable
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.outbox.row import destination, file_of

logger = logging.getLogger(__name__)

_RETRY_S: Final = 1.0


class OutboxState(StrEnum):
    """Where a process keeps its messages. The values are public: they are `Stats.outbox`.

    In memory means that the disk is full or read-only, and memory only that no folder is configured.
    """

    UNUSED = "not used yet"
    ON_DISK = "on disk"
    IN_MEMORY = "in memory"
    MEMORY_ONLY = "in memory only"


class Shelf:
    """Used by the publisher's thread only; the numbers may be read from any.

    `own` is the outbox, `None` until something is stored. `memory` holds messages by their number,
    the oldest of them since `memory_since`.
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
        self.own: Outbox | None = None
        self.memory: dict[int, Packed] = {}
        self.memory_since: int | None = None
        self.state = OutboxState.MEMORY_ONLY if config.outbox_dir is None else OutboxState.UNUSED
        self._config = config
        self._path = file_of(self.folder or Path(), destination(config), producer_id)
        self._monotonic = monotonic
        self._now_us = now_us
        self._retry_at = 0.0

    def __repr__(self) -> str:
        return f"<Shelf {self.state}: {self.own!r}, {len(self.memory)} in memory>"

    @property
    def events_in_memory(self) -> int:
        """Events that would be lost if the process ended now."""
        return sum(message.events for message in list(self.memory.values()))

    def take(self, messages: Sequence[Packed]) -> None:
        """Hold messages in memory, until they are stored."""
        if messages and self.memory_since is None:
            self.memory_since = self._now_us()
        self.memory.update((message.batch_number, message) for message in messages)

    def store(self) -> None:
        """Move what is in memory to the disk, if it is time to try.

        Raises:
            OutboxError: The disk does not allow it, or the file is damaged.
        """
        if self.folder is None or not self.memory or self._monotonic() < self._retry_at:
            return
        if self.own is None:
            self.own = Outbox.create(self._path, target=self._config.target)
        self.own.add(list(self.memory.values()), now_us=self._now_us())
        self.memory.clear()
        self.memory_since = None
        until = "a ledger books them" if self._config.is_embedded else "they are acknowledged"
        self._say(OutboxState.ON_DISK, logging.INFO, f"events wait in {self.folder} until {until}")

    def unavailable(self, error: OutboxUnavailable) -> None:
        """The disk said no: go on from memory, and try again soon."""
        self._retry_at = self._monotonic() + _RETRY_S
        text = f"the outbox cannot be used ({error}): events wait in memory"
        self._say(OutboxState.IN_MEMORY, logging.WARNING, text)

    def _say(self, state: OutboxState, level: int, text: str) -> None:
        if state != self.state:
            self.state = state
            logger.log(level, "%s", text)
