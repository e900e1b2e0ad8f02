"""The guarantee of the whole project, on the pure rule: deliver readings as you like, the sums stand."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from tests.support.calls import calls, deliveries
from tests.support.events import PRODUCER, SUBJECT
from tests.support.oracle import Total, expected, rate
from voicecosts.consumer.booking.decode import Delivery
from voicecosts.consumer.booking.difference import Booking, MeterState, Refusal, book, readings
from voicecosts.consumer.booking.message import Message
from voicecosts.producer.events import (
    QUANTITIES,
    Event,
    Meter,
    MeterReading,
    Quantities,
    SessionEnded,
)

DELIVERY = Delivery(Message(SUBJECT, 1, b""), PRODUCER, 1, [])


def booked_from(events: list[Event], forget: set[int]) -> list[Booking]:
    """Book events one by one; before those in `forget` the states are derived from the rows again."""
    rows: list[Booking] = []
    states: dict[Meter, MeterState] = {}
    for place, event in enumerate(events):
        if place in forget:
            states = derived(rows)
        if not isinstance(event, MeterReading | SessionEnded):
            continue
        for reading in readings(DELIVERY, event):
            result = book(reading, states.get(reading.meter, MeterState()), rate)
            assert not isinstance(result, Refusal), result
            row, states[reading.meter] = result
            rows += [row] if row is not None else []
    return rows


def derived(rows: list[Booking]) -> dict[Meter, MeterState]:
    """Sum rows up into states, as a ledger does when it is opened."""
    states: dict[Meter, MeterState] = {}
    for row in rows:
        before = states.get(row.meter, MeterState())
        pairs = zip(QUANTITIES, astuple(before.totals), astuple(row.added), strict=True)
        states[row.meter] = MeterState(
            max(before.number, row.number),
            Quantities(**{name: then + more for name, then, more in pairs}),
            before.cost + Decimal(row.cost or 0),
            before.reported_cost + Decimal(row.reported_cost or 0),
        )
    return states


def sums(rows: list[Booking]) -> dict[Meter, Total]:
    """Return the sums of rows in the form of the oracle."""
    return {
        meter: Total(state.totals, state.cost, state.reported_cost)
        for meter, state in derived(rows).items()
    }


@settings(max_examples=125)
@given(st.data())
def test_totals_and_money_do_not_depend_on_the_delivery(data: st.DataObject) -> None:
    """Repeated, reordered and lost readings, and a lost cache, end in the same nano-dollar."""
    check_delivery(data)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data())
def test_totals_and_money_do_not_depend_on_the_delivery_at_length(data: st.DataObject) -> None:
    """The same, with many more examples."""
    check_delivery(data)


def check_delivery(data: st.DataObject) -> None:
    """Book readings that came in some bad way, and compare with the last ones."""
    made = data.draw(calls())
    sent = data.draw(deliveries(made))
    forget = data.draw(st.sets(st.integers(0, max(0, len(sent) - 1)), max_size=4))

    rows = booked_from(sent, forget)

    assert sums(rows) == expected(event for call in made for event in call.events)


@settings(max_examples=100)
@given(st.data())
def test_no_row_is_negative_or_empty(data: st.DataObject) -> None:
    """Every row moves something forward, and one without a cost says why."""
    sent = data.draw(deliveries(data.draw(calls())))

    for row in booked_from(sent, set()):
        assert min(astuple(row.added)) >= 0
        assert any(astuple(row.added)) or Decimal(row.reported_cost or 0) > 0
        assert row.cost is not None or row.unpriced_reason is not None
        assert row.cost is None or Decimal(row.cost) > 0 or row.unpriced_reason is None


@settings(max_examples=100)
@given(st.data())
def test_in_order_every_reading_that_moved_something_is_a_row(data: st.DataObject) -> None:
    """Readings that arrive in order keep their detail, however many there are in one go."""
    made = data.draw(calls())
    sent = [event for call in made for event in call.events]

    numbers = [(row.meter, row.number) for row in booked_from(sent, set())]

    assert len(set(numbers)) == len(numbers)
    before: dict[Meter, tuple[Quantities, str | None]] = {}
    moved = []
    for event in sent:
        if isinstance(event, MeterReading | SessionEnded):
            for reading in readings(DELIVERY, event):
                now = reading.totals, reading.reported_cost
                then = before.get(reading.meter, (Quantities(), reading.reported_cost and "0"))
                if now[0] != then[0] or Decimal(now[1] or 0) != Decimal(then[1] or 0):
                    moved.append((reading.meter, reading.number))
                before[reading.meter] = now
    assert numbers == moved
