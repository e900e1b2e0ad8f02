"""What ought to be booked of a meter, when some operations are in force and others are not.

A meter's own readings say how much was used. Its price is the newest decision that stands: one of its
readings, or a re-rating in force. A session that was voided has used nothing. So the books are what the
operations in force say, in whatever order operations were done and undone. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from voicecosts.consumer.booking.difference import ZERO
from voicecosts.consumer.booking.whole_calls import book_among
from voicecosts.consumer.pricing import Rated, Terms, rated_by, uncharged
from voicecosts.consumer.pricing.terms import FORMER
from voicecosts.producer.events import Quantities

if TYPE_CHECKING:
    from voicecosts.consumer.booking.prices import PricesUsed
    from voicecosts.producer.events import Meter


class Decision(Struct, frozen=True):
    """The prices that a row of a meter was the first to have.

    `operation` is None where a reading found them. `reason` is why there was no price, and `has_cost`
    whether the meter had a cost after it: an older version did not keep by which prices. A re-rating always
    did. `began` is the place of its first row in the ledger.
    """

    operation: int | None
    price_id: int | None
    reason: str | None
    has_cost: bool
    began: int


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


class Books(Struct, frozen=True):
    """By which of the operator's prices a session is billed: by `standing`, or by others that are in force for it."""

    standing: str | UnsetType
    others: frozenset[str | UnsetType]


def books_of(
    reported: Mapping[Meter, Reported], *, rerates: Collection[int], prices: PricesUsed
) -> Books:
    """Return by which of the operator's prices a session is billed, with these re-ratings in force.

    Without any it is those that the first of its readings found. What was read while another one was in force, that
    is not any more, does not say.
    """
    own: dict[int, str] = {}
    rerated: set[str] = set()
    decided: dict[Meter, tuple[bool, str]] = {}
    for meter, it in reported.items():
        for each in it.decisions:
            terms = prices.terms(each.price_id)
            if terms is None or terms.book is UNSET:
                continue
            if each.operation is None:
                own[each.began] = terms.book
            elif each.operation in rerates:
                rerated.add(terms.book)
        decision, terms, _ = _decided(it, rerates, prices)
        if terms is not None and terms.book is not UNSET:
            decided[meter] = decision.operation is None, terms.book
    first = own[min(own)] if own else UNSET
    standing = {
        meter: book for meter, (is_own, book) in decided.items() if not is_own or book == first
    }
    return Books(book_among(standing) if standing else first, frozenset((first, *rerated)))


def _decided(
    reported: Reported, rerates: Collection[int], prices: PricesUsed
) -> tuple[Decision, Terms | None, bool]:
    """Return the newest decision that stands, its prices, and whether something changed these since.

    What a reading or a label changed while a re-rating was in force changes the prices that stand without it.
    """
    is_moved = False
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
                terms, is_moved = None if moved.is_empty else moved, True
        elif each.operation in rerates:
            chosen, terms, is_moved = each, found, False
        before = found
    return chosen, terms, is_moved


def _moved(terms: Terms, before: Terms, found: Terms) -> Terms:
    """Return `terms` with what made `found` of the terms `before`: a price that was found, or a label's."""
    if before.is_priced and found.cost != before.cost:
        terms = replace(terms, cost=found.cost)
    if not before.is_priced and not terms.is_priced:
        terms = replace(terms, listed=found.listed, unlisted=found.unlisted, cost=found.cost)
    if found.billed != before.billed:
        terms = replace(terms, billed=found.billed, unbilled=found.unbilled)
    return terms


def _billed(
    decision: Decision,
    terms: Terms | None,
    books: Books,
    bills: Callable[[str], Terms],
    *,
    is_moved: bool,
) -> Terms | None:
    """Return the same prices, billed by the operator's that stand, where these were found by others."""
    if terms is None:
        if decision.has_cost or books.standing is UNSET:
            return None
        found = bills(books.standing)
        return None if found.billed is None else Terms(billed=found.billed, book=found.book)
    if terms.book is UNSET:
        return terms
    is_other = decision.operation is None and terms.book not in books.others
    if is_other and books.standing is not UNSET:
        found = bills(books.standing)
    else:  # by the same, with labels that have come since
        found = bills(terms.book)
        if found.unbilled == FORMER and not is_moved:
            return terms
    return replace(terms, billed=found.billed, unbilled=found.unbilled, book=found.book)


def standing(
    meter: Meter,
    reported: Reported,
    *,
    rerates: Collection[int],
    is_voided: bool,
    prices: PricesUsed,
    books: Books,
    bills: Callable[[str], Terms],
    is_charged: bool = False,
) -> Standing:
    """Return what ought to be booked of a meter, with these re-ratings in force.

    `bills` returns what bills the meter by prices of the operator, which are named as in `books`. Where a price for
    the whole call includes it, `is_charged` says whether that one charges the call.
    """
    decision, terms, is_moved = _decided(reported, rerates, prices)
    terms = _billed(decision, terms, books, bills, is_moved=is_moved)
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
