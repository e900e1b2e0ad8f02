"""A cost taken apart adds up to what is booked, to the last digit, whatever was used at what price."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.consumer.pricing.test_rating_properties import (
    ANYTHING,
    MODELS,
    USAGE,
    totals_of,
)
from voicecosts.consumer.pricing import ListPrices, Scope, rated_by
from voicecosts.consumer.pricing.explain import Explanation, explain, rounded
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.pricing.terms import Finder
from voicecosts.producer.events import Meter, Quantities

AT: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
SCOPE: Final = Scope(project="prod", agent_id="dental", tenant="acme")
LISTED: Final = ListPrices()
OWN_MODELS: Final = [
    *((modality, label, model) for modality, label, model in MODELS),
    ("agent_session", "livekit", "agent-session"),
    ("telephony", "livekit", "us-local-inbound"),
    ("turn_detector", "livekit", "turn-detector"),
    ("avatar", "tavus", "phoenix"),
]
MODALITIES: Final = sorted({modality for modality, _, _ in OWN_MODELS})

_MONEY: Final = st.integers(0, 10**9).map(lambda micro: f"{Decimal(micro).scaleb(-6):f}")
_USD: Final = st.integers(1, 10**5).map(lambda cents: f"{Decimal(cents).scaleb(-4):f}")
_PERCENT: Final = st.integers(0, 99).map(lambda percent: f"{percent} %")


@st.composite
def entries(draw: st.DrawFn, layer: str, modality: str) -> str:
    """Draw one entry for a modality, of any kind that it can have."""
    lines = [f"[[{layer}]]", f'modality = "{modality}"']
    kind = draw(st.sampled_from(("share", "unit", "unit", "tokens")))
    if kind == "share":
        way = "markup" if layer == "billed" and draw(st.booleans()) else "discount"
        lines.append(f'{way} = "{draw(_PERCENT)}"')
        if layer == "billed":
            lines.append(f'of = "{draw(st.sampled_from(("list", "cost")))}"')
    elif kind == "tokens" and modality in ("llm", "realtime"):
        named = draw(st.permutations(("output", "audio_input", "audio_output", "cached_input")))
        parts = ["input", *named[: draw(st.integers(0, 4))]]
        prices = ", ".join([f'{part} = "{draw(_MONEY)}"' for part in parts])
        lines += ['unit = "million tokens"', f"price = {{ {prices} }}"]
    else:
        units = {
            "llm": ("million tokens", "request"),
            "tts": ("thousand characters", "million characters", "minute"),
            "turn_detector": ("request",),
        }.get(modality, ("second", "minute", "hour"))
        unit = draw(st.sampled_from(units))
        lines += [f'unit = "{unit}"', f'price = "{draw(_MONEY)}"']
        if unit in ("second", "minute", "hour") and draw(st.booleans()):
            lines += [f'minimum = "{draw(st.integers(1, 90))} s"']
            lines += [f'increment = "{draw(st.integers(1, 60))} s"']
        if draw(st.booleans()):
            lines.append('currency = "EUR"')
    if kind != "share" and draw(st.booleans()):
        lines.append(f'at_least = "{draw(_MONEY)}"')
    return "\n".join(lines) + "\n"


@st.composite
def books(draw: st.DrawFn) -> str:
    """Draw a file of prices: at most one entry of each layer for a modality."""
    text = f'[[exchange]]\ncurrency = "EUR"\nusd = "{draw(_USD)}"\n'
    for modality in MODALITIES:
        for layer in ("cost", "billed"):
            if draw(st.booleans()):
                text += draw(entries(layer, modality))
    return text


USED: Final = st.tuples(
    st.sampled_from(OWN_MODELS), st.one_of(USAGE, ANYTHING), st.sampled_from(("", "priority"))
)


def check_call(text: str, used: list[tuple[tuple[str, str, str], object, str]]) -> None:
    """Explain every meter of a call, and compare with what the ledger books."""
    finder = Finder(LISTED, read(text))
    for (modality, provider, model), usage, tier in used:
        totals = usage if isinstance(usage, Quantities) else totals_of(modality, usage)  # type: ignore[arg-type]
        meter = Meter("", "", modality, provider, model, estimated=False, service_tier=tier)
        terms = finder.find(meter, SCOPE, AT, provider_raw=provider)
        told, booked = explain(terms, meter, totals), rated_by(terms, meter, totals)
        assert told.listed.amount == booked.list_cost
        assert told.cost.amount == booked.cost
        assert (None if told.billed is None else told.billed.amount) == booked.billed
        for layer in (told.listed, told.cost, told.billed):
            if layer is not None and layer.steps and layer.at_least is None:
                assert sum(step.exact for step in layer.steps) == layer.exact


@given(text=books(), used=st.lists(USED, min_size=1, max_size=6))
@settings(max_examples=25)
def test_an_explanation_comes_to_what_is_booked(
    text: str, used: list[tuple[tuple[str, str, str], object, str]]
) -> None:
    """In every layer, for any usage at any book of prices, and its lines add up to it."""
    check_call(text, used)


@pytest.mark.slow
@given(text=books(), used=st.lists(USED, min_size=1, max_size=6))
@settings(max_examples=1000)
def test_a_thousand_calls_come_to_what_is_booked(
    text: str, used: list[tuple[tuple[str, str, str], object, str]]
) -> None:
    """The same, of a thousand random calls."""
    check_call(text, used)


def told(text: str, modality: str, provider: str, model: str, **totals: int) -> Explanation:
    """Explain some usage at a book of prices."""
    meter = Meter("", "", modality, provider, model, estimated=False)
    terms = Finder(LISTED, read(text)).find(meter, SCOPE, AT, provider_raw=provider)
    return explain(terms, meter, Quantities(**totals))


def test_minimum_and_increment_are_shown() -> None:
    """What was used and what is counted stand beside each other."""
    text = '[[cost]]\nprovider = "deepgram"\nunit = "minute"\nprice = "0.006"\nminimum = "10 s"\n'
    [step] = told(text, "stt", "deepgram", "nova-3", audio_us=4_000_000).cost.steps
    assert (step.used, step.counted, step.exact) == (4_000_000, 10_000_000, Fraction(1, 1000))


def test_a_price_that_never_ends_is_rounded_once() -> None:
    """A third of a cent is exact in the lines, and has nine digits in the amount."""
    text = '[[cost]]\nprovider = "gladia"\nunit = "hour"\nprice = "0.55"\n'
    cost = told(text, "stt", "gladia", "solaria", audio_us=1_000_000).cost
    assert cost.exact == Fraction(55, 100) / 3600
    assert cost.amount == Decimal("0.000152778")


def test_a_half_is_rounded_to_even() -> None:
    """As in the ledger."""
    assert rounded(Fraction(5, 10**10)) == 0
    assert rounded(Fraction(15, 10**10)) == Decimal("0.000000002")


def test_the_least_amount_is_shown_where_it_applies() -> None:
    """A minimum charge takes the place of a smaller sum, and of no larger one."""
    text = '[[cost]]\nprovider = "tavus"\nmodality = "avatar"\nunit = "minute"\nprice = "0.3"\nat_least = "0.10"\n'
    small = told(text, "avatar", "tavus", "phoenix", session_us=6_000_000).cost
    assert (small.at_least, small.amount) == (Decimal("0.10"), Decimal("0.100000000"))
    large = told(text, "avatar", "tavus", "phoenix", session_us=60_000_000).cost
    assert (large.at_least, large.amount) == (None, Decimal("0.300000000"))


def test_what_has_no_price_has_no_amount() -> None:
    """It is named with its reason, and is not zero."""
    found = told("", "llm", "homebrew", "llama", input_tokens=10, requests=1)
    assert found.cost.amount is None
    assert found.reason is not None
    assert found.unpriced.input_tokens == 10


def test_a_modality_without_a_list_price_is_explained_when_nothing_is_left_of_it() -> None:
    """A voided call has meters of no usage, also of a modality that no list has a way to bill."""
    meter = Meter("", "", "judge", "openai", "gpt-4.1-mini", estimated=False)
    terms = Finder(LISTED, read("")).find(meter, SCOPE, AT, provider_raw="")
    found = explain(terms, meter, Quantities())
    assert (found.listed.amount, found.cost.amount, found.billed) == (None, None, None)
