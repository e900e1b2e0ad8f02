"""What metering costs the voice loop, per usage event, in CPU microseconds of its thread.

A real session runs on scripted providers and is metered. Its LLM emits the same kind of metrics
event twice over: once with only our listeners in place (the component's and the session's, called
by LiveKit's emitter, through tap, meters and buffer), once with only LiveKit's own handling. The
first is what metering adds; the second is what it is added to. A third time the listeners are empty:
what LiveKit's emitter takes to call any two listeners. The publisher's thread runs meanwhile, with
no server to reach.

    python benchmarks/observer_overhead.py [--events 2000] [--rounds 15]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import tempfile
import time
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession, MetricsCollectedEvent
from livekit.agents.metrics import LLMMetrics
from livekit.agents.metrics.base import Metadata

from voicecosts import CostObserver
from voicecosts.producer.capture.listener import listener
from voicecosts.producer.demo.providers import ScriptedLLM
from voicecosts.producer.process import PROCESS

AIM_US = 10.0


def events(count: int) -> list[LLMMetrics]:
    """Return fresh metrics objects, as a model would report them."""
    return [
        LLMMetrics(
            label="llm",
            request_id=f"req-{number}",
            timestamp=time.time(),
            duration=0.7,
            ttft=0.2,
            cancelled=False,
            completion_tokens=40,
            prompt_tokens=900,
            prompt_cached_tokens=512,
            total_tokens=940,
            tokens_per_second=60.0,
            metadata=Metadata(model_name="gpt-4.1-mini", model_provider="api.openai.com"),
        )
        for number in range(count)
    ]


async def round_us(count: int, observer: CostObserver) -> tuple[float, float, float]:
    """Return CPU microseconds per event: ours, LiveKit's own, and of two empty listeners."""
    llm = ScriptedLLM()
    session: AgentSession[Any] = AgentSession(
        llm=llm, vad=None, turn_handling={"turn_detection": "manual"}
    )
    attachment = observer.attach(session, agent_id="bench")
    assert attachment is not None
    await session.start(Agent(instructions="x"))
    await session.run(user_input="#1# warm up")
    activity = session._activity
    assert activity is not None
    llm.off("metrics_collected", activity._on_metrics_collected)
    ours = spent_us(llm, session, events(count))
    assert attachment.meters.readings == count + 1, "every event must have been metered"
    attachment.detach()
    empty = listener(lambda _event: None)
    llm.on("metrics_collected", empty)
    rtc.EventEmitter.on(session, "metrics_collected", empty)
    calling = spent_us(llm, session, events(count))
    llm.off("metrics_collected", empty)
    rtc.EventEmitter.off(session, "metrics_collected", empty)
    llm.on("metrics_collected", activity._on_metrics_collected)
    livekits = spent_us(llm, None, events(count))
    await session.aclose()
    return ours, livekits, calling


def spent_us(llm: Any, session: Any, batch: list[LLMMetrics]) -> float:
    """Emit a batch, to the session's listeners too when one is given; return CPU µs per event."""
    wrapped = [MetricsCollectedEvent(metrics=metrics) for metrics in batch]
    before = time.thread_time_ns()
    for metrics, event in zip(batch, wrapped, strict=True):
        llm.emit("metrics_collected", metrics)
        if session is not None:
            rtc.EventEmitter.emit(session, "metrics_collected", event)
    return (time.thread_time_ns() - before) / len(batch) / 1000


async def main() -> None:
    """Measure in turns and print the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    logging.getLogger("livekit").setLevel(logging.ERROR)
    logging.getLogger("voicecosts").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="voicecosts-bench-") as outbox:
        observer = CostObserver(project="bench", servers="nats://127.0.0.1:1", outbox_dir=outbox)
        rounds = [await round_us(chosen.events, observer) for _ in range(chosen.rounds)]
        await asyncio.to_thread(PROCESS.close)
    ours, livekits, calling = (statistics.median(column) for column in zip(*rounds, strict=True))
    best = min(rounds)[0]
    print(f"added by metering, per event   {ours:6.1f} µs median, {best:.1f} µs best round")
    print(f"  of it, calling two listeners {calling:6.1f} µs median, whatever they do")
    print(
        f"LiveKit's own handling         {livekits:6.1f} µs median; metering adds {ours / livekits:.0%}"
    )
    print(f"aim                            {AIM_US:6.1f} µs")


if __name__ == "__main__":
    asyncio.run(main())
