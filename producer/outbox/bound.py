"""The bound on what the outboxes of a host hold, and what happens when it is reached.

First the detail goes: readings whose meter has a newer one on disk. Only when that is not enough
the oldest events are dropped, and counted. A pass over a large file takes its time, so it is done
in pieces, and a finished pass is not repeated before twenty times its own duration; meanwhile
events wait in the buffer, which coalesces them too. A process that holds little itself drops
nothing from disk for what its neighbours hold: its events wait in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from voicecosts.producer.outbox.coalesce import ORDER, Smaller, Thinning, shed
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.lock import held_elsewhere
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.outbox.row import ROW_BYTES

logger = logging.getLogger(__name__)

_PIECE: Final = 16
_PIECES_AT_ONCE: Final = 4
_LAST: Final = 2**63 - 1
_ENOUGH: Final = 0.75
"""A pass that has freed so much that this share of the bound is left has done its work."""

_PLENTY: Final = 0.5
_FAIR_SHARE: Final = 1 / 16
_COUNT_EVERY_S: Final = 1.0
_REST: Final = 20


class Bound:
    """Keeps outboxes within `max_bytes`, together with those of other processes in their folder.

    The bound may be passed by what is packed in one round of the publisher, until the next one.
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

    def __repr__(self) -> str:
        return f"<Bound {self.max_bytes} bytes: {self.coalesced} coalesced, {self.dropped} dropped>"

    def keep(self, outboxes: Sequence[Outbox], flying: set[str]) -> bool:
        """Whether there is room; makes some where that is due.

        Messages whose ids are in `flying` may be acknowledged at any moment and are left alone.

        Raises:
            OutboxError: A file cannot be read or written.
        """
        if self._over(outboxes) <= 0:
            self._pass = None
            self._relieved(outboxes)
            return True
        started = self._monotonic()
        if self._pass is None:
            if started < self._next_pass_at:
                return False
            self._reached(outboxes)
            self._pass, self._spent_s = _Pass(outboxes, self), 0.0
        pieces = 0
        while self._pass.step(flying) and self._over(outboxes, _ENOUGH) > 0:
            pieces += 1
            if pieces >= _PIECES_AT_ONCE:
                self._spent_s += self._monotonic() - started
                return False
        self._pass = None
        if flying:
            return False  # what is in flight could not be thinned, and may be gone in a moment
        need = min(
            self._over(outboxes),
            sum(outbox.bytes for outbox in outboxes) - int(self.max_bytes * _FAIR_SHARE),
        )
        for kind in ORDER:
            for outbox in outboxes:
                if need > 0:
                    need -= self._drop(outbox, kind, need, flying)
        now = self._monotonic()
        self._spent_s += now - started
        self._next_pass_at = now + _REST * self._spent_s
        return self._over(outboxes) <= 0

    def _over(self, outboxes: Sequence[Outbox], share: float = 1.0) -> int:
        """Return how many bytes more are held than a share of the bound."""
        now = self._monotonic()
        if now >= self._count_at:
            own = {outbox.claim.path for outbox in outboxes}
            folder: Path = outboxes[0].path.parent
            self._elsewhere = held_elsewhere(folder, own)
            self._count_at = now + _COUNT_EVERY_S
        held = self._elsewhere + sum(outbox.bytes for outbox in outboxes)
        return held - int(self.max_bytes * share)

    def _reached(self, outboxes: Sequence[Outbox]) -> None:
        """Say once that there is no room, not at every pass."""
        if not self._is_reached:
            self._is_reached = True
            logger.warning(
                "the outbox in %s is at its bound of %d bytes: only the newest reading of each "
                "meter is kept, and the oldest events are dropped when even that is too much",
                outboxes[0].path.parent,
                self.max_bytes,
            )

    def _relieved(self, outboxes: Sequence[Outbox]) -> None:
        """Say once that there is plenty of room again."""
        if self._is_reached and self._over(outboxes, _PLENTY) <= 0:
            self._is_reached = False
            logger.info("the outbox in %s is well below its bound", outboxes[0].path.parent)

    def _drop(self, outbox: Outbox, kind: type, need: int, flying: set[str]) -> int:
        freed = after = 0
        while freed < need:
            messages, _damaged = outbox.oldest(_PIECE, after=after)
            if not messages:
                break
            after = messages[-1].batch_number
            smaller: list[tuple[Packed, Smaller]] = []
            for message in messages:
                if freed < need and message.message_id not in flying:
                    less = shed(message, kind, need - freed)
                    if less is not None:
                        freed += less.freed_bytes + (ROW_BYTES if less.message is None else 0)
                        smaller.append((message, less))
            _apply(outbox, smaller)
            self.dropped += sum(less.lost for _, less in smaller)
        return freed


class _Pass:
    """One pass over outboxes, each from its newest message to its oldest, in pieces."""

    def __init__(self, outboxes: Sequence[Outbox], bound: Bound) -> None:
        self._left = list(outboxes)
        self._below = _LAST
        self._thinning = Thinning()
        self._bound = bound

    def step(self, flying: set[str]) -> bool:
        """Thin one piece; tell whether there is more."""
        if not self._left:
            return False
        outbox = self._left[-1]
        messages, damaged = outbox.newest(_PIECE, below=self._below)
        numbers = [message.batch_number for message in messages] + damaged
        if not numbers:
            self._left.pop()
            self._below, self._thinning = _LAST, Thinning()
            return bool(self._left)
        smaller = [
            (message, less)
            for message in messages
            if message.message_id not in flying
            and (less := self._thinning.thin(message)) is not None
        ]
        # A newer reading of each meter stays in the file, so if we die between two pieces, or
        # inside this one, every total is still there.
        _apply(outbox, smaller)
        self._bound.coalesced += sum(less.superseded for _, less in smaller)
        self._below = min(numbers)
        return True


def _apply(outbox: Outbox, smaller: Sequence[tuple[Packed, Smaller]]) -> None:
    if smaller:
        outbox.shrink([(message, less.message) for message, less in smaller])
