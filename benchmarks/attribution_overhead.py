"""What finding an event's session costs the voice loop, where it may cost more than in a plain call.

Sessions share one model: each of its events reaches the listeners of all of them, and one must be
chosen. The event comes from a speech of one of the sessions, as most do, or from outside of every
session; or a session reports it itself, as for a realtime model. Every figure is CPU microseconds
of the loop's thread per event, with the same listeners left empty taken off. LiveKit's own handling
of the event in all the sessions is beside it. `attach` is timed with ordinary names and with 10 MB
in each that a caller may choose.

    python benchmarks/attribution_overhead.py [--events 400] [--rounds 9]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import statistics
import sys
import tempfile
import time
from contextvars import copy_context
from pathlib import Path
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, MetricsCollectedEvent
from livekit.agents.metrics import RealtimeModelMetrics
from livekit.agents.metrics.base import Metadata
from livekit.agents.voice.agent_activity import _AgentActivityContextVar

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.observer_overhead import events
from tests.support.jobs import job
from tests.support.pool_agents import QUIET
from voicecosts import CostObserver
from voicecosts.producer.capture.listener import listener
from voicecosts.producer.demo.providers import ScriptedLLM
from voicecosts.producer.process import PROCESS

METRICS = "metrics_collected"


async def sharing(count: int, observer: CostObserver) -> tuple[ScriptedLLM, list[Any]]:
    """Return a model and as many started and attached sessions that use it."""
    llm, sessions = ScriptedLLM(), []
    for _ in range(count):
        session: AgentSession[Any] = AgentSession(llm=llm, **QUIET)
        assert observer.attach(session, agent_id="bench") is not None
        await session.start(Agent(instructions="x"))
        sessions.append(session)
    await sessions[0].run(user_input="#1# warm up")
    return llm, sessions


async def spent_us(llm: Any, sessions: list[Any], batch: list[Any], *, in_speech: bool) -> float:
    """Emit a batch as LiveKit does; return CPU µs per event, with what the loop does next."""
    context = copy_context()
    if in_speech:
        context.run(_AgentActivityContextVar.set, sessions[0]._activity)
    wrapped = [MetricsCollectedEvent(metrics=metrics) for metrics in batch]

    def emit() -> None:
        for metrics, event in zip(batch, wrapped, strict=True):
            if llm is not None:
                llm.emit(METRICS, metrics)
            for session in sessions:
                rtc.EventEmitter.emit(session, METRICS, event)

    before = time.thread_time_ns()
    context.run(emit)
    await asyncio.sleep(0)
    return (time.thread_time_ns() - before) / len(batch) / 1000


async def shared_us(
    count: int, chosen: argparse.Namespace, observer: CostObserver, *, in_speech: bool
) -> tuple[float, float]:
    """Return what metering adds to an event of a model that so many sessions share, and LiveKit's."""
    llm, sessions = await sharing(count, observer)
    own = [session._activity._on_metrics_collected for session in sessions]
    for each in own:
        llm.off(METRICS, each)
    size = max(20, chosen.events // count)
    ours = await spent_us(llm, sessions, events(size), in_speech=in_speech)
    for session in sessions:
        PROCESS.attachments[id(session)].detach()
    empty = listener(lambda _event: None)
    for emitter in (llm, *sessions):
        rtc.EventEmitter.on(emitter, METRICS, empty)
    calling = await spent_us(llm, sessions, events(size), in_speech=in_speech)
    for emitter in (llm, *sessions):
        rtc.EventEmitter.off(emitter, METRICS, empty)
    for each in own:
        llm.on(METRICS, each)
    livekits = await spent_us(llm, [], events(size), in_speech=False) if not in_speech else 0.0
    for session in sessions:
        await session.aclose()
    return ours - calling, livekits


async def own_us(chosen: argparse.Namespace, observer: CostObserver) -> float:
    """Return what an event costs that only its session reports, such as a realtime answer."""
    _, (session,) = await sharing(1, observer)
    batch = [realtime(number) for number in range(chosen.events)]
    ours = await spent_us(None, [session], batch, in_speech=False)
    attachment = PROCESS.attachments[id(session)]
    assert attachment.meters.readings == chosen.events + 1, "every event must have been metered"
    attachment.detach()
    await session.aclose()
    return ours


def realtime(number: int) -> RealtimeModelMetrics:
    """Return fresh usage of a realtime model."""
    return RealtimeModelMetrics(
        label="realtime",
        request_id=f"response-{number}",
        timestamp=time.time(),
        duration=0.7,
        ttft=0.2,
        cancelled=False,
        input_tokens=100,
        output_tokens=40,
        total_tokens=140,
        tokens_per_second=60.0,
        input_token_details=RealtimeModelMetrics.InputTokenDetails(audio_tokens=100),
        output_token_details=RealtimeModelMetrics.OutputTokenDetails(audio_tokens=40),
        metadata=Metadata(model_name="gpt-realtime", model_provider="api.openai.com"),
    )


def attach_us(observer: CostObserver, *, long: bool, times: int = 30) -> list[float]:
    """Return how long each of several calls of `attach` takes."""
    much = "Zoë +49 30 1234567 " * 500_000 if long else ""
    took, agent, tenant, labels = [], f"dental{much}", f"acme{much}", {"region": f"eu{much}"}
    for number in range(times):
        metadata = json.dumps({"agent": "dental", "tenant": tenant})
        with job(f"bench-{number}", job_metadata=metadata) as context:
            session: AgentSession[Any] = AgentSession(llm=ScriptedLLM(), **QUIET)
            before = time.thread_time_ns()
            attachment = observer.attach(
                session, agent_id=agent, tenant=tenant, job=context, labels=labels
            )
            took.append((time.thread_time_ns() - before) / 1000)
            assert attachment is not None
            attachment.finalise(status="success", reason="benchmark")
            attachment.detach()
            PROCESS.attachments.pop(id(session), None)
    return took


async def main() -> None:
    """Measure in turns and print the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    logging.getLogger("livekit").setLevel(logging.ERROR)
    logging.getLogger("voicecosts").setLevel(logging.CRITICAL)
    rows: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="voicecosts-bench-") as outbox:
        observer = CostObserver(project="bench", servers="nats://127.0.0.1:1", outbox_dir=outbox)
        for _ in range(chosen.rounds):
            for count in (1, 10, 60):
                for in_speech in (True, False):
                    ours, livekits = await shared_us(count, chosen, observer, in_speech=in_speech)
                    where = "from a speech" if in_speech else "from outside"
                    rows.setdefault(f"{count} sessions share, {where}", []).append(ours)
                    if not in_speech:
                        rows.setdefault(f"{count} sessions share, LiveKit's own", []).append(
                            livekits
                        )
            rows.setdefault("reported by its session alone", []).append(
                await own_us(chosen, observer)
            )
        rows["attach, ordinary names"] = attach_us(observer, long=False)
        rows["attach, 10 MB in each name"] = attach_us(observer, long=True, times=5)
        with contextlib.suppress(Exception):
            await asyncio.to_thread(PROCESS.close)
    for name, values in rows.items():
        print(f"{name:36} {statistics.median(values):8.1f} µs median, {min(values):8.1f} best")


if __name__ == "__main__":
    asyncio.run(main())
