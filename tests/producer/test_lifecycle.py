"""The life of an attachment: what ends it, what it lets go, and what a second one is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from livekit.agents import Agent, AgentSession, JobContext

from tests.support import stream
from tests.support.broker import Broker
from tests.support.jobs import job
from tests.support.pool_agents import QUIET
from voicecosts import CostObserver
from voicecosts.producer.capture.attribution import ATTRIBUTION
from voicecosts.producer.demo.providers import ScriptedLLM
from voicecosts.producer.events import Event, MeterReading, SessionEnded, SessionStarted
from voicecosts.producer.process import PROCESS


def patient(bus: Broker) -> CostObserver:
    """Make an observer whose wait at the end of a call would outlast the test."""
    observer = CostObserver(project="prod", servers=bus.url)
    observer._config = msgspec.structs.replace(observer._config, flush_timeout_s=3600.0)
    return observer


def text_session(model: ScriptedLLM | None = None) -> AgentSession[Any]:
    """Make a session that only writes."""
    return AgentSession(llm=model or ScriptedLLM(), **QUIET)


def of(kind: type[Event], stored: list[Event]) -> list[Any]:
    """Return the events of one kind."""
    return [event for event in stored if isinstance(event, kind)]


async def end(context: JobContext) -> None:
    """Call the job's shutdown callbacks as the executors do, all at once."""
    await asyncio.gather(*(callback("hung up") for callback in context._shutdown_callbacks))


def listeners(model: ScriptedLLM) -> int:
    """Count who listens to the usage of a model."""
    return len(model._events.get("metrics_collected", ()))


async def test_a_job_whose_session_never_started_ends_without_a_wait(bus: Broker) -> None:
    """Nothing closes a session that never ran, so its job does not wait for that, and it is let go."""
    observer = patient(bus)
    model = ScriptedLLM()
    with job("idle") as context:
        attachment = observer.attach(text_session(model), agent_id="dental")
        assert attachment is not None
        assert listeners(model) == 1
        await end(context)
    assert attachment.finalised
    assert listeners(model) == 0
    assert attachment not in PROCESS.attachments.values()
    (ended,) = of(SessionEnded, await stream.events(bus.url))
    assert (ended.status, ended.reason) == ("cancelled", "job shutdown: hung up")


async def test_a_session_that_never_started_takes_nothing_of_the_next_one(bus: Broker) -> None:
    """What its task runs afterwards belongs to the session that runs, not to the one that did not."""
    observer = CostObserver(project="prod", servers=bus.url)
    model = ScriptedLLM()
    with job("both"):
        unused = observer.attach(text_session(model), agent_id="unused")
        session = text_session(model)
        used = observer.attach(session, agent_id="used")
        assert unused is not None
        assert used is not None
        await session.start(Agent(instructions="x"))
        await session.run(user_input="#1# hello")
        await session.aclose()
    assert await observer.flush()
    readings = of(MeterReading, await stream.events(bus.url))
    assert {reading.session_id for reading in readings} == {used.session_id}


async def test_a_job_waits_for_a_session_that_runs(bus: Broker) -> None:
    """The shutdown callback finalises a running session when it closes, with all of its usage."""
    observer = patient(bus)
    with job("running") as context:
        session = text_session()
        observer.attach(session, agent_id="dental")
        await session.start(Agent(instructions="x"))
        await session.run(user_input="#1# hello")
        ending = asyncio.create_task(end(context))
        await session.aclose()
        await ending
    (ended,) = of(SessionEnded, await stream.events(bus.url))
    assert (ended.status, ended.meters[0].totals.requests) == ("success", 1)


async def test_an_outcome_that_a_hook_of_the_job_says_is_told(bus: Broker) -> None:
    """LiveKit calls a job's hooks at once, in whatever order they were added, after the session has ended."""
    observer = CostObserver(project="prod", servers=bus.url)
    with job("judged") as context:
        session = text_session()
        observer.attach(session, agent_id="dental")
        await session.start(Agent(instructions="x"))
        await session.aclose()

        async def judge(_reason: str) -> None:
            context.tagger.success(reason="booked")

        context.add_shutdown_callback(judge)
        await end(context)
    told = of(SessionEnded, await stream.events(bus.url))
    assert [it.outcome.result for it in told] == ["", "success"]
    assert await observer.flush()


async def test_a_job_has_one_shutdown_callback_however_many_sessions_it_opens(bus: Broker) -> None:
    """A job that opens session after session keeps only the last few that closed."""
    observer = CostObserver(project="prod", servers=bus.url)
    model = ScriptedLLM()
    with job("many") as context:
        before = len(context._shutdown_callbacks)
        for _ in range(12):
            session = text_session(model)
            observer.attach(session, agent_id="dental")
            await session.start(Agent(instructions="x"))
            await session.run(user_input="#1# hello")
            await session.aclose()
        ours = [
            callback
            for callback in context._shutdown_callbacks[before:]
            if "flush_costs" in callback.__qualname__
        ]
        assert len(ours) == 1
        assert len(PROCESS.attachments_of("many")) <= 9
        await end(context)
    assert await observer.flush()
    ends = of(SessionEnded, await stream.events(bus.url))
    assert [ended.meters[0].totals.requests for ended in ends] == [1] * 12


async def test_jobs_whose_ids_look_alike_when_masked_are_two_jobs(bus: Broker) -> None:
    """A telephone number in a job's id is masked in events, never where jobs are told apart."""
    observer = CostObserver(project="prod", servers=bus.url)
    attached = []
    sessions = []
    for number in ("call-+15551234567", "call-+15557654321"):
        with job(number):
            session = text_session()
            attached.append(observer.attach(session, agent_id="dental"))
            await session.start(Agent(instructions="x"))
            sessions.append(session)
    outcome = SimpleNamespace(status=SimpleNamespace(value="success"), is_final=True)
    info = SimpleNamespace(agent_name="dental", job_id="call-+15551234567", room_name="r")
    await observer.on_session_end(info, outcome)
    assert [each.finalised for each in attached if each] == [True, False]
    started = of(SessionStarted, await stream.events(bus.url))
    assert len({event.job_id for event in started}) == 1, "the ids are masked in events"
    for session in sessions:
        await session.aclose()


@pytest.mark.parametrize(
    ("asked", "ignored"),
    [
        ({"agent_id": "dental", "tenant": "globex"}, "tenant 'globex'"),
        ({"agent_id": "billing", "tenant": "acme"}, "agent_id 'billing'"),
        ({"agent_id": "dental", "tenant": "acme", "labels": {"a": "b"}}, "labels {'a': 'b'}"),
    ],
)
async def test_a_second_attach_says_what_it_ignores(
    bus: Broker, caplog: pytest.LogCaptureFixture, asked: dict[str, Any], ignored: str
) -> None:
    """Agent, tenant and labels of a session are fixed; one warning names what is not taken."""
    observer = CostObserver(project="prod", servers=bus.url)
    session = text_session()
    first = observer.attach(session, agent_id="dental", tenant="acme")
    assert observer.attach(session, **asked) is first
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.endswith(f"ignored: {ignored}")


async def test_a_second_observer_says_that_its_project_is_ignored(
    bus: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """A session is metered once, for the project of the first observer."""
    session = text_session()
    CostObserver(project="prod", servers=bus.url).attach(session, agent_id="dental")
    CostObserver(project="other", servers=bus.url).attach(session, agent_id="dental")
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "ignored: project 'other'" in warning


async def test_attaching_the_same_again_is_silent(
    bus: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is ignored, so there is nothing to say."""
    observer = CostObserver(project="prod", servers=bus.url, labels={"region": "eu"})
    session = text_session()
    for _ in range(2):
        observer.attach(session, agent_id="dental", tenant="acme")
    assert caplog.records == []


async def test_an_attachment_after_the_start_is_warned_of(
    bus: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """What ran before may be missing, and the warning says what to do."""
    observer = CostObserver(project="prod", servers=bus.url)
    session = text_session()
    await session.start(Agent(instructions="x"))
    observer.attach(session, agent_id="dental")
    (warning,) = [r.getMessage() for r in caplog.records if r.name.startswith("voicecosts")]
    assert "call attach() before session.start()" in warning
    await session.aclose()


async def test_a_second_observer_says_that_its_servers_are_ignored(
    bus: Broker, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """The readings of a session go to one place."""
    session = text_session()
    CostObserver(project="prod", servers=bus.url).attach(session, agent_id="dental")
    CostObserver(project="prod", outbox_dir=tmp_path).attach(session, agent_id="dental")
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.endswith("ignored: the servers and outbox of another observer")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"session": None}, "attach() needs an AgentSession, and got a value of type NoneType"),
        (
            {"session": AgentSession},
            "attach() needs an AgentSession, and got the class AgentSession",
        ),
        ({"job": 5}, "job must be a JobContext, and is a value of type int"),
        ({"labels": ["a"]}, "labels must be a mapping of text, and they are a value of type list"),
    ],
)
async def test_arguments_that_cannot_be_used_are_one_line(
    bus: Broker, caplog: pytest.LogCaptureFixture, arguments: dict[str, Any], said: str
) -> None:
    """A mistake in the worker's code is told in a sentence, without a traceback of ours."""
    observer = CostObserver(project="prod", servers=bus.url)
    session = arguments.pop("session", text_session())
    assert observer.attach(session, agent_id="dental", **arguments) is None
    (record,) = caplog.records
    assert said in record.getMessage()
    assert record.exc_info is None


@pytest.mark.parametrize("agent_id", [None, "", "  ", 42, Agent])
async def test_an_agent_without_a_name_is_said(
    bus: Broker, caplog: pytest.LogCaptureFixture, agent_id: Any
) -> None:
    """The call is metered, and the log says under which name its costs are shown."""
    observer = CostObserver(project="prod", servers=bus.url)
    attachment = observer.attach(text_session(), agent_id=agent_id)
    assert attachment is not None
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"shown under {attachment.identity.agent_id!r}; pass the agent's name" in warning


async def test_a_number_as_tenant_is_its_text(bus: Broker) -> None:
    """A dispatch may name a tenant by a number; a pool and a plain worker take it alike."""
    observer = CostObserver(project="prod", servers=bus.url)
    attachment = observer.attach(text_session(), agent_id="dental", tenant=42)  # type: ignore[arg-type]  # as JSON may hold it
    assert attachment is not None
    assert attachment.identity.tenant == "42"


@pytest.mark.parametrize("tenant", [True, b"acme", object(), ["acme"]])
async def test_a_tenant_that_is_not_text_names_nobody(
    bus: Broker, caplog: pytest.LogCaptureFixture, tenant: Any
) -> None:
    """A tenant is never the text form of some object; the call is metered without one."""
    observer = CostObserver(project="prod", servers=bus.url)
    attachment = observer.attach(text_session(), agent_id="dental", tenant=tenant)
    assert attachment is not None
    assert attachment.identity.tenant is None
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"it is a value of type {type(tenant).__name__}; pass a text" in warning


async def test_observers_of_two_projects_report_for_themselves(bus: Broker) -> None:
    """Each project's ledger rows come from a publisher of its own, with a report of its own."""
    ended = []
    for project in ("one", "two"):
        observer = CostObserver(project=project, servers=bus.url)
        session = text_session()
        attachment = observer.attach(session, agent_id="dental")
        assert attachment is not None
        await session.start(Agent(instructions="x"))
        await session.run(user_input="#1# hello")
        await session.aclose()
        assert observer.stats().captured == 3
        assert await observer.flush()
        ended.append(attachment.session_id)
    assert {publisher.config.project for publisher in PROCESS.publishers()} == {"one", "two"}
    stored = await stream.events(bus.url)
    assert {(e.project, e.session_id) for e in of(SessionEnded, stored)} == {
        ("one", ended[0]),
        ("two", ended[1]),
    }


async def test_nothing_is_kept_of_sessions_that_have_gone(bus: Broker) -> None:
    """Attached and started, attached only, or restarted: the process keeps none of them."""
    observer = CostObserver(project="prod", servers=bus.url)
    model = ScriptedLLM()
    before = set(ATTRIBUTION._candidates), set(ATTRIBUTION._components)
    for number in range(5):
        with job(f"job-{number}") as context:
            session = text_session(model)
            observer.attach(session, agent_id="dental")
            observer.attach(text_session(model), agent_id="never")
            for _ in range(2):
                await session.start(Agent(instructions="x"))
                await session.run(user_input="#1# hello")
                await session.aclose()
            await end(context)
        for attachment in PROCESS.attachments_of(f"job-{number}"):
            attachment.detach()
    assert listeners(model) == 0
    assert PROCESS.attachments == {}
    assert set(ATTRIBUTION._candidates) <= before[0]
    assert set(ATTRIBUTION._components) <= before[1]
