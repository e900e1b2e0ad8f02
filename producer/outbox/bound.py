"""The bound on what the outboxes of a host hold, and what happens when it is reached.

First readings are coalesced: only the newest of each meter stays on disk. Only when that is not
enough the oldest events are dropped, and counted. A pass over a large file takes long, so it is
done in pieces, and not repeated before twenty times its own duration has passed; meanwhile events
wait in the buffer, which coalesces them too. A process that holds little itself drops nothing from
disk for what its neighbours hold: its events wait in memory. One that holds next to nothing always
has room, so that it publishes while its neighbours cannot, and does not even look what they hold.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from voicecosts.producer.events import Event
from voicecosts.producer.outbox.coalesce import ORDER, Change, Coalescing, drop
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.lock import held_elsewhere
from voicecosts.producer.outbox.row import cost

logger = logging.getLogger(__name__)

_PIECE: Final = 16
_PIECES_AT_ONCE: Final = 4
_LAST: Final = 2**63 - 1
_ENOUGH: Final = 0.75
"""A pass ends early once no more than this share of the bound is held."""

_PLENTY: Final = 0.5
"""The log says that the bound is no longer reached once no more than this share is held."""

_FAIR_SHARE: Final = 1 / 16
"""A process that holds no more than this share of the bound drops nothing from disk."""

_OWN_SHARE: Final = 1 / 4096
"""A process that holds no more than this share of the bound may always store more."""

_COUNT_EVERY_S: Final = 1.0
_COUNTED_A_SECOND: Final = 10
"""Labels that a process reads in a second, as a mean: the more there are, the rarer it looks."""

_PAUSE_FACTOR: Final = 20


class Bound:
    """Keeps outboxes within `max_bytes`, together with those of other processes in their folder.

    The bound may be passed by what is packed in one round of the publisher, until the next one, and
    by the share that each process may always store. `is_at_work` says that room is being made.
    """

    def __init__(self, max_bytes: int, monotonic: Callable[[], float]) -> None:
        self.max_bytes = max_bytes
        self.coalesced = 0
        self.dropped = 0
        self._monotonic = monotonic
        self._elsewhere = 0
        self._count_at = 0.0
        self._pass: _Pass | None = None
        self._spent_s = 0.0
        self._next_pass_at = 0.0
        self._is_reached = False
        self.is_at_work = False

    def __repr__(self) -> str:
        return f"<Bound {self.max_bytes} bytes: {self.coalesced} coalesced, {self.dropped} dropped>"

    def keep(
        self, outboxes: Sequence[Outbox], in_flight: set[str], *, is_needed: bool = True
    ) -> bool:
        """Whether there is room; makes some where that is due.

        Messages whose ids are in `in_flight` may be acknowledged at any time: they stay unchanged.
        Where room is not needed, only a process that holds much looks whether others need it.

        Raises:
            OutboxError: A file cannot be read or written.
        """
        self.is_at_work = False
        own = sum(outbox.bytes for outbox in outboxes)
        least = _OWN_SHARE if is_needed else _FAIR_SHARE
        if own <= self.max_bytes * least and not self._is_reached:
            return True
        has_room = self._keep(outboxes, in_flight)
        return has_room or own <= self.max_bytes * _OWN_SHARE

    def _keep(self, outboxes: Sequence[Outbox], in_flight: set[str]) -> bool:
        if self._over(outboxes) <= 0:
            self._pass = None
            self._log_relieved(outboxes)
            return True
        started = self._monotonic()
        if self._pass is None:
            if started < self._next_pass_at:
                return False
            self._log_reached(outboxes)
            self._pass, self._spent_s = _Pass(outboxes, self), 0.0
        pieces = 0
        while self._pass.step(in_flight) and self._over(outboxes, _ENOUGH) > 0:
            pieces += 1
            if pieces >= _PIECES_AT_ONCE:
                self._spent_s += self._monotonic() - started
                self.is_at_work = True
                return False
        self._pass = None
        if in_flight:
            self.is_at_work = True
            return False  # what is in flight was not coalesced, and may be gone in a moment
        need = min(
            self._over(outboxes),
            sum(outbox.bytes for outbox in outboxes) - int(self.max_bytes * _FAIR_SHARE),
        )
        for kind in ORDER:
            for outbox in outboxes:
                if need > 0:
                    need -= self._drop(outbox, kind, need)
        now = self._monotonic()
        self._spent_s += now - started
        self._next_pass_at = now + _PAUSE_FACTOR * self._spent_s
        return self._over(outboxes) <= 0

    def _over(self, outboxes: Sequence[Outbox], share: float = 1.0) -> int:
        """Return how many bytes more than a share of the bound are held, by all processes."""
        now = self._monotonic()
        if now >= self._count_at:
            own = {outbox.lock.path for outbox in outboxes}
            self._elsewhere, others = held_elsewhere(outboxes[0].path.parent, own)
            self._count_at = now + max(_COUNT_EVERY_S, others / _COUNTED_A_SECOND)
        held = self._elsewhere + sum(outbox.bytes for outbox in outboxes)
        return held - int(self.max_bytes * share)

    def _log_reached(self, outboxes: Sequence[Outbox]) -> None:
        """Log once that there is no room, not at every pass."""
        if not self._is_reached:
            self._is_reached = True
            logger.warning(
                "the outbox in %s is at its bound of %d bytes: only the newest reading of each "
                "meter is kept, and the oldest events are dropped when even that is too much",
                outboxes[0].path.parent,
                self.max_bytes,
            )

    def _log_relieved(self, outboxes: Sequence[Outbox]) -> None:
        """Log once that there is plenty of room again."""
        if self._is_reached and self._over(outboxes, _PLENTY) <= 0:
            self._is_reached = False
            logger.info("the outbox in %s is well below its bound", outboxes[0].path.parent)

    def _drop(self, outbox: Outbox, kind: type[Event], need: int) -> int:
        """Drop the oldest events of a kind, and return how many bytes that has freed."""
        freed = after = 0
        while freed < need:
            messages, _damaged = outbox.oldest(_PIECE, after=after)
            if not messages:
                break
            after = messages[-1].batch_number
            changes: list[Change] = []
            for message in messages:
                if freed < need and (change := drop(message, kind, need - freed)) is not None:
                    freed += cost(message) - (cost(change.after) if change.after else 0)
                    changes.append(change)
            outbox.rewrite([(change.before, change.after) for change in changes])
            self.dropped += sum(change.dropped for change in changes)
        return freed


class _Pass:
    """One pass over outboxes, each from its newest message to its oldest, in pieces."""

    def __init__(self, outboxes: Sequence[Outbox], bound: Bound) -> None:
        self._left = list(outboxes)
        self._below = _LAST
        self._coalescing = Coalescing()
        self._bound = bound

    def step(self, in_flight: set[str]) -> bool:
        """Coalesce one piece; return whether there is more."""
        if not self._left:
            return False
        outbox = self._left[-1]
        messages, damaged = outbox.newest(_PIECE, below=self._below)
        numbers = [message.batch_number for message in messages] + damaged
        if not numbers:
            self._left.pop()
            self._below, self._coalescing = _LAST, Coalescing()
            return bool(self._left)
        changes = [
            change
            for message in messages
            if message.message_id not in in_flight
            and (change := self._coalescing.coalesce(message)) is not None
        ]
        # A newer reading of each meter stays in the file, so if we die between two pieces, or
        # inside this one, every total is still there.
        outbox.rewrite([(change.before, change.after) for change in changes])
        self._bound.coalesced += sum(change.coalesced for change in changes)
        self._below = min(numbers)
        return True
