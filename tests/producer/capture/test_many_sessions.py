"""A worker that has had a thousand sessions keeps nothing of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession

from tests.support.jobs import job
from tests.support.pool_agents import QUIET
from tests.support.recorder import Recorder
from tests.support.script_run import RecordingObserver, SkippingLoop, skip
from voicecosts.producer.capture.attribution import ATTRIBUTION
from voicecosts.producer.demo.devices import session_io
from voicecosts.producer.demo.providers import ScriptedLLM, ScriptedSTT, ScriptedTTS
from voicecosts.producer.process import PROCESS

METRICS = "metrics_collected"


class Counting(Recorder):
    """An outlet that keeps no events."""

    def put(self, event: Any) -> None:
        """Forget it."""


class Worker:
    """Sessions on shared providers, as a worker has them."""

    def __init__(self) -> None:
        self.providers = (ScriptedLLM(), ScriptedTTS(), ScriptedSTT())
        self.observer = RecordingObserver(Counting())

    def session(self) -> AgentSession[Any]:
        """Make a session on the shared providers."""
        llm, tts, stt = self.providers
        session: AgentSession[Any] = AgentSession(llm=llm, tts=tts, stt=stt, **QUIET)
        session_io(session, 1, speed=10_000.0)
        return session

    async def call(self) -> None:
        """Run a call with one turn."""
        session = self.session()
        assert self.observer.attach(session, agent_id="front")
        await session.start(Agent(instructions="x"))
        await session.run(user_input="#1# hello")
        await session.aclose()

    async def call_again(self) -> None:
        """Run a call, and another one on the same session, attached only once."""
        session = self.session()
        assert self.observer.attach(session, agent_id="front")
        for _ in range(2):
            await session.start(Agent(instructions="x"))
            await session.run(user_input="#1# hello")
            await session.aclose()

    async def never(self) -> None:
        """Attach a session and never start it."""
        assert self.observer.attach(self.session(), agent_id="front")

    async def unobserved(self) -> None:
        """Run a call that nobody attaches, beside the ones that are."""
        session = self.session()
        await session.start(Agent(instructions="x"))
        await session.run(user_input="#1# hello")
        await session.aclose()

    def left(self) -> dict[str, int]:
        """Return what is still there of sessions that are over."""
        gc.collect()
        return {
            "attachments": len(PROCESS.attachments),
            "candidates": len(ATTRIBUTION._candidates),
            "components": len(ATTRIBUTION._components),
            "listeners": sum(len(each._events.get(METRICS, ())) for each in self.providers),
            "tasks": len(asyncio.all_tasks()) - 1,
        }


NOTHING = {"attachments": 0, "candidates": 0, "components": 0, "listeners": 0, "tasks": 0}


@contextlib.asynccontextmanager
async def a_job(number: int) -> AsyncIterator[None]:
    """Be a job around a call, to its last hook."""
    with job(f"job-{number}") as context:
        yield
        for callback in context._shutdown_callbacks:
            await callback("")


@contextlib.asynccontextmanager
async def no_job(_number: int) -> AsyncIterator[None]:
    """Be no job."""
    yield


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging.getLogger("livekit"), "level", logging.CRITICAL)
    monkeypatch.setattr(logging.getLogger("voicecosts"), "level", logging.CRITICAL)
    ATTRIBUTION.exit_all()  # what other tests of this process have left
    PROCESS.attachments.clear()
    yield
    PROCESS.attachments.clear()


async def in_turn(worker: Worker, count: int, *, around: Callable[[int], Any], kind: str) -> None:
    """Run sessions one after another, and let a second and a half pass after each."""
    for number in range(count):
        async with around(number):
            await getattr(worker, kind)()
        await skip(1.5)
    await skip(10.0)


def run(main: Any) -> None:
    """Run a coroutine on a loop whose time can be skipped."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        runner.run(main)


KINDS = [
    pytest.param("call", a_job, id="calls in jobs"),
    pytest.param("call", no_job, id="calls without a job"),
    pytest.param("call_again", a_job, id="restarts in jobs"),
    pytest.param("call_again", no_job, id="restarts without a job"),
    pytest.param("never", a_job, id="never started, in jobs"),
]


@pytest.mark.parametrize(("kind", "around"), KINDS)
def test_nothing_is_left_of_sessions_that_are_over(kind: str, around: Any) -> None:
    """After the ends of sessions there are no listeners, attachments, candidates or tasks."""
    worker = Worker()

    async def main() -> None:
        await in_turn(worker, 8, around=around, kind=kind)
        assert worker.left() == NOTHING

    run(main())


def test_nothing_is_left_of_sessions_that_shared_one_job() -> None:
    """Sessions of one job, one after another and at once, leave nothing when the job has ended."""
    worker = Worker()

    async def main() -> None:
        async with a_job(1):
            for _ in range(4):
                await worker.call()
            await asyncio.gather(*(worker.call() for _ in range(4)), worker.unobserved())
        await skip(10.0)
        assert worker.left() == NOTHING

    run(main())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "around"), [KINDS[0], KINDS[3], KINDS[4]])
def test_memory_is_flat_over_a_thousand_sessions(kind: str, around: Any) -> None:
    """Many more sessions add almost nothing to what as many before them left.

    What stays of a session grows in every round; a table of the last ones grows in one, in which it
    is filled or built anew.
    """
    worker = Worker()
    third = 400 if kind == "call" else 200
    kept: list[int] = []

    async def main() -> None:
        await in_turn(worker, 50, around=around, kind=kind)  # what is paid once
        tracemalloc.start(1)
        ours = tracemalloc.Filter(inclusive=True, filename_pattern="*/producer/*")
        for _ in range(3):
            await in_turn(worker, third, around=around, kind=kind)
            gc.collect()
            statistics = tracemalloc.take_snapshot().filter_traces([ours]).statistics("filename")
            kept.append(sum(each.size for each in statistics))
        assert worker.left() == NOTHING

    try:
        run(main())
    finally:
        tracemalloc.stop()
    grown = min(kept[1] - kept[0], kept[2] - kept[1])
    assert grown < 50 * third, kept  # bytes; a session that stays keeps thousands


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("around", [a_job, no_job])
def test_nothing_is_left_of_sixty_sessions_at_once(around: Any) -> None:
    """Sixty sessions at once on shared providers, three times over, leave nothing."""
    worker = Worker()

    async def one(number: int) -> None:
        async with around(number):
            await worker.call()

    async def main() -> None:
        for _ in range(3):
            await asyncio.gather(*(one(number) for number in range(60)))
            await skip(10.0)
            assert worker.left() == NOTHING

    run(main())
