"""What the arguments of `record` say: amounts as they are, and a cure for each that is none."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicecosts.producer.capture.recorded import AMOUNTS, COUNTS, Note, Recorded, read
from voicecosts.producer.events import QUANTITIES

NAMES: dict[str, Any] = {"modality": "avatar", "provider": "tavus", "model": "phoenix-3"}


def noted(**given: Any) -> Note:
    """Read a recording of an avatar."""
    return read({**NAMES, **given}, now_us=1)


class Many(IntEnum):
    """A whole number of another type."""

    SEVEN = 7


@pytest.mark.parametrize("quantity", COUNTS)
def test_each_quantity_of_the_contract_is_recorded_under_its_name(quantity: str) -> None:
    """Every quantity but the derived one has an argument, and it counts as what it is called."""
    assert quantity in QUANTITIES
    assert quantity in Recorded.__annotations__
    wholes = {"input_tokens": 100, "output_tokens": 100, "cache_read_input_tokens": 50}
    kinds = {f"{kind}_input_tokens": 20 for kind in ("text", "audio", "image")}
    note = noted(**{**wholes, **kinds, quantity: 7})
    assert note.usage.quantities[quantity] == 7 or note.usage.unread


def test_every_argument_has_its_type() -> None:
    """What can be given is what a type checker knows."""
    known = {*NAMES, *AMOUNTS, "agent_label", "service_tier"}
    assert set(Recorded.__annotations__) == known


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (61, 61.0),
        (0.25, 0.25),
        (Decimal("1.5"), 1.5),
        (Fraction(1, 8), 0.125),
        (timedelta(minutes=2, microseconds=1), 120.000001),
        (0, 0.0),
    ],
)
def test_seconds_may_be_any_number(value: Any, seconds: float) -> None:
    """Whole and broken seconds, exact ones, and a time of Python are read alike."""
    note = noted(session_seconds=value, audio_seconds=value)
    assert (note.usage.session_s, note.usage.audio_s) == (seconds, seconds)
    assert not note.problems
    assert not note.usage.unread


@pytest.mark.parametrize("value", [3, 3.0, Decimal(3), Fraction(3), Many(7) - 4])
def test_a_whole_number_may_be_of_any_type(value: Any) -> None:
    """JSON and other libraries have numbers of their own."""
    assert noted(requests=value).usage.quantities == {"requests": 3}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"input_tokens": "many"}, "input_tokens is 'many': give a number"),
        ({"input_tokens": -1}, "input_tokens is -1: give a number of at least 0"),
        ({"input_tokens": 1.5}, "input_tokens is 1.5: give a number"),
        ({"requests": True}, "requests is True: give a number"),
        ({"requests": float("nan")}, "requests is nan: give a number"),
        ({"requests": float("inf")}, "requests is inf: give a number"),
        ({"characters": 10**13}, "characters is more than 1,000,000,000,000"),
        ({"audio_seconds": -0.1}, "audio_seconds is no time: give seconds"),
        ({"audio_seconds": float("nan")}, "audio_seconds is no time: give seconds"),
        ({"session_seconds": 1_700_000_000.0}, "session_seconds is no time: give seconds"),
        ({"session_seconds": "60"}, "session_seconds is '60': give a number"),
        ({"reported_cost": 0.12}, "give it as text, reported_cost='0.12'"),
        ({"reported_cost": "$1"}, "reported_cost is '$1': give a number"),
        ({"reported_cost": "NaN"}, "reported_cost is 'NaN': give a number"),
        ({"reported_cost": "-1"}, "reported_cost is '-1': give a number"),
        ({"reported_cost": "1" * 99_999}, "reported_cost is '1111"),
        ({"minutes": 3}, "minutes is no amount: give one of requests, input_tokens"),
        ({"audio_us": 3}, "audio_us is no amount: give one of"),
        ({"seconds": 3}, "seconds is no amount: did you mean audio_seconds or session_seconds?"),
    ],
)
def test_what_is_no_amount_is_named_with_its_cure_and_loses_nothing_else(
    given: dict[str, Any], said: str
) -> None:
    """One bad amount costs itself; it is known to be missing."""
    note = (
        noted(requests=2, session_seconds=60, **given)
        if not ({"requests", "session_seconds"} & given.keys())
        else noted(characters=5, **given)
    )
    (problem,) = note.problems
    assert said in problem
    assert note.usage.unread == tuple(given)
    assert note.has_amounts


class Odd:
    """A value whose own code fails."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def fail(self, *_given: Any) -> Any:
        """Raise what cannot be written out either."""
        raise self.error(self)

    __index__ = __float__ = __str__ = __repr__ = fail


@pytest.mark.parametrize("error", [RuntimeError, ValueError, TypeError, KeyError, RecursionError])
@pytest.mark.parametrize("amount", AMOUNTS)
def test_an_amount_that_raises_costs_itself_alone(amount: str, error: type[Exception]) -> None:
    """What a foreign number raises is its own matter; the rest of the call is counted."""
    other = "other_tokens" if amount != "other_tokens" else "characters"
    note = noted(**{amount: Odd(error), other: 7})
    assert note.usage.quantities == {other: 7}
    assert note.usage.unread == (amount,)
    assert note.problems == (
        f"{amount} is <Odd>: give a number of at least 0, whole but for seconds and money",
    )


@pytest.mark.parametrize("before", ["", "x" * 50, "x" * 120, "x" * 250])
@pytest.mark.parametrize("name", [*NAMES, "agent_label", "service_tier"])
def test_no_name_holds_half_a_telephone_number(name: str, before: str) -> None:
    """Wherever a name is cut, and with what is not seen between the digits of a tier."""
    for number in ("+14155550199", "004915155550199", "+1 415 555 0199"):
        note = noted(requests=1, **{name: f"{before}{number}"})
        carried = (note.usage.modality, note.usage.provider_raw, note.usage.model,
                   note.agent_label or "", note.usage.service_tier)  # fmt: skip
        assert not any(digit in text for text in carried for digit in "145" if text != "phoenix-3")
    assert noted(requests=1, service_tier="+1415\u200b5550\u200b199").usage.service_tier == "#"


@pytest.mark.parametrize(
    "model", ["gpt-4o-2024-08-06", "claude-3-5-sonnet-20241022", "gemini-2.0-flash-001", "nova-3"]
)
def test_names_of_models_are_kept(model: str) -> None:
    """A day in a name is no telephone number."""
    assert noted(requests=1, model=model).usage.model == model


def test_a_part_that_is_more_than_its_whole_is_left_out() -> None:
    """Cached tokens are a part of the input; without it, nobody knows which of them were meant."""
    note = noted(cache_read_input_tokens=100, output_tokens=5, reasoning_output_tokens=9)
    assert note.usage.quantities == {"output_tokens": 5}
    assert note.usage.unread == ("cache_read_input_tokens", "reasoning_output_tokens")
    assert "give input_tokens with it" in note.problems[0]


@pytest.mark.parametrize("given", [{}, {"requests": None, "reported_cost": None}])
def test_a_recording_without_an_amount_says_what_to_give(given: dict[str, Any]) -> None:
    """An amount of `None` was not given; one that was meant is known to be missing."""
    note = noted(**given)
    assert not note.has_amounts
    assert note.usage.unread == ("amounts",)
    assert "give at least one of requests" in note.problems[0]


def test_nothing_used_is_nothing_wrong() -> None:
    """A zero is an amount: it adds nothing, and nothing is missing."""
    note = noted(requests=0, session_seconds=0.0, reported_cost="0")
    assert not note.has_amounts
    assert not note.problems
    assert not note.usage.unread


@pytest.mark.parametrize("missing", NAMES)
@pytest.mark.parametrize("value", [None, "", "  ", 7])
def test_a_name_that_is_missing_costs_no_amount(missing: str, value: Any) -> None:
    """It is counted under `unknown`, and the log says what to name."""
    note = noted(requests=1, **{missing: value})
    named = (note.usage.modality, note.usage.provider_raw, note.usage.model)
    assert named.count("unknown") == 1
    assert note.usage.quantities == {"requests": 1}
    assert not note.usage.unread
    (problem,) = note.problems
    assert problem.startswith(f"{missing} is missing")


@pytest.mark.parametrize(
    ("tier", "carried"),
    [
        (None, ""),
        ("auto", ""),
        ("Default", ""),
        ("standard", ""),
        (" Priority ", "priority"),
        (3, ""),
    ],
)
def test_the_standard_service_tier_has_no_name(tier: Any, carried: str) -> None:
    """Others are in the provider's words, in lower case."""
    assert noted(requests=1, service_tier=tier).usage.service_tier == carried


def test_large_requests_are_told_from_many_small_ones() -> None:
    """Requests recorded together are taken at their mean size."""
    assert "large_requests" not in noted(requests=10, input_tokens=200_000).usage.quantities
    assert noted(requests=2, input_tokens=300_000).usage.quantities["large_requests"] == 2


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.decimals(),
    st.fractions(), st.binary(max_size=3), st.lists(st.integers(), max_size=2), st.complex_numbers(),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([*Recorded.__annotations__, "other", "ü\ud800"]), ANYTHING))
@settings(max_examples=40)
def test_no_argument_raises(given: dict[str, Any]) -> None:
    """Whatever is given, what is counted fits the contract."""
    usage = read(given, now_us=1).usage
    assert all(0 <= amount <= 10**12 for amount in usage.quantities.values())
    assert 0 <= usage.audio_s < 10**9
    assert usage.reported_cost is None or usage.reported_cost >= 0
