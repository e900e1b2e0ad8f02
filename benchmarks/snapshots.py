"""What it costs to publish a large ledger after a little was booked, and what that writes in a day.

On a copy of the ledger: 500 readings of new calls are booked and published, three times. What a
publish writes is what the kernel counts for this process, and what the rule that paces snapshots is
told. The floor is the booking of the same readings: nothing that is published can be cheaper than to
have made it.

A day is worked out, not waited for: at five readings a second something has always changed, so
snapshots follow one another as fast as `Pacing` lets them. What that writes is measured once more,
with as many readings as come in while it rests, and multiplied. The copy that is kept apart is
written once a day more, and is not in it.

    python benchmarks/snapshots.py [--rows 1000000] [--data-dir DIR]
"""

from __future__ import annotations

import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import astuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import large_ledgers
from benchmarks.large_ledgers import Pattern, reading_of
from benchmarks.measuring import timed
from tests.support.events import message
from voicecosts.consumer.booking.message import Applied, Message
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.clock import MIN_INTERVAL_S, Clock, Pacing
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import now_us

NEW: Final = 500
PER_SECOND: Final = 5
TIMES: Final = 3

_DAY_S: Final = 86_400.0
_MB: Final = 1e6


class Counting(Pacing):
    """The pacing rule, which notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.written = 0

    def tried(self, now: float, took_s: float, written: int = 0) -> None:
        """Note how many bytes were written."""
        super().tried(now, took_s, written)
        self.written = written


class Later:
    """A calendar that is some seconds ahead after each publish, as if the ledger had rested."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        """Return the time."""
        return datetime.now(UTC) + self.ahead

    def rest(self) -> None:
        """Let as much time pass as the shortest rest has."""
        self.ahead += timedelta(seconds=MIN_INTERVAL_S)


class Published(Struct, frozen=True):
    """What the booking of the new readings took, and what their publishing took and wrote."""

    booked_s: float
    booked_cpu_s: float
    took_s: float
    took_cpu_s: float
    told_bytes: float
    kernel_bytes: float


def written() -> int:
    """Return how many bytes this process has caused to be written to disks so far."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["write_bytes"])


def new_readings(numbers: range, sequence: int) -> list[Message]:
    """Return the first readings of new calls with these numbers, ten a message."""
    at = now_us()
    return [
        message(
            sequence + place,
            *(
                reading_of(Pattern(number=it, readings=1), 1, at)
                for it in numbers[start : start + 10]
            ),
        )
        for place, start in enumerate(range(0, len(numbers), 10))
    ]


def publish(ledger: Ledger, pacing: Counting, later: Later, numbers: range) -> Published:
    """Book some readings and publish them."""
    messages = new_readings(numbers, ledger.booked_sequence + 1)
    applied: list[Applied] = []
    booked = timed(lambda: applied.append(ledger.apply(messages)))
    assert applied[0].bookings == len(numbers), applied
    before = written()
    took = timed(ledger.publish_snapshot)
    later.rest()
    return Published(*astuple(booked), *astuple(took), pacing.written, written() - before)


def publishes(ledger: Ledger, pacing: Counting, later: Later, count: int) -> Published:
    """Do that some times with so many readings; return the medians."""
    every = [
        publish(ledger, pacing, later, range(time_ * count, (time_ + 1) * count))
        for time_ in range(TIMES)
    ]
    columns = zip(*map(astuple, every), strict=True)
    return Published(*map(statistics.median, columns))


def a_day(one: Published) -> tuple[float, float]:
    """Return how often that is published in a day at most, and the rest after each in the end."""
    pacing, now, count, rest = Pacing(), 0.0, 0, 0.0
    while now < _DAY_S:
        now += one.took_s
        pacing.tried(now, one.took_s, round(one.told_bytes))
        assert pacing._next is not None
        now, rest, count = pacing._next, pacing._next - now, count + 1
    return count, rest


def measure(data_dir: Path) -> None:
    """Measure and print."""
    pacing, later = Counting(), Later()
    began = time.perf_counter()
    clock = Clock(now=later.now)
    with Ledger.open(data_dir, rate_by(ListPrices()), clock=clock, pacing=pacing) as ledger:
        opened = time.perf_counter() - began
        size = Layout(data_dir).ledger.stat().st_size
        ledger.publish_snapshot()
        apart = time.perf_counter() - began - opened
        publishes(ledger, pacing, later, NEW)  # from here on old ones become new ones
        few = publishes(ledger, pacing, later, NEW)
        _, rest = a_day(few)
        come_in = round(PER_SECOND * rest)
        daily = publishes(ledger, pacing, later, come_in)
        times, rest = a_day(daily)
    _say("the ledger's file", size / _MB, "MB")
    _say("opened", opened, "s")
    _say("published once in full, and a copy kept apart", apart, "s")
    _say(f"floor: {NEW} readings booked", few.booked_s * 1e3, "ms")
    _say("published", few.took_s * 1e3, "ms")
    _say("  by the floor", few.took_s / few.booked_s, "times")
    _say("CPU of the floor", few.booked_cpu_s * 1e3, "ms")
    _say("CPU of publishing", few.took_cpu_s * 1e3, "ms")
    _say("  by the floor", few.took_cpu_s / few.booked_cpu_s, "times")
    _say("written for it, as the rule is told", few.told_bytes / _MB, "MB")
    _say("written for it, as the kernel counts", few.kernel_bytes / _MB, "MB")
    _say("  by what is new, a reading", few.kernel_bytes / NEW / 1e3, "kB")
    _say(f"rest after it: {come_in:,} readings come in", rest, "s")
    _say("snapshots in a day", times, "")
    _say("  written for each, as the kernel counts", daily.kernel_bytes / _MB, "MB")
    _say("  written in the day", times * daily.kernel_bytes / 1e9, "GB")


def _say(what: str, amount: float, unit: str) -> None:
    print(f"{what:<52}{amount:12,.1f} {unit}")


def main() -> None:
    """Measure a copy of the ledger."""
    chosen = large_ledgers.arguments(__doc__).parse_args()
    with (
        large_ledgers.made(chosen.rows, chosen.data_dir, chosen.days) as data_dir,
        large_ledgers.copied(data_dir) as copy,
    ):
        measure(copy)


if __name__ == "__main__":
    main()
