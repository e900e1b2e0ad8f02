"""Realtime models, detectors, keyterms, live swaps: usage of every kind that LiveKit reports."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from livekit.agents import llm, stt
from livekit.agents.llm.realtime_fallback_adapter import RealtimeModelFallbackAdapter
from livekit.agents.voice import agent_activity

from tests.support.conservation import assert_within
from tests.support.jobs import job
from tests.support.scripted import (
    BatchSTT,
    Hearing,
    Pieces,
    ScriptedInterruptionDetector,
    ScriptedRealtime,
    ScriptedTurnDetector,
)
from tests.support.situation import Host, Providers, Situation, numbered, planned, together
from tests.support.waiting import until
from voicecosts.producer.demo.providers import ScriptedLLM

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


@pytest.fixture
def detectors(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedInterruptionDetector]:
    """Have the sessions make scripted interruption detectors; return those that they made."""
    made = ScriptedInterruptionDetector.made
    made.clear()
    monkeypatch.setattr(
        agent_activity.inference, "AdaptiveInterruptionDetector", ScriptedInterruptionDetector
    )
    return made


ADAPTIVE = {
    "vad": Pieces(samples=10**9),
    "turn_handling": {"turn_detection": "vad", "interruption": {"mode": "adaptive"}},
}


@in_jobs
async def test_interruption_detectors(
    situation: Situation,
    detectors: list[ScriptedInterruptionDetector],
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A detector that a session made for itself is heard by that session only."""
    shared = Providers()

    async def run(number: int) -> str:
        with job(f"job-{number}") if in_job else contextlib.nullcontext():
            call = situation.call(number, shared, **ADAPTIVE)
            session = situation.attach(call)
            await call.start()
            detector = call.session._activity._interruption_detector  # type: ignore[union-attr]
            assert isinstance(detector, ScriptedInterruptionDetector)
            situation.keep(detector)
            await call.turn()
            detector.ask(number, requests=3)
            await call.turn("again")
            detector.ask(number, requests=2 * number)
            await call.close()
        return session

    one, two = await together(run(1), run(2))
    assert situation.billed(2)["interruption"] == {"requests": 7}
    situation.assert_booked({one: 1, two: 2})


async def test_an_interruption_detector_of_a_session_of_the_same_task(
    situation: Situation, detectors: list[ScriptedInterruptionDetector]
) -> None:
    """The same, where one task opened both sessions and the second was attached late."""
    first, second = situation.call(1, **ADAPTIVE), situation.call(2, **ADAPTIVE)
    one = situation.attach(first)
    await first.start()
    await second.start()
    two = situation.attach(second)
    situation.keep(*detectors)
    detectors[0].ask(1, requests=3)
    detectors[1].ask(2, requests=4)
    await first.turn()
    await second.turn()
    await first.close()
    await second.close()
    situation.assert_booked({one: 1, two: 2})


@in_jobs
@sharing
async def test_turn_detectors(
    situation: Situation,
    shared: bool,  # noqa: FBT001 - a parameter of the test
    in_job: bool,  # noqa: FBT001 - same
) -> None:
    """A detector that sessions share reports in the context of the session that asked it."""
    common = ScriptedTurnDetector()

    async def run(number: int) -> str:
        detector = common if shared else ScriptedTurnDetector()
        situation.keep(detector)
        with job(f"job-{number}") if in_job else contextlib.nullcontext():
            call = situation.call(
                number,
                vad=Pieces(samples=10**9),
                turn_handling={"turn_detection": detector, "interruption": {"mode": "vad"}},
            )
            session = situation.attach(call)
            await call.start()
            await call.turn()
            await until(lambda: number in detector.streams)
            for _ in range(number):
                await detector.streams[number].predict()
            await call.turn("again")
            await call.close()
        return session

    one, two = await together(run(1), run(2))
    assert situation.billed(2)["turn_detector"] == {"requests": 2}
    situation.assert_booked({one: 1, two: 2})


def keyterms(model: Any) -> dict[str, Any]:
    """Have a model look for words that the recogniser should know, at every turn."""
    return {
        "stt_context_options": {
            "keyterm_detection": {"enabled": True, "llm": model, "turn_interval": 1}
        }
    }


@in_jobs
@pytest.mark.parametrize("whose", ["the session's model", "one of its own", "a shared one"])
async def test_a_model_that_detects_keyterms(
    situation: Situation,
    whose: str,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A request for keyterms belongs to the call whose words it was about, and counts once."""
    common = ScriptedLLM(plan=planned, model="keyterms")

    async def run(number: int) -> str:
        providers = Providers()
        own = ScriptedLLM(plan=planned, model="keyterms")
        model = {"the session's model": providers.llm, "a shared one": common}.get(whose, own)
        situation.keep(model)
        with job(f"job-{number}") if in_job else contextlib.nullcontext():
            call = situation.call(number, providers, **keyterms(model))
            session = situation.attach(call)
            await call.start()
            for turn in (1, 2):
                await call.turn(f"turn {turn}")
                await until(
                    lambda: situation.billed(number)["llm"]["requests"] >= 2 * turn  # noqa: B023
                )
            await call.close()
        return session

    one, two = await together(run(1), run(2))
    assert situation.billed(1)["llm"]["requests"] == 4
    situation.assert_booked({one: 1, two: 2})


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


@in_jobs
async def test_an_interruption_detector_before_a_late_attachment(
    situation: Situation,
    detectors: list[ScriptedInterruptionDetector],
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A session's own detector is caught up with: nobody else hears it."""
    shared = Providers()

    async def run(number: int) -> str:
        with job(f"job-{number}") if in_job else contextlib.nullcontext():
            call = situation.call(number, shared, **ADAPTIVE)
            await call.start()
            detector = call.session._activity._interruption_detector  # type: ignore[union-attr]
            assert isinstance(detector, ScriptedInterruptionDetector)
            situation.keep(detector)
            reported: list[Any] = []
            detector.on("metrics_collected", reported.append)
            detector.ask(number, requests=3)
            await until(lambda: bool(reported))
            session = situation.attach(call)
            detector.ask(number, requests=2)
            await call.turn()
            await call.close()
        return session

    one, two = await together(run(1), run(2))
    situation.assert_booked({one: 1, two: 2})


@in_jobs
@sharing
async def test_a_turn_detector_before_a_late_attachment(
    situation: Situation,
    shared: bool,  # noqa: FBT001 - a parameter of the test
    in_job: bool,  # noqa: FBT001 - same
) -> None:
    """An own one is caught up with; of a shared one, what nobody can tell is unattributed."""
    common, ids = ScriptedTurnDetector(), {}

    async def run(number: int) -> None:
        detector = common if shared else ScriptedTurnDetector()
        situation.keep(detector)
        with job(f"job-{number}") if in_job else contextlib.nullcontext():
            call = situation.call(
                number,
                vad=Pieces(samples=10**9),
                turn_handling={"turn_detection": detector, "interruption": {"mode": "vad"}},
            )
            await call.start()
            call.microphone.say(0.2)
            await until(lambda: number in detector.streams)
            await detector.streams[number].predict()
            ids[number] = situation.attach(call)
            await call.turn()
            await detector.streams[number].predict()
            await call.close()

    await together(run(1), run(2))
    if not shared:
        situation.assert_booked({ids[1]: 1, ids[2]: 2})
    for number, session in ids.items():
        assert_within(situation.recorder, session, number, *situation.keepers)
    situation.assert_conserved()


@in_jobs
async def test_a_turn_detector_that_an_unobserved_session_has_as_well(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Predictions for a session that nobody attached are unattributed."""
    common, aside = ScriptedTurnDetector(), Situation()
    situation.keep(common)

    async def run(number: int) -> str:
        where = situation if number == 1 else aside  # whose other providers nobody listens to
        with job(f"job-{number}") if in_job else contextlib.nullcontext():
            call = where.call(
                number,
                vad=Pieces(samples=10**9),
                turn_handling={"turn_detection": common, "interruption": {"mode": "vad"}},
            )
            session = situation.attach(call) if number == 1 else ""
            await call.start()
            await call.turn()
            await until(lambda: number in common.streams)
            for _ in range(number):
                await common.streams[number].predict()
            await call.close()
        return session

    one, _ = await together(run(1), run(2))
    situation.assert_booked({one: 1})


@in_jobs
async def test_keyterms_of_an_unobserved_session_by_the_model_of_an_observed_one(
    situation: Situation,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """What a session that nobody attached looks for with a shared model is unattributed."""
    common, aside = ScriptedLLM(plan=planned), Situation()

    async def run(number: int) -> str:
        where = situation if number == 1 else aside
        with job(f"job-{number}") if in_job else contextlib.nullcontext():
            options = keyterms(common) if number == 2 else {}
            call = where.call(number, Providers(llm=common), **options)
            session = situation.attach(call) if number == 1 else ""
            await call.start()
            await call.turn()
            await until(lambda: common.billed[number]["requests"] >= number)
            await call.close()
        return session

    one, _ = await together(run(1), run(2))
    situation.assert_booked({one: 1})
    assert situation.recorder.unattributed_totals()["llm"] == aside.billed(2)["llm"]
