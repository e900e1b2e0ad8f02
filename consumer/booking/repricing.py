"""A meter whose prices changed: what is booked of it becomes what its totals cost by the new ones.

The row that does it moves no quantity, unless an operation takes usage out of the books or brings it
back. It may belong to an operation (`costs rerate`), or come of a session's labels, which arrived after
its first usage. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import UNSET, Struct
from msgspec.structs import replace

from voicecosts.consumer.booking.counted import NOTHING, counted, counted_since
from voicecosts.consumer.booking.difference import (
    Booking,
    MeterState,
    Money,
    Refusal,
    kept_of,
    money_of,
    money_text,
    moved,
    session_time,
    unpriced_since,
)
from voicecosts.producer.events import Quantities

if TYPE_CHECKING:
    from decimal import Decimal

    from voicecosts.consumer.booking.months import Months
    from voicecosts.consumer.booking.prices import PricesUsed
    from voicecosts.consumer.pricing import Rated, Terms
    from voicecosts.producer.events import Meter


_NO_USAGE: Final = Quantities()


class Origin(Struct, frozen=True):
    """What a row of no reading says of its session, and where it came from."""

    project: str
    agent_id: str
    tenant: str | None
    occurred_at: int
    producer_id: str = ""
    batch_number: int = 0
    stream_sequence: int = 0
    operation: int | None = None


def repriced(
    meter: Meter,
    state: MeterState,
    rated: Rated,
    *,
    origin: Origin,
    prices: PricesUsed,
    months: Months,
    totals: Quantities | None = None,
    reported_cost: Decimal | None = None,
    confirms: bool = False,
) -> tuple[Booking, MeterState] | Refusal | None:
    """Return the row that makes `rated` of a meter's totals what is booked; `None` if it is so already.

    What `confirms` has a row in any case.
    With `totals` or `reported_cost` these become what is booked as well. A meter whose new money no row
    can hold is refused, and stays as it is.
    """
    totals = state.totals if totals is None else totals
    reported = state.reported_cost if reported_cost is None else reported_cost
    added = moved(totals, state.totals)
    price_id = None if rated.terms is None else prices.number_of(rated.terms)
    terms = kept_of(prices.terms(price_id), rated)
    money = money_of(rated, state)
    if isinstance(money, Refusal):
        return money
    unpriced = rated.unpriced_usage
    counts = counted(rated) if totals != _NO_USAGE or reported else NOTHING
    is_same = not confirms and not added and reported == state.reported_cost
    is_same = is_same and unpriced == state.unpriced and counts == state.counted
    if is_same and not _changes(money) and _bills_alike(terms, state.terms):
        return None
    day, corrects = months.dated(session_time(meter.session_id).date())
    row = Booking(
        meter,
        state.number,
        origin.project,
        origin.agent_id,
        origin.tenant,
        state.provider_raw,
        origin.occurred_at,
        Quantities(**added),
        origin.producer_id,
        origin.batch_number,
        origin.stream_sequence,
        rated.source,
        rated.version,
        rated.model,
        cost=money_text(money.cost),
        unpriced_reason=money.reason,
        unpriced=unpriced_since(unpriced, state.unpriced),
        reported_cost=None
        if reported == state.reported_cost
        else f"{reported - state.reported_cost:f}",
        list_cost=money_text(money.list_cost),
        billed=money_text(money.billed),
        unbilled_reason=rated.unbilled,
        price_id=price_id,
        operation=origin.operation,
        day=day,
        corrects=corrects,
        counted=counted_since(counts, state.counted),
    )
    after = replace(
        state,
        totals=totals,
        reported_cost=reported,
        cost=state.cost + (money.cost or 0),
        list_cost=state.list_cost + (money.list_cost or 0),
        billed=state.billed + (money.billed or 0),
        unpriced=unpriced,
        terms=terms,
        counted=counts,
    )
    return row, after


def _bills_alike(terms: Terms | None, others: Terms | None) -> bool:
    """Return whether prices are the same, whichever text of the operator's file they are from."""
    if terms is None or others is None:
        return terms is others
    return replace(terms, book=UNSET) == replace(others, book=UNSET)


def _changes(money: Money) -> bool:
    return bool(money.list_cost or money.cost or money.billed)
