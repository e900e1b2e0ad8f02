"""From a row of the price list to one rate for each part that usage can consist of.

The fallbacks are the price list's own, as its `calc_price` works them out: cached tokens without a
price of their own cost what uncached ones cost, audio tokens without one cost what text costs.
Image tokens have no fallback: the list says that it misses their prices.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from voice_prices.types import TieredPrices

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from decimal import Decimal

    from voice_prices.types import ModelPrice

CHAINS: Final[Mapping[str, tuple[str, ...]]] = {
    "input_tokens": ("input_mtok",),
    "cache_read_input_tokens": ("cache_read_mtok", "input_mtok"),
    "cache_creation_input_tokens": ("cache_write_mtok", "input_mtok"),
    "audio_input_tokens": ("input_audio_mtok", "input_mtok"),
    "audio_cache_read_input_tokens": (
        "cache_audio_read_mtok",
        "cache_read_mtok",
        "input_audio_mtok",
        "input_mtok",
    ),
    "output_tokens": ("output_mtok",),
    "audio_output_tokens": ("output_audio_mtok", "output_mtok"),
    "characters": ("input_kchars",),
    "requests": ("requests_kcount",),
    "session_us": ("agent_kminutes",),
}
"""Which fields of a row can price a part, best first."""

_AUDIO: Final = {"stt": "input_audio_kseconds", "tts": "output_audio_kseconds"}
"""Seconds of audio are heard by a transcription and made by a voice, at different prices."""


class Rates(NamedTuple):
    """What one row charges. `tier_start` is the size of request from which it charges more."""

    per_unit: Mapping[str, Decimal]
    tier_start: int | None


def rates_of(prices: ModelPrice, modality: str, estimated: Collection[str]) -> Rates:
    """Return the rates of a row for a modality, each for `units.PER` units.

    Fields in `estimated` are left out: by the list they are the vendor's own estimate (OpenAI's
    dollars per minute of a transcription that it bills by the token), not what is on the bill.
    Of a price with tiers by request size the base counts.
    """
    per_unit: dict[str, Decimal] = {}
    starts: list[int] = []
    chains = {**CHAINS, "audio_us": (_AUDIO[modality],)} if modality in _AUDIO else CHAINS
    for part, chain in chains.items():
        listed = (getattr(prices, field) for field in chain if field not in estimated)
        rate = next((rate for rate in listed if rate is not None), None)
        if isinstance(rate, TieredPrices):
            starts.extend(tier.start for tier in rate.tiers)
            rate = rate.base
        if rate is not None:
            per_unit[part] = rate
    if prices.voice_multipliers is not None and "characters" in per_unit:
        # Which voice spoke is not in the totals: a cloned voice at a dearer class is priced as a
        # standard one.
        per_unit["characters"] *= prices.voice_multipliers["default"]
    return Rates(MappingProxyType(per_unit), min(starts, default=None))
