"""Time for the store: the clocks it reads, and how often a snapshot may be published.

The next snapshot waits for twenty times as long as the last one took, and at least a few seconds:
publishing a large ledger costs at most a twentieth of the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

MIN_INTERVAL_S: Final = 5.0
COPY_FACTOR: Final = 20.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def utc_now() -> datetime:
    """Return the time now, with its zone."""
    return datetime.now(UTC)


class Clock(Struct, frozen=True):
    """Where the ledger reads time: `now` is the calendar, `ticks` counts seconds and never jumps."""

    now: Callable[[], datetime] = utc_now
    ticks: Callable[[], float] = time.monotonic


def micros(moment: datetime) -> int:
    """Return whole microseconds since 1970: how every time enters the database."""
    return (moment - _EPOCH) // _MICROSECOND


class Pacing:
    """When the next snapshot is due, given how long the last one took."""

    def __init__(
        self, *, min_interval_s: float = MIN_INTERVAL_S, copy_factor: float = COPY_FACTOR
    ) -> None:
        self._min_interval_s = min_interval_s
        self._copy_factor = copy_factor
        self._next: float | None = None

    def due(self, now: float) -> bool:
        """Return whether enough time has passed at `now` (`Clock.ticks`)."""
        return self._next is None or now >= self._next

    def tried(self, now: float, took_s: float) -> None:
        """Record that a publish ended at `now`, successful or not."""
        self._next = now + max(self._min_interval_s, self._copy_factor * took_s)
