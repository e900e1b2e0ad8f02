"""Rows on their way into the database: plain money, texts of bounded length."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from tests.support.events import SUBJECT, reading
from tests.support.fleet import Priced
from voicecosts.consumer.booking.decode import Delivery
from voicecosts.consumer.booking.difference import MeterState, Refusal, book, readings
from voicecosts.consumer.booking.message import DeadLetter, Message, Reason
from voicecosts.consumer.store import rows


def test_money_is_written_without_an_exponent() -> None:
    """A nano-dollar is 0.000000001 on every wire, and not 1E-9."""
    [read] = readings(reading(1, input_tokens=1))
    result = book(read, MeterState(), lambda *_, **__: Priced(Decimal("0.000000001")))
    assert not isinstance(result, Refusal)
    booking, _ = result
    assert booking is not None
    delivery = Delivery(Message(SUBJECT, 1, b""), "p", 1, [])
    assert rows.booking_row(booking, delivery).cost == "0.000000001"


def test_many_rows_become_several_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by the length of one text; a row is never torn or left out."""
    monkeypatch.setattr(rows, "MAX_TEXT_BYTES", 1000)
    letters = [
        DeadLetter(SUBJECT, n, 0, Reason.NOT_A_BATCH, "\n", b"x" * (3000 if n == 7 else 100))
        for n in range(20)
    ]
    texts = list(rows._texts(letters))
    assert len(texts) > 5
    assert [len(text) > 1000 for text in texts].count(True) == 1
    lines = [line for text in texts for line in text.split("\n")]
    assert [msgspec.json.decode(line)["sequence"] for line in lines] == list(range(20))
