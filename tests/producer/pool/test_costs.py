"""Our own observer in our own pool: what a call cost is published, however the call goes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import JobExecutorType
from livekit.agents.ipc import job_proc_lazy_main
from livekit.agents.ipc.mock_room import create_mock_room

from tests.support import stream
from tests.support.broker import Broker
from tests.support.dispatch import stand_in_room
from tests.support.jobs import job
from tests.support.pool_agents import QUIET, Broken, Dental, Greeter, make_llm, make_stt, make_tts
from tests.support.pool_calls import Caller, Running, Scribe, loopback_server
from tests.support.waiting import until
from voicecosts import AgentPool, BufferLimits, CostObserver, HookLimits
from voicecosts.producer.events import (
    Event,
    MeterReading,
    ProducerReport,
    SessionEnded,
    SessionStarted,
)
from voicecosts.producer.process import PROCESS


async def published(bus: Broker, kind: type[Event]) -> list[Any]:
    """Return the events of one kind."""
    return [event for event in await stream.events(bus.url) if isinstance(event, kind)]


async def test_a_call_is_metered_from_its_first_word_to_its_end(bus: Broker) -> None:
    """A call is metered from what its agent says on entering, while the session still starts."""
    observer = CostObserver(project="prod", servers=bus.url)
    pool = AgentPool(observers=[observer], default_llm=make_llm, default_tts=make_tts)
    pool.add("greeter", Greeter, session_kwargs=QUIET)
    metadata = '{"tenant": "acme"}'
    with job("AJ-1", job_metadata=metadata, room=create_mock_room()) as context:
        async with pool.session(context) as session:
            await until(lambda: len(session.history.messages()) == 1)
            await session.run(user_input="#1# hello")
    (started,), (ended,) = await published(bus, SessionStarted), await published(bus, SessionEnded)
    assert (started.agent_id, started.tenant, started.job_id) == ("greeter", "acme", "AJ-1")
    assert ended.status == "success"
    assert {meter.modality: meter.totals.requests for meter in ended.meters} == {"llm": 2, "tts": 2}


async def test_a_call_whose_agent_cannot_be_made_has_an_end(bus: Broker) -> None:
    """A call whose agent cannot be made ends by the pool's hook, since its session never closes."""
    observer = CostObserver(project="prod", servers=bus.url)
    pool = AgentPool(observers=[observer], default_llm=make_llm)
    pool.add("broken", Broken, session_kwargs=QUIET)
    with job("AJ-1", room=create_mock_room()) as context, pytest.raises(ZeroDivisionError):
        async with pool.session(context):
            raise AssertionError("it has not started")
    (ended,) = await published(bus, SessionEnded)
    assert (ended.status, ended.reason, ended.meters) == ("failed", "session end hook", [])


async def test_a_refused_call_costs_nothing_and_is_not_in_the_ledger(bus: Broker) -> None:
    """A call that routing refuses publishes nothing."""
    observer = CostObserver(project="prod", servers=bus.url)
    pool = AgentPool(observers=[observer], default_llm=make_llm)
    pool.add("greeter", Greeter, session_kwargs=QUIET)
    with job("AJ-1", job_metadata='{"agent": "sales"}') as context, pytest.raises(ValueError):  # noqa: PT011 - routing's own tests look closer
        async with pool.session(context):
            raise AssertionError("it was not refused")
    assert await observer.flush()
    assert await stream.events(bus.url) == []


async def test_a_broker_that_is_gone_for_the_whole_call_delays_its_end_by_the_limit_only() -> None:
    """Without a broker the end of a call waits for the hook limit only, and its readings are kept."""
    observer = CostObserver(project="prod", servers="nats://127.0.0.1:1")
    pool = AgentPool(
        observers=[observer],
        default_llm=make_llm,
        default_tts=make_tts,
        hook_limits=HookLimits(end_s=0.05),
    )
    pool.add("greeter", Greeter, session_kwargs=QUIET)
    with job("AJ-1", room=create_mock_room()) as context:
        async with pool.session(context) as session:
            assert (await session.run(user_input="#1# hello")).events
    assert observer.stats().waiting > 0
    publisher = observer._publisher()
    PROCESS._publishers.clear()
    PROCESS.attachments.clear()
    await asyncio.to_thread(publisher.close, 0.1)


async def test_a_worker_with_threads_lets_go_of_the_sessions_that_are_over(
    bus: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The attachment of a job whose loop has ended is detached when the next call begins."""
    monkeypatch.setattr(job_proc_lazy_main, "rtc", None)
    stand_in_room()
    observer = CostObserver(project="prod", servers=bus.url)
    caller = Caller({f"AJ-{number}": 1 for number in range(1, 4)})
    scribe = Scribe(tmp_path / "told")
    pool = AgentPool(
        observers=[observer, caller, scribe],
        default_llm=make_llm(),
        default_tts=make_tts(),
        server=loopback_server(JobExecutorType.THREAD),
    )
    pool.add("greeter", Greeter, session_kwargs=QUIET)
    async with Running.worker(pool.server) as worker:
        for calls in range(1, 4):
            await worker.dispatcher.dispatch()
            await until(lambda calls=calls: len(scribe.told("end")) == calls)  # type: ignore[misc]  # bound now
            await until(lambda: worker.active() == [])
            await until(lambda: len(PROCESS.attachments) <= 1)
    assert len(await published(bus, SessionEnded)) == 3


async def test_what_a_job_process_lost_reaches_the_ledger_by_its_reports(
    tmp_path: Path, bus: Broker
) -> None:
    """No scrape reaches a job process, so its counts travel with its events, to the last one."""
    scribe = Scribe(tmp_path / "told")
    small = BufferLimits(detail=1, meters=2)
    pool = AgentPool(
        observers=[
            CostObserver(project="prod", servers=bus.url, limits=small),
            scribe,
            Caller({"AJ-1": 3}),
        ],
        default_llm=make_llm,
        default_stt=make_stt,
        default_tts=make_tts,
        server=loopback_server(JobExecutorType.PROCESS),
    )
    pool.add("dental", Dental, session_kwargs=QUIET)
    async with Running.worker(pool.server) as worker:
        await worker.dispatcher.dispatch()
        await until(lambda: scribe.told("end") == ["AJ-1"])
        await until(lambda: worker.active() == [])
    assert os.getpid() not in {line["pid"] for line in scribe.read()}
    (ended,) = await published(bus, SessionEnded)
    arrived = len(await published(bus, MeterReading))
    last = max(await published(bus, ProducerReport), key=lambda it: it.number)
    assert arrived < ended.readings, "nothing was lost, so nothing is shown"
    assert arrived + last.coalesced + last.dropped == ended.readings
