"""The memory of a ledger over many readings, with everything going on that goes on in months.

Whole calls are made as they go, start and end with them, and a ledger books them as `costs consume`
does between two fetches: adding up, settling, sealing the days that are over, publishing. Its clock
is that of the calls, so a day is `--a-day` readings. Of every twentieth part it prints the resident
memory, as it is and the most until then, the CPU that a reading took since the last line, and what is
on disk. Memory that is flat does not grow from the second line to the last.

    python benchmarks/long_ingest.py [--readings 20000000] [--a-day 1000000]
"""

from __future__ import annotations

import argparse
import itertools
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from ingest import MODELS, PRODUCER

from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.consume import WORK_S
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.clock import Clock, micros
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.capture.identity import new_session_id
from voicecosts.producer.events import (
    Batch,
    Event,
    MeterReading,
    MeterTotals,
    Quantities,
    SessionEnded,
    SessionStarted,
    encode,
)
from voicecosts.producer.subjects import subject

TURNS: Final = 8
"""Readings of each of the three meters of a call."""

READINGS: Final = TURNS * len(MODELS)
A_MESSAGE: Final = 2
"""Calls in a message."""

A_GROUP: Final = 500
"""Messages that are booked at once."""

LINES: Final = 20
_DAY: Final = timedelta(days=1)
_BEGIN: Final = datetime(2026, 1, 1, tzinfo=UTC)


def totals(modality: str, turn: int) -> Quantities:
    """Return what a meter has come to in a turn."""
    if modality == "llm":
        return Quantities(requests=turn, input_tokens=900 * turn, output_tokens=40 * turn)
    if modality == "tts":
        return Quantities(requests=turn, characters=120 * turn, audio_us=2_400_000 * turn)
    return Quantities(requests=turn, audio_us=2_400_000 * turn)


def call(number: int, began: int) -> Iterator[Event]:
    """Yield the events of one call of three minutes."""
    session_id = new_session_id(began)
    whose = {
        "session_id": session_id,
        "project": "bench",
        "agent_id": "agent",
        "tenant": f"tenant-{number % 200}",
    }
    yield SessionStarted(**whose, started_at=began, room_name=f"room-{number}")
    for at, (turn, (modality, provider, raw, model)) in enumerate(
        itertools.product(range(1, TURNS + 1), MODELS), start=1
    ):
        yield MeterReading(
            **whose,
            number=at,
            agent_label="front",
            modality=modality,
            provider=provider,
            provider_raw=raw,
            model=model,
            occurred_at=began + at * 7_500_000,
            totals=totals(modality, turn),
        )
    final = [
        MeterTotals(
            agent_label="front",
            modality=modality,
            provider=provider,
            provider_raw=raw,
            model=model,
            totals=totals(modality, TURNS),
        )
        for modality, provider, raw, model in MODELS
    ]
    yield SessionEnded(
        **whose,
        number=READINGS + 1,
        ended_at=began + 180_000_000,
        status="completed",
        meters=final,
        readings=READINGS,
    )


def megabytes(*paths: Path) -> float:
    """Return what is in some files and folders."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def resident_mb() -> float:
    """Return the resident memory of this process as it is."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def tell(readings: int, cpu_s: float, since: int, data: Path) -> None:
    """Print a line."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    took = cpu_s / since * 1e6 if since else 0.0
    sys.stdout.write(
        f"{readings:>12,} {resident_mb():>9.0f} {most:>9.0f} {took:>9.1f} "
        f"{megabytes(data / 'ledger'):>9.0f} {megabytes(data / 'sealed'):>9.0f}\n"
    )
    sys.stdout.flush()


def main() -> None:
    """Book and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--readings", type=int, default=20_000_000)
    parser.add_argument("--a-day", type=int, default=1_000_000)
    chosen = parser.parse_args()
    now = _BEGIN

    def moment() -> datetime:
        return now

    clock = Clock(now=moment, ticks=lambda: moment().timestamp())
    between = _DAY / (chosen.a_day / READINGS)
    numbers, made, told, cpu = itertools.count(1), 0, 0, time.process_time()
    print("    readings  resident  the most  µs CPU/r  ledger MB sealed MB")
    with tempfile.TemporaryDirectory(prefix="voicecosts-bench-") as folder:
        data = Path(folder)
        rate = rate_by(ListPrices())
        with Ledger.open(data, rate, clock=clock, has_source=True) as ledger:
            tell(0, 0.0, 0, data)
            while made < chosen.readings:
                group: list[Message] = []
                for number in itertools.islice(numbers, A_GROUP):
                    events: list[Event] = []
                    for _ in range(A_MESSAGE):
                        events += call(made // READINGS, micros(now))
                        made += READINGS
                        now += between
                    batch = Batch(producer_id=PRODUCER, number=number, events=events)
                    group.append(
                        Message(subject("bench", "agent", PRODUCER), number, encode(batch))
                    )
                ledger.apply(group)
                until = time.monotonic() + WORK_S
                while ledger.work() and time.monotonic() < until:
                    pass
                ledger.publish_if_due()
                if made - told >= chosen.readings / LINES:
                    tell(made, time.process_time() - cpu, made - told, data)
                    told, cpu = made, time.process_time()


if __name__ == "__main__":
    main()
