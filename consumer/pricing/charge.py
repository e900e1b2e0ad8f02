"""A price of the operator's own for one meter, and what a meter's totals come to by it. Pure.

A charge is a function of the totals, so a minimum and a round-up are exact however the usage was
split into readings, and it never falls as consistent totals rise. It is exact up to one rounding,
half-even to nine digits. What was used and has no rate stays unpriced with a reason, as at the list
prices. It is stored beside what it priced, so every field survives JSON.
"""

from __future__ import annotations

from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from msgspec import Struct

from voicecosts.consumer.pricing.billing import Miss, measures
from voicecosts.consumer.pricing.units import (
    INPUT,
    TOKEN_PARTS,
    TOKENS,
    input_parts,
    output_parts,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voicecosts.producer.events import Meter, Quantities

EVERY_TOKEN: Final = "tokens"  # noqa: S105 - a unit of usage, no secret
"""The part of a price per token, whatever kind it is: all that went in and came out, and also the
tokens of which nobody can tell what they were."""

TIME: Final = "time_us"
"""The part of a price by time at a modality that is not ours: connected time or audio, whichever
is longer."""

_EXACT: Final = Context(prec=50, rounding=ROUND_HALF_EVEN)
"""A 53-bit count times a price (18 digits) at an exchange rate (15 digits) has at most 49 digits.
A division that is endless (a price by the hour) is off in the 50th digit, where it cannot turn a
sum into or out of a tie at the ninth."""
_NANO: Final = Decimal("0.000000001")
_ZERO: Final = Decimal(0).quantize(_NANO)


class Rate(Struct, frozen=True):
    """What `per` units of one part cost, in US dollars.

    A part is named as in `units`, or `EVERY_TOKEN` or `TIME`. Units are tokens, characters,
    requests or microseconds: a price for a minute is for 60,000,000 of `audio_us`.
    """

    part: str
    price: Decimal
    per: int


class Charge(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One price of the operator, as it was found for one meter.

    It is one of three: `parts` with their rates; a `share` of another layer's amount (0.85 of the
    list price, 1.20 of the cost), which `of` names; or `included`, which bills nothing because
    a price for the whole call does: that one is `whole`, and charges connected time. `minimum` and `increment` are units of the one part, and apply as
    soon as any of it was used. `at_least` is US dollars for the meter.

    The rest says where it comes from, and computes nothing: `entry` is the place in the file,
    `original_price` is what stands there, in `currency`, for one `unit`; `exchange_rate` is what one
    of that currency was in US dollars. It is valid from a day on (UTC) and before another one.
    """

    entry: str
    parts: tuple[Rate, ...] = ()
    minimum: int = 0
    increment: int = 1
    at_least: Decimal | None = None
    share: Decimal | None = None
    of: Literal["list", "cost"] = "list"
    included: bool = False
    whole: bool = False
    unit: str = ""
    source: str = ""
    currency: str = "USD"
    exchange_rate: Decimal | None = None
    original_price: str = ""
    valid_from: date | None = None
    valid_to: date | None = None


class Line(NamedTuple):
    """One part of a charge: what was used, what is counted after minimum and increment, at what."""

    rate: Rate
    used: int
    counted: int


class Charged(NamedTuple):
    """What totals come to, in nine digits, how, and what of them has no rate.

    `amount` is `None` when nothing that was used has a rate. `lines` are empty for a share.
    """

    amount: Decimal | None
    lines: Sequence[Line] = ()
    misses: Sequence[Miss] = ()


def charged(charge: Charge, meter: Meter, totals: Quantities, base: Decimal | None) -> Charged:
    """Return what `totals` come to by a charge, with its lines and what it leaves unpriced.

    `base` is the amount of the layer that a share is of. A share has no lines and no misses of its own:
    it covers what `base` covers, and is `None` where that is.
    """
    if charge.included:
        return Charged(_ZERO)
    if charge.share is not None:
        return Charged(_share(charge, charge.share, totals, base))
    used, misses = _used(charge, meter.modality, totals)
    lines = tuple(
        Line(rate, used[rate.part], _counted(charge, used[rate.part]))
        for rate in charge.parts
        if rate.part in used
    )
    if misses and not lines:
        return Charged(None, (), misses)
    amount = _sum(lines)
    if lines:
        amount = _at_least(charge, amount)
    return Charged(_EXACT.quantize(amount, _NANO), lines, misses)


def _share(
    charge: Charge, share: Decimal, totals: Quantities, base: Decimal | None
) -> Decimal | None:
    if base is None:
        return None
    amount = _EXACT.multiply(base, share)
    if any(getattr(totals, name) for name in totals.__struct_fields__):
        amount = _at_least(charge, amount)
    return _EXACT.quantize(amount, _NANO)


def _at_least(charge: Charge, amount: Decimal) -> Decimal:
    return amount if charge.at_least is None else max(amount, charge.at_least)


def _counted(charge: Charge, used: int) -> int:
    """Return an amount that is above zero as it is charged."""
    steps = -(-max(used, charge.minimum) // charge.increment)
    return steps * charge.increment


def _sum(lines: Sequence[Line]) -> Decimal:
    sums: dict[int, Decimal] = {}  # by what a price buys, so that each is divided once
    for rate, _, counted in lines:
        sums[rate.per] = _EXACT.fma(counted, rate.price, sums.get(rate.per, _ZERO))
    total = _ZERO
    for per, dollars in sums.items():
        total = _EXACT.add(total, _EXACT.divide(dollars, per))
    return total


def _used(
    charge: Charge, modality: str, totals: Quantities
) -> tuple[dict[str, int], Sequence[Miss]]:
    """Return what a charge has rates for, above zero, and what it has none for.

    As at the list prices, what a modality measures beside what it is charged by is information.
    """
    rated = {rate.part for rate in charge.parts}
    misses: list[Miss] = []
    if rated.isdisjoint(TOKENS):
        parts = {part: _amount(part, totals) for part in rated}
    else:
        parts = _tokens(modality, totals, misses)
        if "requests" in rated:
            parts["requests"] = totals.requests
    used = {part: amount for part, amount in parts.items() if amount}
    if missing := [part for part in used if part not in rated]:
        amounts: dict[str, int] = {}
        for part in missing:
            measure = "input_tokens" if part in INPUT else "output_tokens"
            amounts[measure] = amounts.get(measure, 0) + used.pop(part)
        misses.append(
            Miss(
                amounts, f"{charge.entry} has no price for {', '.join(map(_key, missing))}: add it"
            )
        )
    elif not used and not misses and (names := measures(modality, totals)):
        by = words([rate.part for rate in charge.parts])
        reason = f"{charge.entry} charges {by}, but what was reported is {words(names)}"
        if charge.unit == "call":
            reason = (
                f"{charge.entry} charges calls, and none was counted: record requests=1 for each"
            )
        misses.append(Miss({name: getattr(totals, name) for name in names}, reason))
    return used, misses


def _key(part: str) -> str:
    """Return how a table of prices names a part."""
    return next(key for key, priced in TOKEN_PARTS.items() if priced == part)


def _amount(part: str, totals: Quantities) -> int:
    if part == EVERY_TOKEN:
        return totals.input_tokens + totals.output_tokens + totals.other_tokens
    if part == TIME:
        return max(totals.audio_us, totals.session_us)
    amount: int = getattr(totals, part)
    return amount


def _tokens(modality: str, totals: Quantities, misses: list[Miss]) -> dict[str, int]:
    parts: dict[str, int] = {}
    for split, measure in ((input_parts, "input_tokens"), (output_parts, "output_tokens")):
        found = split(modality, totals)
        parts |= found.parts
        if found.unknown:
            misses.append(Miss({measure: found.unknown}, found.reason))
    if totals.other_tokens:
        reason = "other_tokens have no price: nobody can tell what they were"
        misses.append(Miss({"other_tokens": totals.other_tokens}, reason))
    return parts
