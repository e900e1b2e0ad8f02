"""Agents after agents in one session: hand-offs, tasks, and LiveKit's own transfer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from livekit import rtc
from livekit.agents import AgentSession, AgentTask
from livekit.agents.beta.workflows import WarmTransferTask
from livekit.agents.ipc.mock_room import create_mock_room

from tests.support.jobs import job
from tests.support.situation import Call, Host, Providers, Situation, planned, together
from voicecosts.producer.demo.devices import session_io
from voicecosts.producer.demo.providers import ScriptedLLM

sharing = pytest.mark.parametrize(
    "shared", [False, True], ids=["own providers", "shared providers"]
)
in_jobs = pytest.mark.parametrize("in_job", [True, False], ids=["in a job", "without a job"])


@sharing
async def test_a_hand_off(
    situation: Situation,
    shared: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """After a hand-off the components of the new agent are listened to, and its label is used."""
    own = ScriptedLLM(plan=planned, model="successor-llm")
    situation.keep(own)
    successor = Host(name="successor", **({} if shared else {"llm": own}))
    session = await situation.observed(
        1, None, "hello", "hand_over", "and now", agent=Host(successor=successor)
    )
    situation.assert_booked({session: 1})
    assert situation.labels(session) == {"host", "successor"}


class Consent(AgentTask[bool]):
    """Asks one question, on providers of its own or on the session's."""

    def __init__(self, number: int = 1, **options: Any) -> None:
        super().__init__(instructions="Ask for consent.", **options)
        self._number = number

    async def on_enter(self) -> None:
        """Ask, and be done."""
        await self.session.generate_reply(user_input=f"#{self._number}# consent?")
        self.complete(result=True)


@sharing
async def test_an_agent_task_in_a_tool(
    situation: Situation,
    shared: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A task that takes over inside a tool is a part of the call, under its own label."""
    own = ScriptedLLM(plan=planned, model="consent-llm")
    situation.keep(own)

    async def work() -> None:
        assert await Consent(**({} if shared else {"llm": own}))

    session = await situation.observed(1, None, "work", "and now", agent=Host(work))
    situation.assert_booked({session: 1})
    assert situation.labels(session) == {"host", "consent"}


@in_jobs
async def test_agent_tasks_on_shared_providers_when_an_agent_enters(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A task brings providers that another call's task has as well."""
    common = Providers()
    situation.keep(*common.keepers())

    async def run(number: int) -> str:
        done = asyncio.Event()

        async def entering(_session: AgentSession[Any]) -> None:
            await Consent(number, llm=common.llm, stt=common.stt, tts=common.tts)
            done.set()

        with job(f"job-{number}") if in_job else contextlib.nullcontext():
            call = situation.call(number)
            session = situation.attach(call)
            await call.start(Host(entering=entering))
            await done.wait()
            await call.turn()
            await call.close()
        return session

    one, two = await together(run(1), run(2))
    situation.assert_booked({one: 1, two: 2})


class Transfer(WarmTransferTask):
    """LiveKit's own transfer. The line to the person is scripted, as there is no SIP here."""

    def __init__(self, talk: Callable[[AgentSession[Any]], Awaitable[None]]) -> None:
        super().__init__(sip_call_to="sip:person@example.org", sip_trunk_id="none", hold_audio=None)
        self._talk = talk

    async def _originate_human_agent(self, **_where: Any) -> None:
        """The person picks up."""

    async def on_enter(self) -> None:
        """Dial, brief the person, and come back to the caller."""
        await super().on_enter()
        session = self._human_agent_sess
        assert session is not None
        await self._talk(session)
        self._set_result(ValueError("the person declines"))


async def _transferred(situation: Situation, number: int, providers: Providers) -> str:
    briefings: list[AgentSession[Any]] = []

    async def brief(session: AgentSession[Any]) -> None:
        call = Call(10 + number, session, session_io(session, 10 + number))
        await call.turn("who is it?", audio_s=1.7)
        await call.turn("put them through", audio_s=0.9)
        briefings.append(session)

    async def work() -> None:
        with pytest.raises(ValueError, match="declines"):
            await Transfer(brief)

    session = await situation.observed(
        number, providers, "hello", "work", "still there?", agent=Host(work)
    )
    (briefed,) = briefings
    await briefed.aclose()  # `shutdown()` has begun it
    return session


@pytest.fixture
def _no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put LiveKit's own mock where a transfer needs a room, and what would let it in."""
    room = create_mock_room()
    monkeypatch.setattr(rtc, "Room", lambda: room)
    monkeypatch.setenv("LIVEKIT_API_KEY", "key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "secret-of-a-test-that-calls-nobody")


@pytest.mark.usefixtures("_no_line")
async def test_a_warm_transfer(situation: Situation) -> None:
    """The session in which LiveKit briefs a person belongs to the call that is transferred."""
    session = await _transferred(situation, 1, Providers())
    situation.assert_booked({session: (1, 11)})


@pytest.mark.usefixtures("_no_line")
async def test_warm_transfers_of_several_calls_at_once(situation: Situation) -> None:
    """Each briefing belongs to its own call, though all of them share their providers."""
    shared = Providers()
    sessions = await together(*(_transferred(situation, n, shared) for n in (1, 2, 3)))
    situation.assert_booked({sessions[n - 1]: (n, 10 + n) for n in (1, 2, 3)})
