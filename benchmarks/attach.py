"""What `attach` takes on the voice loop, by how much the dispatch says, beside what it is added to.

The floor is the making of the `AgentSession` that is attached. The largest dispatch has 10 MB of
metadata, for the job and for the room: far more than the 64 KiB that LiveKit allows for a room's (for
a job's it names no bound). A session is attached by hand, with 10 MB for the agent, the tenant and
each of 16 labels, as a worker may take them out of the metadata; and by OpenRTC's hook, which has to
find out whether the metadata names a tenant.

    python benchmarks/attach.py [--rounds 60]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

from livekit.agents import AgentSession, JobContext
from livekit.agents.testing import fake_job_context

from voicecosts import CostObserver
from voicecosts.producer.demo.providers import ScriptedLLM
from voicecosts.producer.process import PROCESS

AIM_US = 1000.0
LARGEST = 10_000_000
WARM_UP = 5
"""Rounds that load modules and start the publisher."""


class Dispatch(NamedTuple):
    """What a job says, and what a worker takes from it."""

    name: str
    agent_id: str
    tenant: str | None
    labels: dict[str, str]
    room: str
    metadata: str

    @contextlib.contextmanager
    def job(self) -> Iterator[JobContext]:
        """Run the body in a job of LiveKit's that says it."""
        with fake_job_context(job_id="AJ_1", job_metadata=self.metadata) as context:
            room = context.job.room
            room.name, room.sid, room.metadata = self.room, self.room, self.metadata
            try:
                yield context
            finally:
                context._tempdir.cleanup()


def dispatches() -> list[Dispatch]:
    """Return them, from one that says nothing to the worst of the longest."""
    ordinary = {"tenant": "acme", "agent": "dental", "lang": "de", "prompt": "Be brief. " * 100}
    return [
        Dispatch("empty", "dental", None, {}, "", ""),
        Dispatch(
            *("ordinary", "dental", "acme", {"region": "eu", "tier": "gold"}),
            *("call-_+15551234567_x9", json.dumps(ordinary)),
        ),
        Dispatch(
            *("64 KiB", "dental", "x" * 65_536, {"prompt": "x" * 65_536}, "call-_" + "1" * 250),
            json.dumps({"prompt": "x" * 65_520}),
        ),
        *(
            Dispatch(
                *(f"10 MB of {what}", text, text, {f"{n}": text for n in range(16)}),
                *("call-_" + "1" * 250, json.dumps({"prompt": text})),
            )
            for what, text in (
                ("letters", "x" * LARGEST),
                ("digits", "1" * LARGEST),
                ("halves of surrogate pairs", "\ud800" * (LARGEST // 6)),  # six characters in JSON
            )
        ),
    ]


def spent_us(call: Any) -> float:
    """Return the CPU microseconds of a call."""
    before = time.thread_time_ns()
    found = call()
    spent = (time.thread_time_ns() - before) / 1000
    assert found is not None, "it must have been attached"
    return spent


def by_hand_us(observer: CostObserver, dispatch: Dispatch, job: Any) -> tuple[float, float]:
    """Return the microseconds that making a session takes, and attaching it."""
    llm = ScriptedLLM()
    before = time.thread_time_ns()
    session: AgentSession[Any] = AgentSession(llm=llm, vad=None)
    floor = (time.thread_time_ns() - before) / 1000
    taken = spent_us(
        lambda: observer.attach(
            session,
            agent_id=dispatch.agent_id,
            tenant=dispatch.tenant,
            job=job,
            labels=dispatch.labels,
        )
    )
    PROCESS.attachments[id(session)].detach()
    return floor, taken


async def by_openrtc_us(observer: CostObserver, dispatch: Dispatch) -> float:
    """Return the microseconds of the hook that OpenRTC calls, for a call without a tenant."""
    session: AgentSession[Any] = AgentSession(llm=ScriptedLLM(), vad=None)
    info = SimpleNamespace(
        agent_name=dispatch.agent_id,
        tenant="default",
        job_id="AJ_1",
        room_name=dispatch.room,
        metadata={**json.loads(dispatch.metadata or "{}"), "tenant": "default"},
    )
    before = time.thread_time_ns()
    await observer.on_session_start(info, session)
    taken = (time.thread_time_ns() - before) / 1000
    PROCESS.attachments[id(session)].detach()
    return taken


async def main() -> None:
    """Measure in turns and print medians, the slowest, and ratios to the floor."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    logging.getLogger("livekit").setLevel(logging.ERROR)
    logging.getLogger("voicecosts").setLevel(logging.CRITICAL)
    chosen = dispatches()
    taken: dict[str, list[float]] = {it.name: [] for it in chosen}
    hooks: dict[str, list[float]] = {it.name: [] for it in chosen}
    floors: list[float] = []
    with tempfile.TemporaryDirectory(prefix="voicecosts-bench-") as outbox:
        observer = CostObserver(project="bench", outbox_dir=outbox)
        gc.disable()  # collecting LiveKit's heap takes 0.1 s, in whichever call it falls
        for number in range(rounds + WARM_UP):
            gc.collect()
            for dispatch in chosen:
                with dispatch.job() as job:
                    floor, attached = by_hand_us(observer, dispatch, job)
                with dispatch.job():
                    hook = await by_openrtc_us(observer, dispatch)
                if number >= WARM_UP:
                    floors.append(floor)
                    taken[dispatch.name].append(attached)
                    hooks[dispatch.name].append(hook)
        await asyncio.to_thread(PROCESS.close)
    floor = statistics.median(floors)
    print(f"making an AgentSession, the floor: {floor:.0f} µs of CPU, median of {len(floors)}\n")
    print(
        f"{'dispatch':<36}{'attach':>10}{'slowest':>10}{'of floor':>10}{'OpenRTC':>10}{'of floor':>10}"
    )
    for name, values in taken.items():
        median, hook = statistics.median(values), statistics.median(hooks[name])
        print(
            f"{name:<36}{median:>7.0f} µs{max(values):>7.0f} µs{median / floor:>10.2f}"
            f"{hook:>7.0f} µs{hook / floor:>10.2f}"
        )
    print(f"\naim: below {AIM_US:.0f} µs for every dispatch")


if __name__ == "__main__":
    asyncio.run(main())
