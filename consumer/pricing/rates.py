"""From a row of the price list to one rate for each part that usage can consist of.

Cached tokens without a price of their own cost what uncached ones of their kind cost, as in the
price list. Audio never costs what text costs, though the list's own calculator says so: the two
differ up to tenfold, and a row that lists text alone does not say what audio costs. The exception is
a transcription or a voice that is billed by the token at a row without any rate for audio: there is
one rate for all that such a model hears, and one for all that it makes. Images have no rate in the
list at all.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from voice_prices.types import TieredPrices

from voicecosts.consumer.pricing.price import Tier

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from decimal import Decimal

    from voice_prices.types import ModelPrice

CHAINS: Final[Mapping[str, tuple[str, ...]]] = {
    "input_tokens": ("input_mtok",),
    "cache_read_input_tokens": ("cache_read_mtok", "input_mtok"),
    "cache_creation_input_tokens": ("cache_write_mtok", "input_mtok"),
    "audio_input_tokens": ("input_audio_mtok",),
    "audio_cache_read_input_tokens": ("cache_audio_read_mtok", "input_audio_mtok"),
    "output_tokens": ("output_mtok",),
    "audio_output_tokens": ("output_audio_mtok",),
    "characters": ("input_kchars",),
    "requests": ("requests_kcount",),
    "session_us": ("agent_kminutes",),
}
"""Which fields of a row can price a part, best first."""

_ONE_RATE: Final[Mapping[str, tuple[str, ...]]] = {
    "audio_input_tokens": ("input_mtok",),
    "audio_output_tokens": ("output_mtok",),
}
"""What audio costs at a speech model whose row has no rate for audio."""

_AUDIO_FIELDS: Final = ("input_audio_mtok", "cache_audio_read_mtok", "output_audio_mtok")

_AUDIO: Final = {"stt": "input_audio_kseconds", "tts": "output_audio_kseconds"}
"""Seconds of audio are heard by a transcription and made by a voice, at different prices."""


_CARRIED: Final = ("telephony_kminutes",)
"""Minutes of a telephone leg have a field of their own."""


class Rates(NamedTuple):
    """What one row charges: for the smallest requests, and for larger ones in rising order."""

    per_unit: Mapping[str, Decimal]
    tiers: tuple[Tier, ...]


def rates_of(prices: ModelPrice, modality: str, estimated: Collection[str]) -> Rates:
    """Return the rates of a row for a modality, each for `units.PER` units.

    Fields in `estimated` are left out: by the list they are the vendor's own estimate (OpenAI's
    dollars per minute of a transcription that it bills by the token), not what is on the bill.
    Of a price by size the highest tier that a request has more input tokens than applies to all of
    its usage, as in the list's `calc_mtok_price`.
    """
    listed: dict[str, Decimal | TieredPrices] = {}
    for part, chain in _chains(prices, modality).items():
        fields = (getattr(prices, field) for field in chain if field not in estimated)
        rate = next((rate for rate in fields if rate is not None), None)
        if rate is not None:
            listed[part] = rate
    by_size = [rate for rate in listed.values() if isinstance(rate, TieredPrices)]
    starts = sorted({tier.start for rate in by_size for tier in rate.tiers})
    if prices.voice_multipliers is not None and prices.input_kchars is not None:
        # Which voice spoke is not in the totals: a cloned voice at a dearer class is priced as a
        # standard one.
        listed["characters"] = prices.input_kchars * prices.voice_multipliers["default"]
    return Rates(
        _at(listed, 0), tuple(Tier(start=start, rates=_at(listed, start)) for start in starts)
    )


def _chains(prices: ModelPrice, modality: str) -> Mapping[str, tuple[str, ...]]:
    if modality == "telephony":
        return {**CHAINS, "session_us": _CARRIED}
    if modality not in _AUDIO:
        return CHAINS
    chains = {**CHAINS, "audio_us": (_AUDIO[modality],)}
    if all(getattr(prices, field) is None for field in _AUDIO_FIELDS):
        chains |= _ONE_RATE
    return chains


def _at(listed: Mapping[str, Decimal | TieredPrices], start: int) -> Mapping[str, Decimal]:
    """Return the rates of requests just above `start` input tokens."""
    return MappingProxyType({part: _rate(rate, start) for part, rate in listed.items()})


def _rate(rate: Decimal | TieredPrices, start: int) -> Decimal:
    if not isinstance(rate, TieredPrices):
        return rate
    reached = [tier.price for tier in rate.tiers if tier.start <= start]
    return reached[-1] if reached else rate.base
