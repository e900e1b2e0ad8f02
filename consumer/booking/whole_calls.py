"""A price for the whole call: what it includes is zero when it charges the call, and unknown until then.

It charges the call's connected time, which is a meter of its own and is mostly counted when the call ends. So what
other meters are billed depends on whether that one has an amount by it, and on nothing else of it: in whatever order
readings come, the same is booked in the end. By which text of the price file a call is billed is decided once, with its
first meter: otherwise a file that is edited meanwhile would bill the call by both ways of charging it, or by neither.
Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType
from msgspec.structs import astuple

from voicecosts.consumer.pricing import uncharged
from voicecosts.consumer.pricing.billing import CALL_TIME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from voicecosts.consumer.booking.difference import MeterState
    from voicecosts.consumer.pricing import Rate, Rated, Scope, Terms
    from voicecosts.producer.events import Meter, Quantities


def rate_beside(rate: Rate, meters: Mapping[Meter, MeterState]) -> Rate:
    """Return how meters are rated beside the other meters of their session, as they are then.

    While it is used, a meter changes only after it was rated by it, and a meter that is new is billed by the book that
    it was given. So a call's book is looked for until it is decided, and what charges the call again after connected
    time was rated: an end of many meters does not go through all of them for each.
    """
    decided: str | UnsetType = UNSET
    charged: bool | None = None

    def rated(
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
        nonlocal decided, charged
        if terms is None and book is UNSET:
            book = decided = kept_book(meters) if decided is UNSET else decided
        found = rate(
            meter,
            totals,
            at,
            provider_raw=provider_raw,
            scope=scope,
            terms=terms,
            relabelled=relabelled,
            book=book,
        )
        if meter.modality == CALL_TIME:
            charged = None
        if found.terms is None or not found.terms.is_included:
            return found
        if meter.modality == CALL_TIME:  # it is booked after this, and may then charge the call
            return found if is_charged(meters) else uncharged(found)
        if charged is None:
            charged = is_charged(meters)
        return found if charged else uncharged(found)

    return rated


def kept_book(meters: Mapping[Meter, MeterState]) -> str | UnsetType:
    """Return by which of the operator's prices a call is billed; unset where that is undecided."""
    return book_among(
        {
            meter: state.terms.book
            for meter, state in meters.items()
            if state.terms is not None and state.terms.book is not UNSET
        }
    )


def book_among(books: Mapping[Meter, str]) -> str | UnsetType:
    """Return by which of the operator's prices a call is billed whose meters are billed by these.

    A re-rating of a part of them may have left several: then by those of its connected time, or of the first meter.
    """
    if not books:
        return UNSET
    return books[min(books, key=lambda meter: (meter.modality != CALL_TIME, astuple(meter)))]


def is_charged(meters: Mapping[Meter, MeterState]) -> bool:
    """Return whether the connected time of a call has an amount by a price for the whole call."""
    return any(
        charges(meter, state.terms, has_amount=bool(state.counted.billed_meters))
        for meter, state in meters.items()
        if meter.modality == CALL_TIME
    )


def charges(meter: Meter, terms: Terms | None, *, has_amount: bool) -> bool:
    """Return whether a meter is connected time, with an amount by a price for the whole call."""
    return meter.modality == CALL_TIME and has_amount and (terms is None or terms.charges_call)


def included_unknown(meters: Mapping[Meter, MeterState]) -> list[Meter]:
    """Return the meters that such a price includes, and that were booked before it charged the call."""
    return [
        meter
        for meter, state in meters.items()
        if state.counted.meters
        and not state.counted.billed_meters
        and state.terms is not None
        and state.terms.is_included
    ]


def time_first(meters: Iterable[Meter]) -> list[Meter]:
    """Return meters in an order in which each is known when it is asked for: connected time, then the others."""
    return sorted(meters, key=lambda meter: meter.modality != CALL_TIME)
