"""A price for the whole call: what it includes is zero when the call is charged, and unknown until then."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable
from decimal import Decimal
from itertools import permutations
from typing import Any, Final

import pytest

from tests.support.events import PROJECT, ended, final, message, reading, session_id, started
from voicecosts.consumer.booking.decode import read as decoded
from voicecosts.consumer.booking.difference import MeterState
from voicecosts.consumer.booking.entries import Entries
from voicecosts.consumer.booking.months import ALL_OPEN
from voicecosts.consumer.booking.operations import Rerate
from voicecosts.consumer.booking.prices import PricesUsed
from voicecosts.consumer.booking.rerating import rerated
from voicecosts.consumer.booking.sessions import SessionKey, SessionState
from voicecosts.consumer.pricing import ListPrices, Rate, rate_by
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.pricing.rating import UNCHARGED
from voicecosts.consumer.pricing.terms import FORMER
from voicecosts.producer.events import Event, Meter

MILLION: Final = 1_000_000
KEY: Final = SessionKey(PROJECT, session_id(1))
MARKUP: Final = '[[billed]]\nmarkup = "20 %"\n'
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
    events: Iterable[Event],
    rate: Rate,
    prices: PricesUsed,
    *,
    edited: tuple[int, Rate] | None = None,
) -> tuple[SessionState, dict[str, str | None], Billed]:
    """Return a session after its events, one by one; by model, the last reason, and all that its rows bill.

    With `edited`, from the event with that number on the file has other prices.
    """
    session, reasons, billed = SessionState(), {}, Billed()
    for number, event in enumerate(events, 1):
        if edited is not None and number == edited[0]:
            rate = edited[1]
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
    assert reasons == {"gpt-4.1-mini": UNCHARGED, "llama": None}


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


class TestAFileThatIsEditedInTheCall:
    """A call is billed to its end by the prices under which it began: all of it, and by nothing else."""

    EVENTS: Final = (
        reading(1, input_tokens=MILLION),
        reading(2, session_us=60 * MILLION, **TIME),
        reading(3, input_tokens=MILLION, model="gpt-4.1"),
        reading(4, input_tokens=MILLION, **OWN),
    )
    BESIDE: Final = '[[billed]]\nprovider = "own"\nunit = "million tokens"\nprice = "3"\n'
    ALONE: Final = '[[billed]]\nmodality = "agent_session"\nunit = "minute"\nprice = "0.01"\n'
    OF_ACME: Final = '[[billed]]\ntenant = "acme"\nmarkup = "30 %"\n'
    FILES: Final = (
        "",
        MARKUP,
        BY_THE_MINUTE,
        BY_THE_MINUTE.replace("0.12", "0.15"),
        BY_THE_MINUTE + BESIDE,
        BY_THE_MINUTE + ALONE,
        BY_THE_MINUTE + OF_ACME,
        OF_ACME,
        BY_THE_MINUTE + FOR_GOLD,
        MARKUP + FOR_GOLD,
    )

    def test_it_ends_under_the_price_under_which_it_began(self) -> None:
        """Also where the file has another price for the whole call by then, or none, or nothing at all."""
        events = self.EVENTS[:3]
        for other in (BY_THE_MINUTE.replace("0.12", "0.15"), MARKUP, self.OF_ACME, ""):
            for order in permutations(events):
                _, reasons, billed = booked(
                    order, priced(BY_THE_MINUTE), PricesUsed(), edited=(2, priced(other))
                )
                assert billed == {
                    "gpt-4.1-mini": (0, 1),
                    "gpt-4.1": (0, 1),
                    "agent-session": (Decimal("0.12"), 1),
                }
                assert set(reasons.values()) == {None}

    @pytest.mark.parametrize("before", range(len(FILES)))
    def test_an_edit_changes_nothing_of_it(self, before: int) -> None:
        """At any moment, to any other file, in any order, with labels at any place: it is billed by one of both."""
        events = [started(labels={"plan": "gold"}), *self.EVENTS]
        rates = [priced(book) for book in self.FILES]
        for order in list(permutations(events))[before :: len(self.FILES)]:
            unedited = [booked(order, rate, PricesUsed())[2] for rate in rates]
            for after, rate in enumerate(rates):
                for moment in range(2, 6):
                    _, _, billed = booked(order, rates[before], PricesUsed(), edited=(moment, rate))
                    allowed = [unedited[before], unedited[after]]
                    if moment > 1 + order.index(self.EVENTS[0]):  # it has a price in any case
                        allowed = [unedited[before]]
                    assert billed in allowed, (order, before, after, moment)

    def test_what_nobody_has_any_more_bills_an_unknown_amount(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It says what to do; nothing is guessed, and what was billed stays."""
        first, rest = self.EVENTS[0], self.EVENTS[1:3]
        monkeypatch.setattr("voicecosts.consumer.pricing.own.book._former", {})
        rates = priced(BY_THE_MINUTE), priced(MARKUP)
        monkeypatch.setattr("voicecosts.consumer.pricing.own.book._former", {})
        _, reasons, billed = booked([first, *rest], rates[0], PricesUsed(), edited=(2, rates[1]))
        assert billed == dict.fromkeys(("gpt-4.1-mini", "agent-session", "gpt-4.1"), (None, 0))
        assert reasons == {"gpt-4.1-mini": UNCHARGED, "agent-session": FORMER, "gpt-4.1": FORMER}


def test_a_rule_for_connected_time_alone_charges_no_call() -> None:
    """What the price for the call includes is unknown then, in whatever order the two come; not zero."""
    alone = '[[billed]]\nmodality = "agent_session"\nunit = "minute"\nprice = "0.01"\n'
    events = [reading(1, input_tokens=MILLION), reading(2, session_us=60 * MILLION, **TIME)]
    for order in permutations(events):
        _, reasons, billed = booked(order, priced(BY_THE_MINUTE + alone), PricesUsed())
        assert billed == {"gpt-4.1-mini": (None, 0), "agent-session": (Decimal("0.01"), 1)}
        assert reasons == {"gpt-4.1-mini": UNCHARGED, "agent-session": None}


def test_time_of_which_nothing_was_counted_charges_nothing() -> None:
    """Connected time that only says what it cost somebody has no length."""
    events = [
        reading(1, input_tokens=MILLION),
        reading(2, requests=0, reported_cost="0.5", **TIME),
    ]
    _, reasons, billed = booked(events, priced(BY_THE_MINUTE), PricesUsed())
    assert billed == {"gpt-4.1-mini": (None, 0), "agent-session": (None, 0)}
    assert reasons["agent-session"] == (
        "prices.toml line 1 charges the whole call, and nothing that it charges was counted"
    )


class Looked(dict[Meter, MeterState]):
    """Meters of a session that count how often all of them are gone through."""

    times = 0

    def items(self) -> ItemsView[Meter, MeterState]:
        """Return all, as a dict does."""
        self.times += 1
        return super().items()


@pytest.mark.parametrize(("book", "each"), [(BY_THE_MINUTE, 0), (MARKUP, None), ("", None)])
def test_an_end_of_many_meters_does_not_go_through_them_for_each(
    book: str, each: int | None
) -> None:
    """A thousand meters in an end, as one project may send them, would be a million steps."""
    session = SessionState(meters=Looked())
    names = [f"m{number}" for number in range(200)]
    models = [final(model=model, input_tokens=MILLION) for model in names]
    times = [
        final(agent_label=label, session_us=length, **TIME)
        for label, length in (("a", 0), ("b", 60 * MILLION), ("c", 0))
    ]
    delivery, _ = decoded(message(1, ended(1, *models, *times), number=1))
    assert delivery is not None
    entries = Entries({KEY: session}, priced(book), PricesUsed())
    entries.add(delivery)
    billed = {row.billed for row in entries.bookings if row.meter.model in names}
    assert {amount if amount is None else Decimal(amount) for amount in billed} == {each}
    assert len(session.meters) == 203
    assert session.meters.times < 12  # type: ignore[attr-defined]
