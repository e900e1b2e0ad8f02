"""Sessions inside sessions, agents after agents, tasks inside tools."""

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

from tests.support.conservation import assert_within
from tests.support.jobs import job
from tests.support.scripted import ScriptedRealtime
from tests.support.situation import Call, Host, Providers, Situation, numbered, planned, together
from tests.support.waiting import until
from voicecosts.producer.demo.devices import session_io
from voicecosts.producer.demo.providers import ScriptedLLM
from voicecosts.producer.process import PROCESS

sharing = pytest.mark.parametrize(
    "shared", [False, True], ids=["own providers", "shared providers"]
)
in_jobs = pytest.mark.parametrize("in_job", [True, False], ids=["in a job", "without a job"])
places = pytest.mark.parametrize("place", ["tool", "on_enter"])


def agent_that_opens(place: str, inner: Callable[[], Awaitable[Any]]) -> Host:
    """Make an agent that runs another session, in its tool or when it becomes active."""
    if place == "tool":
        return Host(inner)

    async def entering(_session: AgentSession[Any]) -> None:
        await inner()

    return Host(entering=entering)


@sharing
@places
async def test_an_observed_session_inside_another_one(
    situation: Situation,
    place: str,
    shared: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A session that is attached is booked by itself, wherever it is opened."""
    providers, ids = Providers(), {}

    async def inner() -> None:
        call = situation.call(2, providers if shared else None)
        ids[2] = situation.attach(call, tenant="other")
        await call.start(Host(name="inner"))
        await call.turn("a longer question", audio_s=2.4)
        await call.close()

    with job("job-1"):
        outer = situation.call(1, providers)
        ids[1] = situation.attach(outer, tenant="acme")
        await outer.run("work", "and now", agent=agent_that_opens(place, inner))
    situation.assert_booked({ids[1]: 1, ids[2]: 2})
    assert situation.labels(ids[2]) == {"inner"}


@places
async def test_an_unobserved_session_inside_an_observed_one_belongs_to_it(
    situation: Situation, place: str
) -> None:
    """What a session opens inside of itself it uses itself; the inner agent is named."""
    providers = Providers()

    async def inner() -> None:
        call = situation.call(2, providers)
        await call.start(Host(name="inner"))
        await call.turn("a longer question", audio_s=2.4)
        await call.close()

    with job("job-1"):
        outer = situation.call(1, providers)
        session = situation.attach(outer)
        await outer.run("work", "and now", agent=agent_that_opens(place, inner))
    situation.assert_booked({session: (1, 2)})
    assert situation.labels(session) == {"host", "inner"}


async def test_unobserved_sessions_inside_calls_on_shared_providers(situation: Situation) -> None:
    """Each call is booked with the sessions that were opened inside of it, without jobs too."""
    providers = Providers()

    async def run(number: int) -> str:
        async def inner() -> None:
            call = situation.call(10 + number, providers)
            await call.run("a longer question", agent=Host(name="inner"))

        return await situation.observed(
            number, providers, "hello", "work", agent=Host(inner), in_job=False
        )

    sessions = await together(*(run(number) for number in (1, 2, 3)))
    situation.assert_booked({sessions[n - 1]: (n, 10 + n) for n in (1, 2, 3)})


async def test_an_observed_session_inside_an_unobserved_one_inside_an_observed_one(
    situation: Situation,
) -> None:
    """The innermost session that is attached has the usage; between two it is the outer one's."""
    providers, ids = Providers(), {}

    async def innermost() -> None:
        call = situation.call(3, providers)
        ids[3] = situation.attach(call)
        await call.run("the innermost question", agent=Host(name="innermost"))

    async def middle() -> None:
        call = situation.call(2, providers)
        await call.run("a question between", agent=agent_that_opens("on_enter", innermost))

    with job("job-1"):
        outer = situation.call(1, providers)
        ids[1] = situation.attach(outer)
        await outer.run("work", "and now", agent=Host(middle))
    situation.assert_booked({ids[1]: (1, 2), ids[3]: 3})


async def test_a_session_that_outlives_the_tool_that_opened_it(situation: Situation) -> None:
    """A session that goes on in the background still belongs to the call that opened it."""
    providers, background = Providers(), []

    async def inner() -> None:
        call = situation.call(2, providers)
        await call.start(Host(name="inner"))
        await asked.wait()
        await call.turn("in the background", audio_s=2.4)
        await call.close()

    async def work() -> None:
        background.append(asyncio.create_task(inner()))

    asked = asyncio.Event()
    with job("job-1"):
        outer = situation.call(1, providers)
        session = situation.attach(outer)
        await outer.start(Host(work))
        await outer.turn("work")
        asked.set()
        await outer.turn("meanwhile")
        await asyncio.gather(*background)
        await outer.close()
    situation.assert_booked({session: (1, 2)})


async def test_an_unobserved_session_with_an_observed_one_beside_it_in_a_tool(
    situation: Situation,
) -> None:
    """Two sessions opened in one tool, one attached: each has its own."""
    providers, ids = Providers(), {}

    async def work() -> None:
        unobserved, observed = situation.call(2, providers), situation.call(3, providers)
        await unobserved.start(Host(name="inner"))
        ids[3] = situation.attach(observed)
        await observed.start(Host(name="attached"))
        await unobserved.turn("one question", audio_s=1.7)
        await observed.turn("a longer question", audio_s=2.4)
        await unobserved.close()
        await observed.close()

    with job("job-1"):
        outer = situation.call(1, providers)
        ids[1] = situation.attach(outer)
        await outer.run("work", "and now", agent=Host(work))
    situation.assert_booked({ids[1]: (1, 2), ids[3]: 3})


async def test_an_unobserved_inner_session_with_a_voice_of_its_own(situation: Situation) -> None:
    """It is found by the parts that it shares, and then the others are its opener's as well."""
    providers = Providers()

    async def work() -> None:
        call = situation.call(2, Providers(llm=providers.llm, stt=providers.stt))
        await call.run("one", "two", "three", agent=Host(name="inner"))

    session = await situation.observed(1, providers, "work", "and now", agent=Host(work))
    situation.assert_booked({session: (1, 2)})


@sharing
@in_jobs
async def test_an_inner_session_that_is_attached_after_its_start(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
    shared: bool,  # noqa: FBT001 - same
) -> None:
    """Inside of another session too, a session may be attached when it runs."""
    providers, ids = Providers(), {}

    async def work() -> None:
        call = situation.call(2, providers if shared else None)
        await call.start(Host(name="inner"))
        ids[2] = situation.attach(call)
        await call.turn("a longer question")
        await call.close()

    agent = Host(work)
    ids[1] = await situation.observed(1, providers, "work", "and now", agent=agent, in_job=in_job)
    situation.assert_booked({ids[1]: 1, ids[2]: 2})


@sharing
async def test_an_inner_session_that_greets_and_is_then_attached(
    situation: Situation,
    shared: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """What it used before is its own, and not its opener's: it was on its way to be attached."""
    providers, ids = Providers(), {}

    async def greet(session: AgentSession[Any]) -> None:
        await session.generate_reply(user_input="#2# say hello")

    async def work() -> None:
        call = situation.call(2, providers if shared else None)
        await call.start(Host(name="inner", entering=greet))
        await until(lambda: situation.billed(2).get("tts", {}).get("requests", 0) == 1)
        ids[2] = situation.attach(call)
        await call.turn("a longer question")
        await call.close()

    ids[1] = await situation.observed(1, providers, "work", "and now", agent=Host(work))
    situation.assert_booked({ids[1]: 1, ids[2]: 2})


@in_jobs
async def test_an_unobserved_inner_session_on_a_realtime_model(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Found by the voice that it shares, its connection is its opener's from then on."""
    common, model = Providers(), ScriptedRealtime()

    async def work() -> None:
        call = situation.call(2, Providers(llm=model, stt=None, tts=common.tts))
        await call.start(Host(name="inner"))
        await call.session.say("#2# prepared words")
        await call.turn()
        await call.turn()
        await call.close()

    agent = Host(work)
    session = await situation.observed(1, common, "work", "and now", agent=agent, in_job=in_job)
    situation.assert_booked({session: (1, 2)})


@in_jobs
async def test_an_inner_session_that_starts_again(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """An attached inner session that starts again is a session of its own again."""
    common = Providers()

    async def work() -> None:
        call = situation.call(2, common)
        situation.attach(call)
        await call.run("one", agent=Host(name="inner"))
        await numbered(call, 3).run("two", "three", agent=Host(name="inner"))

    agent = Host(work)
    outer = await situation.observed(1, common, "work", "and now", agent=agent, in_job=in_job)
    two, three = (each for each in situation.session_ids() if each != outer)
    situation.assert_booked({outer: 1, two: 2, three: 3})


@in_jobs
async def test_an_unobserved_session_that_runs_inside_one_call_and_then_another(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Each start of it belongs to the call in which it is started."""
    common = Providers()
    inner = situation.call(10, common)

    async def run(number: int) -> str:
        async def work() -> None:
            await numbered(inner, 10 + number).run("one", agent=Host(name="inner"))

        return await situation.observed(
            number, common, "work", "and now", agent=Host(work), in_job=in_job
        )

    one = await asyncio.create_task(run(1))
    two = await asyncio.create_task(run(2))
    situation.assert_booked({one: (1, 11), two: (2, 12)})


@in_jobs
async def test_an_inner_session_that_outlives_the_call(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """What it uses after the call is the call's or nobody's, and not another call's."""
    common, going = Providers(), asyncio.Event()
    background: list[asyncio.Task[None]] = []

    async def inner() -> None:
        call = situation.call(2, common)
        await call.start(Host(name="inner"))
        await call.turn()
        await going.wait()
        await call.turn("late")
        await call.close()

    async def work() -> None:
        background.append(asyncio.create_task(inner()))

    async def opened(number: int, agent: Host) -> tuple[Call, str]:
        with job(f"job-{number}") if in_job else contextlib.nullcontext():
            call = situation.call(number, common)
            session = situation.attach(call)
            await call.start(agent)
        return call, session

    outer, one = await asyncio.create_task(opened(1, Host(work)))
    other, three = await asyncio.create_task(opened(3, Host()))
    await outer.turn("work")
    await outer.close()
    for attachment in list(PROCESS.attachments.values()):
        if attachment.session is outer.session:
            attachment.detach()  # as its linger does
    going.set()
    await asyncio.gather(*background)
    await other.turn()
    await other.close()
    assert situation.recorder.totals(three) == situation.billed(3)
    assert_within(situation.recorder, one, (1, 2), *situation.keepers)
    situation.assert_conserved()


@sharing
async def test_a_session_attached_outside_and_started_in_a_tool(
    situation: Situation,
    shared: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A session is its own wherever it is started; a later one of the task is not affected."""
    common = Providers()
    first = situation.call(1, common)
    second = situation.call(2, common if shared else None)
    third = situation.call(3, common if shared else None)
    one, two = situation.attach(first), situation.attach(second)

    async def work() -> None:
        await second.run("a longer question", agent=Host(name="inner"))

    await first.start(Host(work))
    await first.turn("work")
    three = situation.attach(third)
    await third.run()
    await first.close()
    situation.assert_booked({one: 1, two: 2, three: 3})


@sharing
async def test_a_session_attached_in_a_tool_and_started_outside(
    situation: Situation,
    shared: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A session is its own wherever it is attached."""
    common, ids = Providers(), {}
    first = situation.call(1, common)
    second = situation.call(2, common if shared else None)

    async def work() -> None:
        ids[2] = situation.attach(second)

    ids[1] = situation.attach(first)
    await first.start(Host(work))
    await first.turn("work")
    await second.run("a longer question", "and more")
    await first.turn("still there?")
    await first.close()
    situation.assert_booked({ids[1]: 1, ids[2]: 2})


@in_jobs
async def test_a_hand_off_in_an_unobserved_inner_session(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The agents of an inner session are all named in the call that it belongs to."""
    common = Providers()

    async def work() -> None:
        call = situation.call(2, common)
        await call.start(Host(name="inner"))
        await call.turn()
        next_agent = Host(name="next")
        call.session.update_agent(next_agent)
        await until(lambda: call.session._activity.agent is next_agent)  # type: ignore[union-attr]
        await call.turn("more")
        await call.close()

    agent = Host(work)
    session = await situation.observed(1, common, "work", "and now", agent=agent, in_job=in_job)
    situation.assert_booked({session: (1, 2)})
    assert situation.labels(session) == {"host", "inner", "next"}


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
