"""Estimates: lower bounds for what was cut off, and nothing for what was measured."""

from __future__ import annotations

from typing import Any

import pytest

from voicecosts.producer.capture.estimates import _REMEMBERED, Estimates
from voicecosts.producer.counts import UNKNOWN, Usage
from voicecosts.producer.events import RequestDetail

NOW_US = 1_700_000_000_000_000
AT_US = NOW_US - 5


class Voice:
    """What is read of a TTS."""

    provider = "Cartesia"
    model = "sonic"


class Booked:
    """Keeps what was estimated, as (label, modality, model, quantities)."""

    def __init__(self) -> None:
        self.usages: list[tuple[str, Usage]] = []

    def __call__(self, usage: Usage, label: str) -> None:
        """Keep it."""
        self.usages.append((label, usage))

    def quantities(self) -> list[tuple[str, str, dict[str, int]]]:
        """Return label, modality and quantities of everything that was estimated."""
        return [(label, usage.modality, usage.quantities) for label, usage in self.usages]


def llm(speech_id: str, *, cancelled: bool = False, **quantities: int) -> Usage:
    """Return the usage of an LLM request."""
    return Usage(
        modality="llm",
        provider_raw="openai",
        model="m-1",
        occurred_at=AT_US,
        quantities={"requests": 1, **quantities},
        detail=RequestDetail(speech_id=speech_id, cancelled=cancelled),
    )


def tts(speech_id: str, characters: int) -> Usage:
    """Return the usage of a TTS segment."""
    return Usage(
        modality="tts",
        provider_raw="Cartesia",
        model="sonic",
        occurred_at=AT_US,
        quantities={"requests": 1, "characters": characters},
        detail=RequestDetail(speech_id=speech_id),
    )


@pytest.fixture
def booked() -> Booked:
    """What was estimated in this test."""
    return Booked()


@pytest.fixture
def estimates(booked: Booked) -> Estimates:
    """The estimates of one session, in which one speech has begun."""
    made = Estimates(booked)
    made.created("s1", "Greeter")
    return made


def interrupt(estimates: Estimates, spoken: str, *, voice: Any = Voice) -> None:
    """Interrupt the speech and book what is unreported."""
    estimates.interrupted("s1", spoken=spoken, tts=voice)
    estimates.book_unreported("s1", now_us=NOW_US)


def test_an_interrupted_speech_without_report_is_its_spoken_characters(
    estimates: Estimates, booked: Booked
) -> None:
    """A TTS that was cut off reports nothing: what the listener heard was surely made."""
    interrupt(estimates, "Hello there")
    ((label, usage),) = booked.usages
    assert label == "Greeter"
    assert (usage.modality, usage.provider_raw, usage.model) == ("tts", "Cartesia", "sonic")
    assert usage.quantities == {"characters": 11}
    assert usage.occurred_at == NOW_US


def test_only_the_unreported_part_of_a_speech_is_estimated(
    estimates: Estimates, booked: Booked
) -> None:
    """Segments that were reported before the interruption are not counted again."""
    estimates.measured(tts("s1", 3))
    estimates.measured(tts("s1", 6))
    interrupt(estimates, "0123456789")
    assert booked.quantities() == [("Greeter", "tts", {"characters": 1})]


@pytest.mark.parametrize("reported", [10, 11, 500])
def test_a_speech_that_was_reported_whole_is_not_estimated(
    estimates: Estimates, booked: Booked, reported: int
) -> None:
    """Interrupted in playout, after its audio was made and reported: all is measured."""
    estimates.measured(tts("s1", reported))
    interrupt(estimates, "0123456789")
    assert booked.usages == []


def test_another_speechs_report_does_not_cover_this_one(
    estimates: Estimates, booked: Booked
) -> None:
    """What is measured counts for the speech that it belongs to."""
    estimates.created("s2", "Booker")
    estimates.measured(tts("s2", 50))
    interrupt(estimates, "01234")
    assert booked.quantities() == [("Greeter", "tts", {"characters": 5})]


def test_a_speech_without_a_voice_has_no_characters(estimates: Estimates, booked: Booked) -> None:
    """A session that only writes uses no TTS."""
    interrupt(estimates, "Hello there", voice=None)
    assert booked.usages == []


def test_a_voice_without_a_model_is_unknown(estimates: Estimates, booked: Booked) -> None:
    """A plugin that names neither provider nor model still has a meter."""
    interrupt(estimates, "Hi", voice=object())
    ((_, usage),) = booked.usages
    assert (usage.provider_raw, usage.model) == ("", UNKNOWN)


def test_a_cut_off_request_is_its_last_prompt_and_what_was_spoken(
    estimates: Estimates, booked: Booked
) -> None:
    """The prompt is at least as long as the one before, four spoken characters are one token."""
    estimates.measured(llm("s0", input_tokens=400, output_tokens=9))
    estimates.measured(llm("s1", cancelled=True))
    interrupt(estimates, "012345678", voice=None)
    ((label, usage),) = booked.usages
    assert label == "Greeter"
    assert (usage.modality, usage.provider_raw, usage.model) == ("llm", "openai", "m-1")
    assert usage.quantities == {"input_tokens": 400, "output_tokens": 3}
    assert usage.occurred_at == AT_US


def test_a_cut_off_request_that_reported_its_tokens_is_not_estimated(
    estimates: Estimates, booked: Booked
) -> None:
    """Some providers report usage early; what they reported is measured."""
    estimates.measured(llm("s1", cancelled=True, input_tokens=400))
    interrupt(estimates, "0123", voice=None)
    assert booked.usages == []


def test_a_first_request_that_was_cut_off_has_no_prompt_to_go_by(
    estimates: Estimates, booked: Booked
) -> None:
    """Without a request before it only what was spoken is known; nothing is guessed."""
    estimates.measured(llm("s1", cancelled=True))
    interrupt(estimates, "01234567", voice=None)
    assert booked.quantities() == [("Greeter", "llm", {"output_tokens": 2})]


def test_nothing_is_estimated_where_nothing_is_known(estimates: Estimates, booked: Booked) -> None:
    """A request that was cut off before any word, and before any other request, books nothing."""
    estimates.measured(llm("s1", cancelled=True))
    interrupt(estimates, "")
    assert booked.usages == []


def test_speech_and_request_are_estimated_together(estimates: Estimates, booked: Booked) -> None:
    """An interruption can cut off both the voice and the model behind it."""
    estimates.measured(llm("s0", input_tokens=100))
    estimates.measured(llm("s1", cancelled=True))
    interrupt(estimates, "01234567")
    assert booked.quantities() == [
        ("Greeter", "tts", {"characters": 8}),
        ("Greeter", "llm", {"input_tokens": 100, "output_tokens": 2}),
    ]


def test_a_speech_that_was_not_interrupted_is_not_estimated(
    estimates: Estimates, booked: Booked
) -> None:
    """What was spoken to its end is all reported, even if its report has yet to come."""
    estimates.finished("s1")
    interrupt(estimates, "Hello")
    assert booked.usages == []
    assert estimates.open_speeches() == []


def test_a_speech_is_booked_once(estimates: Estimates, booked: Booked) -> None:
    """The timer after a speech and the end of the session may both book it."""
    interrupt(estimates, "01234")
    estimates.book_unreported("s1", now_us=NOW_US)
    assert booked.quantities() == [("Greeter", "tts", {"characters": 5})]


def test_a_speech_that_still_goes_on_is_not_estimated(estimates: Estimates, booked: Booked) -> None:
    """The end of a session books every open speech; one that was never cut off has no gap."""
    assert estimates.open_speeches() == ["s1"]
    estimates.book_unreported("s1", now_us=NOW_US)
    assert booked.usages == []


def test_a_report_after_booking_is_ignored(estimates: Estimates, booked: Booked) -> None:
    """Usage without a speech, of an unknown one, or of a booked one changes no estimate."""
    interrupt(estimates, "01234")
    estimates.measured(tts("s1", 5))
    estimates.measured(tts("", 5))
    estimates.measured(
        Usage(modality="stt", provider_raw="", model="m", occurred_at=0, quantities={}, audio_s=1)
    )
    estimates.interrupted("never created", spoken="Hello", tts=Voice)
    estimates.finished("never created")
    estimates.book_unreported("never created", now_us=NOW_US)
    assert len(booked.usages) == 1


def test_speeches_that_never_finish_are_forgotten(estimates: Estimates) -> None:
    """A session of any length remembers a bounded number of speeches, the newest."""
    for number in range(3 * _REMEMBERED):
        estimates.created(f"n{number}", "Greeter")
    open_speeches = estimates.open_speeches()
    assert len(open_speeches) == _REMEMBERED
    assert open_speeches[-1] == f"n{3 * _REMEMBERED - 1}"
