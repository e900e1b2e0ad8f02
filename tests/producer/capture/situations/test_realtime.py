"""Realtime models: connections that one session alone hears, and what they transcribe."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.agents import llm
from livekit.agents.llm.realtime_fallback_adapter import RealtimeModelFallbackAdapter

from tests.support.jobs import job
from tests.support.realtime import ScriptedRealtime
from tests.support.situation import Host, Providers, Situation, numbered, together

in_jobs = pytest.mark.parametrize("in_job", [True, False], ids=["in jobs", "without jobs"])
sharing = pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])


def realtime(model: llm.RealtimeModel | None = None, **options: Any) -> Providers:
    """Make a session of a realtime model alone."""
    return Providers(llm=model or ScriptedRealtime(**options), stt=None, tts=None)


@in_jobs
async def test_a_realtime_call(situation: Situation, in_job: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Responses are requests; a report about the connection is none, and its time is counted."""
    providers = realtime(transcribes=True, session_us=7_500_000)
    session = await situation.observed(1, providers, "hello", "again", in_job=in_job)
    booked = situation.billed(1)
    assert booked["realtime"]["requests"] == 2
    assert set(booked) == {"realtime", "stt"}
    situation.assert_booked({session: 1})


async def test_who_spoke_is_unknown_where_a_realtime_model_wrote_down_nothing(
    situation: Situation,
) -> None:
    """No message of the user is no proof of silence; one that is there counts."""
    for number in (1, 2):
        call = situation.call(number, realtime())
        situation.attach(call)
        await call.start()
        await call.session.generate_reply(instructions=f"#{number}# say hello")
        if number == 1:
            await call.turn()
        await call.close()
    turns = [it.outcome and it.outcome.user_turns for it in situation.recorder.ends()]
    assert turns == [1, None]


@in_jobs
@sharing
async def test_realtime_calls_at_once(
    situation: Situation,
    shared: bool,  # noqa: FBT001 - a parameter of the test
    in_job: bool,  # noqa: FBT001 - same
) -> None:
    """Each call has a connection of its own, also where the calls share the model object."""
    model = ScriptedRealtime(transcribes=True)
    sessions = await together(
        *(
            situation.observed(
                n, realtime(model if shared else None, transcribes=True), "hello", in_job=in_job
            )
            for n in (1, 2, 3)
        )
    )
    situation.assert_booked(dict(zip(sessions, (1, 2, 3), strict=True)))


@sharing
async def test_a_realtime_session_in_a_tool_of_a_realtime_session(
    situation: Situation,
    shared: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Each session hears its own connection, also where both are of one model object."""
    model, ids = ScriptedRealtime(plan=lambda text: "work" if "work" in text else ""), {}

    async def work() -> None:
        call = situation.call(2, realtime(model if shared else None))
        ids[2] = situation.attach(call)
        await call.run("a longer question", agent=Host(name="inner"))

    with job("job-1"):
        outer = situation.call(1, realtime(model))
        ids[1] = situation.attach(outer)
        await outer.run("work", "and now", agent=Host(work))
    situation.assert_booked({ids[1]: 1, ids[2]: 2})


async def test_a_realtime_session_in_a_tool_of_a_pipeline(situation: Situation) -> None:
    """An attached realtime session has its usage, though a tool of another session opened it."""
    ids = {}

    async def work() -> None:
        call = situation.call(2, realtime(transcribes=True))
        ids[2] = situation.attach(call, tenant="other")
        await call.run("a longer question", agent=Host(name="inner"))

    with job("job-1"):
        outer = situation.call(1)
        ids[1] = situation.attach(outer, tenant="acme")
        await outer.run("work", "and now", agent=Host(work))
    situation.assert_booked({ids[1]: 1, ids[2]: 2})


@pytest.mark.parametrize("late", [False, True], ids=["attached before", "attached after its start"])
async def test_a_realtime_session_beside_another_of_the_same_task(
    situation: Situation,
    late: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """What one session alone hears is its own, whatever mark its task carries."""
    first, second = situation.call(1), situation.call(2, realtime(transcribes=True))
    one = situation.attach(first)
    await first.start()
    if late:
        await second.start()
        await second.turn("before it is attached")
    two = situation.attach(second)
    if not late:
        await second.start()
    await first.turn()
    await second.turn("a longer question")
    await second.close()
    await first.close()
    situation.assert_booked({one: 1, two: 2})


async def test_a_realtime_model_that_starts_again(situation: Situation) -> None:
    """The second start of a realtime session is a session of its own."""
    call = situation.call(1, realtime(transcribes=True, session_us=1_000_000))
    situation.attach(call)
    await call.run("hello", "again")
    again = numbered(call, 2)
    situation.attach(again)
    await again.run("a longer question")
    one, two = situation.session_ids()
    situation.assert_booked({one: 1, two: 2})


async def test_a_realtime_model_that_hands_over_to_a_pipeline(situation: Situation) -> None:
    """After the hand-off the pipeline of the new agent is listened to, beside the connection."""
    parts = Providers()
    situation.keep(*parts.keepers())
    successor = Host(name="successor", llm=parts.llm, stt=parts.stt, tts=parts.tts)
    providers = realtime(plan=lambda text: "hand_over" if "hand_over" in text else "")
    session = await situation.observed(
        1, providers, "hello", "hand_over", "and now", agent=Host(successor=successor)
    )
    situation.assert_booked({session: 1})
    assert situation.labels(session, "realtime") == {"host"}
    assert situation.labels(session, "llm") == {"successor"}


async def test_realtime_models_behind_an_adapter_of_each_call(situation: Situation) -> None:
    """The adapter's connection passes on what the model behind it reports, once."""
    first = ScriptedRealtime(model="first", transcribes=True)
    second = ScriptedRealtime(model="second", transcribes=True)
    situation.keep(first, second)

    async def run(number: int) -> str:
        adapter = RealtimeModelFallbackAdapter([first, second])
        return await situation.observed(number, realtime(adapter), "hello", "again")

    one, two = await together(run(1), run(2))
    situation.assert_booked({one: 1, two: 2})


async def test_a_realtime_model_with_a_recogniser_and_a_voice_beside_it(
    situation: Situation,
) -> None:
    """Two recognitions of one audio are both counted; so is a voice that says prepared text."""
    common = Providers(llm=ScriptedRealtime(transcribes=True))

    async def run(number: int) -> str:
        call = situation.call(number, common)
        session = situation.attach(call)
        await call.start()
        await call.turn()
        await call.session.say(f"#{number}# with the voice")
        await call.turn()
        await call.close()
        return session

    one, two = await together(run(1), run(2))
    situation.assert_booked({one: 1, two: 2})


async def test_agents_that_share_a_realtime_connection(situation: Situation) -> None:
    """A hand-off that keeps the connection splits what it reports between the agents."""
    model = ScriptedRealtime(
        transcribes=True, plan=lambda text: "hand_over" if "hand_over" in text else ""
    )
    agent = Host(successor=Host(name="next"))
    session = await situation.observed(
        1, realtime(model), "hello", "hand_over", "and now", agent=agent
    )
    situation.assert_booked({session: 1})
    assert situation.labels(session, "realtime") == {"host", "next"}
