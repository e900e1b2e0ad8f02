"""Disjoint parts: the special is subtracted from the general, and contradictions are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicecosts.consumer.pricing.units import (
    INPUT,
    OUTPUT,
    PER,
    TOKENS,
    Split,
    input_parts,
    output_parts,
)
from voicecosts.producer.events import QUANTITIES, Quantities

COUNTS = st.integers(min_value=0, max_value=2**53 - 1)
SMALL = st.integers(min_value=0, max_value=20)
MODALITIES = st.sampled_from(["llm", "stt", "tts", "realtime"])


def nonzero(split: Split) -> dict[str, int]:
    """Return the parts that hold something, of totals that leave nothing open."""
    assert split.unknown == 0, split
    return used(split)


def used(split: Split) -> dict[str, int]:
    """Return the parts that hold something."""
    return {name: amount for name, amount in split.parts.items() if amount}


def test_cached_and_created_tokens_are_taken_out_of_the_input() -> None:
    """A pipeline LLM reports no split: the rest of the input is uncached text."""
    totals = Quantities(
        input_tokens=1000, cache_read_input_tokens=600, cache_creation_input_tokens=150
    )
    assert nonzero(input_parts("llm", totals)) == {
        "input_tokens": 250,
        "cache_read_input_tokens": 600,
        "cache_creation_input_tokens": 150,
    }


def test_a_realtime_split_gives_every_kind_cached_and_uncached() -> None:
    """Text, audio and image are each split once more by what was cached."""
    totals = Quantities(
        input_tokens=100,
        text_input_tokens=40,
        audio_input_tokens=50,
        image_input_tokens=10,
        cache_read_input_tokens=33,
        text_cache_read_input_tokens=20,
        audio_cache_read_input_tokens=9,
        image_cache_read_input_tokens=4,
    )
    assert nonzero(input_parts("realtime", totals)) == {
        "input_tokens": 20,
        "audio_input_tokens": 41,
        "image_input_tokens": 6,
        "cache_read_input_tokens": 20,
        "audio_cache_read_input_tokens": 9,
        "image_cache_read_input_tokens": 4,
    }


def test_reasoning_is_inside_the_output() -> None:
    """Reasoning tokens are not added to the output that contains them."""
    totals = Quantities(output_tokens=100, reasoning_output_tokens=80)
    assert nonzero(output_parts("llm", totals)) == {"output_tokens": 100}


def test_what_a_partial_split_leaves_open_is_text() -> None:
    """A transcription that reports its audio tokens has its prompt in the rest."""
    totals = Quantities(input_tokens=120, audio_input_tokens=100)
    assert nonzero(input_parts("stt", totals)) == {"input_tokens": 20, "audio_input_tokens": 100}


def test_a_transcription_without_a_split_heard_audio() -> None:
    """LiveKit's OpenAI plugin reports one sum for what a transcription took in."""
    assert nonzero(input_parts("stt", Quantities(input_tokens=120))) == {"audio_input_tokens": 120}
    assert nonzero(output_parts("stt", Quantities(output_tokens=30))) == {"output_tokens": 30}


def test_a_voice_without_a_split_spoke_audio() -> None:
    """A voice reads text and makes audio."""
    assert nonzero(input_parts("tts", Quantities(input_tokens=12))) == {"input_tokens": 12}
    assert nonzero(output_parts("tts", Quantities(output_tokens=30))) == {"audio_output_tokens": 30}


def test_what_no_split_names_of_a_realtime_model_is_unknown() -> None:
    """Text and audio differ tenfold in price there, and a third kind may be neither."""
    totals = Quantities(
        input_tokens=100,
        text_input_tokens=30,
        audio_input_tokens=50,
        cache_read_input_tokens=25,
        text_cache_read_input_tokens=10,
        output_tokens=7,
    )
    found = input_parts("realtime", totals)
    assert used(found) == {
        "input_tokens": 20,
        "audio_input_tokens": 50,
        "cache_read_input_tokens": 10,
    }
    assert (found.unknown, found.reason) == (20, "input tokens are not split into text and audio")
    assert output_parts("realtime", totals).unknown == 7


def test_cached_tokens_of_no_kind_never_take_money_of_another_response() -> None:
    """An older worker sums them with the rest: they are left out where they cost the least."""
    before = Quantities(input_tokens=200, text_input_tokens=100, audio_input_tokens=100)
    after = Quantities(
        input_tokens=230,
        text_input_tokens=130,
        audio_input_tokens=100,
        cache_read_input_tokens=30,
    )
    assert used(input_parts("realtime", before)) == used(input_parts("realtime", after))
    assert input_parts("realtime", after).unknown == 30


@pytest.mark.parametrize(
    ("modality", "totals", "reason"),
    [
        (
            "realtime",
            Quantities(input_tokens=10, text_input_tokens=5, audio_input_tokens=7),
            "text, audio and image input tokens exceed input_tokens",
        ),
        (
            "realtime",
            Quantities(
                input_tokens=10,
                audio_input_tokens=10,
                cache_read_input_tokens=3,
                audio_cache_read_input_tokens=4,
            ),
            "cached input tokens exceed the tokens that they are part of",
        ),
        (
            "realtime",
            Quantities(
                input_tokens=10,
                text_input_tokens=8,
                audio_input_tokens=2,
                cache_read_input_tokens=3,
                audio_cache_read_input_tokens=3,
            ),
            "cached input tokens exceed the tokens that they are part of",
        ),
        (
            "llm",
            Quantities(input_tokens=10, cache_read_input_tokens=8, cache_creation_input_tokens=5),
            "cached input tokens exceed the tokens that they are part of",
        ),
    ],
)
def test_input_that_contradicts_itself_is_unknown(
    modality: str, totals: Quantities, reason: str
) -> None:
    """A remainder below zero is no part: all of it is open, and the reason names what exceeds."""
    assert input_parts(modality, totals) == Split({}, 10, reason)


@pytest.mark.parametrize(
    ("totals", "reason"),
    [
        (
            Quantities(output_tokens=10, text_output_tokens=6, audio_output_tokens=6),
            "text, audio and image output tokens exceed output_tokens",
        ),
        (
            Quantities(output_tokens=10, reasoning_output_tokens=12),
            "reasoning_output_tokens exceed output_tokens",
        ),
    ],
)
def test_output_that_contradicts_itself_is_unknown(totals: Quantities, reason: str) -> None:
    """Reasoning above the output means that it was counted beside it."""
    assert output_parts("llm", totals) == Split({}, 10, reason)


@given(MODALITIES, st.fixed_dictionaries(dict.fromkeys(QUANTITIES, COUNTS | SMALL)))
def test_parts_add_up_to_the_totals_and_none_is_negative(
    modality: str, amounts: dict[str, int]
) -> None:
    """Whatever a producer sends, it is split without loss, or some of it is unknown."""
    totals = Quantities(**amounts)
    for split, total in ((input_parts, "input_tokens"), (output_parts, "output_tokens")):
        found = split(modality, totals)
        assert sum(found.parts.values()) + found.unknown == amounts[total]
        assert min(found.parts.values(), default=0) >= 0
        assert found.unknown >= 0


def test_every_part_has_a_denominator_and_is_a_quantity() -> None:
    """Rates and parts speak of the same units, under the contract's names."""
    assert set(TOKENS) == {*INPUT, *OUTPUT}
    thousands = {"characters": 1_000, "requests": 1_000}
    times = {"audio_us": 1_000 * 1_000_000, "session_us": 1_000 * 60 * 1_000_000}
    assert dict.fromkeys(TOKENS, 1_000_000) | thousands | times == PER
    assert set(PER) <= set(QUANTITIES)
