"""The observer: one attachment per session, and exactly one end, whatever ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import Context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession, JobExecutorType
from livekit.agents.llm import ChatContext
from openrtc.observability.base_observer import SessionObserver

from tests.support import stream
from tests.support.broker import Broker
from tests.support.jobs import job
from tests.support.pool_agents import QUIET
from tests.support.worker import TURNS, launch, worker
from voicecosts import CostObserver
from voicecosts.producer.demo.providers import ScriptedLLM
from voicecosts.producer.events import (
    Event,
    MeterReading,
    ProducerReport,
    SessionEnded,
    SessionStarted,
    decode,
)
from voicecosts.producer.outbox.log import LocalLog
from voicecosts.producer.process import PROCESS


def text_session(llm: ScriptedLLM | None = None) -> AgentSession[Any]:
    """Make a session that only writes."""
    return AgentSession(llm=llm or ScriptedLLM(), **QUIET)


async def talk(session: AgentSession[Any]) -> None:
    """Run a call of one turn from its start to its end."""
    await session.start(Agent(instructions="x"))
    await session.run(user_input="#1# hello")
    await session.aclose()


def of(kind: type[Event], stored: list[Event]) -> list[Any]:
    """Return the events of one kind."""
    return [event for event in stored if isinstance(event, kind)]


async def test_an_attached_call_is_published_from_start_to_end(bus: Broker) -> None:
    """Start, readings and the end with the same totals reach the stream."""
    observer = CostObserver(project="prod", servers=bus.url, labels={"region": "eu"})
    with job("call-1") as context:
        session = text_session()
        attachment = observer.attach(session, agent_id="dental", tenant="acme", job=context)
        assert attachment is not None
        await talk(session)
    assert await observer.flush()
    stored = await stream.events(bus.url)
    (started,), (end,) = of(SessionStarted, stored), of(SessionEnded, stored)
    (reading,) = of(MeterReading, stored)
    assert (started.project, started.agent_id, started.tenant) == ("prod", "dental", "acme")
    assert (started.job_id, started.fake_job) == ("call-1", True)
    assert started.labels == {"region": "eu"}
    assert (end.status, end.reason) == ("success", "user_initiated")
    assert [m.totals for m in end.meters] == [reading.totals]
    assert end.number > reading.number
    assert end.readings == 1


async def test_a_label_that_cannot_be_sent_costs_no_start(bus: Broker) -> None:
    """Half a surrogate pair, in a key or a value, is replaced; the start of the call is stored."""
    observer = CostObserver(project="prod", servers=bus.url, labels={"region\ud800": "eu"})
    session = text_session()
    observer.attach(session, agent_id="a\ud800", tenant="t\ud800", labels={"tier": "\udfffgold"})
    await talk(session)
    assert await observer.flush()
    (started,) = of(SessionStarted, await stream.events(bus.url))
    assert started.labels == {"region?": "eu", "tier": "?gold"}
    assert (started.agent_id, started.tenant) == ("a?", "t?")


async def test_attaching_twice_is_one_attachment(bus: Broker) -> None:
    """By whichever way a session is attached again, it is counted once."""
    observer = CostObserver(project="prod", servers=bus.url)
    other = CostObserver(project="other", servers=bus.url)
    info = SimpleNamespace(agent_name="dental", tenant="acme", job_id="j", room_name="r")
    session = text_session()
    first = observer.attach(session, agent_id="dental")
    assert observer.attach(session, agent_id="dental") is first
    assert other.attach(session, agent_id="dental") is first
    await observer.on_session_start(info, session)
    await talk(session)
    assert await observer.flush()
    stored = await stream.events(bus.url)
    assert len(of(SessionStarted, stored)) == 1
    assert [e.totals.requests for e in of(MeterReading, stored)] == [1]


async def test_a_session_that_starts_again_is_a_new_session(bus: Broker) -> None:
    """LiveKit resets a session's usage at each start; so each attachment has an id of its own."""
    observer = CostObserver(project="prod", servers=bus.url)
    session = text_session()
    for _ in range(2):
        attachment = observer.attach(session, agent_id="dental")
        assert attachment is not None
        await talk(session)
        attachment.detach()
    assert await observer.flush()
    ends = of(SessionEnded, await stream.events(bus.url))
    assert len({end.session_id for end in ends}) == 2
    assert [end.meters[0].totals.requests for end in ends] == [1, 1]


async def test_an_end_without_a_start_is_ignored(bus: Broker) -> None:
    """OpenRTC reports an end when a session never went live; there is nothing to finalise."""
    observer = CostObserver(project="prod", servers=bus.url)
    info = SimpleNamespace(agent_name="dental", tenant="acme", job_id="never", room_name="r")
    await observer.on_session_end(info, SimpleNamespace(status=SimpleNamespace(value="failed")))
    assert await stream.events(bus.url) == []


async def test_the_early_end_hook_of_process_mode_does_not_end_a_live_session(bus: Broker) -> None:
    """OpenRTC's process mode calls the end hook after the greeting; the call goes on."""
    observer = CostObserver(project="prod", servers=bus.url)
    info = SimpleNamespace(agent_name="dental", tenant="acme", job_id="call-1", room_name="r")
    outcome = SimpleNamespace(status=SimpleNamespace(value="success"))
    with job("call-1"):
        session = text_session()
        await session.start(Agent(instructions="x"))
        await observer.on_session_start(info, session)
        await observer.on_session_end(info, outcome)  # right after the greeting
        assert of(SessionEnded, await stream.events(bus.url)) == []
        await session.run(user_input="#1# hello")
        await session.aclose()
        await observer.on_session_end(info, outcome)
    ends = of(SessionEnded, await stream.events(bus.url))
    assert [end.meters[0].totals.requests for end in ends] == [1]


@pytest.mark.parametrize("executor", [JobExecutorType.THREAD, JobExecutorType.PROCESS])
async def test_a_hang_up_finalises_once(bus: Broker, executor: JobExecutorType) -> None:
    """A real job in a thread, or in a process with an unpickled observer, stores all with one end."""
    observer = CostObserver(project="prod", servers=bus.url)
    async with worker(observer, executor) as server:
        for call in (1, 2):
            await launch(server, call)
        await _stored(bus, SessionEnded, 2)
    await _assert_whole(bus, calls=2)


@pytest.mark.parametrize("executor", [JobExecutorType.THREAD, JobExecutorType.PROCESS])
async def test_a_worker_that_closes_with_calls_in_flight_finalises_once(
    bus: Broker, executor: JobExecutorType
) -> None:
    """Closing the worker ends its live calls; each has its totals and one end."""
    observer = CostObserver(project="prod", servers=bus.url)
    async with worker(observer, executor, hang_up=False) as server:
        for call in (1, 2):
            await launch(server, call)
        await _stored(bus, MeterReading, 2 * TURNS, modality="tts")  # the last of a turn
        assert of(SessionEnded, await stream.events(bus.url)) == []
    await _stored(bus, SessionEnded, 2)
    await _assert_whole(bus, calls=2)


async def _stored(
    bus: Broker, kind: type[Event], count: int, *, modality: str | None = None
) -> None:
    """Wait until the stream holds so many events of a kind."""
    async with asyncio.timeout(60):
        while True:
            found = of(kind, await stream.events(bus.url))
            if len([e for e in found if modality in (None, getattr(e, "modality", None))]) >= count:
                return
            await asyncio.sleep(0.1)


async def _assert_whole(bus: Broker, *, calls: int) -> None:
    stored = await stream.events(bus.url)
    ends = of(SessionEnded, stored)
    assert len(ends) == len({end.session_id for end in ends}) == calls
    assert {end.tenant for end in ends} == {f"tenant-{n}" for n in range(1, calls + 1)}
    for end in ends:
        final = {meter.modality: meter.totals for meter in end.meters}
        assert final["llm"].requests == final["tts"].requests == TURNS
        # three times 1.5 s, and the 2 s of silence with which LiveKit flushes the recogniser
        assert final["stt"].audio_us == 6_500_000


def test_a_process_that_exits_without_closing_its_session_publishes_its_totals(
    broker: Broker,
) -> None:
    """At interpreter exit live sessions are finalised and published, for a bounded time."""
    program = textwrap.dedent("""
        import asyncio, sys
        from livekit.agents import Agent, AgentSession
        from voicecosts import CostObserver
        from voicecosts.producer.demo.providers import ScriptedLLM

        async def main():
            observer = CostObserver(project="exit", servers=sys.argv[1])
            session = AgentSession(
                llm=ScriptedLLM(), vad=None, turn_handling={"turn_detection": "manual"}
            )
            observer.attach(session, agent_id="dental")
            await session.start(Agent(instructions="x"))
            await session.run(user_input="#1# hello")

        asyncio.run(main())
    """)
    asyncio.run(stream.declare(broker.url))
    subprocess.run([sys.executable, "-c", program, broker.url], check=True, timeout=60)
    stored = asyncio.run(stream.events(broker.url, "costs.v1.exit."))
    (end,) = of(SessionEnded, stored)
    assert end.meters[0].totals.requests == 1
    assert (end.status, end.reason) == ("cancelled", "process exit")


async def test_a_flush_without_a_server_returns_after_its_deadline() -> None:
    """The end of a call waits for the network no longer than it is told to."""
    observer = CostObserver(project="prod", servers="nats://127.0.0.1:1")
    session = text_session()
    observer.attach(session, agent_id="dental")
    assert await observer.flush(timeout=0.1) is False
    assert observer.stats().waiting == 1
    publisher = observer._publisher()
    PROCESS._publishers.clear()
    PROCESS.attachments.clear()
    await asyncio.to_thread(publisher.close, 0.1)


async def test_what_is_not_a_session_is_refused_with_a_log_line_only(
    bus: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake in the worker's code costs the metering, never the call."""
    observer = CostObserver(project="prod", servers=bus.url)
    assert observer.attach("no session", agent_id="dental") is None  # type: ignore[arg-type]  # the mistake under test
    await observer.on_session_start(SimpleNamespace(), text_session())
    await observer.on_session_end(None, None)
    assert "the call goes on" in caplog.text


@contextlib.asynccontextmanager
async def shared_by(
    *observers: CostObserver, model: ScriptedLLM | None = None
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Run a session of each observer on one model; yield a request of it outside of all of them."""
    model = model or ScriptedLLM()
    sessions = [text_session(model) for _ in observers]
    for observer, session in zip(observers, sessions, strict=True):
        assert observer.attach(session, agent_id="dental")
        await session.start(Agent(instructions="x"))

    async def request() -> None:
        context = ChatContext.empty()
        context.add_message(role="user", content="a question outside of every session")
        async with model.chat(chat_ctx=context) as answer:
            async for _ in answer:
                pass

    yield lambda: asyncio.create_task(request(), context=Context())
    for session in sessions:
        await session.aclose()


async def test_unattributed_usage_is_counted_and_reported_while_its_sessions_run(
    bus: Broker,
) -> None:
    """The count moves with the event, and the ledger is told, without an end and without a flush."""
    observer = CostObserver(project="prod", servers=bus.url)
    async with shared_by(observer, observer) as request:
        for count in (1, 2):
            await request()
            assert observer.stats().unattributed == count
            await _stored(bus, ProducerReport, count)
        reports = of(ProducerReport, await stream.events(bus.url))
        assert [report.unattributed for report in reports] == [1, 2]
        assert of(SessionEnded, await stream.events(bus.url)) == []


async def test_unattributed_usage_is_counted_once_in_a_process_with_two_publishers(
    bus: Broker, tmp_path: Path
) -> None:
    """An event that sessions of two observers could have caused is counted by one of them."""
    observers = [
        CostObserver(project="prod", servers=bus.url),
        CostObserver(project="prod", outbox_dir=tmp_path / "other"),
    ]

    def counted() -> int:
        return sum(observer.stats().unattributed for observer in observers)

    async with shared_by(*observers) as request:
        for count in (1, 2, 3):
            await request()
            assert counted() == count
    for observer in observers:
        assert await observer.flush()
    assert counted() == 3


def test_a_forked_child_counts_the_unattributed_usage_of_its_own_sessions(tmp_path: Path) -> None:
    """Its parent's sessions do not run in it, so they cause nothing there and count nothing."""
    observer, model = CostObserver(project="prod", outbox_dir=tmp_path), ScriptedLLM()

    async def request_twice(stack: contextlib.AsyncExitStack) -> None:
        request = await stack.enter_async_context(shared_by(observer, observer, model=model))
        for _ in range(2):
            await request()

    async def counted_by_the_child() -> int:
        async with contextlib.AsyncExitStack() as stack:
            await request_twice(stack)
            return observer.stats().unattributed

    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        runner.run(request_twice(stack))
        child = os.fork()
        if child == 0:
            try:
                os._exit(asyncio.run(counted_by_the_child()))
            finally:
                os._exit(99)
        _, status = os.waitpid(child, 0)
        runner.run(stack.aclose())
    assert os.waitstatus_to_exitcode(status) == observer.stats().unattributed == 2


def test_a_forked_child_records_while_its_parent_did(outbox_dir: Path) -> None:
    """What a thread of the parent held at the fork is held by nobody in the child."""
    observer = CostObserver(project="prod")
    with PROCESS._lock:
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(20)  # it ends a child that waits
                observer.record("nobody", modality="tool", provider="p", model="m", requests=1)
                os._exit(observer.stats().unattributed)
            finally:
                os._exit(99)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1


async def test_an_observer_without_a_server_keeps_everything_in_the_outbox(
    outbox_dir: Path,
) -> None:
    """A single host needs nothing else: a call is on disk when its end was flushed."""
    observer = CostObserver(project="prod")
    assert observer.config.is_embedded
    try:
        session = text_session()
        observer.attach(session, agent_id="dental", tenant="acme")
        await talk(session)
        assert await observer.flush()
        with contextlib.closing(LocalLog(outbox_dir, outbox_dir.parent, now_us=lambda: 0)) as log:
            events = [event for _, data in log.next_group() for event in decode(data).events]
    finally:
        await asyncio.to_thread(PROCESS.close)
    (started,), (end,) = of(SessionStarted, events), of(SessionEnded, events)
    assert (started.project, started.agent_id, started.tenant) == ("prod", "dental", "acme")
    assert [m.totals.requests for m in end.meters] == [1]


def test_an_observer_pickles_and_hides_its_token() -> None:
    """It crosses into job processes, and its repr can go into a log."""
    observer = CostObserver(project="prod", servers="nats://secret@127.0.0.1:4222")
    copy = pickle.loads(pickle.dumps(observer))  # noqa: S301 - our own bytes
    assert copy.config == observer.config
    assert "secret" not in repr(observer)


async def test_the_hooks_fit_openrtcs_protocol() -> None:
    """OpenRTC accepts the observer by its shape."""
    assert isinstance(CostObserver(project="p", servers="nats://h:1"), SessionObserver)
