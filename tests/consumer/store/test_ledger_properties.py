"""The guarantee of the whole project, on the real database; and no valid event can stop it."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path

import duckdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.calls import calls, deliveries, pieces
from tests.support.events import PRODUCER, PROJECT, message, session_id
from tests.support.oracle import booked, count, expected, rate
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import (
    QUANTITIES,
    Event,
    MeterReading,
    MeterTotals,
    ProducerReport,
    Quantities,
    RequestDetail,
    SessionEnded,
    SessionStarted,
)
from voicecosts.producer.outbox.packing import Packer

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@settings(max_examples=3)
@given(st.data())
def test_totals_and_money_do_not_depend_on_the_delivery(data: st.DataObject) -> None:
    """Events may be lost, repeated, mixed, packed, grouped and divided in any way: the sums stand.

    So they do wherever the ledger is opened again: every meter ends with the same quantities and
    the same nano-dollars.
    """
    check_delivery(data)


@pytest.mark.faults
@pytest.mark.timeout(900)
@settings(max_examples=60)
@given(st.data())
def test_totals_and_money_do_not_depend_on_the_delivery_at_length(data: st.DataObject) -> None:
    """The same, with many more examples."""
    check_delivery(data)


def check_delivery(data: st.DataObject) -> None:
    """Deliver some calls to a real ledger in some bad way, and compare with the last readings."""
    made = data.draw(calls())
    sent = data.draw(deliveries(made))
    batches = pieces(data.draw(SIZES), sent)
    messages = [message(n, *events, number=n) for n, events in enumerate(batches, 1)]
    groups = pieces(data.draw(SIZES), messages)
    reopened = data.draw(st.sets(st.integers(0, max(0, len(groups) - 1)), max_size=2))
    small = {"cached_sessions": 2, "cached_bytes": 0, "piece_weight": data.draw(st.integers(1, 9))}

    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.open(Path(folder), rate, **small)
        for place, group in enumerate(groups):
            if place in reopened:
                ledger.close()
                ledger = Ledger.open(Path(folder), rate, **small)
            ledger.apply(group)
        ledger.close()
        snapshot = Path(folder) / "costs.duckdb"

        assert booked(snapshot) == expected(event for call in made for event in call.events)
        assert count(snapshot, "dead_letters") == 0
        starts = {each.session_id for each in sent if isinstance(each, SessionStarted)}
        assert count(snapshot, "session_starts") == len(starts)


COUNT = st.one_of(st.integers(0, 5), st.integers(0, 2**53 - 1), st.just(2**53 - 1))
ORDINAL = st.one_of(st.integers(1, 5), st.integers(1, 2**53 - 1))
CHARACTERS = st.characters(codec="utf-8")
NAME = st.one_of(st.sampled_from("ab"), st.text(CHARACTERS, min_size=1, max_size=128))
TEXT = st.text(CHARACTERS, max_size=256)
LABEL = st.text(CHARACTERS, max_size=64)
TENANT = st.none() | NAME
SESSION = st.one_of(
    st.just(session_id(1)),
    st.integers(0, 0x7FFFFFFFFFFF)
    .map(lambda ms: f"{ms:012x}")
    .map(lambda time: f"{time[:8]}-{time[8:]}-7abc-8abc-00000000c15c"),
)
MONEY = st.none() | st.decimals(0, Decimal("999999999.999999999"), places=9).map("{:f}".format)
QUANTITY = st.dictionaries(st.sampled_from(QUANTITIES), COUNT).map(lambda some: Quantities(**some))
IDENTITY = {"session_id": SESSION, "project": st.just(PROJECT), "agent_id": NAME, "tenant": TENANT}
METER = {
    "agent_label": NAME,
    "modality": NAME,
    "provider": NAME,
    "provider_raw": TEXT,
    "model": NAME,
    "estimated": st.booleans(),
    "totals": QUANTITY,
    "reported_cost": MONEY,
}
EVENT: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        SessionStarted,
        **IDENTITY,
        started_at=COUNT,
        job_id=TEXT,
        room_name=TEXT,
        fake_job=st.booleans(),
        labels=st.dictionaries(LABEL, TEXT, max_size=16),
    ),
    st.builds(
        MeterReading,
        **IDENTITY,
        **METER,
        number=ORDINAL,
        occurred_at=COUNT,
        last=st.none()
        | st.builds(
            RequestDetail,
            request_id=TEXT,
            speech_id=TEXT,
            duration_us=COUNT,
            time_to_first_us=st.none() | COUNT,
            cancelled=st.booleans(),
        ),
    ),
    st.builds(
        SessionEnded,
        **IDENTITY,
        number=ORDINAL,
        ended_at=COUNT,
        status=LABEL,
        reason=TEXT,
        meters=st.lists(st.builds(MeterTotals, **METER), max_size=5),
        readings=COUNT,
        coalesced=COUNT,
    ),
    st.builds(
        ProducerReport,
        producer_id=NAME,
        number=ORDINAL,
        project=st.just(PROJECT),
        reported_at=COUNT,
        captured=COUNT,
        dropped=COUNT,
        oldest_age_us=COUNT,
    ),
)


@settings(max_examples=3)
@given(st.lists(EVENT, min_size=5, max_size=30))
def test_no_valid_event_can_stop_the_ledger(events: list[Event]) -> None:
    """The largest numbers, strangest texts and furthest dates are rows or dead letters.

    They are never an error that would come back with every redelivery, and every view can show
    them.
    """
    check_events(events)


@pytest.mark.faults
@pytest.mark.timeout(900)
@settings(max_examples=60)
@given(st.lists(EVENT, min_size=5, max_size=30))
def test_no_valid_event_can_stop_the_ledger_at_length(events: list[Event]) -> None:
    """The same, with many more examples."""
    check_events(events)


def check_events(events: list[Event]) -> None:
    """Apply events twice to a real ledger, and look at everything that came of them."""
    packed = Packer(PRODUCER).pack(events)
    sent = [Message(it.subject, place, it.data) for place, it in enumerate(packed, 1)]
    with tempfile.TemporaryDirectory() as folder:
        with Ledger.open(Path(folder), rate) as ledger:
            first = ledger.apply(sent)
            assert first.events == len(events)
        with Ledger.open(Path(folder), rate) as ledger:
            assert ledger.apply(sent).rows == 0
        with duckdb.connect(
            Path(folder) / "costs.duckdb", read_only=True, config={"threads": 1}
        ) as connection:
            seen = {
                name: connection.table(name).fetchall()
                for name in (
                    "usage",
                    "sessions",
                    "cost_by_day",
                    "unpriced",
                    "completeness",
                    "losses",
                )
            }
            labels = connection.table("session_starts").fetchall()
        assert len(seen["usage"]) == first.bookings
        started = [event.labels for event in events if isinstance(event, SessionStarted)]
        assert all(msgspec.json.decode(row[11]) in started for row in labels)
