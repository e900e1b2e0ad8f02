"""Detectors of interruptions, of the ends of turns and of keyterms, own ones and shared ones."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from livekit.agents.voice import agent_activity

from tests.support.conservation import assert_within
from tests.support.detectors import ScriptedInterruptionDetector, ScriptedTurnDetector
from tests.support.jobs import job
from tests.support.scripted import Pieces
from tests.support.situation import Providers, Situation, planned, together
from tests.support.waiting import until
from voicecosts.producer.demo.providers import ScriptedLLM

in_jobs = pytest.mark.parametrize("in_job", [True, False], ids=["in jobs", "without jobs"])
sharing = pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])


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
