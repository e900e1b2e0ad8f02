"""From a row of the list to rates: the list's own fallbacks and tiers, no estimates."""

from __future__ import annotations

from decimal import Decimal

import pytest
from voice_prices.types import _UNPRICED_RATE_CHAINS, ModelPrice, Tier, TieredPrices

from voicecosts.consumer.pricing.rates import CHAINS, rates_of

ONE, TWO, THREE, FOUR = (Decimal(n) for n in (1, 2, 3, 4))

LIST_NAMES = {
    "input_tokens": "input_tokens",
    "cache_read_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_creation_input_tokens",
    "input_audio_tokens": "audio_input_tokens",
    "output_tokens": "output_tokens",
    "output_audio_tokens": "audio_output_tokens",
    "characters": "characters",
}


def test_fallbacks_are_the_lists_own() -> None:
    """Each chain is the one that the package documents for the same quantity, save for audio."""
    ours = {name: CHAINS[part] for name, part in LIST_NAMES.items() if "audio" not in part}
    assert ours == {name: _UNPRICED_RATE_CHAINS[name] for name in ours}


@pytest.mark.parametrize("modality", ["llm", "realtime"])
def test_audio_never_costs_what_text_costs(modality: str) -> None:
    """A row that lists text alone does not say what audio costs, and the two differ tenfold."""
    rates = rates_of(
        ModelPrice(input_mtok=ONE, cache_read_mtok=TWO, output_mtok=THREE), modality, ()
    )
    assert not [part for part in rates.per_unit if "audio" in part]
    for part, chain in CHAINS.items():
        assert ("audio" in part) == any("audio" in field for field in chain)
        assert all("audio" in field for field in chain) or "audio" not in part


def test_a_speech_model_with_one_rate_has_it_for_audio_too() -> None:
    """Where a row has no rate for audio, what the model hears or makes is what the row prices."""
    listed = ModelPrice(input_mtok=ONE, output_mtok=TWO)
    for modality in ("stt", "tts"):
        rates = rates_of(listed, modality, ()).per_unit
        assert (rates["audio_input_tokens"], rates["audio_output_tokens"]) == (ONE, TWO)
    apart = ModelPrice(input_mtok=ONE, input_audio_mtok=THREE, output_mtok=TWO)
    assert "audio_output_tokens" not in rates_of(apart, "tts", ()).per_unit


def test_cached_audio_costs_what_uncached_audio_does_where_nothing_is_listed_for_it() -> None:
    """Cached tokens without a price of their own cost what uncached ones of their kind cost."""
    listed = ModelPrice(input_mtok=ONE, cache_read_mtok=THREE, input_audio_mtok=TWO)
    rates = rates_of(listed, "realtime", ()).per_unit
    assert rates["audio_cache_read_input_tokens"] == TWO
    assert rates["cache_read_input_tokens"] == THREE


def test_specific_rates_come_before_general_ones() -> None:
    """A listed rate is never replaced by a fallback."""
    prices = ModelPrice(
        input_mtok=FOUR,
        cache_read_mtok=ONE,
        cache_write_mtok=TWO,
        input_audio_mtok=THREE,
        cache_audio_read_mtok=Decimal("0.5"),
    )
    assert dict(rates_of(prices, "realtime", ()).per_unit) == {
        "input_tokens": FOUR,
        "cache_read_input_tokens": ONE,
        "cache_creation_input_tokens": TWO,
        "audio_input_tokens": THREE,
        "audio_cache_read_input_tokens": Decimal("0.5"),
    }


def test_image_tokens_have_no_fallback() -> None:
    """The list does not say that images cost what text costs, so they have no rate."""
    assert not any("image" in part for part in CHAINS)


def test_each_size_has_all_rates_of_requests_that_large() -> None:
    """The highest tier that a request is above applies to all of it; other parts keep their rate."""
    prices = ModelPrice(
        input_mtok=TieredPrices(
            base=ONE, tiers=[Tier(start=200_000, price=TWO), Tier(start=512_000, price=FOUR)]
        ),
        cache_read_mtok=Decimal("0.5"),
        output_mtok=TieredPrices(base=THREE, tiers=[Tier(start=128_000, price=FOUR)]),
    )
    rates = rates_of(prices, "llm", ())
    sizes = [(0, rates.per_unit), *((tier.start, tier.rates) for tier in rates.tiers)]
    found = [(start, at["input_tokens"], at["output_tokens"]) for start, at in sizes]
    assert found == [
        (0, ONE, THREE),
        (128_000, ONE, FOUR),
        (200_000, TWO, FOUR),
        (512_000, FOUR, FOUR),
    ]
    assert {at["cache_read_input_tokens"] for _, at in sizes} == {Decimal("0.5")}


def test_a_flat_price_has_no_tier() -> None:
    """Most models charge the same for every size."""
    assert rates_of(ModelPrice(input_mtok=ONE), "llm", ()).tiers == ()


def test_the_vendors_own_estimate_is_left_out() -> None:
    """What is not on the bill is not a rate: such a transcription is billed by tokens alone."""
    prices = ModelPrice(input_mtok=ONE, input_audio_kseconds=TWO)
    assert "audio_us" in rates_of(prices, "stt", ()).per_unit
    assert "audio_us" not in rates_of(prices, "stt", ["input_audio_kseconds"]).per_unit


def test_seconds_heard_and_seconds_spoken_are_different_rates() -> None:
    """A transcription is billed for audio in, a voice for audio out, nothing else for either."""
    prices = ModelPrice(input_audio_kseconds=ONE, output_audio_kseconds=TWO)
    assert rates_of(prices, "stt", ()).per_unit["audio_us"] == ONE
    assert rates_of(prices, "tts", ()).per_unit["audio_us"] == TWO
    assert "audio_us" not in rates_of(prices, "realtime", ()).per_unit


def test_a_voice_of_unknown_class_is_priced_as_the_default_class() -> None:
    """Which voice spoke is not in the totals."""
    prices = ModelPrice(input_kchars=TWO, voice_multipliers={"default": THREE, "pvc": FOUR})
    assert rates_of(prices, "tts", ()).per_unit["characters"] == Decimal(6)


def test_a_rate_of_zero_is_a_rate() -> None:
    """A promotion that costs nothing is priced, not unpriced."""
    assert rates_of(ModelPrice(input_kchars=Decimal(0)), "tts", ()).per_unit["characters"] == 0
