"""The rows of the voice-prices package: which one a model has, and its price at a moment.

Only the data bundled with the installed version is read: no updater, no snapshot that another part
of the process installed, so one version of the package gives one answer. The package is an extra
and takes half a second to load, so this module is imported when prices are looked up.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from voice_prices import __version__
from voice_prices.data import providers
from voice_prices.types import ModelPrice

from voicecosts.consumer.pricing.match import explains
from voicecosts.consumer.pricing.price import Price, Unpriced
from voicecosts.consumer.pricing.rates import rates_of
from voicecosts.consumer.pricing.spellings import spellings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voice_prices.types import ModelInfo, Provider

SOURCE: Final = "voice-prices"
VERSION: Final = __version__

_LISTS: Final = {provider.id: provider for provider in providers}


class Row:
    """One model of the price list, and its prices as they are asked for."""

    def __init__(self, list_id: str, row: ModelInfo, modality: str) -> None:
        self._list_id = list_id
        self._row = row
        self._modality = modality
        self._prices: dict[int, Price | Unpriced] = {}  # by their position in the row

    def __repr__(self) -> str:
        return f"<Row {self._list_id}/{self._row.id} for {self._modality}>"

    def at(self, moment: datetime) -> Price | Unpriced:
        """Return the price in force at `moment`; a moment without a zone is UTC."""
        prices = self._row.prices
        if isinstance(prices, ModelPrice):
            position, valid = 0, prices
        else:
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            valid = self._row.get_prices(aware.astimezone(UTC))
            position = next(n for n, dated in enumerate(prices) if dated.prices is valid)
        if (price := self._prices.get(position)) is None:
            price = self._prices[position] = self._price(valid)
        return price

    def _price(self, prices: ModelPrice) -> Price | Unpriced:
        row = self._row
        provenance = row.provenance
        rates = rates_of(prices, self._modality, (provenance and provenance.estimated_fields) or ())
        if not rates.per_unit and not row.free:
            return Unpriced(
                f"the price list gives no rate for {row.id!r} of provider {self._list_id!r}"
            )
        return Price(
            source=SOURCE,
            version=VERSION,
            model=f"{self._list_id}/{row.id}",
            free=row.free,
            rates=rates.per_unit,
            tiers=rates.tiers,
        )


def find(list_id: str, modality: str, model: str) -> Row | Unpriced:
    """Return the row of a model, looked for under all its names.

    A list may fall back to the list of the vendor whose models it resells (Azure to OpenAI, Google
    to Anthropic), as the package says; the row then carries the vendor's name, so a ledger shows
    whose price it was. A match that `explains` refuses does not end the search.
    """
    refused: str | None = None
    for name in spellings(list_id, modality, model):
        for owner, row in _matches(list_id, name):
            if explains(owner, row, name):
                return Row(owner, row, modality)
            refused = refused or row.id
    missing = f"no list price for model {model!r} of provider {list_id!r}"
    return Unpriced(f"{missing}: the list only knows {refused!r}" if refused else missing)


def _matches(list_id: str, name: str) -> Iterator[tuple[str, ModelInfo]]:
    own: Provider | None = _LISTS.get(list_id)
    if own is None:
        return
    owners = [own, *(_LISTS[other] for other in own.fallback_model_providers or ())]
    for owner in owners:
        for row in owner.models:
            if row.is_match(name):
                yield owner.id, row
