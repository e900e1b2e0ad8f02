"""What is packed and not acknowledged yet: on disk, or in memory while the disk says no.

The publisher's thread keeps messages here before it sends them and says when JetStream has them.
Beside the process's own messages, on the `Shelf`, this holds at most one adopted outbox. The bound
is kept in `Bound`; errors of the outbox end here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.errors import OutboxError, OutboxUnavailable
from voicecosts.producer.outbox.adopted import Orphans
from voicecosts.producer.outbox.bound import Bound
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.own import OutboxState, Shelf
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.outbox.quarantine import Quarantine
from voicecosts.producer.outbox.rescue import left_out, rescue
from voicecosts.producer.outbox.row import EVERYWHERE, destination

logger = logging.getLogger(__name__)

IN_MEMORY: Final = 8
"""Messages that are held in memory before events are left in the buffer, which coalesces them."""

_PIECE: Final = 64


class Held(Struct, frozen=True):
    """A message to send, and the file it came from: none for the process's own."""

    message: Packed
    adopted: Outbox | None = None


class Backlog:
    """Used by the publisher's thread only; the numbers may be read from any."""

    def __init__(
        self,
        config: ProducerConfig,
        producer_id: str,
        *,
        monotonic: Callable[[], float],
        now_us: Callable[[], int],
    ) -> None:
        self.bound = Bound(config.outbox_max_bytes, monotonic)
        self.quarantine = Quarantine(config.outbox_dir, now_us)
        self.orphans = Orphans(
            config.outbox_dir,
            EVERYWHERE if config.adopts_all else destination(config),
            monotonic=monotonic,
            now_us=now_us,
        )
        self._is_log = config.is_embedded
        self._now_us = now_us
        self._shelf = Shelf(config, producer_id, monotonic=monotonic, now_us=now_us)
        self._damaged = 0
        self._done: dict[str, Held] = {}  # acknowledged, and not removed from disk yet
        self._flying: set[str] = set()
        self._forgotten: dict[Path, int] = {}  # up to which number, in embedded mode

    def __repr__(self) -> str:
        return f"<Backlog {self.state}: {self.rows} on disk, {len(self._shelf.memory)} in memory>"

    @property
    def rows(self) -> int:
        """Messages on disk, with those of an adopted outbox."""
        return sum(outbox.rows for outbox in self._outboxes())

    @property
    def bytes(self) -> int:
        """What they count for in the bound."""
        return sum(outbox.bytes for outbox in self._outboxes())

    @property
    def events(self) -> int:
        """Events of this process that are not acknowledged, on disk and in memory."""
        own = self._shelf.own
        return (own.events if own else 0) + self.events_in_memory

    @property
    def events_in_memory(self) -> int:
        """Events that would be lost if the process ended now."""
        return self._shelf.events_in_memory

    @property
    def state(self) -> OutboxState:
        """Where messages are kept at present."""
        return self._shelf.state

    @property
    def dropped(self) -> int:
        """Events that were given up because nothing else could make room, or were damaged."""
        return self.bound.dropped + self._damaged + self.orphans.damaged

    def oldest_age_us(self) -> int:
        """Return for how long the oldest message has waited; a clock set back never makes it less than 0."""
        return self._age_us(self._outboxes())

    def own_age_us(self) -> int:
        """As `oldest_age_us`, of this process's own messages."""
        return self._age_us([self._shelf.own] if self._shelf.own else [])

    def _age_us(self, outboxes: Sequence[Outbox]) -> int:
        since = [at for outbox in outboxes if (at := outbox.oldest_at) is not None]
        if self._shelf.memory_since is not None:
            since.append(self._shelf.memory_since)
        return max(0, self._now_us() - min(since)) if since else 0

    def has_room(self, *, is_last: bool = False) -> bool:
        """Whether more events may be packed now; makes room where that is due.

        The last round of a process goes past the bound rather than into nothing.
        """
        if len(self._shelf.memory) >= IN_MEMORY:
            self._store()
        outboxes = self._outboxes()
        if outboxes and not is_last:
            try:
                if not self.bound.keep(outboxes, self._flying):
                    return False
            except OutboxError as error:
                self._trouble(error)
        return len(self._shelf.memory) < IN_MEMORY

    def keep(self, messages: Sequence[Packed]) -> None:
        """Hold messages until they are acknowledged: on disk when this returns, if the disk allows."""
        self._shelf.take(messages)
        self._store()

    def tend(self) -> None:
        """Do what is due: try a disk that said no, take over what dead processes left."""
        self._store()
        try:
            self.orphans.tend()
        except OutboxError as error:
            self._trouble(error)
        except OSError as error:
            logger.debug("the outbox cannot be looked through now: %s", error)

    def window(self, most: int, without: Collection[str] = ()) -> list[Held]:
        """Return the next messages to send, the oldest of this process first.

        Messages on the subjects in `without` are passed over.
        """
        found: list[Held] = []
        for outbox in reversed(self._outboxes()):
            if len(found) < most:
                found += self._read(outbox, most - len(found), without)
        found += [
            Held(message)
            for message in list(self._shelf.memory.values())[: most - len(found)]
            if message.subject not in without and message.message_id not in self._done
        ]
        self._flying = {held.message.message_id for held in found}
        return found

    def done(self, held: Held) -> None:
        """JetStream has a message, or it is put away: forget it."""
        self._done[held.message.message_id] = held
        if held.adopted is None:
            self._shelf.memory.pop(held.message.batch_number, None)

    def settle(self) -> None:
        """Remove from disk what is done.

        If we die before, the next process sends it again under the same id, which changes nothing.
        """
        self._flying = set()
        for outbox in self._outboxes():
            adopted = self._if_adopted(outbox)
            ours = [held for held in self._done.values() if held.adopted is adopted]
            try:
                outbox.remove([held.message for held in ours])
            except OutboxError as error:
                self._trouble(error)
                continue
            for held in ours:
                del self._done[held.message.message_id]
        # What was in memory, or in a file that is closed, has nothing left to be removed.
        self._done = {key: held for key, held in self._done.items() if self._is_open(held)}
        if not self._shelf.memory:
            self._shelf.memory_since = None

    def _is_open(self, held: Held) -> bool:
        if held.adopted is None:
            return self._shelf.own is not None
        return held.adopted is self.orphans.held

    def forget_booked(self) -> int:
        """Forget what a ledger of this host has booked, and return how many events that was.

        Each message is read once more, because one that is damaged was not booked and has to be
        counted as dropped.
        """
        events = 0
        for outbox in self._outboxes():
            booked = outbox.claim.booked()
            if booked <= self._forgotten.get(outbox.path, 0):
                continue
            while held := [
                held for held in self._read(outbox, _PIECE) if held.message.batch_number <= booked
            ]:
                for each in held:
                    self.done(each)
                    events += each.message.events
                self.settle()
            self._forgotten[outbox.path] = booked
        return events

    def lowest(self) -> int | None:
        """Return the number of the first own message that is not safe yet, `None` for none.

        Safe is what JetStream has acknowledged, or, where the outbox is the log, what is in it.
        """
        in_memory = self.lowest_in_memory()
        numbers = [] if in_memory is None else [in_memory]
        if self._shelf.own is not None and not self._is_log:
            done = {h.message.batch_number for h in self._done.values() if h.adopted is None}
            try:
                stored = self._shelf.own.lowest(done)
            except OutboxError as error:
                self._trouble(error)
                return 0
            if stored is not None:
                numbers.append(stored)
        return min(numbers, default=None)

    def lowest_in_memory(self) -> int | None:
        """Return the number of the first message that would be lost with the process, or `None`."""
        return min(list(self._shelf.memory), default=None)

    def close(self) -> None:
        """Let go of the files; what is in them waits for the next process."""
        self.settle()
        for outbox in self._outboxes():
            outbox.close()
        self._shelf.own = self.orphans.held = None

    def _outboxes(self) -> list[Outbox]:
        return [outbox for outbox in (self.orphans.held, self._shelf.own) if outbox is not None]

    def _if_adopted(self, outbox: Outbox) -> Outbox | None:
        return outbox if outbox is self.orphans.held else None

    def _store(self) -> None:
        try:
            self._shelf.store()
        except OutboxError as error:
            self._trouble(error)

    def _read(self, outbox: Outbox, most: int, without: Collection[str] = ()) -> list[Held]:
        try:
            messages, damaged = outbox.oldest(most + len(self._done), without=without)
            self._damaged += left_out(outbox, damaged)
        except OutboxError as error:
            self._trouble(error)
            return []
        adopted = self._if_adopted(outbox)
        return [Held(m, adopted) for m in messages if m.message_id not in self._done][:most]

    def _trouble(self, error: OutboxError) -> None:
        """Go on from memory when the disk says no, and set a damaged file aside."""
        if isinstance(error, OutboxUnavailable):
            self._shelf.unavailable(error)
            return
        for outbox in self._outboxes():
            if outbox.path == error.path:
                outbox.close(keep=True)
                if outbox is self._shelf.own:
                    self._shelf.own = None
                else:
                    self.orphans.held = None
        rescued = rescue(error, now_us=self._now_us())
        if self.orphans.held is None:
            self.orphans.held = rescued
        elif rescued is not None:
            rescued.close()  # not empty, so it waits until it is adopted
