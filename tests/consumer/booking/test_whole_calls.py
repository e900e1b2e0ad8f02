"""A price for the whole call: what it includes is zero when the call is charged, and unknown until then."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from itertools import permutations
from typing import Any, Final

from tests.support.events import PROJECT, ended, final, message, reading, session_id, started
from voicecosts.consumer.booking.decode import read as decoded
from voicecosts.consumer.booking.entries import Entries
from voicecosts.consumer.booking.months import ALL_OPEN
from voicecosts.consumer.booking.operations import Rerate
from voicecosts.consumer.booking.prices import PricesUsed
from voicecosts.consumer.booking.rerating import rerated
from voicecosts.consumer.booking.sessions import SessionKey, SessionState
from voicecosts.consumer.pricing import ListPrices, Rate, rate_by
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.pricing.rating import WITHOUT_TIME
from voicecosts.producer.events import Event

MILLION: Final = 1_000_000
KEY: Final = SessionKey(PROJECT, session_id(1))
BY_THE_MINUTE: Final = '[[billed]]\nunit = "minute"\nprice = "0.12"\n'
FOR_GOLD: Final = '[[billed]]\nlabel = { plan = "gold" }\nunit = "minute"\nprice = "0.24"\n'
TIME: Final[dict[str, Any]] = {
    "modality": "agent_session", "provider": "livekit", "model": "agent-session",
}  # fmt: skip
OWN: Final[dict[str, Any]] = {"provider": "own", "model": "llama"}

Billed = dict[str, tuple[Decimal | None, int]]


def priced(book: str) -> Rate:
    """Return how meters are rated by list prices and a book."""
    return rate_by(ListPrices(), read(book))


def booked(
    events: Iterable[Event], rate: Rate, prices: PricesUsed
) -> tuple[SessionState, dict[str, str | None], Billed]:
    """Return a session after its events, one by one; by model, the last reason, and all that its rows bill."""
    session, reasons, billed = SessionState(), {}, Billed()
    for number, event in enumerate(events, 1):
        delivery, _ = decoded(message(number, event, number=number))
        entries = Entries({KEY: session.copy()}, rate, prices)
        assert delivery is not None
        entries.add(delivery)
        session = entries.sessions[KEY]
        for row in entries.bookings:
            before, meters = billed.get(row.meter.model, (None, 0))
            amount = before if row.billed is None else (before or 0) + Decimal(row.billed)
            billed[row.meter.model] = amount, meters + row.counted.billed_meters
            reasons[row.meter.model] = row.unbilled_reason
    return session, reasons, billed


def test_in_whatever_order_readings_come_the_same_is_billed() -> None:
    """Connected time alone, labels, a model without a price and the end: each of them at any place."""
    events = [
        started(labels={"plan": "gold"}),
        reading(1, input_tokens=MILLION),
        reading(2, input_tokens=MILLION, **OWN),
        reading(3, session_us=61 * MILLION, **TIME),
        ended(
            5,
            final(input_tokens=2 * MILLION),
            final(session_us=121 * MILLION, **TIME),
            final(input_tokens=MILLION, **OWN),
        ),
    ]
    expected = {
        "gpt-4.1-mini": (Decimal(0), 1),
        "llama": (Decimal(0), 1),
        "agent-session": (Decimal("0.484"), 1),
    }
    for order in permutations(events):
        session, reasons, billed = booked(order, priced(BY_THE_MINUTE + FOR_GOLD), PricesUsed())
        assert billed == expected, order
        assert set(reasons.values()) == {None}
        assert all(it.counted.billed_meters for it in session.meters.values())


def test_without_connected_time_what_is_included_is_unknown() -> None:
    """Its rows have no amount, and say why; what is billed beside it is billed."""
    beside = '[[billed]]\nprovider = "own"\nunit = "million tokens"\nprice = "3"\n'
    events = [reading(1, input_tokens=MILLION), reading(2, input_tokens=MILLION, **OWN)]
    _, reasons, billed = booked(events, priced(BY_THE_MINUTE + beside), PricesUsed())
    assert billed == {"gpt-4.1-mini": (None, 0), "llama": (Decimal(3), 1)}
    assert reasons == {"gpt-4.1-mini": WITHOUT_TIME, "llama": None}


def test_a_price_that_the_time_does_not_have_charges_nothing() -> None:
    """A price for each call charges calls, and none was counted: seconds alone are not one."""
    events = [reading(1, input_tokens=MILLION), reading(2, session_us=MILLION, **TIME)]
    book = '[[billed]]\nunit = "call"\nprice = "0.50"\n'
    _, _, billed = booked(events, priced(book), PricesUsed())
    assert billed == {"gpt-4.1-mini": (None, 0), "agent-session": (None, 0)}
    again = [*events, reading(3, session_us=MILLION, requests=1, **TIME)]
    _, _, billed = booked(again, priced(book), PricesUsed())
    assert billed == {"gpt-4.1-mini": (Decimal(0), 1), "agent-session": (Decimal("0.5"), 1)}


def test_a_re_rating_bills_what_is_included_as_the_time_is_charged_then() -> None:
    """All of a call at once; a part of it that would charge the call leaves all of it as it is billed."""
    prices = PricesUsed()
    events = [reading(1, input_tokens=MILLION), reading(2, session_us=60 * MILLION, **TIME)]
    session, _, _ = booked(events, priced('[[billed]]\nunit = "call"\nprice = "0.50"\n'), prices)

    def found(**where: tuple[str | None, ...]) -> dict[str, tuple[Decimal | None, bool]]:
        work = Rerate(where=dict(where))
        made = rerated(
            work, {KEY: session}, priced(BY_THE_MINUTE), operation=1, now_us=1, prices=prices, months=ALL_OPEN
        )  # fmt: skip
        return {it.meter.model: (it.rated.billed, it.keeps_billed) for it in made}

    assert found() == {
        "agent-session": (Decimal("0.12"), False),
        "gpt-4.1-mini": (Decimal(0), False),
    }
    assert found(provider=("livekit",)) == {"agent-session": (None, True)}
    assert found(provider=("openai",)) == {"gpt-4.1-mini": (None, True)}
