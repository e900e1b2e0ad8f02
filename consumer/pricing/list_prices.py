"""The list prices of the voice-prices package, looked up by what a meter is called.

The list takes half a second to load, so it is loaded when a `ListPrices` is made and not when this
module is imported: `costs query` makes none while nothing waits to be booked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from voicecosts.consumer.errors import MissingExtra
from voicecosts.consumer.pricing.billing import CONNECTED
from voicecosts.consumer.pricing.price import Price, Unpriced
from voicecosts.consumer.pricing.providers import price_list

if TYPE_CHECKING:
    from datetime import datetime

    from voicecosts.consumer.pricing.catalogue import Row

_MAX_NAMES: Final = 4096
"""Lookups kept. A worker that makes up model names must not fill the consumer's memory."""

_SAY: Final = "say in prices.toml what you pay for it"
"""Connected time has few list prices: it depends on the plan, and on where the worker runs."""


class ListPrices:
    """The list prices that the voice-prices package carries, of its installed version.

    They are what a new account pays without any commitment. What the totals cannot tell is not in
    them: a language, a cloned voice, a regional surcharge, a volume discount.

    Raises:
        MissingExtra: voice-prices is not installed.
    """

    def __init__(self) -> None:
        try:
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
        found = row if isinstance(row, Unpriced) else row.at(at)
        if modality in CONNECTED and isinstance(found, Unpriced):
            return Unpriced(f"{found.reason}; {_SAY}")
        return found

    def _look_up(
        self, modality: str, provider: str, provider_raw: str, model: str
    ) -> Row | Unpriced:
        list_id = price_list(provider, provider_raw)
        if list_id is None:
            return Unpriced(f"no price list for provider {provider_raw or provider!r}")
        return self._find_row(list_id, modality, model)
