"""Rating: the totals of a meter times the unit prices of its model, as exact money.

Rounding happens once, half-even to nine digits, on the cost of the whole totals; the ledger books
differences of that, so money does not depend on how usage was split into readings. What has no
rate is named with a reason beside the cost of the rest. This never raises, and no cost is negative.

The totals are sums over many requests, and a price may depend on the size of each. So a meter holds
requests of one size only, and its totals are priced as if they were one request of that size. What
has been priced is never taken back by a later request, for that one is on a meter of its own.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from voicecosts.consumer.config import MAX_READING
from voicecosts.consumer.pricing.billing import WAYS, Miss, billed, measures
from voicecosts.consumer.pricing.ceiling import excess
from voicecosts.consumer.pricing.price import Unpriced
from voicecosts.consumer.pricing.units import PER
from voicecosts.consumer.pricing.unpriced import UnpricedUsage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from voicecosts.consumer.pricing.price import PriceBook
    from voicecosts.producer.events import Meter, Quantities

_EXACT: Final = Context(prec=50, rounding=ROUND_HALF_EVEN)
"""A 53-bit count times a listed rate has at most 40 digits, so every leg is exact. The one division
that can be endless (session time by the thousand minutes) is off in the 50th digit, where it cannot
turn a sum into or out of a tie at the ninth."""
_NANO: Final = Decimal("0.000000001")
_ZERO: Final = Decimal(0).quantize(_NANO)
_ALL_PRICED: Final = UnpricedUsage()


class Rated(Struct, frozen=True, kw_only=True):
    """What totals cost, and by which price.

    `cost` covers everything that has a rate, and is `None` when nothing has. `unpriced_usage` is
    how much of the totals it does not cover; `reason` says why, and is `None` exactly when it
    covers them all. `excess` says that the totals are more than can be believed (`ceiling`).
    """

    cost: Decimal | None
    reason: str | None = None
    source: str | None = None
    version: str | None = None
    model: str | None = None
    unpriced_usage: UnpricedUsage = UnpricedUsage()
    excess: str | None = None


class Rate(Protocol):
    """Price the running totals of a meter as of a moment. Pure, and it never raises."""

    def __call__(
        self, meter: Meter, totals: Quantities, at: datetime, *, provider_raw: str
    ) -> Rated:
        """Return the cost of `totals` by the prices in force at `at`."""


def rate_by(book: PriceBook, *, max_reading: Decimal = MAX_READING) -> Rate:
    """Return how totals are rated by the prices of `book`, up to `max_reading` US dollars."""
    return partial(rate, book, max_reading=max_reading)


def rate(
    book: PriceBook,
    meter: Meter,
    totals: Quantities,
    at: datetime,
    *,
    provider_raw: str,
    max_reading: Decimal = MAX_READING,
) -> Rated:
    """Return what `totals` cost by the price in force at `at`, the start of the session (UTC)."""
    rated = _rate(book, meter, totals, at, provider_raw=provider_raw)
    above = excess(totals, rated.cost, max_reading)
    return rated if above is None else replace(rated, excess=above)


def _rate(
    book: PriceBook, meter: Meter, totals: Quantities, at: datetime, *, provider_raw: str
) -> Rated:
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
    if meter.service_tier and not price.free:
        reason = f"{price.model!r} has no price for the service tier {meter.service_tier!r}"
        return _without_price(modality, totals, reason)
    parts, rates, misses = (
        ({}, price.rates, []) if price.free else billed(price, modality, totals, meter.size_tier)
    )
    return Rated(
        cost=None if misses and not parts else _cost(parts, rates),
        reason="; ".join(dict.fromkeys(miss.reason for miss in misses)) if misses else None,
        source=price.source,
        version=price.version,
        model=price.model,
        unpriced_usage=_unpriced(misses, totals) if misses else _ALL_PRICED,
    )


def _without_price(modality: str, totals: Quantities, reason: str) -> Rated:
    names = measures(modality, totals)
    if not names:
        return Rated(cost=_ZERO)
    miss = Miss({name: getattr(totals, name) for name in names}, reason)
    return Rated(cost=None, reason=reason, unpriced_usage=_unpriced([miss], totals))


def _unpriced(misses: list[Miss], totals: Quantities) -> UnpricedUsage:
    """Return all that is missed. Which requests used it is not known, unless a miss says so."""
    usage: dict[str, int] = {}
    for miss in misses:
        for name, amount in miss.usage.items():
            usage[name] = usage.get(name, 0) + amount
    if usage.keys() != {"requests"}:
        usage["requests"] = totals.requests
    return UnpricedUsage(**usage)


def _cost(parts: Mapping[str, int], rates: Mapping[str, Decimal]) -> Decimal:
    sums: dict[int, Decimal] = {}  # by what the rates buy, so that each is divided once
    for part, amount in parts.items():
        per = PER[part]
        sums[per] = _EXACT.fma(amount, rates[part], sums.get(per, _ZERO))
    total = _ZERO
    for per, dollars in sums.items():
        total = _EXACT.add(total, _EXACT.divide(dollars, per))
    return _EXACT.quantize(total, _NANO)
