"""What ought to be booked of a meter, when some operations are in force and others are not.

A meter's own readings say how much was used. Its price is the newest decision that stands: one of its
readings, or a re-rating in force. A session that was voided has used nothing. So the books are what the
operations in force say, in whatever order operations were done and undone. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from voicecosts.consumer.booking.difference import ZERO
from voicecosts.consumer.booking.whole_calls import charges
from voicecosts.consumer.pricing import Rated, Terms, rated_by, uncharged
from voicecosts.producer.events import Quantities

if TYPE_CHECKING:
    from voicecosts.consumer.booking.prices import PricesUsed
    from voicecosts.producer.events import Meter


class Decision(Struct, frozen=True):
    """The prices that a row of a meter was the first to have.

    `operation` is None where a reading found them. `reason` is why there was no price, and `has_cost`
    whether the meter had a cost after it: an older version did not keep by which prices. A re-rating always
    did.
    """

    operation: int | None
    price_id: int | None
    reason: str | None
    has_cost: bool


class Reported(Struct, frozen=True):
    """What the rows of a meter's own readings add up to, and the decisions on its price in their order."""

    totals: Quantities
    reported_cost: Decimal
    cost: Decimal
    list_cost: Decimal
    decisions: tuple[Decision, ...]


class Standing(Struct, frozen=True):
    """What ought to be booked of a meter."""

    totals: Quantities
    reported_cost: Decimal
    rated: Rated


def terms_of(reported: Reported, *, rerates: Collection[int], prices: PricesUsed) -> Terms | None:
    """Return the prices that a meter ought to have, with these re-ratings in force."""
    return _decided(reported, rerates, prices)[1]


def _decided(
    reported: Reported, rerates: Collection[int], prices: PricesUsed
) -> tuple[Decision, Terms | None]:
    """Return the newest decision that stands, and its prices.

    What a reading or a label changed while a re-rating was in force changes the prices that stand without it.
    """
    first, *later = reported.decisions
    chosen, terms = first, prices.terms(first.price_id)
    before = terms
    for each in later:
        found = prices.terms(each.price_id)
        if each.operation is None:
            if terms == before or (terms is None and chosen.has_cost):
                chosen, terms = each, found
            else:
                moved = _moved(terms or Terms(), before or Terms(), found or Terms())
                terms = None if moved.is_empty else moved
        elif each.operation in rerates:
            chosen, terms = each, found
        before = found
    return chosen, terms


def _moved(terms: Terms, before: Terms, found: Terms) -> Terms:
    """Return `terms` with what made `found` of the terms `before`: a price that was found, or a label's."""
    if before.is_priced and found.cost != before.cost:
        terms = replace(terms, cost=found.cost)
    if not before.is_priced and not terms.is_priced:
        terms = replace(terms, listed=found.listed, unlisted=found.unlisted, cost=found.cost)
    if found.billed != before.billed:
        terms = replace(terms, billed=found.billed, unbilled=found.unbilled, call=found.call)
    return terms


def standing(
    meter: Meter,
    reported: Reported,
    *,
    rerates: Collection[int],
    is_voided: bool,
    prices: PricesUsed,
    is_charged: bool = False,
    began_without: bool = False,
) -> Standing:
    """Return what ought to be booked of a meter, with these re-ratings in force.

    Where a price for the whole call includes it, `is_charged` says whether that one charges the call. A call that
    `began_without` one is not charged by it, though its time was first read while a re-rating billed it so.
    """
    decision, terms = _decided(reported, rerates, prices)
    if began_without and terms is not None and charges(meter, terms, has_amount=True):
        terms = terms.without_call()
    if is_voided:
        # What used nothing costs nothing, in every layer.
        nothing = Rated(cost=ZERO, list_cost=ZERO, billed=ZERO, terms=terms)
        return Standing(Quantities(), ZERO, nothing)
    if terms is not None:
        rated = rated_by(terms, meter, reported.totals)
        if terms.is_included and not is_charged:
            rated = uncharged(rated)
    elif decision.operation is None and decision.has_cost:
        # What the readings of a meter were booked with, where its prices were not kept.
        rated = Rated(cost=reported.cost, list_cost=reported.list_cost)
    else:
        rated = rated_by(Terms(unlisted=decision.reason or ""), meter, reported.totals)
    return Standing(reported.totals, reported.reported_cost, rated)
