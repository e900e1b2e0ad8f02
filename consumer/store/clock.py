"""Time for the store: the clocks it reads, and how often a snapshot may be published.

The next snapshot waits for twenty times as long as the last one took, and at least a few seconds:
publishing a large ledger costs at most a twentieth of the time. What is written for it comes out of the
bytes of a day, which grow back as time passes: a disk wears out by bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import Struct

MIN_INTERVAL_S: Final = 5.0
COPY_FACTOR: Final = 20.0

BYTES_PER_DAY: Final = 12_000_000_000
"""What snapshots may write in a day, about: a fortieth of what a small disk is made for."""

AT_ONCE: Final = 0.05
"""The part of a day's bytes that may be written without a rest, after a quiet time."""

LONGEST_REST_S: Final = 3600.0
"""Whatever a copy wrote, the next is made after so long: answers from it are no older than that."""

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
        self._bytes_per_s = bytes_per_day / _DAY_S
        self._at_once = bytes_per_day * AT_ONCE
        self._spent = 0.0
        self._tried: float | None = None
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
        grown_back = 0.0 if self._tried is None else (now - self._tried) * self._bytes_per_s
        most = self._at_once + LONGEST_REST_S * self._bytes_per_s
        self._spent = min(max(0.0, self._spent - grown_back) + written, most)
        self._tried = now
        for_time = max(self._min_interval_s, self._copy_factor * took_s)
        self._next_repair = now + for_time
        self._next = now + max(for_time, (self._spent - self._at_once) / self._bytes_per_s)
