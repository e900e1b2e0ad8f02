"""A worker to be hurt: it offers readings, and knows by its own counting what they must come to.

`Load` is the oracle. As a program it offers a load from a process of its own, which a test kills:
every reading is written to the oracle's file before it is offered, and a mark is written when all
that was offered before is on disk or acknowledged.

    python -m tests.support.faulty_worker SERVERS OUTBOX ORACLE [--readings N] [--end] …
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from producer.config import ProducerConfig
from producer.events import (
    Event,
    MeterReading,
    MeterTotals,
    Quantities,
    SessionEnded,
    SessionStarted,
)
from producer.identity import new_session_id
from producer.outbox import Outbox
from producer.packing import Packed
from producer.process import PROCESS
from producer.publisher import Publisher

ROOT: Final = Path(__file__).parents[2]
MODELS: Final = ("small", "large")

Key = tuple[str, str]
"""Session and model."""

Totals = tuple[int, int, int]
"""Number of the last reading, input tokens, characters."""


class Load:
    """Sessions that use two models in turn, and what every meter must show in the end."""

    def __init__(
        self,
        put: Callable[[Event], None],
        *,
        sessions: int = 3,
        project: str = "faults",
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.put = put
        self.project = project
        self.clock = clock
        self.sessions = [new_session_id(1_790_000_000_000_000) for _ in range(sessions)]
        self.expected: dict[Key, Totals] = {}
        self.offered = 0
        self._numbers = dict.fromkeys(self.sessions, 0)
        for session_id in self.sessions:
            put(
                SessionStarted(
                    session_id=session_id,
                    project=project,
                    agent_id=self.agent(session_id),
                    started_at=clock(),
                )
            )

    def agent(self, session_id: str) -> str:
        """Return the agent of a session: two of them take turns."""
        return f"agent-{self.sessions.index(session_id) % 2}"

    def reading(self) -> MeterReading:
        """Move one meter and return its reading; the oracle knows it from now on."""
        session_id = self.sessions[self.offered % len(self.sessions)]
        model = MODELS[self.offered // len(self.sessions) % len(MODELS)]
        self.offered += 1
        self._numbers[session_id] += 1
        number = self._numbers[session_id]
        _, tokens, characters = self.expected.get((session_id, model), (0, 0, 0))
        self.expected[session_id, model] = (number, tokens + 7 * number, characters + number % 5)
        return self.reading_of(session_id, model)

    def reading_of(self, session_id: str, model: str) -> MeterReading:
        """Return the newest reading of a meter."""
        number, tokens, characters = self.expected[session_id, model]
        return MeterReading(
            session_id=session_id,
            number=number,
            project=self.project,
            agent_id=self.agent(session_id),
            agent_label="Greeter",
            modality="llm",
            provider="scripted",
            model=model,
            occurred_at=self.clock(),
            totals=Quantities(input_tokens=tokens, characters=characters),
        )

    def offer(self, count: int) -> None:
        """Offer so many readings at once."""
        for _ in range(count):
            self.put(self.reading())

    async def offer_for(self, count: int, *, each: int = 5) -> None:
        """Offer so many readings a few at a time, as calls do."""
        for _ in range(0, count, each):
            self.offer(each)
            await asyncio.sleep(0.002)

    def end(self) -> None:
        """End every session with its totals."""
        for session_id in self.sessions:
            self._numbers[session_id] += 1
            number = self._numbers[session_id]
            meters = []
            for model in MODELS:
                if (session_id, model) in self.expected:
                    _, tokens, characters = self.expected[session_id, model]
                    self.expected[session_id, model] = (number, tokens, characters)
                    totals = Quantities(input_tokens=tokens, characters=characters)
                    meters.append(
                        MeterTotals(
                            agent_label="Greeter",
                            modality="llm",
                            provider="scripted",
                            model=model,
                            totals=totals,
                        )
                    )
            self.put(
                SessionEnded(
                    session_id=session_id,
                    number=number,
                    project=self.project,
                    agent_id=self.agent(session_id),
                    ended_at=self.clock(),
                    status="success",
                    meters=meters,
                    readings=number - 1,
                )
            )


def totals(events: Iterable[Event]) -> dict[Key, Totals]:
    """Return what a ledger books in the end: of every meter the reading with the highest number."""
    last: dict[Key, Totals] = {}
    for event in events:
        if not isinstance(event, (MeterReading, SessionEnded)):
            continue
        meters: Sequence[MeterReading | MeterTotals]
        meters = event.meters if isinstance(event, SessionEnded) else [event]
        for meter in meters:
            key = (event.session_id, meter.model)
            if key not in last or last[key][0] < event.number:
                shown = meter.totals
                last[key] = (event.number, shown.input_tokens, shown.characters)
    return last


class FaultyWorker:
    """The program below, started by a test."""

    def __init__(self, url: str, outbox: Path, oracle: Path, *options: str) -> None:
        self.oracle = oracle
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.support.faulty_worker",
                url,
                str(outbox),
                str(oracle),
                *options,
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lines(self) -> list[list[int | str]]:
        """Return what the oracle's file holds; a torn last line is left out."""
        if not self.oracle.exists():
            return []
        whole = self.oracle.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def marks(self) -> int:
        """Return how many marks were written so far."""
        return sum(line[0] == "mark" for line in self.lines())

    def kill(self) -> None:
        """End it at once, wherever it is."""
        self.process.kill()
        self.finish()

    def finish(self, *, deadline_s: float = 60.0) -> str:
        """Wait for its end and return what it logged."""
        _, log = self.process.communicate(timeout=deadline_s)
        return log

    def offered(self) -> dict[Key, list[Totals]]:
        """Return every reading that was offered, by meter, in order."""
        found: dict[Key, list[Totals]] = {}
        for kind, *fields in self.lines():
            if kind == "reading":
                session_id, model, number, tokens, characters = fields
                found.setdefault((str(session_id), str(model)), []).append(
                    (int(number), int(tokens), int(characters))
                )
        return found

    def safe(self) -> int:
        """Return how many readings were offered before the last mark."""
        return max((int(line[1]) for line in self.lines() if line[0] == "mark"), default=0)


class Handed:
    """Counts the events that a publisher has handed to its outbox on disk."""

    def __init__(self, publisher: Publisher) -> None:
        self.events = 0
        self._backlog = publisher.backlog
        self._keep = publisher.backlog.keep
        publisher.backlog.keep = self._counted  # type: ignore[method-assign]  # listened to, not changed

    def _counted(self, messages: Sequence[Packed]) -> None:
        self._keep(messages)
        if not self._backlog.events_in_memory:
            self.events += sum(message.events for message in messages)


def main() -> None:
    """Offer a load until it is done, or for ever."""
    parser = argparse.ArgumentParser()
    parser.add_argument("servers")
    parser.add_argument("outbox")
    parser.add_argument("oracle", type=Path)
    parser.add_argument("--readings", type=int, default=10**9)
    parser.add_argument("--end", action="store_true")
    parser.add_argument("--die-in-write", type=int, default=0)
    parser.add_argument("--exit-after", type=float, default=0.0)
    parser.add_argument("--flush-timeout", type=float, default=5.0)
    chosen = parser.parse_args()
    config = ProducerConfig(
        project="faults",
        servers=(chosen.servers,),
        outbox_dir=Path(chosen.outbox) if chosen.outbox else None,
        flush_timeout_s=chosen.flush_timeout,
    )
    if chosen.die_in_write:
        _die_in_write(chosen.die_in_write)
    publisher = PROCESS.publisher(config)
    with chosen.oracle.open("w", buffering=1) as oracle:
        _offer(publisher, chosen, oracle.write)
    if chosen.exit_after:
        time.sleep(chosen.exit_after)


def _offer(publisher: Publisher, chosen: argparse.Namespace, write: Callable[[str], int]) -> None:
    handed = Handed(publisher)
    load = Load(publisher.put)
    marked = 0
    while load.offered < chosen.readings:
        reading = load.reading()
        key = (reading.session_id, reading.model)
        write(json.dumps(["reading", *key, *load.expected[key]]) + "\n")
        publisher.put(reading)
        if load.offered % 5 == 0:
            time.sleep(0.002)
        # Events leave the buffer in the order in which they came, the starts first.
        safe = handed.events - len(load.sessions)
        if safe > marked:
            marked = safe
            write(json.dumps(["mark", marked]) + "\n")
    if chosen.end:
        load.end()


def _die_in_write(at: int) -> None:
    """Make this process die in its n-th transaction, when rows are written and not committed."""
    real, count = Outbox._transaction, 0

    @contextlib.contextmanager
    def deadly(outbox: Outbox) -> Iterator[None]:
        nonlocal count
        count += 1
        outbox._db.execute("PRAGMA cache_size = 1")  # so that rows reach the file before the commit
        with real(outbox):
            yield
            if count >= at:
                os.kill(os.getpid(), signal.SIGKILL)

    Outbox._transaction = deadly  # type: ignore[method-assign,assignment]  # the accident under test


if __name__ == "__main__":
    main()
