"""Exact money as properties: for any usage, any split of it into readings, and any listed price."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import voice_prices
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict
from voice_prices.data import providers

from tests.consumer.pricing.asking import BOOK, START, rated
from voicecosts.consumer.pricing import Price
from voicecosts.consumer.pricing import providers as labels
from voicecosts.consumer.pricing.billing import billed
from voicecosts.consumer.pricing.catalogue import Row
from voicecosts.consumer.pricing.units import PER
from voicecosts.producer.events import QUANTITIES, Quantities

if TYPE_CHECKING:
    from voice_prices.types import ModelInfo, Provider

MODELS: Final = [
    ("llm", "api.openai.com", "gpt-4o-mini"),
    ("llm", "api.anthropic.com", "claude-sonnet-4-5"),
    ("llm", "api.perplexity.ai", "sonar"),
    ("stt", "Deepgram", "nova-2"),
    ("stt", "api.openai.com", "gpt-4o-transcribe"),
    ("tts", "Cartesia", "sonic-3"),
    ("tts", "api.openai.com", "gpt-4o-mini-tts"),
    ("realtime", "api.openai.com", "gpt-realtime"),
    ("realtime", "api.x.ai", "grok-voice-think-fast-2.0"),
    ("realtime", "ultravox", "fixie-ai/ultravox"),
]
PARTS: Final = (
    "text",
    "audio",
    "cached_text",
    "cached_audio",
    "created",
    "text_out",
    "audio_out",
    "reasoning",
    "characters",
    "audio_us",
    "session_us",
    "requests",
)
AMOUNT: Final = st.integers(min_value=0, max_value=10**7) | st.integers(min_value=0, max_value=3)
USAGE: Final = st.fixed_dictionaries(dict.fromkeys(PARTS, AMOUNT))
ANYTHING: Final = st.builds(
    Quantities,
    **dict.fromkeys(QUANTITIES, AMOUNT | st.integers(min_value=0, max_value=2**53 - 1)),
)


def totals_of(modality: str, usage: dict[str, int]) -> Quantities:
    """Report disjoint usage as the modality's plugins do: splits are realtime's alone."""
    text = usage["text"] + usage["cached_text"] + usage["created"]
    audio = usage["audio"] + usage["cached_audio"]
    text_out = usage["text_out"] + usage["reasoning"]
    split = {
        "text_input_tokens": text,
        "audio_input_tokens": audio,
        "text_cache_read_input_tokens": usage["cached_text"],
        "audio_cache_read_input_tokens": usage["cached_audio"],
        "text_output_tokens": text_out,
        "audio_output_tokens": usage["audio_out"],
        "session_us": usage["session_us"],
    }
    cache = {
        "cache_read_input_tokens": usage["cached_text"] + usage["cached_audio"],
        "cache_creation_input_tokens": usage["created"],
    }
    return Quantities(
        requests=usage["requests"],
        input_tokens=text + audio,
        output_tokens=text_out + usage["audio_out"],
        characters=usage["characters"] if modality == "tts" else 0,
        audio_us=usage["audio_us"] if modality in {"stt", "tts"} else 0,
        reasoning_output_tokens=usage["reasoning"],
        **(cache if modality in {"llm", "realtime"} else {}),
        **(split if modality == "realtime" else {}),
    )


def exactly(price: Price, modality: str, totals: Quantities) -> Decimal:
    """Price without ever rounding, in fractions, then round once."""
    parts, rates, misses = billed(price, modality, totals)
    assert not misses
    legs = (amount * Fraction(rates[part]) / PER[part] for part, amount in parts.items())
    return Decimal(round(sum(legs, Fraction()) * 10**9)).scaleb(-9, Context(prec=60))


@given(st.sampled_from(MODELS), st.lists(USAGE, min_size=1, max_size=5))
def test_money_does_not_depend_on_how_usage_was_split_into_readings(
    model: tuple[str, str, str], steps: list[dict[str, int]]
) -> None:
    """Costs booked by difference sum to the cost of the totals; none is negative."""
    so_far = dict.fromkeys(PARTS, 0)
    booked: list[Decimal] = []
    for step in steps:
        so_far = {part: so_far[part] + step[part] for part in PARTS}
        result = rated(*model, totals_of(model[0], so_far))
        if result.cost is not None:
            booked.append(result.cost - sum(booked))
    final = rated(*model, totals_of(model[0], so_far))
    assert sum(booked) == (final.cost or 0)
    assert all(difference >= 0 for difference in booked)


@given(st.sampled_from(MODELS), ANYTHING)
def test_whatever_is_reported_money_is_a_number_or_a_reason(
    model: tuple[str, str, str], totals: Quantities
) -> None:
    """Rating never raises or goes below zero, and what is unpriced is a part of the totals."""
    result = rated(*model, totals)
    missing = asdict(result.unpriced_usage)
    assert (result.reason is None) == (not any(missing.values()))
    assert all(0 <= amount <= getattr(totals, name) for name, amount in missing.items())
    if result.cost is None:
        assert any(missing.values())
    else:
        assert result.cost >= 0
        assert result.cost.as_tuple().exponent == -9


@given(st.sampled_from(MODELS), USAGE)
def test_money_is_exact(model: tuple[str, str, str], usage: dict[str, int]) -> None:
    """The cost is the exact sum of fractions, rounded half-even once."""
    modality, label, name = model
    totals = totals_of(modality, usage)
    result = rated(modality, label, name, totals)
    price = BOOK.find(modality=modality, provider="", provider_raw=label, model=name, at=START)
    assert isinstance(price, Price)
    if result.reason is None:
        assert result.cost == exactly(price, modality, totals)


FLAT: Final = [
    (owner, row, price)
    for owner in providers
    if owner.id in labels._NAMES.values()
    for row in owner.models
    if isinstance(price := Row(owner.id, row, "realtime").at(START), Price)
    if not price.tiers and price.rates.keys() >= {"input_tokens", "output_tokens"}
]
"""Every price by the token without tiers that some label points to."""


@settings(max_examples=300)
@given(st.sampled_from(FLAT), USAGE)
def test_every_flat_price_agrees_with_the_packages_own_calculator(
    listed: tuple[Provider, ModelInfo, Price], usage: dict[str, int]
) -> None:
    """Whatever rates a row has, its fallbacks are applied as the package applies them."""
    owner, row, price = listed
    no_rate = {
        part: 0
        for part, named in (
            ("audio", "audio_input_tokens"),
            ("cached_audio", "audio_input_tokens"),
            ("audio_out", "audio_output_tokens"),
        )
        if named not in price.rates  # the package would charge audio as text
    }
    totals = totals_of("realtime", usage | {"requests": 1, "session_us": 0} | no_rate)
    calculated = row.calc_price(
        voice_prices.Usage(
            input_tokens=totals.input_tokens,
            cache_read_tokens=totals.cache_read_input_tokens,
            cache_write_tokens=totals.cache_creation_input_tokens,
            input_audio_tokens=totals.audio_input_tokens,
            cache_audio_read_tokens=totals.audio_cache_read_input_tokens,
            output_tokens=totals.output_tokens,
            output_audio_tokens=totals.audio_output_tokens,
        ),
        owner,
        genai_request_timestamp=START,
    )
    cost = calculated.total_price.quantize(Decimal("1E-9"), ROUND_HALF_EVEN)
    assert cost == exactly(price, "realtime", totals)
