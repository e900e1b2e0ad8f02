"""Swaps, pieces of audio, failures, early answers: how a session comes to what it uses."""

from __future__ import annotations

import contextlib

import pytest
from livekit.agents import llm, stt

from tests.support.jobs import job
from tests.support.scripted import BatchSTT, Hearing, Pieces, SentenceTTS
from tests.support.situation import Host, Providers, Situation, planned, together
from tests.support.waiting import until
from tests.support.wrappers import (
    ChoosingLLM,
    CorrectingSTT,
    DelegatingLLM,
    GuardingLLM,
    PronouncingTTS,
)
from voicecosts.producer.demo.providers import ScriptedLLM, ScriptedSTT

in_jobs = pytest.mark.parametrize("in_job", [True, False], ids=["in jobs", "without jobs"])
sharing = pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])


@in_jobs
async def test_a_live_swap_of_components(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Components that come while an agent is active are listened to; those that went were too."""
    later = Providers(llm=ScriptedLLM(plan=planned, model="later-llm"))
    situation.keep(*later.keepers())
    with job("job-1") if in_job else contextlib.nullcontext():
        call = situation.call(1)
        session = situation.attach(call)
        agent = Host()
        await call.start(agent)
        await call.turn()
        agent.update_options(llm=later.llm, stt=later.stt, tts=later.tts)
        await call.turn("again")
        third = Host(name="third", llm=ScriptedLLM(plan=planned, model="third-llm"))
        situation.keep(third.llm)
        call.session.update_agent(third)
        await until(lambda: call.session._activity.agent is third)  # type: ignore[union-attr]
        await call.turn("and again")
        await call.close()
    situation.assert_booked({session: 1})
    models = {r.model for r in situation.recorder.readings(session) if r.modality == "llm"}
    assert models == {"scripted-llm", "later-llm", "third-llm"}


@in_jobs
async def test_live_swaps_to_shared_components(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Sessions that come to a common component while they run have their own share of it."""
    later = Providers(llm=ScriptedLLM(plan=planned, model="later-llm"))
    situation.keep(*later.keepers())

    async def run(number: int) -> str:
        with job(f"job-{number}") if in_job else contextlib.nullcontext():
            call = situation.call(number)
            session = situation.attach(call)
            agent = Host()
            await call.start(agent)
            await call.turn()
            agent.update_options(llm=later.llm, stt=later.stt, tts=later.tts)
            await call.turn("again")
            await call.turn("and again")
            await call.close()
        return session

    sessions = await together(run(1), run(2), run(3))
    situation.assert_booked(dict(zip(sessions, (1, 2, 3), strict=True)))


@in_jobs
async def test_a_recogniser_that_takes_pieces(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Each piece is a request, also of a recogniser that several calls share."""
    common = BatchSTT()

    async def run(number: int) -> str:
        adapter = stt.StreamAdapter(stt=common, vad=Pieces())
        providers = Providers(stt=adapter, behind=(common,))
        return await situation.observed(number, providers, "hello", "again", in_job=in_job)

    sessions = await together(run(1), run(2))
    situation.assert_booked(dict(zip(sessions, (1, 2), strict=True)))


@pytest.mark.parametrize("used", [True, False], ids=["used", "discarded"])
@sharing
async def test_preemptive_generation(
    situation: Situation,
    used: bool,  # noqa: FBT001 - a parameter of the test
    shared: bool,  # noqa: FBT001 - same
) -> None:
    """An answer that was begun before the turn had ended is counted once, used or not."""
    common = Providers(llm=ScriptedLLM(plan=planned), stt=None)

    async def run(number: int) -> str:
        hearing = Hearing()
        providers = (
            Providers(llm=common.llm, stt=hearing, tts=common.tts)
            if shared
            else Providers(stt=hearing)
        )
        call = situation.call(
            number,
            providers,
            turn_handling={
                "turn_detection": "stt",
                "endpointing": {"min_delay": 0.01, "max_delay": 0.02},
                "preemptive_generation": {"enabled": True},
            },
        )
        session = situation.attach(call)
        await call.start()
        hearing.understand(f"#{number}# a question", stt.SpeechEventType.PREFLIGHT_TRANSCRIPT)
        await until(lambda: situation.billed(number).get("llm", {}).get("requests", 0) == 1)
        more = "" if used else " and something more"
        hearing.understand(f"#{number}# a question{more}", stt.SpeechEventType.FINAL_TRANSCRIPT)
        hearing.understand("", stt.SpeechEventType.END_OF_SPEECH)
        await until(lambda: situation.billed(number).get("tts", {}).get("requests", 0) == 1)
        assert situation.billed(number)["llm"]["requests"] == (1 if used else 2)
        await call.close()
        return session

    one, two = await together(run(1), run(2))
    situation.assert_booked({one: 1, two: 2})
    for end in situation.recorder.ends():
        asked = [it.last for it in situation.recorder.readings(end.session_id) if it.last]
        speeches = list(dict.fromkeys(it.speech_id for it in asked if it.speech_id))
        assert end.outcome is not None
        assert end.outcome.user_turns == 1
        assert end.outcome.preempted == ([] if used else speeches[:1])


async def test_a_voice_and_a_model_that_fail_over(situation: Situation) -> None:
    """Requests that failed used nothing that anybody reports; the one that served is counted."""
    model = ScriptedLLM(plan=planned, failures=2)
    session = await situation.observed(1, Providers(llm=model), "hello", "again")
    situation.assert_booked({session: 1})


@in_jobs
async def test_a_model_that_failed_is_probed(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """An adapter's probe is a request of the session that the model failed."""
    first = ScriptedLLM(plan=planned, model="first", failures=2)
    second = ScriptedLLM(plan=planned, model="second")

    async def run(number: int) -> str:
        adapter = llm.FallbackAdapter([first, second], max_retry_per_llm=0)
        providers = Providers(llm=adapter, behind=(first, second))
        return await situation.observed(number, providers, "hello", "again", in_job=in_job)

    one, two = await together(run(1), run(2))
    situation.assert_booked({one: 1, two: 2})


@in_jobs
@pytest.mark.parametrize("wrapper", [DelegatingLLM, ChoosingLLM, GuardingLLM])
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
async def test_a_wrapper_of_ones_own_around_a_model(
    situation: Situation,
    shared: bool,  # noqa: FBT001 - a parameter of the test
    wrapper: type[DelegatingLLM],
    in_job: bool,  # noqa: FBT001 - same
) -> None:
    """What the model inside reports is counted, once, whether the wrapper reports it too or not."""
    common = ScriptedLLM(plan=planned)

    async def run(number: int) -> str:
        inner = common if shared else ScriptedLLM(plan=planned)
        providers = Providers(llm=wrapper(inner), behind=(inner,))
        return await situation.observed(number, providers, "hello", "again", in_job=in_job)

    one, two = await together(run(1), run(2))
    situation.assert_booked({one: 1, two: 2})


@in_jobs
async def test_a_wrapper_of_ones_own_around_a_recogniser(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The same for a recogniser, of which the wrapper does not even hear the end."""
    common = ScriptedSTT()

    async def run(number: int) -> str:
        providers = Providers(stt=CorrectingSTT(common), behind=(common,))
        return await situation.observed(number, providers, "hello", "again", in_job=in_job)

    one, two = await together(run(1), run(2))
    situation.assert_booked({one: 1, two: 2})


@in_jobs
async def test_a_wrapper_of_ones_own_around_a_voice(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The same for a voice."""
    common = SentenceTTS()

    async def run(number: int) -> str:
        providers = Providers(tts=PronouncingTTS(common), behind=(common,))
        return await situation.observed(number, providers, "hello", "again", in_job=in_job)

    one, two = await together(run(1), run(2))
    situation.assert_booked({one: 1, two: 2})


@in_jobs
async def test_sessions_whose_agents_bring_all_that_they_use(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A session without providers of its own, whose agents share theirs."""
    common = Providers()

    async def run(number: int) -> str:
        situation.keep(*common.keepers())
        agent = Host(llm=common.llm, stt=common.stt, tts=common.tts)
        nothing = Providers(llm=None, stt=None, tts=None)
        return await situation.observed(
            number, nothing, "hello", "again", agent=agent, in_job=in_job
        )

    one, two = await together(run(1), run(2))
    situation.assert_booked({one: 1, two: 2})
