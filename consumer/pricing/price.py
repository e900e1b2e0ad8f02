"""Unit prices: what a price is, and what looks it up.

A price is found by what a meter is called and by the moment its session started, and it stays the
same for the meter's whole life. A book that has no price says so with a reason (`Unpriced`), which
is a result like any other: looking up a price never raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from msgspec import Struct

from voicecosts.producer.events import SIZE_TIERS


class Unpriced(Struct, frozen=True):
    """There is no price, and why, in words that tell what to correct."""

    reason: str


class Tier(Struct, frozen=True, kw_only=True):
    """What a model charges for all usage of a request with more than `start` input tokens."""

    start: int
    rates: Mapping[str, Decimal]


class Price(Struct, frozen=True, kw_only=True):
    """What a model charges.

    `rates` are US dollars by part of usage, each for `units.PER` of it: a million tokens, a
    thousand characters or requests, a thousand seconds (`audio_us`) or minutes (`session_us`).
    `model` is the row that the price was found in. Where requests are charged by their size,
    `rates` are those of the smallest, and `tiers` those of larger ones in rising order, complete.
    """

    source: str
    version: str
    model: str
    rates: Mapping[str, Decimal]
    free: bool = False
    tiers: tuple[Tier, ...] = ()

    def rates_of_size(self, size_tier: int) -> Mapping[str, Decimal] | int:
        """Return the rates of all requests of a size tier (`SIZE_TIERS` of the event contract).

        An integer is the start of a price tier inside of it: some of those requests are charged by
        other rates than the rest, and nobody can tell which.
        """
        if not self.tiers:
            return self.rates
        limit = next((step for step in SIZE_TIERS if step > size_tier), None)
        rates = self.rates
        for tier in self.tiers:
            if tier.start <= size_tier:
                rates = tier.rates
            elif limit is None or tier.start < limit:
                return tier.start
        return rates


class PriceBook(Protocol):
    """Where prices are looked up: the list, or an operator's own rates before it."""

    def find(
        self, *, modality: str, provider: str, provider_raw: str, model: str, at: datetime
    ) -> Price | Unpriced:
        """Return the price in force at `at`."""
