"""A worker to be hurt: a process that offers readings and keeps a diary that survives it.

The diary is written line by line, straight to the operating system: each reading before it is
offered, which readings the outbox has on disk, and when the publisher has begun a linger.

    python -m tests.support.faulty_worker SERVERS OUTBOX DIARY [--readings N] [--end] …
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.load import Load
from tests.support.processes import program
from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.events import MeterReading, decode
from voicecosts.producer.outbox.backlog import Held
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.process import PROCESS
from voicecosts.producer.publishing.publisher import Publisher


class FaultyWorker:
    """The program below, started by a test. `within` is a command that runs it."""

    def __init__(
        self, url: str, outbox: Path, diary: Path, *options: str, within: Sequence[str] = ()
    ) -> None:
        self.diary = diary
        self.process = program(
            "faulty_worker",
            *(url, outbox, diary, *options),
            within=within,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def lines(self) -> list[list[Any]]:
        """Return what the diary holds."""
        if not self.diary.exists():
            return []
        whole = self.diary.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def kept(self) -> int:
        """Return how many readings its outbox is known to have had on disk."""
        return sum(len(line[1]) for line in self.lines() if line[0] == "kept")

    def states(self) -> list[str]:
        """Return in which states its outbox was, one after the other."""
        return [line[1] for line in self.lines() if line[0] == "state"]

    def kill(self) -> None:
        """End it at once, wherever it is."""
        self.process.kill()
        self.finish()

    def finish(self, *, deadline_s: float = 60.0) -> str:
        """Wait for its end and return what it logged."""
        _, log = self.process.communicate(timeout=deadline_s)
        return log


class Diary:
    """Lines that are with the operating system when `write` returns; from any thread."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.has_kept = False  # whether the outbox has had a reading on disk

    def write(self, kind: str, *fields: object) -> None:
        """Add a line."""
        os.write(self._descriptor, json.dumps([kind, *fields]).encode() + b"\n")

    def listen(self, publisher: Publisher) -> None:
        """Note what the publisher has on disk, and each beginning of a linger."""
        backlog = publisher.backlog
        keep, tend = backlog.keep, backlog.tend

        def noted_keep(messages: Sequence[Packed]) -> None:
            keep(messages)
            if messages and not backlog.own.events_in_memory:
                events = [event for message in messages for event in decode(message.data).events]
                readings = [event for event in events if isinstance(event, MeterReading)]
                self.write("kept", [[each.session_id, each.number] for each in readings])
                self.has_kept = self.has_kept or bool(readings)

        def noted_tend() -> None:
            tend()
            self.write("linger", time.monotonic_ns() // 1000)

        backlog.keep = noted_keep  # type: ignore[method-assign]  # listened to, not changed
        backlog.tend = noted_tend  # type: ignore[method-assign]  # same


def main() -> None:
    """Offer a load until it is done, or for ever."""
    parser = argparse.ArgumentParser()
    parser.add_argument("servers")
    parser.add_argument("outbox", type=Path)
    parser.add_argument("diary", type=Path)
    parser.add_argument("--readings", type=int, default=10**9)
    parser.add_argument("--end", action="store_true")
    parser.add_argument("--die-in-write", type=int, default=0)
    parser.add_argument("--die-before-forgetting", type=int, default=0)
    parser.add_argument("--flush-timeout", type=float, default=5.0)
    chosen = parser.parse_args()
    config = ProducerConfig(
        project="faults",
        servers=(chosen.servers,),
        outbox_dir=chosen.outbox,
        flush_timeout_s=chosen.flush_timeout,
    )
    diary = Diary(chosen.diary)
    if chosen.die_in_write:
        _die_in_write(chosen.die_in_write, diary)
    publisher = PROCESS.publisher(config)
    diary.listen(publisher)
    if chosen.die_before_forgetting:
        _die_before_forgetting(chosen.die_before_forgetting, publisher)
    load = Load(publisher.put)
    _offer(load, publisher, diary, chosen.readings)
    if chosen.end:
        load.end()


def _offer(load: Load, publisher: Publisher, diary: Diary, readings: int) -> None:
    state = ""
    while load.offered < readings:
        reading = load.reading()
        key = (reading.session_id, reading.model)
        diary.write("reading", *key, *load.expected[key], time.monotonic_ns() // 1000)
        publisher.put(reading)
        if load.offered % 5 == 0:
            time.sleep(0.002)
        if publisher.stats().outbox != state:
            state = publisher.stats().outbox
            diary.write("state", state)


def _die_in_write(at: int, diary: Diary) -> None:
    """Make this process die when rows are written and not committed.

    That is in its n-th transaction, counted from the one after its first reading was on disk.
    """
    real, count = Outbox._transaction, 0

    @contextlib.contextmanager
    def deadly(outbox: Outbox) -> Iterator[None]:
        nonlocal count
        count += diary.has_kept
        outbox._db.execute("PRAGMA cache_size = 1")  # so that rows reach the file before the commit
        with real(outbox):
            yield
            if count >= at:
                diary.write("dying", outbox._db.in_transaction, _written(outbox))
                os.kill(os.getpid(), signal.SIGKILL)

    Outbox._transaction = deadly  # type: ignore[method-assign,assignment]  # the accident under test


def _die_before_forgetting(at: int, publisher: Publisher) -> None:
    """Make this process die when JetStream and the outbox both have readings, for the n-th time."""
    done, forget_done = publisher.backlog.done, publisher.backlog.forget_done
    acknowledged: list[Held] = []
    count = 0

    def noted_done(held: Held) -> None:
        acknowledged.append(held)
        done(held)

    def deadly_forget_done() -> None:
        nonlocal count
        count += any(
            isinstance(event, MeterReading)
            for held in acknowledged
            for event in decode(held.message.data).events
        )
        if count >= at:
            os.kill(os.getpid(), signal.SIGKILL)
        acknowledged.clear()
        forget_done()

    publisher.backlog.done = noted_done  # type: ignore[method-assign]  # the accident under test
    publisher.backlog.forget_done = deadly_forget_done  # type: ignore[method-assign]  # same


def _written(outbox: Outbox) -> int:
    """Return how many bytes the file's write-ahead log has."""
    return outbox.path.with_name(outbox.path.name + "-wal").stat().st_size


if __name__ == "__main__":
    main()
