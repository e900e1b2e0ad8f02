"""One call: the order of its steps, who is told what and when, and its end, however it comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession, APIConnectOptions, JobContext
from livekit.agents.ipc.mock_room import create_mock_room
from livekit.agents.voice.agent_session import SessionConnectOptions

from tests.support.jobs import job
from tests.support.pool_agents import QUIET, Broken, Dental, Greeter, Restaurant, make_llm, make_tts
from tests.support.waiting import until
from voicecosts import AgentPool, HookLimits, SessionInfo, SessionOutcome, SessionStatus
from voicecosts.producer.demo.devices import session_io
from voicecosts.producer.demo.providers import ScriptedLLM
from voicecosts.producer.errors import NoAgents, UnknownAgent
from voicecosts.producer.pool.session import end_session, run_session

LOG: list[tuple[str, Any]] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    LOG.clear()


class Diary:
    """An observer that writes down what it is told, and in which state the session was."""

    def __init__(self, name: str = "late") -> None:
        self.name = name

    async def on_session_start(self, info: SessionInfo, session: AgentSession[Any]) -> None:
        """Write it down."""
        LOG.append((f"{self.name} start", (info, session, is_running(session))))

    async def on_session_end(self, info: SessionInfo, outcome: SessionOutcome) -> None:
        """Write it down."""
        LOG.append((f"{self.name} end", (info, outcome)))


class EarlyDiary(Diary):
    """The same, before the session starts."""

    attaches_before_start = True

    def __init__(self) -> None:
        super().__init__("early")


class Blocked(Diary):
    """An observer whose hooks never return."""

    async def on_session_start(self, info: Any, session: Any) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()

    async def on_session_end(self, info: Any, outcome: Any) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()


class Raising(Diary):
    """An observer with a defect."""

    async def on_session_start(self, info: Any, session: Any) -> None:
        """Fail."""
        raise ZeroDivisionError

    async def on_session_end(self, info: Any, outcome: Any) -> None:
        """Fail."""
        raise ZeroDivisionError


class Unsure(Diary):
    """An observer that answers once when it wants its session, and then fails."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    @property
    def attaches_before_start(self) -> bool:
        """Fail at the second question."""
        self.asked += 1
        if self.asked > 1:
            raise ZeroDivisionError
        return True


class Faulty(Diary):
    """An observer that cannot say when it wants its session."""

    @property
    def attaches_before_start(self) -> bool:
        """Fail."""
        raise ZeroDivisionError


class Voice:
    """Lets a session be heard, from before its start."""

    attaches_before_start = True

    async def on_session_start(self, info: Any, session: Any) -> None:
        """Connect a loudspeaker."""
        session_io(session, 1)
        session.on("metrics_collected", lambda event: LOG.append((event.metrics.type, None)))

    async def on_session_end(self, info: Any, outcome: Any) -> None:
        """Nothing to do."""


def is_running(session: AgentSession[Any]) -> bool:
    """Whether a session has been started."""
    try:
        return session.current_agent is not None
    except RuntimeError:
        return False


def pool_of(*observers: Any, **options: Any) -> AgentPool:
    """Return a pool of two agents without voices."""
    pool = AgentPool(observers=observers, default_llm=make_llm, default_tts=make_tts, **options)
    pool.add("restaurant", Restaurant, session_kwargs=QUIET)
    pool.add("dental", Dental, session_kwargs=QUIET)
    return pool


@asynccontextmanager
async def dispatched(metadata: str = "") -> AsyncIterator[JobContext]:
    """Run the body in a job with this metadata, in a room that is none."""
    with job("AJ-1", job_metadata=metadata, room=create_mock_room()) as context:
        yield context


def said(name: str) -> list[Any]:
    """Return what was written down under a name."""
    return [told for written, told in LOG if written == name]


async def test_a_call_reaches_the_agent_that_its_metadata_names() -> None:
    """The agent, the info and the session are those of the call."""
    pool = pool_of(Diary())
    metadata = json.dumps({"agent": "dental", "tenant": "acme", "lang": "de"})
    async with dispatched(metadata) as context, pool.session(context) as session:
        assert type(session.current_agent) is Dental
        assert context.primary_session is session
    ((info, observed, _),) = said("late start")
    assert observed is session
    assert (info.agent_name, info.tenant, info.job_id) == ("dental", "acme", "AJ-1")
    assert info.room_name == context.job.room.name
    assert info.metadata == {"agent": "dental", "tenant": "acme", "lang": "de"}


async def test_an_early_observer_has_the_session_before_it_starts() -> None:
    """An early observer gets the session before it starts, any other when it runs, and both one end."""
    pool = pool_of(Diary(), EarlyDiary())
    async with dispatched() as context, pool.session(context):
        assert [name for name, _ in LOG] == ["early start", "late start"]
        assert [running for _, (_, _, running) in LOG] == [False, True]
    assert [name for name, _ in LOG[2:]] == ["late end", "early end"]
    ((info, outcome),) = said("late end")
    assert info is said("late start")[0][0]
    assert (outcome.status, outcome.error) == (SessionStatus.SUCCESS, None)
    assert outcome.duration_seconds >= 0


async def test_what_an_agent_says_on_entering_is_not_missed() -> None:
    """Usage of what an agent says on entering reaches an observer that attached before the start."""
    pool = AgentPool(observers=[Voice()], default_llm=make_llm, default_tts=make_tts)
    pool.add("greeter", Greeter, session_kwargs=QUIET)
    async with dispatched() as context, pool.session(context) as session:
        await until(lambda: "tts_metrics" in [name for name, _ in LOG])
        await until(lambda: len(session.history.messages()) == 1)
    assert [name for name, _ in LOG if name == "llm_metrics"] == ["llm_metrics"]


async def test_the_greeting_comes_after_the_observers_and_nobody_waits_for_it() -> None:
    """The greeting is not waited for, so a caller who hangs up in its middle ends the call at once."""
    pool = AgentPool(
        observers=[Diary()],
        default_llm=make_llm,
        default_tts=make_tts,
        default_greeting="Say hello. #1#",
    )
    pool.add("dental", Dental, session_kwargs=QUIET)
    async with dispatched() as context, pool.session(context) as session:
        assert said("late start")[0][2]
        assert session.history.messages() == []
        await until(lambda: len(session.history.messages()) == 1)


async def test_calls_do_not_share_what_a_factory_makes() -> None:
    """A factory makes a model for each session; a value is shared by all."""
    pool = pool_of()
    models = []
    for _ in range(2):
        async with dispatched() as context, pool.session(context) as session:
            models.append(session.llm)
    assert models[0] is not models[1]


async def test_a_call_that_cannot_be_routed_is_refused_before_anybody_hears_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A refused call has no session and no observer; one error line and the end of the job say why."""
    pool = pool_of(Diary(), EarlyDiary())
    reasons: list[str] = []
    async with dispatched('{"agent": "sales"}') as context:
        context._on_shutdown = reasons.append
        with pytest.raises(UnknownAgent) as refused:
            async with pool.session(context):
                raise AssertionError("a refused call has no session")
        assert context._primary_agent_session is None
    assert LOG == []
    assert f"job AJ-1 is refused: {refused.value}" in caplog.text
    assert reasons == [f"refused: {refused.value}"]


@pytest.mark.parametrize(("tenant", "kept"), [("Acme Corp", "Acme Corp"), (["a"], None)])
async def test_no_tenant_whatever_refuses_a_call(tenant: object, kept: str | None) -> None:
    """The tenant of a call is for its bill: a call is never refused for how it is written."""
    metadata = json.dumps({"tenant": tenant})
    async with dispatched(metadata) as context, pool_of(Diary()).session(context) as session:
        assert (await session.run(user_input="#1# hello")).events
    assert said("late start")[0][0].tenant == kept
    assert said("late end")[0][0].tenant == kept


async def test_an_empty_pool_refuses_every_call() -> None:
    """An empty pool refuses every call."""
    async with dispatched() as context:
        with pytest.raises(NoAgents):
            await run_session(AgentPool()._state, context)


async def test_an_end_without_a_call_is_nothing() -> None:
    """The end hook after a refused call reports nothing."""
    async with dispatched() as context:
        await end_session(context)
    assert LOG == []


async def test_a_second_end_is_not_reported() -> None:
    """Observers hear of an end once, even if the end hook is called twice."""
    async with dispatched() as context:
        async with pool_of(Diary()).session(context):
            pass
        await end_session(context)
    assert len(said("late end")) == 1


async def test_an_agent_that_cannot_be_made_is_a_failed_call() -> None:
    """A call whose agent cannot be made is reported as failed, also to who heard no start."""
    pool = AgentPool(observers=[Diary(), EarlyDiary()], default_llm=make_llm)
    pool.add("broken", Broken, session_kwargs=QUIET)
    async with dispatched() as context:
        with pytest.raises(ZeroDivisionError):
            async with pool.session(context):
                raise AssertionError("it has not started")
    assert [name for name, _ in LOG] == ["early start", "late end", "early end"]
    outcome = said("late end")[0][1]
    assert outcome.status is SessionStatus.FAILED
    assert isinstance(outcome.error, ZeroDivisionError)


async def test_a_room_that_cannot_be_connected_is_a_failed_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call whose room cannot be connected is reported as failed, without a start."""

    async def refuse() -> None:
        raise ConnectionRefusedError

    async with dispatched() as context:
        monkeypatch.setattr(context, "connect", refuse)
        with pytest.raises(ConnectionRefusedError):
            await run_session(pool_of(Diary(), EarlyDiary())._state, context)
        await end_session(context)
    assert [name for name, _ in LOG] == ["late end", "early end"]
    assert said("late end")[0][1].status is SessionStatus.FAILED


async def test_a_call_that_is_cancelled_while_it_starts_is_reported_as_cancelled() -> None:
    """A cancellation while a call starts is raised, and the end hook reports the call as cancelled."""
    pool = pool_of(Blocked(), Diary())
    async with dispatched() as context:
        starting = asyncio.create_task(run_session(pool._state, context))
        await until(lambda: context._primary_agent_session is not None)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await context.primary_session.aclose()
        pool._state.observers.pop(0)
        await end_session(context)
    assert said("late start") == []
    assert said("late end")[0][1].status is SessionStatus.CANCELLED


async def test_a_session_that_breaks_off_is_a_failed_call() -> None:
    """A session that closes with an error is reported as failed, after its entrypoint has returned."""
    at_once = SessionConnectOptions(
        llm_conn_options=APIConnectOptions(max_retry=0), max_unrecoverable_errors=0
    )
    pool = AgentPool(observers=[Diary()], default_llm=ScriptedLLM(failures=100))
    pool.add("dental", Dental, tts=make_tts, session_kwargs={**QUIET, "conn_options": at_once})
    async with dispatched() as context, pool.session(context) as session:
        closed = asyncio.Event()
        session.on("close", lambda _: closed.set())
        session.generate_reply(user_input="hello")
        async with asyncio.timeout(20):
            await closed.wait()
    outcome = said("late end")[0][1]
    assert outcome.status is SessionStatus.FAILED
    assert "scripted failure" in str(outcome.error)


async def test_observers_that_raise_or_hang_hurt_neither_the_call_nor_each_other() -> None:
    """Each hook has its limit, and the next observer is told whatever the last one did."""
    limits = HookLimits(start_s=0.01, end_s=0.01)
    pool = pool_of(Raising(), Blocked(), Diary(), hook_limits=limits)
    async with dispatched() as context, pool.session(context) as session:
        assert (await session.run(user_input="#1# hello")).events
    assert len(said("late start")) == len(said("late end")) == 1


async def test_when_an_observer_wants_its_session_is_asked_once_and_hurts_no_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`attaches_before_start` is read at registration; one that raises there means after the start."""
    pool = pool_of(Unsure(), Faulty("faulty"))
    assert "attaches_before_start of observer" in caplog.text
    async with dispatched() as context, pool.session(context) as session:
        assert (await session.run(user_input="#1# hello")).events
    assert [name for name, _ in LOG] == ["late start", "faulty start", "late end", "faulty end"]
    assert [running for name, (_, _, running) in LOG[:2]] == [False, True]


async def test_a_pool_without_observers_runs_calls() -> None:
    """A pool without observers runs calls."""
    async with dispatched() as context, pool_of().session(context) as session:
        assert (await session.run(user_input="#1# hello")).events


async def test_tools_and_wiring_of_an_agent_are_its_own() -> None:
    """An agent's tools and session options reach LiveKit as they were given."""
    pool = AgentPool(default_llm=make_llm)
    pool.add("dental", Dental, session_kwargs={**QUIET, "max_tool_steps": 7})
    async with dispatched() as context, pool.session(context) as session:
        assert type(session) is AgentSession
        assert isinstance(session.current_agent, Agent)
        assert session.options.max_tool_steps == 7
