"""The hooks of a call beside OpenRTC's own: the same observers, the same calls, the same story.

Each call runs twice, as a real session of each pool. Compared is what every observer was told and in
which state the session was then, how the call ended, and which error its job got.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from livekit.agents import AgentSession, JobContext
from livekit.agents.ipc.mock_room import create_mock_room
from openrtc import AgentPool as OpenRTCPool
from openrtc.core import wiring

from tests.support.jobs import job
from tests.support.pool_agents import Broken, Dental, make_llm, make_tts
from voicecosts import AgentPool, HookLimits
from voicecosts.producer.pool.session import end_session, run_session

LIMIT_S = 0.05
MANUAL = {"turn_handling": {"turn_detection": "manual"}}
Story = list[tuple[Any, ...]]


class Told:
    """An observer that writes down what it is told, and then does what it is made for."""

    def __init__(self, story: Story, name: str, then: Callable[[], Any] | None = None) -> None:
        self.story = story
        self.name = name
        self.then = then

    def __reduce__(self) -> tuple[Any, ...]:
        return Told, ([], self.name)  # the pool asks whether it can; here nobody does

    async def on_session_start(self, info: Any, session: AgentSession[Any]) -> None:
        """Write down the start."""
        told = (info.agent_name, info.job_id, info.metadata.get("lang"))
        self.story.append((self.name, "start", *told, state_of(session)))
        await self._then()

    async def on_session_end(self, info: Any, outcome: Any) -> None:
        """Write down the end."""
        told = (outcome.status.value, type(outcome.error).__name__, outcome.duration_seconds >= 0)
        self.story.append((self.name, "end", info.agent_name, *told))
        await self._then()

    async def _then(self) -> None:
        if self.then is not None:
            await self.then()


def state_of(session: AgentSession[Any]) -> str:
    """Return whether a session runs, and whether it has said something."""
    agent = session.current_agent  # raises where the session has not started
    return f"{type(agent).__name__}, {len(session.history.messages())} messages"


async def fail() -> None:
    """Raise."""
    raise ZeroDivisionError


async def cancel() -> None:
    """Raise what looks like a cancellation of the call."""
    raise asyncio.CancelledError


async def hang() -> None:
    """Never return."""
    await asyncio.Event().wait()


KINDS: dict[str, Callable[[], Any] | None] = {
    "quiet": None,
    "failing": fail,
    "cancelling": cancel,
    "hanging": hang,
    "last": None,
}


@asynccontextmanager
async def dispatched(metadata: str) -> AsyncIterator[JobContext]:
    """Run the body in a job whose process has what OpenRTC loads before its calls."""
    with job("AJ-1", job_metadata=metadata, room=create_mock_room()) as context:
        context.proc.userdata.update(vad=None, turn_detection_factory=lambda: None)
        yield context


async def refuse() -> None:
    """Stand for a room that cannot be entered."""
    raise ConnectionRefusedError


async def told(run: Callable[[JobContext], Any], metadata: str, *, connects: bool) -> str:
    """Run a call to its end; return the error that its job got."""
    async with dispatched(metadata) as context:
        if not connects:
            setattr(context, "connect", refuse)  # noqa: B010 - a method of LiveKit's
        try:
            await run(context)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
            return next(it.__name__ for it in type(error).__mro__ if it.__module__ == "builtins")
        finally:
            if context._primary_agent_session is not None:
                await context._primary_agent_session.aclose()
            await end_session(context)
        return "none"


async def ours(order: tuple[str, ...], metadata: str, agent: Any, *, connects: bool) -> Any:
    """Return the story of a call of our pool."""
    story: Story = []
    pool = AgentPool(
        observers=[Told(story, name, KINDS[name]) for name in order],
        default_llm=make_llm,
        default_tts=make_tts,
        hook_limits=HookLimits(start_s=LIMIT_S, end_s=LIMIT_S),
    )
    pool.add("dental", agent, session_kwargs={**MANUAL, "vad": None})
    error = await told(lambda job: run_session(pool._state, job), metadata, connects=connects)
    return story, error


async def theirs(order: tuple[str, ...], metadata: str, agent: Any, *, connects: bool) -> Any:
    """Return the story of a call of OpenRTC's pool."""
    story: Story = []
    pool = OpenRTCPool(
        observers=[Told(story, name, KINDS[name]) for name in order],
        default_llm=make_llm(),
        default_tts=make_tts(),
        enable_introspection=False,
    )
    pool.add("dental", agent, session_kwargs=MANUAL)
    state = pool._runtime_state
    state.observer_timeout = LIMIT_S
    error = await told(lambda job: wiring.run_session(state, job), metadata, connects=connects)
    return story, error


ORDERS = [*itertools.islice(itertools.permutations(KINDS), 0, 120, 13), (), ("quiet",)]
CALLS = {
    "goes well": ('{"lang": "de"}', Dental, True),
    "agent cannot be made": ("", Broken, True),
    "room cannot be entered": ("", Dental, False),
    "unknown agent": ('{"agent": "sales"}', Dental, True),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
async def test_the_hooks_of_a_call_are_those_of_openrtc(order: tuple[str, ...], call: str) -> None:
    """Who is told what, in which order and state, and with which end, whatever other observers do."""
    metadata, agent, connects = CALLS[call]
    expected = await theirs(order, metadata, agent, connects=connects)
    assert await ours(order, metadata, agent, connects=connects) == expected
    starts = [name for name, event, *_ in expected[0] if event == "start"]
    assert starts == (list(order) if call == "goes well" else [])
    ends = [name for name, event, *_ in expected[0] if event == "end"]
    assert ends == ([] if call == "unknown agent" else list(order))


class Plain:
    """An observer whose hooks are no coroutines."""

    def on_session_start(self, info: Any, session: Any) -> None:
        """Fail at once."""
        raise ZeroDivisionError

    def on_session_end(self, info: Any, outcome: Any) -> None:
        """Fail at once."""
        raise ZeroDivisionError


async def test_a_hook_that_is_no_coroutine_fails_a_call_of_openrtcs_and_none_of_ours() -> None:
    """OpenRTC calls a hook outside of what isolates it: the one difference, and on purpose."""
    pool = AgentPool(observers=[Plain()], default_llm=make_llm)  # type: ignore[list-item]  # the mistake
    pool.add("dental", Dental, session_kwargs={**MANUAL, "vad": None})
    assert await told(lambda job: run_session(pool._state, job), "", connects=True) == "none"
    other = OpenRTCPool(observers=[Plain()], default_llm=make_llm(), enable_introspection=False)
    other.add("dental", Dental, session_kwargs=MANUAL)
    state = other._runtime_state
    failed = await told(lambda job: wiring.run_session(state, job), "", connects=True)
    assert failed == "ZeroDivisionError"
