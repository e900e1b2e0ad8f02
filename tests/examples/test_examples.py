"""The examples run: each as a worker of its own, over LiveKit's dispatch protocol, on scripted models."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import itertools
import os
import shlex
import sys
from collections.abc import AsyncIterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import AgentServer
from livekit.agents.cli import _legacy
from packaging.requirements import Requirement

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
        ("recording_worker", CALLS[:1], {("concierge", None)}),
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
    if name == "recording_worker":
        (recorded,) = [it for it in ended[-1].meters if it.modality == "avatar"]
        assert recorded.totals.session_us > 0
    elif name != "plain_worker":
        assert text.count("Resolved agent") == len(calls)


WORKERS = ["plain_worker", "recording_worker", "pool_worker", "openrtc_worker"]


def told(name: str) -> list[str]:
    """Return the commands that an example's first lines tell to type."""
    documented = ast.get_docstring(ast.parse((ROOT / "examples" / f"{name}.py").read_text())) or ""
    return [line.strip().partition("  #")[0] for line in documented.splitlines() if line[:1] == " "]


@pytest.mark.parametrize("name", WORKERS)
def test_the_example_tells_all_that_it_needs(name: str) -> None:
    """What to install, what to set, and a command that LiveKit does not call deprecated."""
    commands = told(name)
    exported = " ".join(line for line in commands if line.startswith("export "))
    for variable in ("LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "COSTS_SERVERS"):
        assert f"{variable}=" in exported
    assert f"python examples/{name}.py start" in commands
    for command in commands:
        words = command.split()
        if words[0] == "python" and words[1] != "-m":
            assert (ROOT / words[1]).is_file()
            assert not is_deprecated(words[2])
        for option, value in itertools.pairwise(words):
            assert option != "--agents-dir" or (ROOT / value).is_dir()


def is_deprecated(command: str) -> bool:
    """Whether LiveKit's own help says that a command of a worker is deprecated."""
    commands = _legacy._build_cli(AgentServer()).registered_commands
    (found,) = (it.callback for it in commands if it.callback and it.callback.__name__ == command)
    return "deprecated" in str(found.__doc__).lower()


@pytest.mark.parametrize("name", WORKERS)
def test_the_example_installs_what_it_imports(name: str) -> None:
    """The packages that an example tells to install bring every package that it imports."""
    (installed,) = (shlex.split(line)[2:] for line in told(name) if line.startswith("pip install"))
    brought = set().union(*map(requirements, installed))
    tree = ast.parse((ROOT / "examples" / f"{name}.py").read_text())
    imported = {
        it.module.partition(".")[0]
        for it in ast.walk(tree)
        if isinstance(it, ast.ImportFrom) and it.module
    }
    needed = {"livekit": "livekit-agents", "openrtc": "openrtc", "voicecosts": "voicecosts"}
    assert {needed[module] for module in imported & set(needed)} <= brought
    assert "nats-py" in brought


def requirements(wanted: str) -> set[str]:
    """Return the distributions that a requirement with its extras installs, one level deep."""
    requirement = Requirement(wanted)
    found = {requirement.name}
    for line in metadata.requires(requirement.name) or ():
        each = Requirement(line)
        if each.marker is None or any(
            each.marker.evaluate({"extra": extra}) for extra in requirement.extras
        ):
            found.add(each.name)
    return found


@pytest.mark.slow
def test_the_examples_agents_are_what_the_command_lists(tmp_path: Path) -> None:
    """`costs agents` answers about the folder that the pool's example discovers."""
    listed = costs(tmp_path / "home", "agents", "list", "--agents-dir", "examples/agents")
    names = [line.split("  ")[0] for line in listed.splitlines()[2:]]
    assert names == ["dental (default)", "restaurant", "support"]
    route = ("route", "--agents-dir", "examples/agents", "--room", "support-4711")
    told = costs(tmp_path / "home", "agents", *route)
    assert told.startswith("support, via room name prefix; tenant (none)\n")
