"""What an outage costs the voice loop: broker up, broker down, and disk full, side by side.

Readings are put at a steady pace from one thread, as voice loops do, while the publisher's thread
works: sending, or storing on disk, or holding in memory. For each state the CPU of the putting
thread per event and percentiles of the time that one `put` takes are printed, and their ratios to
the same load with no publisher at work at all. The load is the same; only the surroundings differ.

    python benchmarks/outage.py [--events 40000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from producer.buffer import Buffer
from producer.config import BufferLimits, ProducerConfig
from producer.events import Event
from producer.publisher import Publisher
from tests.support import stream
from tests.support.broker import Broker
from tests.support.faulty_worker import Load

PACE_S = 0.01
SMALL_FILES = 200_000


def offered(put: Callable[[Event], None], count: int) -> tuple[float, list[int]]:
    """Put `count` readings, 50 every 10 ms; return CPU µs per event and each put's nanoseconds."""
    load = Load(lambda _event: None, sessions=50)
    events = [load.reading() for _ in range(count)]
    took: list[int] = []
    spent = 0
    clock = time.perf_counter_ns
    for first in range(0, count, 50):
        batch = events[first : first + 50]
        before = time.thread_time_ns()
        for event in batch:
            start = clock()
            put(event)
            took.append(clock() - start)
        spent += time.thread_time_ns() - before
        time.sleep(PACE_S)
    return spent / count / 1000, took


def publisher_of(url: str, folder: Path) -> Publisher:
    """Return a publisher with an outbox."""
    return Publisher(ProducerConfig(project="bench", servers=(url,), outbox_dir=folder))


def measured(state: str, count: int, broker: Broker, folder: Path) -> tuple[float, list[int]]:
    """Offer the load in one of the states."""
    if state == "no publisher":
        return offered(Buffer(BufferLimits(detail=count + 1)).put, count)
    down = state != "broker up"
    publisher = publisher_of("nats://127.0.0.1:1" if down else broker.url, folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if state == "disk full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILES, hard))
    try:
        result = offered(publisher.put, count)
        where = publisher.stats().outbox
        assert where == ("in memory" if state == "disk full" else "on disk"), where
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        publisher.close(0.5)
    return result


def main() -> None:
    """Measure the states in turns and print the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    logging.getLogger("producer").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    states = ("no publisher", "broker up", "broker down", "disk full")
    cpu: dict[str, list[float]] = {state: [] for state in states}
    put: dict[str, list[int]] = {state: [] for state in states}
    with tempfile.TemporaryDirectory() as name, Broker(Path(name) / "broker") as broker:
        asyncio.run(stream.declare(broker.url))
        for number in range(chosen.rounds):
            for state in states:
                gc.collect()
                folder = Path(name) / f"{state.replace(' ', '-')}-{number}"
                spent_us, took = measured(state, chosen.events, broker, folder)
                cpu[state].append(spent_us)
                put[state] += took
    floor_us = statistics.median(cpu["no publisher"])
    print(f"{'':14} {'CPU/event':>10} {'ratio':>6}   {'p50':>8} {'p99':>8} {'p99.9':>8}")
    for state in states:
        took = sorted(put[state])
        p50, p99, p999 = (took[int(len(took) * share)] / 1000 for share in (0.5, 0.99, 0.999))
        spent_us = statistics.median(cpu[state])
        print(
            f"{state:14} {spent_us:7.2f} µs {spent_us / floor_us:6.2f}   "
            f"{p50:5.2f} µs {p99:5.2f} µs {p999:5.1f} µs"
        )


if __name__ == "__main__":
    main()
