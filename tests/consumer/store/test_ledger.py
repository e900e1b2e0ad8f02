"""What `apply` adds to the ledger, and that adding it again adds nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import duckdb
import msgspec
import pytest

from tests.support.events import (
    START_US,
    SUBJECT,
    ended,
    final,
    message,
    reading,
    report,
    session_id,
    started,
)
from tests.support.oracle import Priced, booked, contents, count, expected, rate
from tests.support.traffic import MADE_UP, traffic
from voicecosts.consumer.booking.message import Message, Reason
from voicecosts.consumer.errors import LedgerClosed
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.payloads import read_payload
from voicecosts.producer.events import Meter, Quantities, RequestDetail, SessionEnded, encode_event


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in a fresh data directory."""
    with Ledger.open(tmp_path, rate) as ledger:
        yield ledger


def snapshot(ledger: Ledger) -> Path:
    """Publish what is booked and return the snapshot's file."""
    ledger.publish_snapshot()
    return (ledger._layout.current).resolve()


def rows(ledger: Ledger, query: str) -> list[tuple[object, ...]]:
    """Return the answer of a fresh snapshot."""
    with duckdb.connect(snapshot(ledger), read_only=True, config={"threads": 1}) as connection:
        return connection.execute(query).fetchall()


def end(number: int, **more: object) -> SessionEnded:
    """Return the end of the first session, with one meter."""
    return ended(number, final(input_tokens=100), **{"ended_at": START_US + 5, **more})


class TestRows:
    def test_a_reading_becomes_one_row_with_all_it_said(self, ledger: Ledger) -> None:
        """Nothing of a reading is lost or rounded on its way into the table."""
        said = reading(
            7,
            input_tokens=10,
            audio_us=1_234_567,
            provider_raw="OpenAI",
            estimated=True,
            reported_cost="0.000000001",
            last=RequestDetail(request_id="r", time_to_first_us=5, duration_us=9, cancelled=True),
        )
        applied = ledger.apply([message(11, said, number=3)])
        assert (applied.messages, applied.events, applied.bookings) == (1, 1, 1)
        [found] = rows(
            ledger,
            "SELECT occurred_at, session_id, number, project, agent_id, agent_label, tenant, "
            "modality, provider, provider_raw, model, estimated, cost, currency, unpriced_reason, "
            "reported_cost, input_tokens, output_tokens, audio_us, audio_seconds, request_id, "
            "speech_id, duration_us, time_to_first_us, cancelled, price_source, price_version, "
            "price_model, producer_id, batch_number, stream_sequence FROM usage",
        )
        assert found == (
            datetime(2026, 11, 18, 11, 6, 40, 7),  # noqa: DTZ001 - the column holds UTC
            UUID(session_id(1)),
            7,
            "prod",
            "dental",
            "Greeter",
            "acme",
            "llm",
            "openai",
            "OpenAI",
            "gpt-4.1-mini",
            True,
            Decimal("0.000001234") + Decimal("0.000088518"),  # tokens, audio
            "USD",
            None,
            Decimal("0.000000001"),
            10,
            0,
            1_234_567,
            Decimal("1.234567"),
            "r",
            None,
            9,
            5,
            True,
            "test",
            "1",
            "listed",
            "worker-1",
            3,
            11,
        )

    def test_a_reading_without_request_detail_has_none(self, ledger: Ledger) -> None:
        """An absent request is NULL in every column of it, an unmeasured time as well."""
        ledger.apply(
            [
                message(
                    1,
                    reading(1, input_tokens=1),
                    reading(2, input_tokens=2, last=RequestDetail()),
                )
            ]
        )
        found = rows(
            ledger,
            "SELECT request_id, speech_id, duration_us, time_to_first_us, cancelled "
            "FROM usage ORDER BY number",
        )
        assert found == [(None,) * 5, (None, None, None, None, False)]

    def test_unpriced_is_null_with_a_reason(self, ledger: Ledger) -> None:
        """What has no price is not zero in the table either."""
        ledger.apply([message(1, reading(1, input_tokens=1, model="unknown"))])
        assert rows(ledger, "SELECT cost, unpriced_reason, price_source FROM usage") == [
            (None, "unknown_model", None)
        ]

    def test_a_nano_dollar_survives(self, ledger: Ledger) -> None:
        """The smallest amount is not written as an exponent and not rounded away."""
        ledger.apply([message(1, reading(1, input_tokens=8))])
        assert rows(ledger, "SELECT cost FROM usage") == [(Decimal("0.000000987"),)]

    def test_several_readings_of_a_meter_in_one_go_are_rows_of_their_own(
        self, ledger: Ledger
    ) -> None:
        """In order, each keeps its detail; out of order, the sum is right all the same."""
        events = [reading(n, input_tokens=10 * n) for n in (1, 2, 5, 4, 3)]
        ledger.apply([message(1, *events[:2]), message(2, *events[2:])])
        found = rows(ledger, "SELECT number, input_tokens FROM usage ORDER BY number")
        assert found == [(1, 10), (2, 10), (5, 30)]

    def test_a_session_start_is_kept_with_its_labels(self, ledger: Ledger) -> None:
        """Who a session belongs to and where it ran can be asked later."""
        labels = {"plan": 'pro "x"\n\0', "ü": "🎙"}
        ledger.apply([message(1, started(tenant="acme", room_name="room", labels=labels))])
        [found] = rows(
            ledger,
            "SELECT tenant, room_name, job_id, fake_job, labels FROM session_starts",
        )
        assert found[:4] == ("acme", "room", "", False)
        assert msgspec.json.decode(str(found[4])) == labels

    def test_an_end_books_what_was_lost_and_is_kept_itself(self, ledger: Ledger) -> None:
        """The final totals repair whatever reading never arrived."""
        ledger.apply(
            [message(1, reading(1, input_tokens=30), end(5, reason="hangup", coalesced=2))]
        )
        assert rows(ledger, "SELECT number, input_tokens FROM usage ORDER BY number") == [
            (1, 30),
            (5, 70),
        ]
        assert rows(
            ledger, "SELECT number, status, reason, meters, readings, coalesced FROM session_ends"
        ) == [(5, "closed", "hangup", 1, 4, 2)]

    def test_texts_of_any_kind_come_back_as_they_went(self, ledger: Ledger) -> None:
        """Quotes, line breaks, NUL and other scripts are text like any other."""
        strange = "a\"'\\\n\r\t\0\u2028{}[],: é 漢 🎙"
        ledger.apply([message(1, reading(1, input_tokens=1, model=strange, tenant=strange))])
        assert rows(ledger, "SELECT model, tenant FROM usage") == [(strange, strange)]


class TestRepetition:
    def test_the_same_messages_again_change_nothing(self, tmp_path: Path) -> None:
        """Redelivery of everything, with the cache and without it, leaves every table as it was."""
        day = traffic(3, calls=8)
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply(day.messages)
        before = contents(tmp_path / "costs.duckdb")
        with Ledger.open(tmp_path, rate) as ledger:
            assert ledger.apply(day.messages).rows == 0
            assert [ledger.apply([each]).rows for each in day.messages] == [0] * len(day.messages)
        assert contents(tmp_path / "costs.duckdb") == before

    def test_the_same_message_twice_in_one_go_is_booked_once(self, ledger: Ledger) -> None:
        """A fetch may hold a message and its redelivery."""
        both = [message(1, reading(1, input_tokens=3), MISSED, end(2)), message(2, REPORT)] * 2
        applied = ledger.apply([*both, Message(SUBJECT, 2, b"?"), Message(SUBJECT, 2, b"?")])
        assert count(snapshot(ledger), "bookings") == applied.bookings == 2
        assert count(snapshot(ledger), "session_ends") == applied.session_ends == 1
        assert count(snapshot(ledger), "producer_reports") == applied.producer_reports == 1
        assert count(snapshot(ledger), "dead_letters") == applied.dead_letters == 1

    def test_a_republished_message_books_nothing(self, ledger: Ledger) -> None:
        """A producer that publishes again under a new sequence adds no money."""
        ledger.apply([message(1, reading(1, input_tokens=3))])
        assert ledger.apply([message(2, reading(1, input_tokens=3))]).rows == 0

    def test_a_session_starts_once(self, ledger: Ledger) -> None:
        """The first word on a session's identity stands."""
        first = started()
        second = msgspec.structs.replace(first, room_name="other")
        ledger.apply([message(1, first, second)])
        ledger.apply([message(2, second)])
        assert rows(ledger, "SELECT room_name FROM session_starts") == [("",)]

    def test_a_higher_end_is_added_and_the_view_shows_it(self, ledger: Ledger) -> None:
        """Rows are only ever added: a session that ended again keeps both ends, the last counts."""
        ledger.apply([message(1, end(5)), message(2, end(9, status="late"))])
        assert ledger.apply([message(3, end(7, status="between"))]).session_ends == 0
        assert rows(ledger, "SELECT number FROM session_ends ORDER BY 1") == [(5,), (9,)]
        assert rows(ledger, "SELECT status, rows FROM sessions") == [("late", 1)]

    def test_a_dead_letter_of_a_stream_made_again_is_kept(self, ledger: Ledger) -> None:
        """The same place in another stream is another event: its payload tells them apart."""
        ledger.apply([Message(SUBJECT, 1, b"one")])
        assert ledger.apply([Message(SUBJECT, 1, b"one")]).dead_letters == 0
        assert ledger.apply([Message(SUBJECT, 1, b"two")]).dead_letters == 1


def payloads(ledger: Ledger) -> list[bytes | None]:
    """Return the bytes of all dead letters, in the order of the stream."""
    places = rows(ledger, "SELECT file, place, bytes FROM dead_letters ORDER BY stream_sequence")
    folder = ledger._layout.dead_letters
    return [read_payload(folder, *msgspec.convert(each, tuple[str, int, int])) for each in places]


class TestDeadLetters:
    def test_a_reading_that_ran_back_is_kept_and_the_next_one_is_booked(
        self, ledger: Ledger
    ) -> None:
        """A broken reading costs itself; the meter goes on from what is booked."""
        back = reading(2, input_tokens=5)
        applied = ledger.apply(
            [message(4, reading(1, input_tokens=10), back, reading(3, input_tokens=12))]
        )
        assert (applied.bookings, applied.dead_letters) == (2, 1)
        [(reason, sequence, index, detail)] = rows(
            ledger, "SELECT reason, stream_sequence, event_index, detail FROM dead_letters"
        )
        assert (reason, sequence, index) == (Reason.BACKWARDS, 4, 1)
        assert payloads(ledger) == [encode_event(back)]
        assert "from 10 (booked) to 5" in str(detail)

    def test_an_end_with_a_meter_that_ran_back_books_the_others(self, ledger: Ledger) -> None:
        """The good meters of an end are booked, and it is one dead letter for the rest."""
        good = end(9).meters[0]
        bad = msgspec.structs.replace(good, agent_label="Booker")
        worse = msgspec.structs.replace(good, agent_label="Closer")
        ledger.apply(
            [
                message(1, reading(1, agent_label="Booker", input_tokens=101)),
                message(2, reading(2, agent_label="Closer", input_tokens=102)),
            ]
        )
        applied = ledger.apply([message(3, end(9, meters=[bad, good, worse]))])
        assert (applied.bookings, applied.session_ends, applied.dead_letters) == (1, 1, 1)
        [(detail,)] = rows(ledger, "SELECT detail FROM dead_letters")
        assert "from 101" in str(detail)
        assert "from 102" in str(detail)

    def test_unreadable_messages_and_events_are_kept_byte_for_byte(self, ledger: Ledger) -> None:
        """What cannot be booked today can be looked at, and booked, later."""
        batch = {"producer_id": "p", "number": 1, "events": [msgspec.Raw(MADE_UP)]}
        garbage = bytes(range(256))
        ledger.apply(
            [
                Message(SUBJECT, 1, garbage),
                Message(SUBJECT, 2, msgspec.msgpack.encode(batch)),
                Message("elsewhere", 3, b""),
            ]
        )
        assert rows(
            ledger, "SELECT subject, event_index, reason FROM dead_letters ORDER BY stream_sequence"
        ) == [
            (SUBJECT, -1, "not_a_batch"),
            (SUBJECT, 0, "unknown_event"),
            ("elsewhere", -1, "foreign_subject"),
        ]
        assert payloads(ledger) == [garbage, MADE_UP, b""]

    def test_ten_megabytes_of_garbage_are_kept(self, ledger: Ledger) -> None:
        """The largest message a broker passes on is kept whole."""
        huge = [Message(SUBJECT, n, bytes([n]) * 10_000_000) for n in (1, 2, 3)]
        assert ledger.apply(huge).dead_letters == 3
        assert payloads(ledger) == [each.data for each in huge]

    def test_money_beyond_the_column_is_a_dead_letter(self, tmp_path: Path) -> None:
        """An absurd total must not stop everybody's ledger."""

        def absurd(meter: Meter, totals: Quantities, at: datetime, **_asked: object) -> Priced:
            return Priced(Decimal(totals.input_tokens))

        with Ledger.open(tmp_path, absurd) as ledger:
            events = [reading(1, input_tokens=10**9), reading(2, input_tokens=10**9 - 1)]
            applied = ledger.apply([message(1, *events)])
            assert (applied.bookings, applied.dead_letters) == (1, 1)
            assert rows(ledger, "SELECT reason FROM dead_letters") == [("out_of_range",)]


class TestCache:
    def test_forgotten_sessions_are_read_back_from_their_rows(self, tmp_path: Path) -> None:
        """A cache of two sessions books the same as a cache of all."""
        day = traffic(4, calls=10)
        with Ledger.open(tmp_path, rate, cached_sessions=2, cached_bytes=0) as ledger:
            for place in range(0, len(day.messages), 3):
                ledger.apply(day.messages[place : place + 3])
            assert len(ledger._active) == 2
        assert booked(tmp_path / "costs.duckdb") == expected(day.events)

    def test_a_rating_that_raises_leaves_no_trace(self, tmp_path: Path) -> None:
        """What did not commit is not remembered: the same messages are booked once it works."""
        broken = True

        def moody(meter: Meter, totals: Quantities, at: datetime, **_asked: object) -> Priced:
            if broken and totals.input_tokens == 20:
                raise RuntimeError("price list on fire")
            return rate(meter, totals, at)

        with Ledger.open(tmp_path, moody) as ledger:
            ledger.apply([message(1, reading(1, input_tokens=5))])
            sent = [message(2, reading(2, input_tokens=10), reading(3, input_tokens=20))]
            with pytest.raises(RuntimeError, match="on fire"):
                ledger.apply(sent)
            broken = False
            assert ledger.apply(sent).bookings == 2


class TestPosition:
    def test_the_highest_sequence_is_remembered_across_openings(self, tmp_path: Path) -> None:
        """A ledger knows how far into the stream it has come, whatever the messages held."""
        with Ledger.open(tmp_path, rate) as ledger:
            assert ledger.booked_sequence == 0
            ledger.apply([message(8, reading(1, input_tokens=1)), message(5)])
            ledger.apply([message(12)])
            ledger.apply([message(3, reading(2, input_tokens=2))])
            assert ledger.booked_sequence == 12
        with Ledger.open(tmp_path, rate) as ledger:
            assert ledger.booked_sequence == 12

    def test_nothing_to_apply_is_nothing_done(self, ledger: Ledger) -> None:
        """An empty group is fine."""
        assert ledger.apply([]).rows == 0


def test_a_closed_ledger_takes_no_more_work(tmp_path: Path) -> None:
    """Using a ledger after its end is an error that says so; closing it again is not."""
    ledger = Ledger.open(tmp_path, rate)
    assert "0 sessions cached, snapshot 1" in repr(ledger)
    ledger.close()
    ledger.close()
    assert "it was closed" in repr(ledger)
    with pytest.raises(LedgerClosed, match="it was closed"):
        ledger.apply([])


MISSED = reading(1, input_tokens=3)
REPORT = report(1, producer_id="p", dropped=4)
