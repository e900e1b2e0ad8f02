"""What an outage costs the voice loop: the callback with the broker up, down, stopped, the disk full.

A loop holds real sessions on scripted providers, metered with the outbox on. Their models report
usage at a steady pace, as LiveKit delivers it: to the component's listeners and then to the
session's, inside the context of the speech that made the request. Measured is what it takes from
the metrics event to the reading in the buffer, in time and in CPU of the thread, for each state of
the surroundings. Two floors run in the same rounds: an empty listener in the place of ours (what
the machine does to ten microseconds of anything), and our callback with no publisher at all.

`ours` is without what the empty listener takes, `ratio` to the callback with no publisher. `--pace-ms 0`
keeps the caches warm, which is the least an event can cost; at a call's own pace they are cold.
`late` is by how much the loop woke later than it asked to, which is where a publisher that kept the
interpreter to itself would show.

    python benchmarks/outage.py [--events 20000] [--rounds 3] [--pace-ms 10]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import Context, copy_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from livekit import rtc
from livekit.agents import Agent, AgentSession, MetricsCollectedEvent
from livekit.agents.voice.agent_activity import _AgentActivityContextVar, _SpeechHandleContextVar

from benchmarks.measuring import percentile
from benchmarks.observer_overhead import events
from tests.support import stream
from tests.support.broker import Broker
from voicecosts import CostObserver
from voicecosts.producer.capture.attachment import Attachment
from voicecosts.producer.capture.identity import SessionIdentity, new_session_id
from voicecosts.producer.capture.listener import listener
from voicecosts.producer.config import BufferLimits
from voicecosts.producer.counts import Usage
from voicecosts.producer.demo.providers import ScriptedLLM
from voicecosts.producer.events import now_us
from voicecosts.producer.process import PROCESS
from voicecosts.producer.publishing.buffer import Buffer

SESSIONS: Final = 50
SMALL_FILES: Final = 200_000
AIM_CPU_US: Final = 10.0
AIM_P999_US: Final = 1000.0
STATES: Final = (
    "empty listener",
    "no publisher",
    "broker up",
    "broker down",
    "broker stopped",
    "disk full",
)


class Nowhere:
    """Takes events and gives them to nobody: the buffer alone."""

    def __init__(self, count: int) -> None:
        self.buffer = Buffer(BufferLimits(detail=count + SESSIONS))
        self.put = self.buffer.put
        self.coalesced_of = self.buffer.coalesced_of

    def count_unattributed(self, usage: Usage) -> None:
        """Fail: every event here has its session."""
        raise AssertionError(f"an event was not attributed: {usage}")

    def count_unmeasured(self) -> None:
        """Fail: every event here can be measured."""
        raise AssertionError("an event was not measured")


class Took:
    """What every callback took, in nanoseconds, and how late the loop woke."""

    def __init__(self, count: int, pace_s: float) -> None:
        self.count = count
        self.pace_s = pace_s
        self.wall: list[int] = []
        self.cpu: list[int] = []
        self.late: list[int] = []
        self.rounds_us: list[float] = []


async def offered(sessions: list[AgentSession[Any]], took: Took) -> None:
    """Report events, one a session at every pace, and note what each took."""
    wall, cpu = time.perf_counter_ns, time.thread_time_ns
    contexts = [_speech_of(session) for session in sessions]
    total_ns = 0
    for _ in range(0, took.count, len(sessions)):
        # Made just before, as a plugin does; not measured.
        batch = [(each, MetricsCollectedEvent(metrics=each)) for each in events(len(sessions))]
        for session, context, (metrics, event) in zip(sessions, contexts, batch, strict=True):
            emit = _emit_of(session, metrics, event)
            cpu_before, wall_before = cpu(), wall()
            context.run(emit)
            wall_after, cpu_after = wall(), cpu()
            took.wall.append(wall_after - wall_before)
            took.cpu.append(cpu_after - cpu_before)
            total_ns += cpu_after - cpu_before
        asked = wall() + int(took.pace_s * 1e9)
        await asyncio.sleep(took.pace_s)
        took.late.append(wall() - asked)
    took.rounds_us.append(total_ns / took.count / 1000)


def _emit_of(session: AgentSession[Any], metrics: Any, event: Any) -> Callable[[], None]:
    """Return a call that delivers an event as LiveKit does, without LiveKit's own listeners."""

    def emit() -> None:
        session.llm.emit("metrics_collected", metrics)  # type: ignore[union-attr]  # a ScriptedLLM
        rtc.EventEmitter.emit(session, "metrics_collected", event)

    return emit


def _speech_of(session: AgentSession[Any]) -> Context:
    """Return the context in which a speech of a session makes its requests."""
    context = copy_context()
    assert session._activity is not None
    context.run(_AgentActivityContextVar.set, session._activity)
    context.run(_SpeechHandleContextVar.set, SimpleNamespace(id="speech_1"))  # type: ignore[arg-type]  # its id is all we read
    return context


@contextlib.asynccontextmanager
async def talking() -> AsyncIterator[list[AgentSession[Any]]]:
    """Hold sessions open whose own listeners are out of the way."""
    sessions: list[AgentSession[Any]] = []
    for _ in range(SESSIONS):
        llm = ScriptedLLM()
        session: AgentSession[Any] = AgentSession(
            llm=llm, vad=None, turn_handling={"turn_detection": "manual"}
        )
        await session.start(Agent(instructions="x"))
        assert session._activity is not None
        llm.off("metrics_collected", session._activity._on_metrics_collected)
        sessions.append(session)
    yield sessions
    for session in sessions:
        assert session._activity is not None
        session.llm.on("metrics_collected", session._activity._on_metrics_collected)  # type: ignore[union-attr]  # a ScriptedLLM
        await session.aclose()


async def measured(state: str, broker: Broker, folder: Path, took: Took) -> None:
    """Offer the load in one of the states."""
    async with talking() as sessions:
        if state == "empty listener":
            empty = listener(lambda _event: None)
            for session in sessions:
                session.llm.on("metrics_collected", empty)  # type: ignore[union-attr]  # a ScriptedLLM
                rtc.EventEmitter.on(session, "metrics_collected", empty)  # type: ignore[arg-type]  # without its warning
            await offered(sessions, took)
        elif state == "no publisher":
            outlet = Nowhere(took.count)
            for session in sessions:
                Attachment(session, _identity(), outlet).open()
            await offered(sessions, took)
            assert outlet.buffer.captured == took.count + SESSIONS
        else:
            await _observed(state, sessions, broker, folder, took)


async def _observed(
    state: str,
    sessions: list[AgentSession[Any]],
    broker: Broker,
    folder: Path,
    took: Took,
) -> None:
    url = "nats://127.0.0.1:1" if state == "broker down" else broker.url
    observer = CostObserver(project="bench", servers=url, outbox_dir=folder)
    with _disk(full=state == "disk full"):
        for session in sessions:
            assert observer.attach(session, agent_id="bench")
        await observer.flush(1.0)  # the thread runs, and is connected where that is possible
        if state == "broker stopped":
            broker.send(signal.SIGSTOP)
        try:
            await offered(sessions, took)
        finally:
            broker.send(signal.SIGCONT)
        stats = observer.stats()
        assert stats.captured == took.count + SESSIONS
        assert stats.outbox == ("in memory" if state == "disk full" else "on disk"), stats
    await asyncio.to_thread(PROCESS.close)


@contextlib.contextmanager
def _disk(*, full: bool) -> Iterator[None]:
    """Let no file grow past a few pages while the disk is meant to be full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if full:
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _identity() -> SessionIdentity:
    at = now_us()
    return SessionIdentity(
        session_id=new_session_id(at), project="bench", agent_id="bench", started_at=at
    )


def show(found: dict[str, Took]) -> None:
    """Print the states beside each other."""
    empty_us, floor_us = (
        statistics.median(found[state].rounds_us) for state in ("empty listener", "no publisher")
    )
    print(
        "in µs          CPU per event: all    ours  ratio  p99.9   in time: p50   p99   p99.9      max   late p99.9"
    )
    for state, took in found.items():
        spent_us = statistics.median(took.rounds_us)
        p50, p99, p999 = (percentile(took.wall, share) / 1000 for share in (0.5, 0.99, 0.999))
        print(
            f"{state:15}{spent_us:18.1f} {spent_us - empty_us:7.1f} {spent_us / floor_us:6.2f} "
            f"{percentile(took.cpu, 0.999) / 1000:6.0f} {p50:14.1f} {p99:5.0f} {p999:7.0f} "
            f"{max(took.wall) / 1000:8.0f} {percentile(took.late, 0.999) / 1000:12.0f}"
        )
    print(f"aim: CPU {AIM_CPU_US:.0f} µs an event, p99.9 under {AIM_P999_US:.0f} µs in every state")


def main() -> None:
    """Measure the states in turns and print them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pace-ms", type=float, default=10.0)
    chosen = parser.parse_args()
    for name in ("voicecosts", "livekit"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    found = {state: Took(chosen.events, chosen.pace_ms / 1000) for state in STATES}
    with tempfile.TemporaryDirectory() as name, Broker(Path(name) / "broker") as broker:
        asyncio.run(stream.declare(broker.url))
        for number in range(chosen.rounds):
            for state in STATES:
                gc.collect()
                folder = Path(name) / f"{state.replace(' ', '-')}-{number}"
                asyncio.run(measured(state, broker, folder, found[state]))
    show(found)


if __name__ == "__main__":
    main()
