"""The rule of booking, one sentence at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from livekit.agents.metrics.base import Metadata, RealtimeModelMetrics

from tests.producer.capture.livekit_metrics import llm, realtime
from tests.support.events import PRODUCER, START_MS, SUBJECT, ended, final, reading, session_id
from tests.support.oracle import Priced, rate
from voicecosts.consumer.booking.decode import Delivery
from voicecosts.consumer.booking.difference import (
    NO_PRICE,
    Booking,
    MeterState,
    Reading,
    Refusal,
    book,
    readings,
    session_time,
    worst_case,
)
from voicecosts.consumer.booking.message import Message, Reason
from voicecosts.consumer.pricing import ListPrices, Rate, Scope, UnpricedUsage, rate_by
from voicecosts.producer.capture.identity import SessionIdentity
from voicecosts.producer.capture.meters import Meters
from voicecosts.producer.capture.usage import usage_of
from voicecosts.producer.events import Meter, Quantities, RequestDetail

DELIVERY = Delivery(Message(SUBJECT, 31, b""), PRODUCER, 4, [])
LIST = rate_by(ListPrices())


def one(number: int, **more: object) -> Reading:
    """Return what a meter reading with these fields reads."""
    [read] = readings(DELIVERY, reading(number, **more))
    return read


def booked(read: Reading, state: MeterState, by: Rate = rate) -> tuple[Booking, MeterState]:
    """Book a reading that must add a row; return it and the state after it."""
    result = book(read, state, by)
    assert not isinstance(result, Refusal)
    row, after = result
    assert row is not None
    return row, after


def row_of(read: Reading, state: MeterState, priced: Priced | None = None) -> Booking:
    """Book a reading that must add a row, at a given price."""
    return booked(read, state, rate if priced is None else lambda *_, **__: priced)[0]


def refusal_of(read: Reading, state: MeterState, priced: Priced | None = None) -> Refusal:
    """Book a reading that must be refused."""
    result = book(read, state, lambda *_, **__: priced or Priced(Decimal(0)))
    assert isinstance(result, Refusal)
    return result


class TestDifference:
    def test_a_first_reading_books_its_totals(self) -> None:
        """A meter that the ledger has not seen starts from zero."""
        row = row_of(one(1, input_tokens=10), MeterState())
        assert row.added == Quantities(input_tokens=10)

    def test_a_later_reading_books_what_moved(self) -> None:
        """A higher number books totals less what is booked."""
        state = MeterState(1, Quantities(input_tokens=10, requests=1))
        row = row_of(one(2, input_tokens=25, requests=1), state)
        assert row.added == Quantities(input_tokens=15)

    @pytest.mark.parametrize("number", [3, 2])
    def test_an_equal_or_lower_number_books_nothing(self, number: int) -> None:
        """What was read before the last booking is part of it already."""
        state = MeterState(3, Quantities(input_tokens=10))
        assert book(one(number, input_tokens=99), state, rate) == (None, state)

    def test_a_reading_that_moved_nothing_is_remembered_without_a_row(self) -> None:
        """The number rises, so that an older reading which comes later stays out."""
        state = MeterState(1, Quantities(input_tokens=10), Decimal(1), Decimal(2))
        row, after = book(one(5, input_tokens=10), state, rate)  # type: ignore[misc]  # not refused
        assert row is None
        assert after == MeterState(5, Quantities(input_tokens=10), Decimal(1), Decimal(2))

    def test_an_end_reads_every_meter_under_its_own_number(self) -> None:
        """The final totals in a session's end are readings like any other."""
        meters = final(requests=1), final(agent_label="Booker", requests=2)
        end = ended(7, *meters, tenant="acme", ended_at=99)
        read = readings(DELIVERY, end)
        assert [(r.meter.agent_label, r.totals.requests) for r in read] == [
            ("Greeter", 1),
            ("Booker", 2),
        ]
        assert {(r.number, r.tenant, r.occurred_at, r.last) for r in read} == {
            (7, "acme", 99, None)
        }

    def test_tenant_and_project_are_what_the_reading_says(self) -> None:
        """They are no part of the meter: a reading that names others moves the same count."""
        first, second = one(1, input_tokens=5), one(2, input_tokens=8, tenant="globex", project="x")
        assert first.meter == second.meter
        row = row_of(second, MeterState(1, Quantities(input_tokens=5)))
        assert (row.tenant, row.project) == ("globex", "x")
        assert row.added == Quantities(input_tokens=3)

    def test_the_request_detail_travels_with_the_row(self) -> None:
        """Detail is kept as it came and decides nothing."""
        last = RequestDetail(request_id="r-1", cancelled=True)
        assert row_of(one(1, input_tokens=1, last=last), MeterState()).last == last

    def test_the_row_says_which_message_brought_it(self) -> None:
        """A row of the ledger can be traced to its producer, batch and place in the stream."""
        row = row_of(one(1, input_tokens=1), MeterState())
        assert (row.producer_id, row.batch_number, row.stream_sequence) == (PRODUCER, 4, 31)


class TestBackwards:
    def test_a_quantity_that_ran_back_is_refused_with_its_values(self) -> None:
        """A negative booking does not exist: the refusal names the quantity and both values."""
        refusal = refusal_of(one(2, input_tokens=9), MeterState(1, Quantities(input_tokens=10)))
        assert refusal.reason is Reason.BACKWARDS
        assert "input_tokens went back from 10 (booked) to 9 in reading 2" in refusal.detail

    def test_a_reported_cost_that_ran_back_is_refused(self) -> None:
        """What the provider says it charged is a running total as well."""
        state = MeterState(1, Quantities(input_tokens=1), reported_cost=Decimal("0.5"))
        refusal = refusal_of(one(2, input_tokens=2, reported_cost="0.4"), state)
        assert "reported_cost went back from 0.5 (booked) to 0.4" in refusal.detail

    def test_one_quantity_back_refuses_the_whole_reading(self) -> None:
        """Half a reading cannot be trusted: nothing of it is booked."""
        state = MeterState(1, Quantities(input_tokens=10, output_tokens=10))
        refusal = refusal_of(one(2, input_tokens=99, output_tokens=9), state)
        assert refusal.detail.startswith("output_tokens")


class TestMoney:
    def test_money_is_the_cost_of_the_totals_less_the_cost_booked(self) -> None:
        """Two readings below a nano-dollar each cost what their sum costs, not twice nothing."""
        half = Decimal("0.0000000005")
        costs = []
        state = MeterState()
        for number in range(1, 5):

            def exact(meter: Meter, totals: Quantities, at: datetime, **_asked: object) -> Priced:
                return Priced(totals.characters * half)

            row, state = booked(one(number, characters=number), state, exact)
            costs.append(row.cost)
        assert sum(map(Decimal, costs)) == Decimal("0.000000002")
        assert costs == [f"0.00000000{c}" for c in (0, 1, 1, 0)]

    def test_prices_are_those_of_the_session_start(self) -> None:
        """A meter has one price for its life: the moment inside its session id."""
        asked: list[tuple[datetime, str]] = []

        def asking(
            meter: Meter, totals: Quantities, at: datetime, *, provider_raw: str, **_asked: object
        ) -> Priced:
            asked.append((at, provider_raw))
            return Priced(Decimal(0))

        book(one(1, input_tokens=1, provider_raw="OpenAI"), MeterState(), asking)
        assert asked == [(datetime.fromtimestamp(START_MS / 1000, UTC), "OpenAI")]
        assert session_time(session_id(1, after_ms=1)) > session_time(session_id(1))

    def test_a_free_row_costs_zero(self) -> None:
        """Zero is a price: only a row that is priced in full may have it."""
        row = row_of(one(1, input_tokens=5), MeterState(), Priced(Decimal(0)))
        assert (row.cost, row.unpriced_reason) == ("0.000000000", None)

    def test_money_is_written_without_an_exponent(self) -> None:
        """A nano-dollar is 0.000000001 on every wire, and not 1E-9."""
        row = row_of(one(1, input_tokens=1, reported_cost="0.000000001"), MeterState())
        assert row.reported_cost == "0.000000001"
        assert row_of(one(1), MeterState(), Priced(Decimal("1E-9"))).cost == "0.000000001"

    def test_without_any_price_the_cost_is_missing_with_a_reason(self) -> None:
        """Unpriced is NULL and why, never zero."""
        row = row_of(one(1, input_tokens=5), MeterState(), Priced(None, reason="unknown_model"))
        assert (row.cost, row.unpriced_reason) == (None, "unknown_model")

    def test_a_rating_without_a_reason_gets_one(self) -> None:
        """No row is without both a cost and a reason."""
        row = row_of(one(1, input_tokens=5), MeterState(), Priced(None))
        assert row.unpriced_reason == NO_PRICE

    def test_the_priced_part_of_a_reading_is_booked_and_the_rest_named(self) -> None:
        """A quantity without a price does not hide the cost of its neighbours."""
        priced = Priced(Decimal("0.7"), "no_rate")
        row = row_of(one(1, input_tokens=5, output_tokens=5), MeterState(), priced)
        assert (row.cost, row.unpriced_reason) == ("0.700000000", "no_rate")

    def test_a_row_that_moved_only_unpriced_quantities_has_no_cost(self) -> None:
        """The money did not move and something unpriced did: that is unknown, not zero."""
        state = MeterState(1, Quantities(input_tokens=5), Decimal("0.7"))
        row = row_of(
            one(2, input_tokens=5, output_tokens=5), state, Priced(Decimal("0.7"), "no_rate")
        )
        assert (row.cost, row.unpriced_reason) == (None, "no_rate")

    def test_the_rows_of_a_meter_have_a_reason_while_any_of_it_is_unpriced(self) -> None:
        """A reader of one row learns that its meter is not priced in full."""
        state = MeterState(1, Quantities(input_tokens=5, output_tokens=5), Decimal("0.7"))
        row = row_of(
            one(2, input_tokens=6, output_tokens=5), state, Priced(Decimal("0.9"), "no_rate")
        )
        assert (row.cost, row.unpriced_reason) == ("0.200000000", "no_rate")

    def test_a_lower_price_list_corrects_the_meter_down(self) -> None:
        """Money follows the prices known at the last reading, even when they fell since."""
        state = MeterState(1, Quantities(input_tokens=5), Decimal("0.7"))
        row = row_of(one(2, input_tokens=6), state, Priced(Decimal("0.6")))
        assert row.cost == "-0.100000000"

    def test_a_price_that_vanished_takes_back_what_was_booked(self) -> None:
        """Else the same totals would cost more when they came in two readings than in one."""
        state = MeterState(1, Quantities(input_tokens=5), Decimal("0.7"))
        row = row_of(one(2, input_tokens=6), state, Priced(None, reason="unknown_model"))
        assert (row.cost, row.unpriced_reason) == ("-0.700000000", "unknown_model")

    def test_an_older_workers_large_request_takes_no_money_back(self) -> None:
        """It is priced like the others, whether it comes in one reading with them or alone."""
        meter = {"modality": "llm", "provider": "gcp.gemini", "model": "gemini-2.5-pro"}
        small = one(1, input_tokens=1000, output_tokens=10, requests=1, **meter)
        large = one(
            2, input_tokens=251_000, output_tokens=20, requests=2, large_requests=1, **meter
        )
        first, after = booked(small, MeterState(), LIST)
        second, _ = booked(large, after, LIST)
        alone, _ = booked(large, MeterState(), LIST)
        assert (first.cost, first.unpriced_reason) == ("0.001350000", None)
        assert Decimal(second.cost or "none") > 0
        assert Decimal(first.cost or 0) + Decimal(second.cost or 0) == Decimal(alone.cost or 0)
        assert second.unpriced_reason == alone.unpriced_reason
        assert "upgrade the worker" in (second.unpriced_reason or "")

    def test_what_is_unpriced_is_booked_by_difference_like_everything_else(self) -> None:
        """The sum over a meter's rows is what its last state says, however often it was read."""
        read = one(2, input_tokens=9, requests=3, model="unknown")
        first, after = booked(one(1, input_tokens=5, requests=2, model="unknown"), MeterState())
        second, _ = booked(read, after)
        assert first.unpriced == UnpricedUsage(requests=2, input_tokens=5)
        assert second.unpriced == UnpricedUsage(requests=1, input_tokens=4)

    def test_a_meter_that_gains_a_price_is_unpriced_no_more(self) -> None:
        """A negative difference takes back what was unpriced, on the row that brings the price."""
        state = MeterState(
            1, Quantities(input_tokens=5), unpriced=UnpricedUsage(requests=2, input_tokens=5)
        )
        row, after = booked(one(2, input_tokens=6), state, lambda *_, **__: Priced(Decimal("0.6")))
        assert row.unpriced == UnpricedUsage(requests=-2, input_tokens=-5)
        assert (row.cost, row.unpriced_reason) == ("0.600000000", None)
        assert after.unpriced == UnpricedUsage()

    @pytest.mark.parametrize(
        "more", [{"input_tokens": 10**10 + 1}, {"input_tokens": 5, "reported_cost": "1000000.01"}]
    )
    def test_a_reading_above_the_ceiling_leaves_its_meter_as_it_was(
        self, more: dict[str, object]
    ) -> None:
        """It is refused with figure and limit, nobody knows its worth, and the next one is booked."""
        read = one(2, **more)
        refusal = book(read, MeterState(), LIST)
        assert isinstance(refusal, Refusal)
        assert refusal.reason is Reason.ABOVE_CEILING
        for word in ("reading 2 of llm openai gpt-4.1-mini for Greeter", "above the fixed limit"):
            assert word in refusal.detail
        if "reported_cost" not in more:
            assert worst_case(read, LIST) is None

    @pytest.mark.parametrize("cost", ["1000000000", "999999999.9999999999", "1e30", "Infinity"])
    def test_more_money_than_a_row_can_hold_is_refused(self, cost: str) -> None:
        """A cost that would break the database's column is a dead letter, not a stopped ledger."""
        refusal = refusal_of(one(1, input_tokens=5), MeterState(), Priced(Decimal(cost)))
        assert refusal.reason is Reason.OUT_OF_RANGE


def call(*metrics: object) -> list[Reading]:
    """Return the readings of a session in which these reports came, as its worker makes them."""
    who = dict.fromkeys(("job_id", "room_name", "room_sid", "worker_id", "deployment"), "")
    meters = Meters(
        SessionIdentity(
            session_id=session_id(1),
            project="prod",
            agent_id="dental",
            tenant=None,
            started_at=START_MS * 1000,
            fake_job=False,
            labels={},
            **who,
        )
    )
    made: list[Reading] = []
    for each in metrics:
        usage = usage_of(each, now_us=5)
        assert usage is not None
        made += readings(DELIVERY, meters.add(usage, "Greeter"))
    return made


def costs(read: list[Reading]) -> list[Decimal]:
    """Book readings at list prices one by one; return the cost of all meters after each."""
    states: dict[Meter, MeterState] = {}
    after: list[Decimal] = []
    for each in read:
        result = book(each, states.get(each.meter, MeterState()), LIST)
        assert not isinstance(result, Refusal)
        states[each.meter] = result[1]
        after.append(sum((state.cost for state in states.values()), Decimal(0)))
    return after


class TestExceptionalRequests:
    """What is settled stays settled: docs/decisions/0010-what-is-settled-stays-settled.md."""

    def test_a_request_below_the_lists_own_threshold_is_priced_like_the_others(self) -> None:
        """50 requests for 6.50 and one of 130,000 tokens: the list charges more from 200,000 on."""
        gemini = {"metadata": Metadata(model_provider="Gemini", model_name="gemini-2.5-pro")}
        none = {"prompt_cached_tokens": 0, "cache_creation_tokens": 0, "reasoning_tokens": 0}
        small = llm(prompt_tokens=100_000, completion_tokens=500, **none, **gemini)
        large = llm(prompt_tokens=130_000, completion_tokens=500, **none, **gemini)
        after = costs(call(*[small] * 50, large))
        assert after[49:] == [Decimal("6.50"), Decimal("6.6675")]

    def test_a_request_above_the_threshold_costs_what_the_list_asks_for_it(self) -> None:
        """All its tokens at the tier's rate, and those of no other request."""
        gemini = {"metadata": Metadata(model_provider="Gemini", model_name="gemini-2.5-pro")}
        none = {"prompt_cached_tokens": 0, "cache_creation_tokens": 0, "reasoning_tokens": 0}
        small = llm(prompt_tokens=100_000, completion_tokens=500, **none, **gemini)
        large = llm(prompt_tokens=201_000, completion_tokens=1_000, **none, **gemini)
        after = costs(call(*[small] * 50, large))
        assert after[50] - after[49] == Decimal("0.5025") + Decimal("0.015")

    def test_a_realtime_response_with_unsplit_cached_tokens_is_unpriced_alone(self) -> None:
        """1.644 stays 1.644: nothing of the other responses' input is taken back."""
        openai = {
            "metadata": Metadata(model_provider="api.openai.com", model_name="gpt-realtime"),
            "session_duration": 0.0,
        }
        plain = realtime(
            input_tokens=37_500,
            output_tokens=13_625,
            input_token_details=RealtimeModelMetrics.InputTokenDetails(
                audio_tokens=25_000, text_tokens=12_500
            ),
            output_token_details=RealtimeModelMetrics.OutputTokenDetails(
                audio_tokens=12_000, text_tokens=1_625
            ),
            **openai,
        )
        odd = realtime(
            input_tokens=40_000,
            output_tokens=0,
            input_token_details=RealtimeModelMetrics.InputTokenDetails(
                audio_tokens=20_000, text_tokens=20_000, cached_tokens=300
            ),
            output_token_details=RealtimeModelMetrics.OutputTokenDetails(),
            **openai,
        )
        read = call(plain, odd)
        assert costs(read) == [Decimal("1.644"), Decimal("1.644")]
        rated = LIST(
            read[1].meter,
            read[1].totals,
            session_time(session_id(1)),
            provider_raw="",
            scope=Scope(project="shop", agent_id="dental"),
        )
        assert rated.unpriced_usage == UnpricedUsage(requests=2, input_tokens=40_000)

    def test_the_thoughts_of_gemini_are_in_the_cost(self) -> None:
        """0.0493 and not 0.0299: Google bills them as output, LiveKit has them in the total."""
        thinking = llm(
            prompt_tokens=10_000,
            completion_tokens=1_740,
            total_tokens=13_680,
            prompt_cached_tokens=0,
            cache_creation_tokens=0,
            reasoning_tokens=0,
            metadata=Metadata(model_provider="Gemini", model_name="gemini-2.5-pro"),
        )
        assert costs(call(thinking)) == [Decimal("0.0493")]


class TestReportedCost:
    def test_it_is_booked_by_difference(self) -> None:
        """What the provider reports is kept beside our money, by the same rule."""
        state = MeterState(1, Quantities(input_tokens=5), reported_cost=Decimal("0.5"))
        row = row_of(one(2, input_tokens=6, reported_cost="0.75"), state)
        assert row.reported_cost == "0.25"

    def test_a_silent_reading_reports_nothing_and_changes_nothing(self) -> None:
        """A reading without a reported cost does not report zero."""
        state = MeterState(1, Quantities(input_tokens=5), reported_cost=Decimal("0.5"))
        row, after = booked(one(2, input_tokens=6), state)
        assert row.reported_cost is None
        assert after.reported_cost == Decimal("0.5")

    def test_it_makes_a_row_alone(self) -> None:
        """A charge without usage is still a charge."""
        state = MeterState(1, Quantities(input_tokens=5), reported_cost=Decimal("0.5"))
        row = row_of(one(2, input_tokens=5, reported_cost="0.6"), state)
        assert (row.added, row.reported_cost) == (Quantities(), "0.1")
