"""`costs` as a process of its own, calls to feed its ledger with, and what readers see of them.

The calls are made from a seed, and they know their own totals: what the ledger must say in the end,
whatever was killed, lost or repeated on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import UUID

import duckdb
import nats
from msgspec import Struct
from msgspec.structs import replace
from nats.js import api

from tests.support.waiting import wait_until
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
from voicecosts.producer.subjects import STREAM, subject

ROOT: Final = Path(__file__).parents[2]
READY: Final = "reading stream COSTS"
PRODUCER: Final = "producer-1"

Totals = dict[tuple[str, str], tuple[int, int, int]]
"""By session and model: requests, input tokens, output tokens."""


class CostsProcess:
    """`costs <arguments>` in the foreground of a process, with its output in files."""

    def __init__(
        self, arguments: Sequence[str], directory: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.arguments = list(arguments)
        self.directory = directory
        self.environ = {**_clean_environ(), **(environ or {})}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self.process is not None
        return self.process.pid

    @property
    def output(self) -> str:
        """What the last run printed."""
        return (self.directory / "stdout").read_text()

    @property
    def log(self) -> str:
        """What the last run logged, and its error when it failed."""
        return (self.directory / "stderr").read_text()

    def start(self) -> Self:
        """Start it; it is not ready yet."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (
            (self.directory / "stdout").open("wb") as output,
            (self.directory / "stderr").open("wb") as log,
        ):
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "voicecosts", *self.arguments],
                cwd=ROOT,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )
        return self

    def wait_ready(self, *, deadline_s: float = 30) -> Self:
        """Return when it reads the stream; fail when it ended instead."""
        wait_until(lambda: READY in self.log or self.ended(), deadline_s=deadline_s)
        assert not self.ended(), self.log
        return self

    def ended(self) -> bool:
        """Tell whether it has ended by itself."""
        return self.process is not None and self.process.poll() is not None

    def wait(self, *, deadline_s: float = 30) -> int:
        """Return its exit code when it has ended."""
        assert self.process is not None
        return self.process.wait(deadline_s)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, as Ctrl-C or a container does, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait()

    def kill(self) -> None:
        """End it at once, wherever it is."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.ended():
            self.kill()


class Call(Struct, frozen=True, kw_only=True):
    """One session: its events in their order, the last one with the totals of its meters."""

    started: SessionStarted
    readings: list[MeterReading]
    ended: SessionEnded


def calls(seed: int, count: int, *, project: str = "test", readings: int = 12) -> list[Call]:
    """Return `count` calls, the same ones for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - the same for the same seed
    return [_call(chance, project, number, readings) for number in range(count)]


def batches(made: Sequence[Call], *, seed: int, size: int = 6) -> Iterator[Batch]:
    """Return the events of the calls, in their order within a call and mixed between calls."""
    chance = random.Random(seed)  # noqa: S311 - the same for the same seed
    lines: list[list[Event]] = [[call.started, *call.readings, call.ended] for call in made]
    number = 0
    while lines:
        events: list[Event] = []
        for _ in range(size):
            if lines:
                line = chance.choice(lines)
                events.append(line.pop(0))
                lines = [left for left in lines if left]
        number += 1
        yield Batch(producer_id=PRODUCER, number=number, events=events)


def totals(made: Sequence[Call]) -> Totals:
    """Return what must be booked when everything has come: the oracle."""
    return {
        (call.ended.session_id, meter.model): (
            meter.totals.requests,
            meter.totals.input_tokens,
            meter.totals.output_tokens,
        )
        for call in made
        for meter in call.ended.meters
    }


def booked(data_dir: Path) -> Totals:
    """Return what the published snapshot holds, as a reader sees it."""
    return _booked((data_dir / "costs.duckdb").resolve())


@cache  # a snapshot never changes once it is published
def _booked(snapshot: Path) -> Totals:
    with duckdb.connect(str(snapshot), read_only=True) as connection:
        rows = connection.execute(
            "SELECT session_id::VARCHAR, model, sum(requests)::BIGINT, sum(input_tokens)::BIGINT,"
            " sum(output_tokens)::BIGINT FROM bookings GROUP BY ALL"
        ).fetchall()
    return {(row[0], row[1]): (row[2], row[3], row[4]) for row in rows}


def cost(data_dir: Path) -> Decimal:
    """Return all the money in the published snapshot."""
    with duckdb.connect(str(data_dir / "costs.duckdb"), read_only=True) as connection:
        row = connection.execute("SELECT coalesce(sum(cost), 0) FROM bookings").fetchone()
    assert row is not None
    return Decimal(row[0])


async def publish(url: str, wanted: Iterator[Batch], *, project: str = "test") -> None:
    """Publish each batch until the broker has it, through outages, as a producer does."""
    waiting = list(wanted)
    while waiting:
        with contextlib.suppress(OSError, TimeoutError, nats.errors.Error):
            await _publish_some(url, waiting, project)


async def standing(url: str) -> api.ConsumerInfo:
    """Ask the broker where the ledger's durable consumer stands."""
    client = await nats.connect(url)
    try:
        info: api.ConsumerInfo = await client.jetstream().consumer_info(STREAM, "ledger")
    finally:
        await client.close()
    return info


async def settled(url: str, *, deadline_s: float = 30) -> None:
    """Return when everything is booked and acknowledged."""
    async with asyncio.timeout(deadline_s):
        info = await standing(url)
        while info.num_pending or info.num_ack_pending:
            await asyncio.sleep(0.02)
            info = await standing(url)


async def _publish_some(url: str, waiting: list[Batch], project: str) -> None:
    async def quiet(error: Exception) -> None:
        pass

    client = await nats.connect(
        url, error_cb=quiet, allow_reconnect=False, max_reconnect_attempts=1, connect_timeout=2
    )
    try:
        stream = client.jetstream()
        while waiting:
            batch = waiting[0]
            await stream.publish(
                subject(project, "dental", PRODUCER),
                encode(batch),
                timeout=2,
                headers={"Nats-Msg-Id": f"{project}-{batch.number}"},
            )
            waiting.pop(0)
    finally:
        with contextlib.suppress(OSError, nats.errors.Error, TimeoutError):
            await asyncio.wait_for(client.close(), 5)


_MODELS = (("openai", "gpt-4.1-mini"), ("homebrew", "llama-local"))
_START_MS = 1_795_000_000_000


def _call(chance: random.Random, project: str, number: int, readings: int) -> Call:
    millis = _START_MS + number
    session_id = str(UUID(int=millis << 80 | 7 << 76 | 2 << 62 | chance.getrandbits(62)))
    tenant = chance.choice(("acme", "globex", None))
    meters = [Quantities(), Quantities()]
    made = []
    for reading in range(1, readings + 1):
        index = chance.randrange(2)
        meters[index] = replace(
            meters[index],
            requests=meters[index].requests + 1,
            input_tokens=meters[index].input_tokens + chance.randrange(1, 5000),
            output_tokens=meters[index].output_tokens + chance.randrange(1, 500),
        )
        provider, model = _MODELS[index]
        made.append(
            MeterReading(
                session_id=session_id,
                project=project,
                agent_id="dental",
                tenant=tenant,
                number=reading,
                agent_label="Greeter",
                modality="llm",
                provider=provider,
                model=model,
                occurred_at=(millis + reading) * 1000,
                totals=meters[index],
            )
        )
    started = SessionStarted(
        session_id=session_id,
        project=project,
        agent_id="dental",
        tenant=tenant,
        started_at=millis * 1000,
    )
    ended = SessionEnded(
        session_id=session_id,
        project=project,
        agent_id="dental",
        tenant=tenant,
        number=readings + 1,
        ended_at=(millis + 60_000) * 1000,
        status="closed",
        readings=readings,
        meters=[
            MeterTotals(
                agent_label="Greeter", modality="llm", provider=name, model=model, totals=meter
            )
            for (name, model), meter in zip(_MODELS, meters, strict=True)
            if meter != Quantities()
        ],
    )
    return Call(started=started, readings=made, ended=ended)


def _clean_environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("COSTS_")}
