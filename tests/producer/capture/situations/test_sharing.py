"""Sessions side by side, on providers of their own and on shared ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from livekit.agents import llm, stt, tts

from tests.support.conservation import assert_within
from tests.support.jobs import job
from tests.support.scripted import BatchSTT, DiarizingSTT, Pieces, ReceivingLLM, SentenceTTS
from tests.support.situation import Host, Providers, RecordingObserver, Situation, planned, together
from voicecosts.producer.demo.providers import ScriptedLLM, ScriptedSTT, ScriptedTTS

in_jobs = pytest.mark.parametrize("in_job", [True, False], ids=["in jobs", "without jobs"])


@in_jobs
async def test_a_plain_call(situation: Situation, in_job: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A call alone in its process is booked with all that it used."""
    session = await situation.observed(1, None, "hello", "again", in_job=in_job)
    situation.assert_booked({session: 1})


@in_jobs
@pytest.mark.parametrize("calls", [2, 10])
async def test_calls_at_once_on_shared_providers(
    situation: Situation,
    calls: int,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """However many calls share their providers, each is booked with what it used itself."""
    shared = Providers()
    numbers = range(1, calls + 1)
    sessions = await together(
        *(situation.observed(n, shared, "hello", "again", in_job=in_job) for n in numbers)
    )
    situation.assert_booked(dict(zip(sessions, numbers, strict=True)))


@pytest.mark.parametrize("shared", [False, True], ids=["own providers", "shared providers"])
@pytest.mark.parametrize("late", [False, True], ids=["attached before", "attached after its start"])
@in_jobs
async def test_a_second_session_of_one_task_attached_when_the_first_runs(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
    late: bool,  # noqa: FBT001 - same
    shared: bool,  # noqa: FBT001 - same
) -> None:
    """An attachment marks its own session's start, not all that its task does later."""
    providers = Providers()
    with job("job-1") if in_job else contextlib.nullcontext():
        first = situation.call(1, providers)
        one = situation.attach(first, tenant="acme")
        await first.start()
        second = situation.call(2, providers if shared else None)
        if late:
            await second.start()
        two = situation.attach(second, tenant="other")
        if not late:
            await second.start()
        await first.turn()
        await second.turn("a longer question", audio_s=2.4)
        await second.close()
        await first.close()
    situation.assert_booked({one: 1, two: 2})


@pytest.mark.parametrize("shared", [False, True], ids=["own providers", "shared providers"])
@in_jobs
async def test_two_sessions_attached_by_one_task_before_either_starts(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
    shared: bool,  # noqa: FBT001 - same
) -> None:
    """The order of attaching and starting does not matter."""
    providers = Providers()
    with job("job-1") if in_job else contextlib.nullcontext():
        first, second = (
            situation.call(1, providers),
            situation.call(2, providers if shared else None),
        )
        one, two = situation.attach(first), situation.attach(second)
        await second.start()
        await first.start()
        await first.turn()
        await second.turn("a longer question", audio_s=2.4)
        await first.close()
        await second.close()
    situation.assert_booked({one: 1, two: 2})


@pytest.mark.parametrize("order", ["observed first", "unobserved first", "attached when it runs"])
@in_jobs
async def test_an_unobserved_sibling_on_the_same_providers(
    situation: Situation,
    order: str,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A session that nobody attached is not booked to its neighbour; its usage is counted apart."""
    shared = Providers()
    with job("job-1") if in_job else contextlib.nullcontext():
        observed, sibling = situation.call(1, shared), situation.call(2, shared)
        if order == "unobserved first":
            await sibling.start()
        if order == "attached when it runs":
            await observed.start()
        session = situation.attach(observed)
        if order != "attached when it runs":
            await observed.start()
        if order != "unobserved first":
            await sibling.start()
        await observed.turn()
        await sibling.turn("a longer question", audio_s=2.4)
        await sibling.close()
        await observed.close()
    situation.assert_booked({session: 1})


def fallback_llm(child: ScriptedLLM) -> Providers:
    """Make a session's own adapter around a shared model."""
    return Providers(llm=llm.FallbackAdapter([child]), behind=(child,))


def fallback_stt(child: ScriptedSTT) -> Providers:
    """Make a session's own adapter around a shared recogniser."""
    return Providers(stt=stt.FallbackAdapter([child]), behind=(child,))


def fallback_tts(child: ScriptedTTS) -> Providers:
    """Make a session's own adapter around a shared voice."""
    return Providers(tts=tts.FallbackAdapter([child]), behind=(child,))


def adapted_tts(child: SentenceTTS) -> Providers:
    """Make a session's own adapter that speaks sentence by sentence with a shared voice."""
    return Providers(tts=tts.StreamAdapter(tts=child), behind=(child,))


def adapted_stt(child: BatchSTT) -> Providers:
    """Make a session's own adapter that feeds a shared recogniser piece by piece."""
    return Providers(stt=stt.StreamAdapter(stt=child, vad=Pieces()), behind=(child,))


def several_speakers(child: DiarizingSTT) -> Providers:
    """Make a session's own adapter that tells speakers apart with a shared recogniser."""
    return Providers(stt=stt.MultiSpeakerAdapter(stt=child), behind=(child,))


def adapters_of_adapters(children: tuple[ScriptedLLM, BatchSTT, SentenceTTS]) -> Providers:
    """Make a session's own adapters around adapters around shared providers."""
    model, recogniser, voice = children
    piecewise = stt.StreamAdapter(stt=recogniser, vad=Pieces())
    sentences = tts.StreamAdapter(tts=voice)
    return Providers(
        llm=llm.FallbackAdapter([llm.FallbackAdapter([model])]),
        stt=stt.FallbackAdapter([stt.FallbackAdapter([piecewise])]),
        tts=tts.FallbackAdapter([tts.FallbackAdapter([sentences])]),
        behind=children,
    )


ADAPTERS = [
    pytest.param(fallback_llm, lambda: ScriptedLLM(plan=planned), id="llm fallback"),
    pytest.param(fallback_stt, ScriptedSTT, id="stt fallback"),
    pytest.param(fallback_tts, ScriptedTTS, id="tts fallback"),
    pytest.param(adapted_tts, SentenceTTS, id="tts stream"),
    pytest.param(adapted_stt, BatchSTT, id="stt stream"),
    pytest.param(several_speakers, DiarizingSTT, id="stt speakers"),
    pytest.param(
        adapters_of_adapters,
        lambda: (ScriptedLLM(plan=planned), BatchSTT(), SentenceTTS()),
        id="adapters in adapters",
    ),
]


@pytest.mark.parametrize(("adapter", "child"), ADAPTERS)
async def test_an_adapter_for_each_call_around_one_shared_child(
    situation: Situation, adapter: Callable[[Any], Providers], child: Callable[[], Any]
) -> None:
    """An adapter is looked through: the child that serves several calls decides nothing."""
    shared = child()

    async def run(number: int, audio_s: float) -> str:
        with job(f"job-{number}"):
            call = situation.call(number, adapter(shared))
            session = situation.attach(call)
            await call.start()
            await call.turn(audio_s=audio_s)
            await call.turn("again", audio_s=0.7)
            await call.close()
            return session

    one, two = await together(run(1, 3.0), run(2, 5.0))
    situation.assert_booked({one: 1, two: 2})


@pytest.mark.parametrize("late", [False, True], ids=["attached before", "attached after its start"])
@pytest.mark.parametrize(("adapter", "child"), ADAPTERS)
async def test_adapters_around_one_shared_child_in_one_task(
    situation: Situation,
    adapter: Callable[[Any], Providers],
    child: Callable[[], Any],
    late: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The same, where one task attached both calls and no job tells them apart."""
    shared = child()
    first, second = situation.call(1, adapter(shared)), situation.call(2, adapter(shared))
    one = situation.attach(first)
    await first.start()
    if late:
        await second.start()
    two = situation.attach(second)
    if not late:
        await second.start()
    await first.turn(audio_s=3.0)
    await second.turn("a longer question", audio_s=5.0)
    await first.close()
    await second.close()
    situation.assert_booked({one: 1, two: 2})


@pytest.mark.parametrize(("adapter", "child"), ADAPTERS)
async def test_an_adapter_of_one_observed_call_alone(
    situation: Situation, adapter: Callable[[Any], Providers], child: Callable[[], Any]
) -> None:
    """What an adapter's child reports and the adapter repeats is counted once."""
    session = await situation.observed(1, adapter(child()), "hello", "again")
    situation.assert_booked({session: 1})


@pytest.mark.parametrize("late", [False, True], ids=["attached before", "attached after its start"])
@pytest.mark.parametrize("observed", [True, False], ids=["both observed", "one observed"])
@in_jobs
async def test_sessions_that_are_started_in_tasks_of_their_own(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
    observed: bool,  # noqa: FBT001 - same
    late: bool,  # noqa: FBT001 - same
) -> None:
    """It does not matter which task starts a session that another one attached."""
    common, expected = Providers(), {}
    with job("job-1") if in_job else contextlib.nullcontext():
        first, second = situation.call(1, common), situation.call(2, common)
        expected[situation.attach(first)] = 1
        await asyncio.create_task(first.start())
        if observed and not late:
            expected[situation.attach(second)] = 2
        await asyncio.create_task(second.start())
        if observed and late:
            expected[situation.attach(second)] = 2
        await first.turn()
        await second.turn("a longer question", audio_s=2.2)
        await asyncio.create_task(second.close())
        await asyncio.create_task(first.close())
    situation.assert_booked(expected)


async def test_sessions_that_are_all_attached_and_then_started_at_once(
    situation: Situation,
) -> None:
    """Five starts at once, of sessions that one task attached: each has its own usage."""
    common, numbers = Providers(), range(1, 6)
    calls = [situation.call(n, common) for n in numbers]
    sessions = [situation.attach(call) for call in calls]
    await asyncio.gather(*(call.start() for call in calls))
    await asyncio.gather(*(call.turn() for call in calls))
    await asyncio.gather(*(call.close() for call in calls))
    situation.assert_booked(dict(zip(sessions, numbers, strict=True)))


@in_jobs
async def test_a_hand_off_to_the_providers_of_another_call(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A call that comes to another call's providers by a hand-off uses them from then on."""
    common = Providers()
    successor = Host(name="successor", llm=common.llm, stt=common.stt, tts=common.tts)
    one, two = await together(
        situation.observed(
            1, None, "hello", "hand_over", "now", agent=Host(successor=successor), in_job=in_job
        ),
        situation.observed(2, common, "hello", "again", "bye", in_job=in_job),
    )
    situation.assert_booked({one: 1, two: 2})


@in_jobs
async def test_interruptions_on_shared_providers(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Measured and estimated, no call has more than the providers received of that call."""
    providers = Providers(
        llm=ReceivingLLM(plan=planned, pause_s=0.02),
        tts=SentenceTTS(samples_per_character=1600, pause_s=0.01),
    )

    async def run(number: int) -> str:
        with job(f"job-{number}") if in_job else contextlib.nullcontext():
            call = situation.call(number, providers)
            session = situation.attach(call)
            await call.start()
            for turn in range(6):
                call.microphone.say(0.7)
                handle = call.session.generate_reply(user_input=f"#{number}# turn {turn}")
                await asyncio.sleep(0.011 * turn)
                handle.interrupt(force=True)
                await handle.wait_for_playout()
            await call.close()
        return session

    sessions = await together(run(1), run(2), run(3))
    for number, session in enumerate(sessions, start=1):
        assert_within(situation.recorder, session, number, *situation.keepers)
    situation.assert_conserved(interrupted=True)


@in_jobs
async def test_an_adapter_and_its_child_are_both_shared(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Two calls share an adapter, a third one has the model inside it for its own."""
    child = ScriptedLLM(plan=planned)
    adapter = llm.FallbackAdapter([child])
    sessions = await together(
        *(
            situation.observed(n, Providers(llm=part, behind=(child,)), "a", "b", in_job=in_job)
            for n, part in ((1, adapter), (2, adapter), (3, child))
        )
    )
    situation.assert_booked(dict(zip(sessions, (1, 2, 3), strict=True)))


@in_jobs
async def test_agents_that_bring_shared_providers_and_go_again(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """From its own providers to common ones and back: each part of the call is the call's."""
    common = Providers()
    situation.keep(*common.keepers())

    async def run(number: int) -> str:
        special = Host(
            name="special",
            llm=common.llm,
            stt=common.stt,
            tts=common.tts,
            successor=Host(name="back"),
        )
        texts = ("a", "hand_over", "b", "hand_over", "c")
        return await situation.observed(
            number, None, *texts, agent=Host(successor=special), in_job=in_job
        )

    one, two = await together(run(1), run(2))
    situation.assert_booked({one: 1, two: 2})


async def test_calls_in_a_job_beside_calls_in_none(situation: Situation) -> None:
    """A call without a job shares its providers with a call that has one."""
    common = Providers()
    sessions = await together(
        situation.observed(1, common, "a", "b"),
        situation.observed(2, common, "a", in_job=False),
        situation.observed(3, common, "a", "c", in_job=False),
    )
    situation.assert_booked(dict(zip(sessions, (1, 2, 3), strict=True)))


async def test_late_attachments_of_the_sessions_of_one_job(situation: Situation) -> None:
    """Several sessions of one job, each started and attached by a task of its own."""
    common, ids = Providers(), {}

    async def run(number: int) -> None:
        call = situation.call(number, common)
        await call.start()
        ids[situation.attach(call)] = number
        await call.turn()
        await call.turn("again")
        await call.close()

    with job("job-1"):
        await together(run(1), run(2), run(3))
    situation.assert_booked(ids)


async def test_sessions_of_two_observers(situation: Situation) -> None:
    """Two observers in a process count each session once, whoever attached it."""
    common, other = Providers(), RecordingObserver(situation.recorder, "other")

    async def run(number: int) -> str:
        call = situation.call(number, common)
        observer = situation.observer if number == 1 else other
        attachment = observer.attach(call.session, agent_id="front")
        assert attachment is not None
        await call.run()
        return attachment.session_id

    one, two = await together(run(1), run(2))
    situation.assert_booked({one: 1, two: 2})
