"""The examples run: each as a worker of its own, over LiveKit's dispatch protocol, on scripted models."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import stream
from tests.support.broker import Broker
from tests.support.dispatch import KEYS, Dispatcher
from tests.support.processes import ROOT, costs
from voicecosts.producer.events import Event, MeterReading, SessionEnded, SessionStarted


@contextlib.asynccontextmanager
async def example(name: str, bus: Broker, log: Path) -> AsyncIterator[Dispatcher]:
    """Run an example's worker; at the end it is told to stop and must end well."""
    environment = {
        **os.environ,
        "COSTS_SERVERS": bus.url,
        "EXAMPLES_OFFLINE": "1",
        "LIVEKIT_API_KEY": KEYS["api_key"],
        "LIVEKIT_API_SECRET": KEYS["api_secret"],
    }
    async with Dispatcher() as dispatcher:
        with log.open("wb") as output:
            worker = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.support.pool_example", name, "start"),
                cwd=ROOT,
                env={**environment, "LIVEKIT_URL": dispatcher.url},
                stdout=output,
                stderr=output,
            )
        try:
            async with asyncio.timeout(60):
                await dispatcher.registered.wait()
            yield dispatcher
            worker.terminate()
            async with asyncio.timeout(30):
                assert await worker.wait() == 0
        finally:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()


async def stored(bus: Broker, kind: type[Event], calls: int) -> list[Any]:
    """Wait until so many calls have an event of this kind; return all of them."""
    async with asyncio.timeout(60):
        while True:
            found: list[Any] = [it for it in await stream.events(bus.url) if isinstance(it, kind)]
            if len({it.session_id for it in found}) >= calls:
                return found
            await asyncio.sleep(0.1)


CALLS: list[dict[str, str]] = [
    {"room": "x", "metadata": '{"agent": "dental", "tenant": "acme"}'},
    {"room": "support-4711", "room_metadata": '{"tenant": "globex"}'},
    {"room": "x", "room_metadata": '{"demo": "restaurant"}'},
]
ANYWHERE = {("dental", "acme")}
ROUTED = {("dental", "acme"), ("support", "globex"), ("restaurant", None)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "calls", "expected"),
    [
        ("plain_worker", CALLS[:1], ANYWHERE),
        ("pool_worker", CALLS, ROUTED),
        ("openrtc_worker", CALLS[:1], ANYWHERE),
    ],
)
async def test_the_example_meters_its_calls(
    name: str,
    calls: list[dict[str, str]],
    expected: set[tuple[str, str | None]],
    broker: Broker,
    tmp_path: Path,
) -> None:
    """Each call is greeted and ended; its start, its usage and its end name agent and tenant."""
    await stream.declare(broker.url)
    log = tmp_path / "worker.log"
    async with example(name, broker, log) as dispatcher:
        offers = [await dispatcher.dispatch(**call) for call in calls]
        assert all(offer.accepted for offer in offers)
        await stored(broker, MeterReading, len(calls))
        for offer in offers:
            await dispatcher.terminate(offer.job_id)
        ended = await stored(broker, SessionEnded, len(calls))
    assert {(end.agent_id, end.tenant) for end in ended} == expected
    for end in ended:
        assert end.project == "examples"
        # OpenRTC cancels a greeting that is still being spoken, and reports the call as cancelled.
        assert end.status == "success" or name == "openrtc_worker"
        assert {meter.modality: meter.totals.requests for meter in end.meters}["llm"] == 1
    assert len(await stored(broker, SessionStarted, len(calls))) == len(calls)
    text = log.read_text()
    assert "Traceback" not in text
    if name != "plain_worker":
        assert text.count("Resolved agent") == len(calls)


def test_the_examples_agents_are_what_the_command_lists(tmp_path: Path) -> None:
    """`costs agents` answers about the folder that the pool's example discovers."""
    listed = costs(tmp_path / "home", "agents", "list", "--agents-dir", "examples/agents")
    names = [line.split("  ")[0] for line in listed.splitlines()[2:]]
    assert names == ["dental (default)", "restaurant", "support"]
    route = ("route", "--agents-dir", "examples/agents", "--room", "support-4711")
    told = costs(tmp_path / "home", "agents", *route)
    assert told.startswith("support, via room name prefix; tenant (none)\n")
