"""The prices that have rated a row, by number. What is used once is kept for ever."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

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

_MAX_SEEN: Final = 4096
"""Objects whose number is known without a look at what is in them."""


class PriceRow(Struct, frozen=True):
    """Prices that are used for the first time, as `insert_prices_used.sql` reads them."""

    price_id: int
    terms: str


class PricesUsed:
    """Numbers for prices: equal prices have one number, whenever and from whatever they came."""

    def __init__(self, rows: Iterable[tuple[int, str]] = ()) -> None:
        self._terms = {number: _decoder.decode(text) for number, text in rows}
        self._numbers = {_encoder.encode(terms): n for n, terms in self._terms.items()}
        self._seen: dict[int, tuple[Terms, int]] = {}  # each kept, so that no id is used again
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
        number = self._find(terms)
        if number is None:
            text = _encoder.encode(terms)
            number = self._numbers[text] = max(self._terms, default=0) + 1
            self._terms[number] = terms
            self._new.append(PriceRow(number, text.decode()))
        return number

    def name_of(self, terms: Terms) -> int | str:
        """Return what `named` finds equal prices by: their number, or all of them where they have none."""
        return self._find(terms) or _encoder.encode(terms).decode()

    def named(self, name: int | str) -> Terms:
        """Return the prices of a name."""
        return self._terms[name] if isinstance(name, int) else _decoder.decode(name)

    def _find(self, terms: Terms) -> int | None:
        seen = self._seen.get(id(terms))
        if seen is not None:
            return seen[1]
        number = self._numbers.get(_encoder.encode(terms))
        if number is not None:
            if len(self._seen) >= _MAX_SEEN:
                self._seen.clear()
            self._seen[id(terms)] = (terms, number)
        return number

    def take_new(self) -> list[PriceRow]:
        """Return what is used for the first time, to be written with the rows that point to it."""
        new, self._new = self._new, []
        return new
