"""Unit prices: what a price is, and where it is looked up.

A price is found by what a meter is called and by the moment its session started, and it stays the
same for the meter's whole life. A book that has no price says so with a reason (`Unpriced`), which
is a result like any other: looking up a price never raises. The bundled list is loaded when a
`ListPrices` is made, not when this module is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

from voicecosts.consumer.errors import MissingExtra
from voicecosts.consumer.pricing.providers import price_list

if TYPE_CHECKING:
    from voicecosts.consumer.pricing.catalogue import Row

_MAX_NAMES: Final = 4096
"""Lookups kept. A worker that makes up model names must not fill the consumer's memory."""


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


class ListPrices:
    """The list prices that the voice-prices package carries, of its installed version.

    They are what a new account pays without any commitment. What the totals cannot tell is not in
    them: a language, a cloned voice, a regional surcharge, a volume discount.

    Raises:
        MissingExtra: voice-prices is not installed.
    """

    def __init__(self) -> None:
        try:
            # Half a second, for those who rate and nobody else.
            from voicecosts.consumer.pricing.catalogue import find  # noqa: PLC0415 - as said above
        except ModuleNotFoundError as error:
            if error.name != "voice_prices":
                raise
            raise MissingExtra("consumer", "Looking up list prices") from error
        self._find_row = find
        self._rows: dict[tuple[str, str, str, str], Row | Unpriced] = {}

    def __repr__(self) -> str:
        return f"<ListPrices: {len(self._rows)} names looked up>"

    def find(
        self, *, modality: str, provider: str, provider_raw: str, model: str, at: datetime
    ) -> Price | Unpriced:
        """Return the list price in force at `at`; the second time a name is asked is cheap."""
        key = (modality, provider, provider_raw, model)
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= _MAX_NAMES:
                self._rows.clear()
            row = self._rows[key] = self._look_up(*key)
        return row if isinstance(row, Unpriced) else row.at(at)

    def _look_up(
        self, modality: str, provider: str, provider_raw: str, model: str
    ) -> Row | Unpriced:
        list_id = price_list(provider, provider_raw)
        if list_id is None:
            return Unpriced(f"no price list for provider {provider_raw or provider!r}")
        return self._find_row(list_id, modality, model)
