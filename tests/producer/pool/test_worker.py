"""The pool in a real worker, over LiveKit's dispatch protocol, in threads and in processes."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import JobExecutorType

from tests.support.dispatch import stand_in_room
from tests.support.pool_agents import QUIET, Dental, Restaurant, make_llm, make_stt, make_tts
from tests.support.pool_calls import Caller, Running, Scribe, loopback_server
from tests.support.waiting import until
from voicecosts import AgentPool

EXECUTORS = [JobExecutorType.THREAD, JobExecutorType.PROCESS]
DISCOVERED = """
from livekit.agents import Agent
from voicecosts import agent_config
from voicecosts.producer.demo.providers import ScriptedLLM

def own_llm():
    return ScriptedLLM(model="from the file")

@agent_config(name="found", llm=own_llm)
class Found(Agent):
    def __init__(self):
        super().__init__(instructions="x")
"""


@pytest.fixture
def _room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs in threads of this process need the stand-in here; processes bring it themselves."""
    from livekit.agents.ipc import job_proc_lazy_main  # noqa: PLC0415 - to put it back

    monkeypatch.setattr(job_proc_lazy_main, "rtc", job_proc_lazy_main.rtc)  # type: ignore[attr-defined]  # its name there
    stand_in_room()


def pool_of(executor: JobExecutorType, *observers: Any, **options: Any) -> AgentPool:
    """Return a pool of two agents in a worker of its own."""
    pool = AgentPool(
        observers=observers,
        default_llm=make_llm,
        default_stt=make_stt,
        default_tts=make_tts,
        server=loopback_server(executor),
        **options,
    )
    pool.add("restaurant", Restaurant, session_kwargs=QUIET)
    pool.add("dental", Dental, session_kwargs=QUIET)
    return pool


@pytest.mark.usefixtures("_room")
@pytest.mark.parametrize("executor", EXECUTORS)
async def test_calls_are_routed_and_their_end_is_told_after_they_have_closed(
    executor: JobExecutorType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In threads and processes each call reaches its agent, and its end is told after it closed."""
    (tmp_path / "found.py").write_text(DISCOVERED)
    scribe = Scribe(tmp_path / "told")
    caller = Caller({f"AJ-{number}": 1 for number in range(1, 6)})
    pool = pool_of(executor, scribe, caller)
    pool.discover(tmp_path)
    with caplog.at_level(logging.INFO):
        async with Running.worker(pool.server) as worker:
            offers = [
                await worker.dispatcher.dispatch(room="x", metadata='{"agent": "dental"}'),
                await worker.dispatcher.dispatch(
                    room="x", room_metadata='{"demo": "found", "tenant": "acme"}'
                ),
                await worker.dispatcher.dispatch(room="dental-3"),
                await worker.dispatcher.dispatch(room="x", metadata='{"agent": "sales"}'),
                await worker.dispatcher.dispatch(room="x"),
            ]
            await until(lambda: len(scribe.told("end")) == 4)
            await until(lambda: worker.active() == [])
    assert all(offer.accepted for offer in offers)
    agents = {line["job"]: line["agent"] for line in scribe.read() if line["event"] == "start"}
    assert agents == {"AJ-1": "dental", "AJ-2": "found", "AJ-3": "dental", "AJ-5": "restaurant"}
    for job in agents:
        events = [line["event"] for line in scribe.read() if line["job"] == job]
        assert events == ["start", "close", "end"]
    assert {line["status"] for line in scribe.read() if line["event"] == "end"} == {"success"}
    assert len({line["pid"] for line in scribe.read()} - {os.getpid()}) == (
        4 if executor is JobExecutorType.PROCESS else 0
    )
    log = [record.getMessage() for record in caplog.records]
    assert log.count("Resolved agent 'dental' via job metadata.") == 1
    assert log.count("Resolved agent 'found' via room metadata.") == 1
    refusal = "Unknown agent 'sales' requested via job metadata. Registered: restaurant, dental,"
    assert sum(f"job AJ-4 is refused: {refusal}" in line for line in log) == 1


@pytest.mark.usefixtures("_room")
async def test_the_exit_of_a_refused_job_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """LiveKit reports the reason with which a job ends, and the error with its traceback."""
    scribe = Scribe(tmp_path / "told")

    def reasons() -> list[str]:
        ends = [it for it in caplog.records if it.getMessage() == "job exiting"]
        return [it.reason for it in ends]  # type: ignore[attr-defined]  # LiveKit's extra

    with caplog.at_level(logging.DEBUG, logger="livekit.agents"):
        async with Running.worker(pool_of(JobExecutorType.THREAD, scribe).server) as worker:
            await worker.dispatcher.dispatch(metadata='{"agent": "sales"}')
            await until(lambda: bool(reasons()))
    (reason,) = reasons()
    assert reason.startswith("refused: Unknown agent 'sales' requested via job metadata.")
    assert "unhandled exception while running the job task" in caplog.text
    assert scribe.read() == []


@pytest.mark.usefixtures("_room")
async def test_a_worker_counts_its_calls_against_the_caps(tmp_path: Path) -> None:
    """The caps count the calls that LiveKit says are running, so a call that has ended makes room."""
    scribe = Scribe(tmp_path / "told")
    caller = Caller({f"AJ-{number}": 0 for number in range(1, 9)}, hang_up=False)
    pool = pool_of(
        JobExecutorType.THREAD,
        scribe,
        caller,
        max_sessions_per_agent={"dental": 1},
        max_sessions_per_tenant={"acme": 1},
    )
    async with Running.worker(pool.server) as worker:
        offer = worker.dispatcher.dispatch
        first = await offer(room="dental-1")
        assert first.accepted
        full = await offer(room="dental-2")
        assert (full.accepted, full.terminate) == (False, False)
        assert (await offer(room="x", metadata='{"tenant": "acme"}')).accepted
        assert not (await offer(room="x", metadata='{"tenant": "acme"}')).accepted
        assert (await offer(room="x")).accepted
        await until(lambda: len(scribe.told("start")) == 3)
        await worker.dispatcher.terminate(first.job_id)
        await until(lambda: first.job_id not in worker.active())
        assert (await offer(room="dental-3")).accepted
        await until(lambda: len(scribe.told("start")) == 4)
    assert sorted(scribe.told("end")) == sorted(scribe.told("start"))
