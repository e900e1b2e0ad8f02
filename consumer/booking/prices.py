"""The prices that have rated a row, by number. What is used once is kept for ever."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from voicecosts.consumer.pricing import Terms

if TYPE_CHECKING:
    from collections.abc import Iterable


def _plain(value: object) -> dict[object, object]:
    """Return rates that nobody can change as a dict, which is all that the encoder knows."""
    if isinstance(value, MappingProxyType):
        return dict(value)
    raise NotImplementedError(f"a price holds a {type(value).__name__}")


_encoder = msgspec.json.Encoder(order="deterministic", enc_hook=_plain)
_decoder = msgspec.json.Decoder(Terms)


class PriceRow(Struct, frozen=True):
    """Prices that are used for the first time, as `insert_prices_used.sql` reads them."""

    price_id: int
    terms: str


class PricesUsed:
    """Numbers for prices: equal prices have one number, whenever and from whatever they came."""

    def __init__(self, rows: Iterable[tuple[int, str]] = ()) -> None:
        self._terms = {number: _decoder.decode(text) for number, text in rows}
        self._numbers = {_encoder.encode(terms): n for n, terms in self._terms.items()}
        self._known = {id(terms): number for number, terms in self._terms.items()}
        self._new: list[PriceRow] = []

    def __repr__(self) -> str:
        return f"<PricesUsed: {len(self._terms)}, {len(self._new)} new>"

    def terms(self, number: int | None) -> Terms | None:
        """Return the prices under a number; none is under one that nobody gave."""
        return None if number is None else self._terms.get(number)

    def number_of(self, terms: Terms) -> int | None:
        """Return the number of prices, a new one if they were never used; `None` if there are none."""
        if terms.is_empty:
            return None
        number = self._known.get(id(terms))
        if number is not None and self._terms[number] is terms:
            return number
        text = _encoder.encode(terms)
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = max(self._terms, default=0) + 1
            self._terms[number] = terms
            self._known[id(terms)] = number
            self._new.append(PriceRow(number, text.decode()))
        return number

    def take_new(self) -> list[PriceRow]:
        """Return what is used for the first time, to be written with the rows that point to it."""
        new, self._new = self._new, []
        return new
