"""The bounded buffer between the voice loops and the publisher's thread.

`put` is the only thing a call ever waits for: one append, or one dictionary entry when the buffer
is full. It takes no lock, does no I/O and never raises. When full, detail is lost before money:
the newest reading of a meter replaces the older one, and a session's start and end are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Final

from voicecosts.producer.config import BufferLimits
from voicecosts.producer.events import Event, Meter, MeterReading, meter_of

_Key = Meter | int

PIECE: Final = 200
"""Events that one call of `coalesce_oldest` moves, so that it stays short."""


class Buffer:
    """Events on their way out. Many threads put, one removes and coalesces.

    `_detail` is first in, first out. `_newest` holds what came while `_detail` was full: per meter
    the newest reading, and every start and end; a session's own thread is the only one to write its
    keys. `_oldest` is what the removing thread made of the oldest detail, and only it touches that.
    All change only by operations that are atomic under the interpreter's rules.
    """

    def __init__(self, limits: BufferLimits) -> None:
        self.limits = limits
        self.captured = 0
        self.coalesced = 0
        self.dropped = 0
        self._detail: deque[Event] = deque()
        self._newest: dict[_Key, Event] = {}
        self._oldest: dict[_Key, Event] = {}
        self._coalesced_of: dict[str, int] = {}
        self._serial = count()

    def __len__(self) -> int:
        return len(self._detail) + len(self._newest) + len(self._oldest)

    def __repr__(self) -> str:
        return (
            f"<Buffer {len(self._detail)} in detail, {len(self._newest) + len(self._oldest)} "
            f"newest, {self.coalesced} coalesced, {self.dropped} dropped>"
        )

    def put(self, event: Event) -> None:
        """Accept an event; never waits and never raises."""
        self.captured += 1
        if len(self._detail) < self.limits.detail:
            self._detail.append(event)
        else:
            self._keep_newest(self._newest, event)

    def coalesced_of(self, session_id: str) -> int:
        """Return how many readings of a session were coalesced so far, and forget the count."""
        return self._coalesced_of.pop(session_id, 0)

    def remove(self, most: int) -> list[Event]:
        """Return up to `most` events and forget them here; the caller owns them now."""
        removed: list[Event] = []
        _pop(self._detail.popleft, removed, most)
        for kept in (self._oldest, self._newest):
            while kept and len(removed) < most:
                try:
                    removed.append(kept.pop(next(iter(kept))))
                except RuntimeError:
                    break  # a voice loop put something meanwhile; the next call continues
        return removed

    def coalesce_oldest(self) -> None:
        """Coalesce some of the oldest detail, to make room while nothing can be sent."""
        if len(self._detail) < self.limits.detail:
            return
        oldest: list[Event] = []
        _pop(self._detail.popleft, oldest, PIECE)
        for event in oldest:
            self._keep_newest(self._oldest, event)

    def _keep_newest(self, kept: dict[_Key, Event], event: Event) -> None:
        key = self._key(event)
        older = kept.get(key)
        if older is None:
            # A later reading or the session's end repairs a reading that is dropped here, so
            # readings are dropped before starts and ends.
            if len(kept) >= self.limits.meters * (1 if isinstance(event, MeterReading) else 2):
                self.dropped += 1
                return
        elif isinstance(older, MeterReading) and isinstance(event, MeterReading):
            self.coalesced += 1
            session_id = event.session_id
            self._coalesced_of[session_id] = self._coalesced_of.get(session_id, 0) + 1
            event = max(older, event, key=_number)
        kept[key] = event

    def _key(self, event: Event) -> _Key:
        return meter_of(event) if isinstance(event, MeterReading) else next(self._serial)


def _number(reading: MeterReading) -> int:
    return reading.number


def _pop(popleft: Callable[[], Event], into: list[Event], most: int) -> None:
    """Move up to `most` events from a deque that other threads append to."""
    try:
        for _ in range(most):
            into.append(popleft())  # noqa: PERF401 - what came before an IndexError must stay
    except IndexError:
        return
