"""What is packed and not acknowledged yet: the process's own messages, and one adopted outbox.

The publisher's thread keeps messages here before it sends them and says when JetStream has them.
Errors of the outbox end here: while the disk is full or read-only messages stay in memory, and a
damaged file is set aside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.errors import OutboxDamaged, OutboxError, OutboxUnavailable
from voicecosts.producer.outbox import late
from voicecosts.producer.outbox.adopted import AdoptedMessages
from voicecosts.producer.outbox.bound import Bound
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.own import MOST_IN_MEMORY, OwnMessages
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.outbox.quarantine import Quarantine
from voicecosts.producer.outbox.rescue import drop_damaged
from voicecosts.producer.outbox.row import ANY_DESTINATION, destination_id

logger = logging.getLogger(__name__)

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
        self.adopted = AdoptedMessages(
            config.outbox_dir,
            ANY_DESTINATION if config.adopts_all else destination_id(config),
            monotonic=monotonic,
            now_us=now_us,
        )
        self.own = OwnMessages(config, producer_id, monotonic=monotonic, now_us=now_us)
        self._is_log = config.is_embedded
        self._now_us = now_us
        self._damaged = 0
        self._done: dict[str, Held] = {}  # acknowledged, and not removed from disk yet
        self._in_flight: set[str] = set()
        self._forgotten: dict[Path, int] = {}  # up to which number, in embedded mode

    def __repr__(self) -> str:
        return f"<Backlog {self.own.state}: {self.rows} on disk, {self.own.in_memory} in memory>"

    @property
    def rows(self) -> int:
        """Messages on disk, with those of an adopted outbox."""
        return sum(outbox.rows for outbox in self._outboxes())

    @property
    def bytes(self) -> int:
        """What they count for in the bound."""
        return sum(outbox.bytes for outbox in self._outboxes())

    @property
    def dropped(self) -> int:
        """Events that were dropped because nothing else could make room, or were damaged."""
        return self.bound.dropped + self._damaged + self.adopted.damaged

    def oldest_age_us(self) -> int:
        """Return for how long the oldest message has waited, 0 if a clock was set back."""
        return self._age_us(self.own.oldest_at, self.adopted.oldest_at)

    def own_age_us(self) -> int:
        """As `oldest_age_us`, of this process's own messages."""
        return self._age_us(self.own.oldest_at)

    def _age_us(self, *times: int | None) -> int:
        since = [at for at in times if at is not None]
        return max(0, self._now_us() - min(since)) if since else 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, neither on disk nor in memory."""
        return not self.own.in_memory and not any(outbox.rows for outbox in self._outboxes())

    @property
    def is_at_work(self) -> bool:
        """Whether there is more to do at once, also while no events come."""
        return self.bound.is_at_work or self.adopted.is_at_work

    def has_room(self, *, is_last: bool = False, is_needed: bool = True) -> bool:
        """Whether more events may be packed now; makes room where that is due.

        The last round of a process may pass the bound: otherwise its events would be lost.
        `is_needed`: there are events to pack.
        """
        if self.own.in_memory >= MOST_IN_MEMORY:
            self._store()
        outboxes = self._outboxes()
        if outboxes and not is_last:
            try:
                if not self.bound.keep(outboxes, self._in_flight, is_needed=is_needed):
                    return False
            except OutboxError as error:
                self._recover(error)
        return self.own.in_memory < MOST_IN_MEMORY

    def keep(self, messages: Sequence[Packed]) -> None:
        """Hold messages until they are acknowledged: on disk at once, if it can be written."""
        self.own.add(messages)
        self._store()

    def tend(self) -> None:
        """Do what is due: try again to write to the disk, and adopt outboxes of ended processes."""
        self._store()
        try:
            self.adopted.tend()
        except OutboxError as error:
            self._recover(error)
        except OSError as error:
            logger.debug("the outbox folder cannot be listed now: %s", error)

    def window(self, most: int, without: Collection[str] = ()) -> list[Held]:
        """Return the next messages to send, the oldest of this process first.

        Messages on the subjects in `without` are passed over.
        """
        found: list[Held] = []
        for outbox in reversed(self._outboxes()):
            if len(found) < most:
                found += self._read(outbox, most - len(found), without)
        found += map(Held, self.own.from_memory(most - len(found), without=without))
        self._in_flight = {held.message.message_id for held in found}
        return found

    def done(self, held: Held) -> None:
        """Note that JetStream has a message, or that it is quarantined: it is not offered again."""
        self._done[held.message.message_id] = held
        if held.adopted is None:
            self.own.forget_in_memory(held.message)

    def forget_done(self) -> None:
        """Remove from disk what is done.

        If we die before, the next process sends it again under the same id, which changes nothing.
        """
        self._in_flight = set()
        for outbox in self._outboxes():
            done = [held for held in self._done.values() if self._file_of(held) is outbox]
            now_us = self._now_us()
            if (
                done
                and not self._is_log
                and (outbox.oldest_at or now_us) < now_us - late.ON_ITS_WAY_US
            ):
                late.mark(outbox.path.parent, now_us)
            try:
                outbox.remove([held.message for held in done])
            except OutboxError as error:
                self._recover(error)
                continue
            for held in done:
                del self._done[held.message.message_id]
        # What was in memory, or in a file that is closed, has nothing left to be removed.
        still_open = self._outboxes()
        self._done = {
            k: held for k, held in self._done.items() if self._file_of(held) in still_open
        }

    def forget_booked(self) -> int:
        """Forget what a ledger of this host has booked, and return how many events that was.

        Each message is read once more, because one that is damaged was not booked and has to be
        counted as dropped.
        """
        events = 0
        for outbox in self._outboxes():
            booked = outbox.lock.booked()
            if booked <= self._forgotten.get(outbox.path, 0):
                continue
            while held := [
                held for held in self._read(outbox, _PIECE) if held.message.batch_number <= booked
            ]:
                for each in held:
                    self.done(each)
                    events += each.message.events
                self.forget_done()
            self._forgotten[outbox.path] = booked
        return events

    def lowest(self) -> int | None:
        """Return the number of the first own message that is not safe yet, `None` for none.

        Safe is what JetStream has acknowledged, or, where the outbox is the log, what is in it.
        """
        if self._is_log:
            return self.own.lowest_in_memory()
        try:
            return self.own.lowest(
                {h.message.batch_number for h in self._done.values() if h.adopted is None}
            )
        except OutboxError as error:
            self._recover(error)
            return 0

    def close(self) -> None:
        """Close the files; what is in them waits for the next process."""
        self.forget_done()
        self.own.close()
        self.adopted.close()

    def _outboxes(self) -> list[Outbox]:
        return [it for it in (self.adopted.outbox, self.own.outbox) if it is not None]

    def _file_of(self, held: Held) -> Outbox | None:
        return held.adopted or self.own.outbox

    def _store(self) -> None:
        try:
            self.own.store()
        except OutboxError as error:
            self._recover(error)

    def _read(self, outbox: Outbox, most: int, without: Collection[str] = ()) -> list[Held]:
        try:
            messages, damaged = outbox.oldest(most + len(self._done), without=without)
            self._damaged += drop_damaged(outbox, damaged)
        except OutboxError as error:
            self._recover(error)
            return []
        adopted = None if outbox is self.own.outbox else outbox
        return [Held(m, adopted) for m in messages if m.message_id not in self._done][:most]

    def _recover(self, error: OutboxError) -> None:
        """Go on from memory where the disk is full or read-only, and set a damaged file aside."""
        if isinstance(error, OutboxDamaged):
            for holder in (self.own, self.adopted):
                if holder.outbox is not None and holder.outbox.path == error.path:
                    holder.close(keep=True)
            self.adopted.rescue(error)
        elif isinstance(error, OutboxUnavailable):
            self.own.stay_in_memory(error)
