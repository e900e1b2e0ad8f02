"""A cost taken apart: every line of it as an exact fraction, and the one rounding of each layer. Pure.

The sums here are made anew, with whole fractions, from the prices that were kept and the quantities that
were booked; which part is charged by which rate is asked of the same code that rated it. So the lines add
up to what was booked, to the ninth digit, or show that they do not.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from voicecosts.consumer.pricing.billing import billed
from voicecosts.consumer.pricing.charge import charged
from voicecosts.consumer.pricing.rating import UNCHARGED, rated_by
from voicecosts.consumer.pricing.units import PER

if TYPE_CHECKING:
    from voicecosts.consumer.pricing.charge import Charge
    from voicecosts.consumer.pricing.terms import Terms
    from voicecosts.consumer.pricing.unpriced import UnpricedUsage
    from voicecosts.producer.events import Meter, Quantities

DIGITS: Final = 9
"""What an amount is rounded to, half to even."""


class Step(Struct, frozen=True, kw_only=True):
    """One line: `counted` of a part (what was `used`, after minimum and increment) at `price` for `per`.

    Amounts are base units: tokens, characters, requests, microseconds. The price is US dollars.
    """

    part: str
    used: int
    counted: int
    price: Decimal
    per: int

    @property
    def exact(self) -> Fraction:
        """What the line comes to in US dollars, not rounded."""
        return Fraction(self.price) * Fraction(self.counted, self.per)


class Layer(Struct, frozen=True, kw_only=True):
    """How one layer's amount comes about: from `steps`, or as a `share` of `base`.

    `exact` is before rounding, `amount` after it; both are `None` where nothing that was used has a
    price. `at_least` is there where the least amount of the entry was more than the rest.
    """

    steps: tuple[Step, ...] = ()
    share: Decimal | None = None
    base: Decimal | None = None
    at_least: Decimal | None = None
    exact: Fraction | None = None

    @property
    def amount(self) -> Decimal | None:
        """The amount in US dollars with nine digits."""
        return None if self.exact is None else rounded(self.exact)


class Explanation(Struct, frozen=True, kw_only=True):
    """All layers of one meter. `billed` is `None` where no rule bills it.

    `reason` and `unpriced` are what of the usage is not in `cost`; `unbilled` says why something is not in
    `billed`, though a rule is for it.
    """

    listed: Layer
    cost: Layer
    billed: Layer | None
    reason: str | None
    unpriced: UnpricedUsage
    unbilled: str | None = None


def rounded(exact: Fraction) -> Decimal:
    """Return a fraction with nine digits, half to even."""
    return Decimal(round(exact * 10**DIGITS)).scaleb(-DIGITS)


def explain(
    terms: Terms, meter: Meter, totals: Quantities, *, is_charged: bool = True
) -> Explanation:
    """Return how the totals of a meter come to what they come to by `terms`.

    What a price for the whole call includes has an amount only where that price charges the call.
    """
    rated = rated_by(terms, meter, totals)
    is_unknown = terms.is_included and not is_charged
    listed = _listed(terms, meter, totals, is_priced=rated.list_cost is not None)
    cost = listed if terms.cost is None else _charged(terms.cost, meter, totals, listed.amount)
    bill = None
    if terms.billed is not None:
        base = cost.amount if terms.billed.of == "cost" else listed.amount
        bill = _charged(terms.billed, meter, totals, base)
        if is_unknown or rated.billed is None:
            bill = Layer(share=bill.share, base=bill.base)
    return Explanation(
        listed=listed,
        cost=cost,
        billed=bill,
        reason=rated.reason,
        unpriced=rated.unpriced_usage,
        unbilled=UNCHARGED if is_unknown else rated.unbilled,
    )


def _listed(terms: Terms, meter: Meter, totals: Quantities, *, is_priced: bool) -> Layer:
    if not is_priced:
        return Layer()
    price = terms.listed
    if price is None or price.free:
        return Layer(exact=Fraction(0))
    bill = billed(price, meter.modality, totals, meter.size_tier)
    steps = tuple(
        Step(
            part=part,
            used=getattr(totals, part) if part.endswith("_us") else counted,
            counted=counted,
            price=bill.rates[part],
            per=PER[part],
        )
        for part, counted in bill.parts.items()
    )
    return Layer(steps=steps, exact=_sum(steps))


def _charged(charge: Charge, meter: Meter, totals: Quantities, base: Decimal | None) -> Layer:
    found = charged(charge, meter, totals, base)
    if found.amount is None:
        return Layer(share=charge.share, base=base)
    if charge.included:
        return Layer(exact=Fraction(0))
    steps = tuple(
        Step(
            part=line.rate.part,
            used=line.used,
            counted=line.counted,
            price=line.rate.price,
            per=line.rate.per,
        )
        for line in found.lines
    )
    exact = _sum(steps)
    if charge.share is not None:
        exact = Fraction(charge.share) * Fraction(base or 0)
    least = charge.at_least if steps or _is_used(charge, totals) else None
    if least is None or exact >= Fraction(least):
        return Layer(steps=steps, share=charge.share, base=base, exact=exact)
    return Layer(steps=steps, share=charge.share, base=base, at_least=least, exact=Fraction(least))


def _is_used(charge: Charge, totals: Quantities) -> bool:
    """Return whether a share is of a meter with any usage: then its least amount applies."""
    return charge.share is not None and any(
        getattr(totals, name) for name in totals.__struct_fields__
    )


def _sum(steps: tuple[Step, ...]) -> Fraction:
    return sum((step.exact for step in steps), Fraction(0))
