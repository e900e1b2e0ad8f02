"""The rows of one transaction, before anything is written."""

from __future__ import annotations

from decimal import Decimal

from tests.support.events import SUBJECT, reading
from tests.support.fleet import Priced
from voicecosts.consumer.booking.decode import Delivery
from voicecosts.consumer.booking.difference import MeterState, Refusal, book, readings
from voicecosts.consumer.booking.entries import booking_row
from voicecosts.consumer.booking.message import Message


def test_money_is_written_without_an_exponent() -> None:
    """A nano-dollar is 0.000000001 on every wire, and not 1E-9."""
    [read] = readings(reading(1, input_tokens=1))
    result = book(read, MeterState(), lambda *_, **__: Priced(Decimal("0.000000001")))
    assert not isinstance(result, Refusal)
    booking, _ = result
    assert booking is not None
    delivery = Delivery(Message(SUBJECT, 1, b""), "p", 1, [])
    assert booking_row(booking, delivery).cost == "0.000000001"
