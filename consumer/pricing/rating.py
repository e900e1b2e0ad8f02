"""Rating: the totals of a meter times the unit prices of its model, as exact money.

Rounding happens once, half-even to nine digits, on the cost of the whole totals; the ledger books
differences of that, so money does not depend on how usage was split into readings. What has no
rate is named with a reason beside the cost of the rest. This never raises, and no cost is negative.

The totals are sums over many requests, and a price may depend on the size of each. So a meter holds
requests of one size only, and its totals are priced as if they were one request of that size. What
has been priced is never taken back by a later request, for that one is on a meter of its own.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from voicecosts.consumer.config import MAX_READING
from voicecosts.consumer.pricing.billing import WAYS, Miss, billed, measures
from voicecosts.consumer.pricing.ceiling import excess
from voicecosts.consumer.pricing.charge import charged
from voicecosts.consumer.pricing.terms import Finder, NoPricesOfOnesOwn, Terms
from voicecosts.consumer.pricing.units import PER
from voicecosts.consumer.pricing.unpriced import UnpricedUsage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from voicecosts.consumer.pricing.charge import Charge
    from voicecosts.consumer.pricing.price import PriceBook
    from voicecosts.consumer.pricing.scope import Scope
    from voicecosts.consumer.pricing.terms import OwnPrices
    from voicecosts.producer.events import Meter, Quantities

_EXACT: Final = Context(prec=50)
"""Enough for any cost: a 53-bit count times a listed rate has at most 40 digits."""
_NANO: Final = Decimal("0.000000001")
_NANOS: Final = 1_000_000_000
_MAX_WHOLE: Final = 4096
"""Rates whose whole numbers are kept."""
_ALL_PRICED: Final = UnpricedUsage()

OWN: Final = "prices.toml"
"""The source of a price that the operator states."""

NOT_LISTED: Final = "no list price"

_NOTHING_COUNTED: Final = "charges the whole call, and nothing that it charges was counted"

UNCHARGED: Final = (
    "a price for the whole call includes it, and its connected time has no amount by that price"
)
"""Why what such a price includes has no billed amount."""


class Rated(Struct, frozen=True, kw_only=True):
    """What totals come to in each layer, and by which prices.

    `cost` is what the operator pays, and covers everything that has a rate; it is `None` when
    nothing has. `unpriced_usage` is how much of the totals it does not cover; `reason` says why, and
    is `None` exactly when it covers them all. `list_cost` is the published price of the same usage,
    `None` without one; `billed` is what the tenant is charged, `None` where no rule says so; `unbilled`
    says why it does not cover all of the totals.
    `excess` says that the totals are more than can be believed (`ceiling`).
    """

    cost: Decimal | None
    reason: str | None = None
    source: str | None = None
    version: str | None = None
    model: str | None = None
    unpriced_usage: UnpricedUsage = UnpricedUsage()
    excess: str | None = None
    list_cost: Decimal | None = None
    billed: Decimal | None = None
    unbilled: str | None = None
    terms: Terms | None = None


class Rate(Protocol):
    """Price the running totals of a meter as of a moment. Pure, and it never raises."""

    def __call__(
        self,
        meter: Meter,
        totals: Quantities,
        at: datetime,
        *,
        provider_raw: str,
        scope: Scope,
        terms: Terms | None = None,
        relabelled: bool = False,
        book: str | UnsetType = UNSET,
    ) -> Rated:
        """Return what `totals` come to by `terms`, or by the prices in force at `at` for `scope`.

        With `relabelled` prices for the labels of `scope` take the place of the operator's others. `book` names
        those by which the session is billed (`Terms.book`), if that is decided.
        """


def rate_by(
    listed: PriceBook, own: OwnPrices | None = None, *, max_reading: Decimal = MAX_READING
) -> Rate:
    """Return how totals are rated by list prices and the operator's own, up to `max_reading` US dollars."""
    return partial(_rate, Finder(listed, own or NoPricesOfOnesOwn()), max_reading)


def _rate(
    finder: Finder,
    max_reading: Decimal,
    meter: Meter,
    totals: Quantities,
    at: datetime,
    *,
    provider_raw: str,
    scope: Scope,
    terms: Terms | None = None,
    relabelled: bool = False,
    book: str | UnsetType = UNSET,
) -> Rated:
    """Return what `totals` come to by prices in force at `at`, the start of the session (UTC)."""
    if terms is None:
        terms = finder.find(meter, scope, at, provider_raw=provider_raw, book=book)
    elif not terms.is_priced:
        terms = finder.find_rest(terms, meter, scope, at, provider_raw=provider_raw)
    if relabelled:
        terms = finder.relabelled(terms, meter, scope, at)
    rated = rated_by(terms, meter, totals)
    above = excess(totals, rated.cost, max_reading)
    return rated if above is None else replace(rated, excess=above)


def rated_by(terms: Terms, meter: Meter, totals: Quantities) -> Rated:
    """Return what `totals` come to by `terms`. The same terms and totals always give the same."""
    listed = rated = _listed(terms, meter, totals)
    if terms.cost is not None:
        rated = _own(terms.cost, listed, meter, totals)
    if terms.billed is None:
        return rated if terms.unbilled is None else replace(rated, unbilled=terms.unbilled)
    base = rated.cost if terms.billed.of == "cost" else rated.list_cost
    found = charged(terms.billed, meter, totals, base)
    amount, unbilled = found.amount, _reasons(found.misses)
    if terms.billed.share is not None:  # it covers what it is a share of
        unbilled = rated.reason if terms.billed.of == "cost" else listed.reason
    elif not found.lines and terms.billed.whole:
        amount, unbilled = None, unbilled or f"{terms.billed.entry} {_NOTHING_COUNTED}"
    return replace(rated, billed=amount, unbilled=unbilled)


def uncharged(rated: Rated) -> Rated:
    """Return what a meter is rated at whose call nothing charges: what includes it bills an unknown amount."""
    return replace(rated, billed=None, unbilled=UNCHARGED)


def _own(charge: Charge, listed: Rated, meter: Meter, totals: Quantities) -> Rated:
    """Return what the operator pays by a price of its own, beside the list price."""
    found = charged(charge, meter, totals, listed.list_cost)
    if charge.share is not None:  # it covers what the list price covers
        return replace(listed, cost=found.amount, source=OWN, version="", model=charge.entry)
    misses = list(found.misses)
    return replace(
        listed,
        cost=found.amount,
        reason=_reasons(misses),
        source=OWN,
        version="",
        model=charge.entry,
        unpriced_usage=_unpriced(misses, totals) if misses else _ALL_PRICED,
    )


def _listed(terms: Terms, meter: Meter, totals: Quantities) -> Rated:
    """Return what `totals` cost by the list price alone."""
    modality, price = meter.modality, terms.listed
    if price is None:
        return _without_price(terms, modality, totals, terms.unlisted or NOT_LISTED)
    if modality not in WAYS:
        reason = f"no rule how modality {modality!r} is billed"
        return _without_price(terms, modality, totals, reason)
    if meter.service_tier and not price.free:
        reason = f"{price.model!r} has no price for the service tier {meter.service_tier!r}"
        return _without_price(terms, modality, totals, reason)
    parts, rates, misses = (
        ({}, price.rates, []) if price.free else billed(price, modality, totals, meter.size_tier)
    )
    cost = None if misses and not parts else _cost(parts, rates)
    return Rated(
        cost=cost,
        list_cost=cost,
        reason=_reasons(misses),
        source=price.source,
        version=price.version,
        model=price.model,
        unpriced_usage=_unpriced(misses, totals) if misses else _ALL_PRICED,
        terms=terms,
    )


def _without_price(terms: Terms, modality: str, totals: Quantities, reason: str) -> Rated:
    names = measures(modality, totals) or ("requests",)
    miss = Miss({name: getattr(totals, name) for name in names}, reason)
    usage = _unpriced([miss], totals)
    return Rated(cost=None, reason=reason, unpriced_usage=usage, terms=terms)


def _reasons(misses: Sequence[Miss]) -> str | None:
    if not misses:
        return None
    return "; ".join(dict.fromkeys(miss.reason for miss in misses)) or None


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
    found = _whole.get(id(rates))
    if found is None:
        if len(_whole) >= _MAX_WHOLE:
            _whole.clear()
        found = _whole[id(rates)] = _Whole.of(rates)
    shares = found.shares
    nanos, rest = divmod(sum([amount * shares[part] for part, amount in parts.items()]), found.per)
    if rest * 2 + (nanos & 1) > found.per:  # half to even
        nanos += 1
    return _EXACT.multiply(_NANO, nanos)


class _Whole(NamedTuple):
    """Rates as whole numbers: one of a part costs its share, of which `per` are a nano-dollar."""

    rates: Mapping[str, Decimal]  # kept, so that no id is used again
    shares: Mapping[str, int]
    per: int

    @classmethod
    def of(cls, rates: Mapping[str, Decimal]) -> _Whole:
        ratios = {part: rate.as_integer_ratio() for part, rate in rates.items() if part in PER}
        per = math.lcm(*(below * PER[part] for part, (_, below) in ratios.items()))
        return cls(
            rates,
            {
                part: _NANOS * above * (per // (below * PER[part]))
                for part, (above, below) in ratios.items()
            },
            per,
        )


_whole: Final[dict[int, _Whole]] = {}
