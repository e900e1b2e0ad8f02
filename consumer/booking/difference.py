"""The one rule: a reading books what its meter moved since the last booking, and nothing else.

Readings carry running totals, so a repeated, reordered or lost reading cannot change what is
booked in the end, and money is booked by difference just the same: the rounded cost of a meter's
totals less the cost booked already. Pure: it does no I/O, and it never books a negative quantity.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from msgspec import Struct
from msgspec.structs import astuple, replace

from voicecosts.consumer.booking.counted import NOTHING, Counted, counted, counted_since
from voicecosts.consumer.booking.decode import Delivery
from voicecosts.consumer.booking.message import Reason
from voicecosts.consumer.booking.months import ALL_OPEN, Months
from voicecosts.consumer.booking.prices import PricesUsed
from voicecosts.consumer.pricing import Rate, Rated, Scope, Terms
from voicecosts.consumer.pricing.billing import CALL_TIME
from voicecosts.consumer.pricing.ceiling import MAX_REPORTED
from voicecosts.consumer.pricing.unpriced import UNPRICED, UnpricedUsage
from voicecosts.producer.events import (
    QUANTITIES,
    Meter,
    MeterReading,
    MeterTotals,
    Quantities,
    RequestDetail,
    SessionEnded,
    meter_of,
)

NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})

NO_PRICE: Final = "no_price"
"""The reason of an unpriced row when the rating gave none."""

ZERO: Final = Decimal(0)
_NANO = Decimal("0.000000001")
_LIMIT = Decimal(1_000_000_000)  # DECIMAL(18, 9) holds less than this
_SESSIONS: Final = 4096  # whose times are remembered: a session's readings come one after the other
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Reading(Struct, frozen=True, gc=False):
    """The running totals of one meter at a moment, and the message that brought them."""

    delivery: Delivery
    meter: Meter
    number: int
    project: str
    agent_id: str
    tenant: str | None
    provider_raw: str
    occurred_at: int
    totals: Quantities
    reported_cost: str | None
    last: RequestDetail | None


_ALL_PRICED: Final = UnpricedUsage()


class MeterState(Struct, frozen=True, gc=False):
    """What the ledger holds for a meter. `number` is of the highest reading seen.

    It can be derived from the ledger's rows, except that a reading which added nothing left no row:
    its number is lost with the cache, and the same reading then adds nothing again.
    """

    number: int = 0
    totals: Quantities = Quantities()
    cost: Decimal = ZERO
    reported_cost: Decimal = ZERO
    unpriced: UnpricedUsage = _ALL_PRICED
    list_cost: Decimal = ZERO
    billed: Decimal = ZERO
    terms: Terms | None = None  # the prices of the meter, once it has any
    provider_raw: str = ""
    counted: Counted = NOTHING


class Booking(Struct, frozen=True, gc=False, omit_defaults=True):
    """One row of the ledger: what a reading added to its meter, and what that costs.

    The names are the keys that `insert_bookings.sql` reads, and money is plain decimal text.
    """

    meter: Meter
    number: int
    project: str
    agent_id: str
    tenant: str | None
    provider_raw: str
    occurred_at: int
    added: Quantities
    producer_id: str
    batch_number: int
    stream_sequence: int
    price_source: str | None
    price_version: str | None
    price_model: str | None
    cost: str | None = None
    last: RequestDetail | None = None
    unpriced_reason: str | None = None
    unpriced: UnpricedUsage = _ALL_PRICED
    reported_cost: str | None = None
    list_cost: str | None = None
    billed: str | None = None
    unbilled_reason: str | None = None
    price_id: int | None = None
    operation: int | None = None
    day: date | None = None  # `None`: the day on which the session started
    corrects: date | None = None
    opens: bool = False  # the first row of its session
    counted: Counted = NOTHING


class Refusal(Struct, frozen=True):
    """A reading that cannot be booked, and why."""

    reason: Reason
    detail: str


def readings(delivery: Delivery, event: MeterReading | SessionEnded) -> list[Reading]:
    """Return the readings that an event carries: its own, or the final one of every meter.

    Connected time comes first: what others are billed may depend on it.
    """
    if isinstance(event, MeterReading):
        return [
            Reading(
                delivery,
                meter_of(event),
                event.number,
                event.project,
                event.agent_id,
                event.tenant,
                event.provider_raw,
                event.occurred_at,
                event.totals,
                event.reported_cost,
                event.last,
            )
        ]
    return [
        Reading(
            delivery,
            meter_of(event, final),
            event.number,
            event.project,
            event.agent_id,
            event.tenant,
            final.provider_raw,
            event.ended_at,
            final.totals,
            final.reported_cost,
            None,
        )
        for final in sorted(event.meters, key=_is_no_call_time)
    ]


def _is_no_call_time(final: MeterTotals) -> bool:
    return final.modality != CALL_TIME


@lru_cache(maxsize=_SESSIONS)
def session_time(session_id: str) -> datetime:
    """Return the time inside a UUIDv7: when the session started, hence which prices it has."""
    return _EPOCH + timedelta(milliseconds=int(session_id[:8] + session_id[9:13], 16))


def book(
    reading: Reading,
    state: MeterState,
    rate: Rate,
    *,
    labels: Mapping[str, str] = NO_LABELS,
    prices: PricesUsed | None = None,
    months: Months = ALL_OPEN,
) -> tuple[Booking | None, MeterState] | Refusal:
    """Return the row that `reading` adds, if any, and the state of its meter after it.

    A refused reading leaves the meter as it was: the next good one books from there. `labels` are
    the session's, `prices` numbers the prices that rate a row, and `months` dates it.
    """
    if reading.number <= state.number:
        return None, state
    added = moved(reading.totals, state.totals)
    reported = _reported(reading, state)
    if added and min(added.values()) < 0:
        name = next(name for name, step in added.items() if step < 0)
        booked = getattr(state.totals, name)
        return _backwards(reading, name, booked, booked + added[name])
    if reported < state.reported_cost:
        return _backwards(reading, "reported_cost", f"{state.reported_cost:f}", f"{reported:f}")
    if not added and reported == state.reported_cost:
        return None, replace(state, number=reading.number)
    started = session_time(reading.meter.session_id)
    rated = rate(
        reading.meter,
        reading.totals,
        started,
        provider_raw=reading.provider_raw,
        scope=_scope(reading, labels),
        terms=state.terms,
    )
    money = _money(reading, rated, state)
    if isinstance(money, Refusal):
        return money
    unpriced, counts = rated.unpriced_usage, counted(rated)
    terms, price_id = rated.terms, None
    if prices is not None and terms is not None:
        price_id = prices.number_of(terms)
        terms = prices.terms(price_id)
    cost = money_text(money.cost)
    row = Booking(
        reading.meter,
        reading.number,
        reading.project,
        reading.agent_id,
        reading.tenant,
        reading.provider_raw,
        reading.occurred_at,
        Quantities(**added),
        reading.delivery.producer_id,
        reading.delivery.number,
        reading.delivery.message.sequence,
        rated.source,
        rated.version,
        rated.model,
        cost,
        reading.last,
        money.reason,
        unpriced_since(unpriced, state.unpriced),
        None if reading.reported_cost is None else f"{reported - state.reported_cost:f}",
        cost if money.list_cost is money.cost else money_text(money.list_cost),
        money_text(money.billed),
        rated.unbilled,
        price_id,
        None,
        *months.dated(started.date()),
        counted=counted_since(counts, state.counted),
    )
    return row, MeterState(
        reading.number,
        reading.totals,
        state.cost + (money.cost or ZERO),
        reported,
        unpriced,
        state.list_cost + (money.list_cost or ZERO),
        state.billed + (money.billed or ZERO),
        kept_of(terms, rated),
        reading.provider_raw,
        counts,
    )


def kept_of(terms: Terms | None, rated: Rated) -> Terms | None:
    """Return the terms that a meter keeps, once it was rated by them."""
    if terms is None:
        return None
    has_billed = rated.billed is not None or terms.is_included
    return terms.kept(has_cost=rated.cost is not None, has_billed=has_billed)


def _scope(reading: Reading, labels: Mapping[str, str] = NO_LABELS) -> Scope:
    return Scope(
        project=reading.project,
        agent_id=reading.agent_id,
        tenant=reading.tenant,
        labels=labels,
    )


def worst_case(reading: Reading, rate: Rate) -> Decimal | None:
    """Return what a refused reading may have been worth at most: all that its totals cost.

    `None` when not all of it has a price that a row can hold: then it is unknown. A meter that ran
    backwards may have been counted from zero again, so what is booked of it is not subtracted.
    """
    rated = rate(
        reading.meter,
        reading.totals,
        session_time(reading.meter.session_id),
        provider_raw=reading.provider_raw,
        scope=_scope(reading),
    )
    if rated.excess is not None or rated.cost is None or rated.reason is not None:
        return None
    if not ZERO <= rated.cost < _LIMIT:
        return None
    return rated.cost.quantize(_NANO, ROUND_HALF_EVEN)


def holds(state: MeterState, reading: Reading) -> bool:
    """Return whether the ledger has all that a reading says, or more from a later one."""
    pairs = zip(astuple(state.totals), astuple(reading.totals), strict=True)
    return _reported(reading, state) <= state.reported_cost and all(
        held >= read for held, read in pairs
    )


def moved(totals: Quantities, booked: Quantities) -> dict[str, int]:
    """Return what moved, by name; most readings move three of nineteen quantities."""
    pairs = zip(QUANTITIES, astuple(totals), astuple(booked), strict=True)
    return {name: now - before for name, now, before in pairs if now != before}


def _reported(reading: Reading, state: MeterState) -> Decimal:
    """Return what the provider reported so far; a reading without a figure changes nothing."""
    return state.reported_cost if reading.reported_cost is None else Decimal(reading.reported_cost)


def _money(reading: Reading, rated: Rated, state: MeterState) -> Money | Refusal:
    """Return what a row adds to each layer, and the reason why (part of) its meter has no cost.

    The rows of a meter always add up to the money of its totals, so it does not depend on how usage
    was split into readings. A row without a reason is of a meter that is priced in full: only there
    is zero a price. A difference below zero is a correction: a price was found or lost since.
    What is more than can be believed is refused.
    """
    if rated.excess is not None or _reported(reading, state) > MAX_REPORTED:
        return _above_ceiling(reading, rated)
    return money_of(rated, state)


class Money(Struct, frozen=True, gc=False):
    """What a row adds to each layer of money; `None` is no price, and no rule for `billed`."""

    list_cost: Decimal | None
    cost: Decimal | None
    billed: Decimal | None
    reason: str | None


def money_of(rated: Rated, state: MeterState) -> Money | Refusal:
    """Return the money of a meter's totals less what is booked of it, in every layer."""
    cost = _step(rated.cost, state.cost)
    if rated.list_cost is rated.cost and state.list_cost == state.cost:
        listed = cost
    else:
        listed = _step(rated.list_cost, state.list_cost)
    billed = _step(rated.billed, state.billed)
    if listed is cost and billed is None:  # as of nearly all
        layers: tuple[tuple[Decimal | None, Decimal | None], ...] = ((cost, rated.cost),)
    else:
        layers = (cost, rated.cost), (listed, rated.list_cost), (billed, rated.billed)
    for step, running in layers:
        if step is not None and not abs(step) < _LIMIT:
            return _out_of_range(running or step)
    if rated.cost is not None and rated.reason is None:
        return Money(listed, cost, billed, None)
    return Money(listed, cost or None, billed, rated.reason or NO_PRICE)


def _step(running: Decimal | None, before: Decimal) -> Decimal | None:
    """Return what a layer moved, more than a row holds where it cannot be booked; `None`: no price."""
    if running is None:
        return ZERO.quantize(_NANO) - before or None
    if not abs(running) < _LIMIT:
        return running
    return running.quantize(_NANO, ROUND_HALF_EVEN) - before


def money_text(money: Decimal | None) -> str | None:
    """Return money as a row has it: plain decimal text."""
    return None if money is None else f"{money:f}"


def unpriced_since(now: UnpricedUsage, before: UnpricedUsage) -> UnpricedUsage:
    """Return how much more of a meter has no price than before; less than zero where one was found."""
    if now == before:
        return _ALL_PRICED
    pairs = zip(UNPRICED, astuple(now), astuple(before), strict=True)
    return UnpricedUsage(**{name: new - old for name, new, old in pairs})


def _out_of_range(cost: Decimal) -> Refusal:
    return Refusal(Reason.OUT_OF_RANGE, f"cost {cost} does not fit a row (below {_LIMIT})")


def _above_ceiling(reading: Reading, rated: Rated) -> Refusal:
    meter = reading.meter
    figure = rated.excess or (
        f"the provider reports {reading.reported_cost} US dollars, above the fixed limit of "
        f"{MAX_REPORTED}"
    )
    return Refusal(
        Reason.ABOVE_CEILING,
        f"reading {reading.number} of {meter.modality} {meter.provider} {meter.model} for "
        f"{meter.agent_label} says more than one call can use: {figure}",
    )


def _backwards(reading: Reading, name: str, booked: object, read: object) -> Refusal:
    meter = reading.meter
    return Refusal(
        Reason.BACKWARDS,
        f"{name} went back from {booked} (booked) to {read} in reading {reading.number} of "
        f"{meter.modality} {meter.provider} {meter.model} for {meter.agent_label}",
    )
