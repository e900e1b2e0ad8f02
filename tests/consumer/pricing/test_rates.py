"""From a row of the list to rates: the list's own fallbacks, tiers at their base, no estimates."""

from __future__ import annotations

from decimal import Decimal

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
    """Each chain is the one that the package documents for the same quantity."""
    ours = {name: CHAINS[part] for name, part in LIST_NAMES.items()}
    assert ours == {name: _UNPRICED_RATE_CHAINS[name] for name in LIST_NAMES}


def test_cached_audio_costs_what_uncached_audio_does_where_nothing_is_listed_for_it() -> None:
    """The package's documented chain ends at text, its arithmetic at audio; the arithmetic bills."""
    documented = _UNPRICED_RATE_CHAINS["cache_audio_read_tokens"]
    assert (
        tuple(f for f in CHAINS["audio_cache_read_input_tokens"] if f in documented) == documented
    )
    rates = rates_of(ModelPrice(input_mtok=ONE, input_audio_mtok=TWO), "realtime", ()).per_unit
    assert rates["audio_cache_read_input_tokens"] == TWO
    assert rates["cache_read_input_tokens"] == ONE


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


def test_a_tier_counts_at_its_base_and_is_reported() -> None:
    """The lowest start of all tiers is the size from which a request costs more."""
    prices = ModelPrice(
        input_mtok=TieredPrices(base=ONE, tiers=[Tier(start=200_000, price=TWO)]),
        output_mtok=TieredPrices(base=THREE, tiers=[Tier(start=128_000, price=FOUR)]),
    )
    rates = rates_of(prices, "llm", ())
    assert rates.per_unit["input_tokens"] == ONE
    assert rates.per_unit["output_tokens"] == THREE
    assert rates.tier_start == 128_000


def test_a_flat_price_has_no_tier() -> None:
    """Most models charge the same for every size."""
    assert rates_of(ModelPrice(input_mtok=ONE), "llm", ()).tier_start is None


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
