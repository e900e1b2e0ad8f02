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


class Unpriced(Struct, frozen=True):
    """There is no price, and why, in words that tell what to correct."""

    reason: str


class Price(Struct, frozen=True, kw_only=True):
    """What a model charges.

    `rates` are US dollars by part of usage, each for `units.PER` of it: a million tokens, a
    thousand characters or requests, a thousand seconds (`audio_us`) or minutes (`session_us`).
    `model` is the row that the price was found in, `tier_start` the number of input tokens above
    which a single request costs more than the rates say.
    """

    source: str
    version: str
    model: str
    rates: Mapping[str, Decimal]
    free: bool = False
    tier_start: int | None = None


class PriceBook(Protocol):
    """Where prices are looked up: the list, or an operator's own rates before it."""

    def find(
        self, *, modality: str, provider: str, provider_raw: str, model: str, at: datetime
    ) -> Price | Unpriced:
        """Return the price in force at `at`."""
