"""Time for the store: the clocks it reads, and how often a snapshot may be published.

The next snapshot waits for twenty times as long as the last one took, and at least a few seconds:
publishing a large ledger costs at most a twentieth of the time. It also waits until what was written
fits the bytes of a day: a disk wears out by bytes, and a copy of a large ledger has many.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

MIN_INTERVAL_S: Final = 5.0
COPY_FACTOR: Final = 20.0

BYTES_PER_DAY: Final = 15_000_000_000
"""What snapshots may write in a day, about: a tenth of what a small disk is made for."""

_DAY_S: Final = 86_400.0

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
    """When the next snapshot is due, given how long the last one took and what it wrote."""

    def __init__(
        self,
        *,
        min_interval_s: float = MIN_INTERVAL_S,
        copy_factor: float = COPY_FACTOR,
        bytes_per_day: float = BYTES_PER_DAY,
    ) -> None:
        self._min_interval_s = min_interval_s
        self._copy_factor = copy_factor
        self._bytes_per_day = bytes_per_day
        self._next: float | None = None
        self._next_repair: float | None = None

    def due(self, now: float) -> bool:
        """Return whether enough time has passed at `now` (`Clock.ticks`)."""
        return self._next is None or now >= self._next

    def repair_due(self, now: float) -> bool:
        """Return whether a snapshot that readers miss may be made: only the shortest rest counts."""
        return self._next_repair is None or now >= self._next_repair

    def tried(self, now: float, took_s: float, written: int = 0) -> None:
        """Record that a publish ended at `now`, successful or not, and how many bytes it wrote."""
        rest = max(
            self._min_interval_s,
            self._copy_factor * took_s,
            written * _DAY_S / self._bytes_per_day,
        )
        self._next = now + rest
        self._next_repair = now + max(self._min_interval_s, self._copy_factor * took_s)
