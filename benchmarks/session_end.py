"""What metering adds to the end of a call: from the hang-up to the end of its job.

A real worker runs real jobs: every call has a session on scripted providers, two turns, and hangs
up with `ctx.shutdown`. Timed is from there until LiveKit reports the job's thread or process as
ended, through the session's close, the end hook and the shutdown callbacks. Without an observer
that is the floor; with one it is done with a broker that answers, one that is not there and one
that is stopped, for a plain worker that attaches by hand and for an `AgentPool`, whose end hook
comes on top.

    python benchmarks/session_end.py [--ends 100] [--slow-ends 24] [--executor thread]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import logging
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from livekit.agents import (
    Agent,
    AgentServer,
    AgentSession,
    JobContext,
    JobExecutorType,
    get_job_context,
)

from benchmarks.measuring import percentile
from tests.support import stream
from tests.support.broker import Broker
from tests.support.waiting import until
from tests.support.worker import launch
from voicecosts import CostObserver
from voicecosts.producer.demo.devices import Handset, session_io
from voicecosts.producer.demo.providers import ScriptedLLM, ScriptedSTT, ScriptedTTS
from voicecosts.producer.pool.agent_pool import AgentPool
from voicecosts.producer.process import PROCESS

TURNS: Final = 2
AT_ONCE: Final = 4
FLUSH_S: Final = 2.0
AIM_COMMON_MS: Final = 50.0
DEADLINE_S: Final = 60.0

OPTIONS: Final[dict[str, Any]] = {
    "vad": None,
    "turn_handling": {"turn_detection": "manual"},
    # LiveKit waits for a last transcript for two seconds, in which anything could hide.
    "session_close_transcript_timeout": 0.0,
}

STATES: Final = ("no observer", "broker up", "broker down", "broker stopped")
WAYS: Final = ("attached", "pool")


async def talk(session: AgentSession[Any], job: JobContext, folder: Path) -> None:
    """Talk, write down when it is, and hang up."""
    for turn in range(TURNS):
        await session.run(user_input=f"#1# turn {turn}")
    (folder / job.job.id).write_text(str(time.monotonic_ns()))
    job.shutdown("hang-up")


async def plain_call(observer: CostObserver | None, folder: Path, ctx: JobContext) -> None:
    """Run one call as a plain worker does."""
    session: AgentSession[Any] = AgentSession(
        llm=ScriptedLLM(), stt=ScriptedSTT(), tts=ScriptedTTS(), **OPTIONS
    )
    session_io(session, 1)
    if observer is not None:
        observer.attach(session, agent_id="bench", job=ctx)
    await session.start(Agent(instructions="x"))
    await talk(session, ctx, folder)


class Caller:
    """Talks to a pool's agent and hangs up, as an observer that is told of the call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._talks: list[asyncio.Task[None]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return Caller, (self.folder,)

    async def on_session_start(self, info: Any, session: Any) -> None:  # noqa: ARG002 - the protocol's
        """Begin to talk."""
        self._talks.append(asyncio.create_task(talk(session, get_job_context(), self.folder)))

    async def on_session_end(self, info: Any, outcome: Any) -> None:
        """Nothing to do."""


class Front(Agent):
    """The pool's agent."""

    def __init__(self) -> None:
        super().__init__(instructions="x")


def server_of(way: str, observer: CostObserver | None, folder: Path, executor: str) -> AgentServer:
    """Return a server whose every job is one call."""
    server = AgentServer(
        job_executor_type=JobExecutorType(executor),
        num_idle_processes=0,
        port=0,
        host="127.0.0.1",
        shutdown_process_timeout=30.0,
    )
    if way == "attached":
        server.rtc_session(functools.partial(plain_call, observer, folder))
        return server
    observers: list[Any] = [Handset(), Caller(folder)]
    pool = AgentPool(observers=[observer, *observers] if observer else observers, server=server)
    pool.add(
        "bench", Front, llm=ScriptedLLM, stt=ScriptedSTT, tts=ScriptedTTS, session_kwargs=OPTIONS
    )
    return server


@contextlib.asynccontextmanager
async def running(server: Any) -> AsyncIterator[Any]:
    """Run a worker; it is closed at the end."""
    started = asyncio.Event()
    server.once("worker_started", started.set)
    task = asyncio.create_task(server.run(devmode=True, unregistered=True))
    try:
        async with asyncio.timeout(DEADLINE_S):
            await started.wait()
        # There is no LiveKit server to read them, and a full channel would keep the worker open.
        reports = asyncio.create_task(_read(server._msg_chan))
        yield server
        # LiveKit may be starting one thread more than it needs; closed meanwhile, it never ends.
        await until(lambda: not server._proc_pool._spawn_tasks)
        async with asyncio.timeout(DEADLINE_S):
            await server.aclose()
        reports.cancel()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _read(channel: Any) -> None:
    async for _ in channel:
        pass


async def ends_ms(server: Any, ends: int, folder: Path, *, when_live: Any = None) -> list[float]:
    """Run so many calls, a few at a time; return what each took from hang-up to its job's end."""
    ended: dict[str, asyncio.Future[int]] = {}

    def closed(executor: Any) -> None:
        if executor.running_job is not None:
            ended[executor.running_job.job.id].set_result(time.monotonic_ns())

    server._proc_pool.on("process_closed", closed)
    gate = asyncio.Semaphore(AT_ONCE)
    found: list[float] = []

    async def call(number: int) -> None:
        job_id = f"AJ-{number}"
        ended[job_id] = asyncio.get_running_loop().create_future()
        async with gate, asyncio.timeout(DEADLINE_S):
            await launch(server, number)
            at_ns = await ended[job_id]
        if number:
            found.append((at_ns - int((folder / job_id).read_text())) / 1e6)

    await call(0)  # starts the publisher and connects it; not counted
    if when_live is not None:
        when_live()
    await asyncio.gather(*(call(number) for number in range(1, ends + 1)))
    return found


async def measured(way: str, state: str, broker: Broker, chosen: argparse.Namespace) -> list[float]:
    """Return the ends of one variant."""
    url = "nats://127.0.0.1:1" if state == "broker down" else broker.url
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        observer = None
        if state != "no observer":
            observer = CostObserver(project="bench", servers=url, outbox_dir=folder / "outbox")
        stop = functools.partial(broker.send, signal.SIGSTOP) if state == "broker stopped" else None
        ends = chosen.ends if state in ("no observer", "broker up") else chosen.slow_ends
        try:
            async with running(server_of(way, observer, folder, chosen.executor)) as server:
                found = await ends_ms(server, ends, folder, when_live=stop)
        finally:
            broker.send(signal.SIGCONT)
        await asyncio.to_thread(PROCESS.close)
    return found


def show(way: str, found: dict[str, list[float]]) -> None:
    """Print the variants of one way beside each other."""
    floor = found["no observer"]
    floor_ms = statistics.median(floor)
    print(f"{way:15} ends   p50 ms   p99 ms   max ms   added p50   added p99")
    for state, took in found.items():
        p50, p99 = statistics.median(took), percentile(took, 0.99)
        added = f"{p50 - floor_ms:11.0f} {p99 - percentile(floor, 0.99):11.0f}"
        print(f"  {state:14}{len(took):4} {p50:8.0f} {p99:8.0f} {max(took):8.0f} {added}")


def main() -> None:
    """Measure both ways in every state and print them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ends", type=int, default=100)
    parser.add_argument("--slow-ends", type=int, default=24, help="with a broker that is away")
    parser.add_argument("--executor", choices=["thread", "process"], default="thread")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as name, Broker(Path(name) / "broker") as broker:
        asyncio.run(stream.declare(broker.url))
        for way in WAYS:
            show(way, {s: asyncio.run(measured(way, s, broker, chosen)) for s in STATES})
    print(f"aim: added {AIM_COMMON_MS:.0f} ms with a broker, {FLUSH_S * 1000:.0f} ms without")


if __name__ == "__main__":
    main()
