"""Rating: the totals of a meter times the unit prices of its model, as exact money.

Rounding happens once, half-even to nine digits, on the cost of the whole totals; the ledger books
differences of that, so money does not depend on how usage was split into readings. What has no
rate is named with a reason beside the cost of the rest. This never raises, and no cost is negative.

The totals are sums over many requests, so no price may depend on their size: a price with tiers by
request size counts at its base, and only while no single request was large.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

from voicecosts.consumer.pricing.billing import WAYS, billed, measures
from voicecosts.consumer.pricing.price import Unpriced
from voicecosts.consumer.pricing.units import PER
from voicecosts.consumer.pricing.unpriced import UnpricedUsage

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from voicecosts.consumer.pricing.price import PriceBook
    from voicecosts.producer.events import Meter, Quantities

_EXACT: Final = Context(prec=50, rounding=ROUND_HALF_EVEN)
"""A 53-bit count times a listed rate has at most 40 digits, so every leg is exact. The one division
that can be endless (session time by the thousand minutes) is off in the 50th digit, where it cannot
turn a sum into or out of a tie at the ninth."""
_NANO: Final = Decimal("0.000000001")
_ZERO: Final = Decimal(0).quantize(_NANO)


class Rated(Struct, frozen=True, kw_only=True):
    """What totals cost, and by which price.

    `cost` covers everything that has a rate, and is `None` when nothing has. `unpriced` names the
    quantities without one; `reason` says why, and is `None` exactly when there are none.
    `unpriced_usage` is how much of the totals the cost does not cover.
    """

    cost: Decimal | None
    unpriced: tuple[str, ...] = ()
    reason: str | None = None
    source: str | None = None
    version: str | None = None
    model: str | None = None
    unpriced_usage: UnpricedUsage = UnpricedUsage()


class Rate(Protocol):
    """Price the running totals of a meter as of a moment. Pure, and it never raises."""

    def __call__(
        self, meter: Meter, totals: Quantities, at: datetime, *, provider_raw: str
    ) -> Rated:
        """Return the cost of `totals` by the prices in force at `at`."""


def rate_by(book: PriceBook) -> Rate:
    """Return how totals are rated by the prices of `book`."""
    return partial(rate, book)


def rate(
    book: PriceBook, meter: Meter, totals: Quantities, at: datetime, *, provider_raw: str
) -> Rated:
    """Return what `totals` cost by the price in force at `at`, the start of the session (UTC)."""
    modality = meter.modality
    price = book.find(
        modality=modality,
        provider=meter.provider,
        provider_raw=provider_raw,
        model=meter.model,
        at=at,
    )
    if isinstance(price, Unpriced):
        return _without_price(modality, totals, price.reason)
    if modality not in WAYS:
        return _without_price(modality, totals, f"no rule how modality {modality!r} is billed")
    parts, misses = ({}, []) if price.free else billed(price, modality, totals)
    names = (name for miss in misses for name in miss.quantities)
    return Rated(
        cost=None if misses and not parts else _cost(parts, price.rates),
        unpriced=tuple(dict.fromkeys(names)) if misses else (),
        reason="; ".join(miss.reason for miss in misses) if misses else None,
        source=price.source,
        version=price.version,
        model=price.model,
    )


def _without_price(modality: str, totals: Quantities, reason: str) -> Rated:
    names = measures(modality, totals)
    if not names:
        return Rated(cost=_ZERO)
    return Rated(
        cost=None, unpriced=names, reason=reason, unpriced_usage=_all(totals, {*names, "requests"})
    )


def _all(totals: Quantities, names: Collection[str]) -> UnpricedUsage:
    """Return the whole amounts of `totals` under these names, where they are measures."""
    fields = UnpricedUsage.__struct_fields__
    return UnpricedUsage(**{name: getattr(totals, name) for name in fields if name in names})


def _cost(parts: Mapping[str, int], rates: Mapping[str, Decimal]) -> Decimal:
    sums: dict[int, Decimal] = {}  # by what the rates buy, so that each is divided once
    for part, amount in parts.items():
        per = PER[part]
        sums[per] = _EXACT.fma(amount, rates[part], sums.get(per, _ZERO))
    total = _ZERO
    for per, dollars in sums.items():
        total = _EXACT.add(total, _EXACT.divide(dollars, per))
    return _EXACT.quantize(total, _NANO)
