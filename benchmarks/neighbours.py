"""What the processes of one host cost each other: at rest, and when one adopts what others left.

Real processes, each with its own publisher on one shared folder, forked from one that has imported
everything and started nothing. Each offers a short call and is left alone; then the CPU that all of
them use together is read from outside, so that reading wakes none. With a broker that answers, with
one that is not there, so that the call's messages wait on disk, and without servers, where they
wait for a ledger. Then one publisher adopts small outboxes of killed processes.

    python benchmarks/neighbours.py [--processes 200] [--settle 30] [--seconds 60] [--orphans 2000]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support import stream
from tests.support.broker import Broker
from tests.support.load import Load
from tests.support.outboxes import execute
from tests.support.publishing import NO_SERVER, orphan
from tests.support.waiting import wait_until
from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.publishing.publisher import Publisher

AIM: Final = 0.01
STATES: Final = ("broker up", "broker away", "no servers")


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, to the nanosecond."""
    return time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) returns


def rest(config: ProducerConfig, ready: int) -> None:
    """Be one process of the host: offer a short call, say that it is stored, and do nothing."""
    publisher = Publisher(config)
    load = Load(publisher.put, sessions=1)
    load.offer(20)
    load.end()
    wait_until(lambda: not len(publisher.buffer), deadline_s=300)
    if config.servers and config.servers[0] != NO_SERVER:
        publisher.flush().result(300)
    os.write(ready, b".")
    while True:
        signal.pause()


def at_rest(state: str, url: str, chosen: argparse.Namespace, folder: Path) -> float:
    """Return the share of a core that the processes of a host use together."""
    servers = {"broker up": (url,), "broker away": (NO_SERVER,), "no servers": ()}[state]
    config = ProducerConfig(project="bench", servers=servers, outbox_dir=folder)
    ready, told = os.pipe()
    gc.collect()
    gc.freeze()
    pids: list[int] = []
    try:
        for _ in range(chosen.processes):
            pid = os.fork()
            if pid == 0:
                rest(config, told)
            pids.append(pid)
        said = 0
        while said < chosen.processes:
            said += len(os.read(ready, 4096))
        time.sleep(chosen.settle)
        before, began = sum(map(cpu_s, pids)), time.monotonic()
        time.sleep(chosen.seconds)
        return (sum(map(cpu_s, pids)) - before) / (time.monotonic() - began)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)
        os.close(ready)
        os.close(told)


def adoption(count: int, folder: Path) -> tuple[float, float]:
    """Return the CPU seconds and the time in which one publisher adopts so many small outboxes."""
    first, _ = orphan(folder, NO_SERVER, readings=10)
    destination = first.name.partition("-")[0]
    for number in range(1, count):
        for suffix in (".lock", ".sqlite3-wal", ".sqlite3"):
            copy = folder / f"{destination}-copy{number:06}{suffix}"
            shutil.copyfile(first.with_suffix(suffix), copy)
    [(each,)] = execute(first, "SELECT count(*) FROM messages")
    cpu, began = time.process_time(), time.monotonic()
    config = ProducerConfig(project="bench", servers=(NO_SERVER,), outbox_dir=folder)
    publisher = Publisher(config)
    # Looked at through one number: to list the folder again and again would cost more.
    wait_until(lambda: publisher.backlog.rows >= count * each, deadline_s=600)
    took = time.process_time() - cpu, time.monotonic() - began
    publisher.close(5)
    return took


def main() -> None:
    """Measure every state, then the adoption, and print them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=200)
    parser.add_argument("--settle", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--orphans", type=int, default=2000)
    parser.add_argument("--states", nargs="*", choices=STATES, default=STATES)
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as name:
        with Broker(Path(name) / "broker") as broker:
            asyncio.run(stream.declare(broker.url))
            for place, state in enumerate(chosen.states):
                share = at_rest(state, broker.url, chosen, Path(name) / str(place))
                print(
                    f"{chosen.processes} processes at rest, {state:12}{share:8.2%} of a core "
                    f"together, {share / chosen.processes * 1e6:6.0f} us a second each "
                    f"(aim: under {AIM:.0%} together)",
                    flush=True,
                )
        if chosen.orphans:
            cpu, took = adoption(chosen.orphans, Path(name) / "orphans")
            print(f"{chosen.orphans} small orphans adopted: {cpu:.1f} s of CPU, {took:.1f} s")


if __name__ == "__main__":
    main()
