"""What a ledger has to do while 20, 200, 2,000 or 20,000 calls are live, and what it has left.

Live calls are played, not waited for: the ledger's clock is moved on, one second after the other. In each
second the readings that are due are booked, ten a message, as workers of several calls pack them; then the
ledger adds up, settles and publishes as it does between two groups, by the real rule that paces
snapshots. A second lasts longer where its work takes more CPU than that. A call has a start, a reading of one of three
meters every three seconds, sixty in all, and an end; then the next one begins in its place. What comes before `apply`
(to fetch is a twentieth of it) and days that are sealed are not in it.

    python benchmarks/concurrent_calls.py [--calls 20 200 2000] [--minutes 24] [--rows 1000000 | --data-dir DIR]
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import large_ledgers
from benchmarks.measuring import rss_kb
from tests.support.events import ended, final, message, reading, started
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.clock import BYTES_PER_DAY, Clock, Pacing, micros
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.capture.identity import new_session_id
from voicecosts.producer.events import Event

EVERY_S: Final = 3
READINGS: Final = 60
PACKED: Final = 10

METERS: Final = (
    {"modality": "llm", "provider": "openai", "model": "gpt-4.1-mini"},
    {"modality": "stt", "provider": "deepgram", "model": "nova-3"},
    {"modality": "tts", "provider": "cartesia", "model": "sonic-3"},
)
USED: Final = (
    {"requests": 1, "input_tokens": 900, "output_tokens": 40},
    {"requests": 1, "audio_us": 2_400_000},
    {"requests": 1, "characters": 120},
)
"""What a reading of each meter adds, for each reading of the call so far."""


class Time:
    """The clock of the ledger: it is moved on, and goes on by itself while this process computes."""

    def __init__(self) -> None:
        self._began = datetime.now(UTC)
        self._moved = 0.0
        self._cpu = time.process_time()

    def ticks(self) -> float:
        """Return the seconds since it began."""
        return self._moved + time.process_time() - self._cpu

    def now(self) -> datetime:
        """Return the moment."""
        return self._began + timedelta(seconds=self.ticks())

    def move_to(self, seconds: float) -> None:
        """Let it be that second, unless it is later already."""
        self._moved = max(self.ticks(), seconds)
        self._cpu = time.process_time()

    def leave_out(self) -> None:
        """Let what was computed since it was moved on take no time."""
        self._cpu = time.process_time()


class Counting(Pacing):
    """The rule that paces snapshots, which notes when each was published and what was written for it."""

    def __init__(self, bytes_per_day: float) -> None:
        super().__init__(bytes_per_day=bytes_per_day)
        self.published: list[tuple[float, int]] = []

    def tried(self, now: float, took_s: float, written: int = 0) -> None:
        """Note it."""
        super().tried(now, took_s, written)
        self.published.append((now, written))


class Place:
    """Where one call follows another. In the beginning it is somewhere in one."""

    def __init__(self, number: int, at_us: int) -> None:
        self._tenant = f"tenant-{number % 200}"
        self._begin(at_us)
        self._count = number * 7 % READINGS

    def events(self, at_us: int) -> list[Event]:
        """Return what comes of it now."""
        if self._count == READINGS:
            last = [
                max(range(READINGS + 1), key=lambda it, k=kind: (it % 3 == k, it))
                for kind in range(3)
            ]  # type: ignore[misc]  # k is bound here
            meters = [
                final(**METERS[kind], **_times(USED[kind], count))
                for kind, count in enumerate(last)
            ]
            over = ended(READINGS + 1, *meters, **self._call, ended_at=at_us, readings=READINGS)
            self._begin(at_us)
            return [over, started(**self._call, started_at=at_us)]
        self._count += 1
        kind = self._count % len(METERS)
        moved = _times(USED[kind], self._count)
        return [reading(self._count, **self._call, **METERS[kind], occurred_at=at_us, **moved)]

    def _begin(self, at_us: int) -> None:
        self._call = {"session_id": new_session_id(at_us), "tenant": self._tenant}
        self._count = 0


def _times(used: dict[str, int], count: int) -> dict[str, int]:
    return {name: each * count for name, each in used.items()}


class Played:
    """So many calls on one ledger, second by second, and what the ledger's CPU went into."""

    def __init__(self, ledger: Ledger, clock: Time, calls: int) -> None:
        self._ledger = ledger
        self._clock = clock
        at_us = micros(clock.now())
        self._places = [Place(number, at_us) for number in range(calls)]
        self._sequences = itertools.count(ledger.booked_sequence + 1)
        self.bookings = 0
        self.cpu_s = dict.fromkeys(("book", "add up, settle", "publish"), 0.0)

    def second(self, second: int) -> None:
        """Let a second pass, in which all comes that is due."""
        self._clock.move_to(second)
        arrived = list(self._arriving(second))
        self._clock.leave_out()  # to make them is not the ledger's work
        if arrived:
            self._timed("book", lambda: self._book(arrived))
        self._timed("publish", self._ledger.publish_if_due)
        while self._timed("add up, settle", self._ledger.work):
            if self._clock.ticks() >= second + 1:
                break

    def _arriving(self, second: int) -> Iterator[Message]:
        at_us = micros(self._clock.now())
        events = [
            it for place in self._places[second % EVERY_S :: EVERY_S] for it in place.events(at_us)
        ]
        for at in range(0, len(events), PACKED):
            sequence = next(self._sequences)
            yield message(sequence, *events[at : at + PACKED], number=sequence)

    def _book(self, arrived: list[Message]) -> bool:
        self.bookings += self._ledger.apply(arrived).bookings
        return True

    def _timed(self, what: str, work: Callable[[], bool]) -> bool:
        began = time.process_time()
        done = work()
        self.cpu_s[what] += time.process_time() - began
        return done


def measure(data_dir: Path, calls: int, minutes: int, bytes_per_day: float) -> None:
    """Play so many calls, and print what the second half of the time took."""
    clock, pacing = Time(), Counting(bytes_per_day)
    at = Clock(now=clock.now, ticks=clock.ticks)
    with Ledger.open(data_dir, rate_by(ListPrices()), clock=at, pacing=pacing) as ledger:
        while ledger.work():  # what its history left to do
            pass
        ledger.publish_snapshot()
        played = Played(ledger, clock, calls)
        first = int(clock.ticks()) + 1
        half = first + minutes * 30
        for second in range(first, half):
            played.second(second)
        size = Layout(data_dir).ledger.stat().st_size
        began = clock.ticks()
        played.bookings = 0
        played.cpu_s = dict.fromkeys(played.cpu_s, 0.0)
        for second in range(half, half + minutes * 30):
            played.second(second)
        took = clock.ticks() - began
        grown = Layout(data_dir).ledger.stat().st_size - size
    published = [(when, count) for when, count in pacing.published if when > began]
    print(f"{calls:,} calls, {played.bookings / took:,.1f} readings a second")
    for what, cpu_s in played.cpu_s.items():
        each = cpu_s / played.bookings * 1e6
        print(f"  {what:<16}{100 * cpu_s / took:8.1f} % of a core{each:8.0f} µs a reading")
    print(f"  {'a second took':<16}{took / (minutes * 30):8.2f} s")
    if published:
        each_mb = sum(count for _, count in published) / len(published) / 1e6
        print(
            f"  {'a snapshot':<16}every {took / len(published):,.0f} s, {each_mb:,.1f} MB written for each"
        )
    print(f"  {'the file grew':<16}{grown / played.bookings:8.0f} bytes a reading")
    print(f"  {'memory':<16}{rss_kb() / 1e3:8.0f} MB", flush=True)


def main() -> None:
    """Measure each on a copy of the ledger."""
    parser = large_ledgers.arguments(__doc__)
    parser.add_argument("--calls", type=int, nargs="*", default=[20, 200, 2_000])
    parser.add_argument("--minutes", type=int, default=24)
    parser.add_argument("--snapshot-bytes-per-day", type=float, default=BYTES_PER_DAY)
    chosen = parser.parse_args()
    with large_ledgers.made(chosen.rows, chosen.data_dir, chosen.days) as data_dir:
        for calls in chosen.calls:
            with large_ledgers.copied(data_dir) as copy:
                measure(copy, calls, chosen.minutes, chosen.snapshot_bytes_per_day)


if __name__ == "__main__":
    main()
