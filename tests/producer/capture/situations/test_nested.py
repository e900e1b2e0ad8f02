"""Sessions inside sessions: opened by a tool or on entering, attached or not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from livekit.agents import AgentSession

from tests.support.conservation import assert_within
from tests.support.jobs import job
from tests.support.realtime import ScriptedRealtime
from tests.support.situation import Call, Host, Providers, Situation, numbered, together
from tests.support.waiting import until
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


@in_jobs
async def test_an_unobserved_session_inside_an_unobserved_one_beside_an_observed_one(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """What a stranger opens is a stranger's: unattributed, and not its neighbour's."""
    common = Providers()

    async def work() -> None:
        await situation.call(3, common).run("a question inside", agent=Host(name="inner"))

    with job("job-1") if in_job else contextlib.nullcontext():
        observed, stranger = situation.call(1, common), situation.call(2, common)
        session = situation.attach(observed)
        await observed.start()
        await stranger.start(Host(work))
        await stranger.turn("work")
        await observed.turn()
        await stranger.close()
        await observed.close()
    situation.assert_booked({session: 1})
