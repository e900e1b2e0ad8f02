"""The view `completeness`: no session is called whole that is not, and none is missing from it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path

import duckdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.consumer.store.test_dead_letters import as_before_letters
from tests.support.calls import calls, pieces
from tests.support.events import (
    PRODUCER,
    START_US,
    SUBJECT,
    ended,
    final,
    message,
    messages,
    reading,
    report,
    session_id,
    started,
)
from tests.support.oracle import booked, expected, rate
from tests.support.traffic import Call
from voicecosts.consumer.booking.active import CACHED_SESSIONS, PACKED_BYTES
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event, MeterReading, SessionEnded

ID = session_id(1)
SOON = timedelta(minutes=5)
LATER = timedelta(hours=2)
START = datetime.fromtimestamp(START_US / 1_000_000, UTC)

Seen = tuple[str, str | None, int | None, int, Decimal | None]


def open_ledger(
    path: Path, cached_sessions: int = CACHED_SESSIONS, cached_bytes: int = PACKED_BYTES
) -> Ledger:
    """Return a ledger that hears of everything at `START`: by its clock a call is silent or not."""
    return Ledger.open(
        path,
        rate,
        clock=Clock(now=lambda: START),
        cached_sessions=cached_sessions,
        cached_bytes=cached_bytes,
    )


def states(
    path: Path, after: timedelta = LATER, quiet: timedelta = timedelta(hours=1)
) -> dict[str, Seen]:
    """Return state, cause, readings made and arrived, and the worst case of every session."""
    with duckdb.connect(path / "costs.duckdb", read_only=True, config={"threads": 1}) as connection:
        rows = connection.execute(
            "SELECT session_id::VARCHAR, state, cause, readings_made, readings_arrived, "
            "missing_at_most FROM completeness_at(?, ?)",
            [(START + after).replace(tzinfo=None), quiet],
        ).fetchall()
    return {row[0]: row[1:] for row in rows}


def apply(path: Path, *groups: list[Event], after: timedelta = LATER) -> Seen:
    """Book groups of events, each as one message by a ledger of its own; return what is said of ID."""
    for number, events in enumerate(groups, 1):
        with open_ledger(path) as ledger:
            ledger.apply(messages(number, *events, number=number))
    return states(path, after)[ID]


def of(session: int, events: list[Event]) -> list[Event]:
    """Return the same events of another session."""
    return [msgspec.structs.replace(event, session_id=session_id(session)) for event in events]


def rounds(of_each: list[list[list[Event]]]) -> Iterator[tuple[list[Event], ...]]:
    """Return the first groups of all sessions, the second ones, and so on."""
    return zip_longest(*of_each, fillvalue=[])


A, B, C = (reading(n, input_tokens=1000 * n) for n in (1, 2, 3))
END = ended(4, final(input_tokens=3000))


class TestWhole:
    def test_a_call_of_which_everything_came_is_complete(self, tmp_path: Path) -> None:
        """In whatever order and how often it came, and whether or not the ledger was restarted."""
        arrivals: list[list[list[Event]]] = [
            [[started(), A, B, C, END]],
            [[END, C, B, A, started()]],
            [[C], [A], [END], [B], [started()]],
            [[started(), A, B, C, END], [A, END, C], [B]],
        ]
        of_each = [[of(n, each) for each in groups] for n, groups in enumerate(arrivals, 1)]
        apply(tmp_path, *[[e for each in round_ for e in each] for round_ in rounds(of_each)])
        whole = ("complete", None, 3, 3, Decimal(0))
        assert states(tmp_path) == {session_id(n): whole for n in (1, 2, 3, 4)}

    def test_a_call_whose_end_made_readings_good_is_repaired(self, tmp_path: Path) -> None:
        """Readings are missing and the totals are not."""
        came: list[list[Event]] = [[], [A], [B], [C], [A, C], [C, A]]
        apply(tmp_path, [e for n, some in enumerate(came) for e in of(n, [started(), *some, END])])
        assert states(tmp_path) == {
            session_id(n): ("repaired", None, 3, len(some), Decimal(0))
            for n, some in enumerate(came)
        }

    def test_a_call_that_used_nothing_is_complete(self, tmp_path: Path) -> None:
        """There is nothing that could be missing."""
        assert apply(tmp_path, [started(), ended(1)]) == ("complete", None, 0, 0, Decimal(0))

    def test_a_bad_reading_before_a_good_end_is_repaired(self, tmp_path: Path) -> None:
        """The end says the last word, and the ledger holds it."""
        backwards = reading(2, input_tokens=1)
        assert apply(tmp_path, [A, backwards, C, END])[:4] == ("repaired", None, 3, 2)

    def test_usage_after_the_end_that_came_leaves_it_complete(self, tmp_path: Path) -> None:
        """A late reading is booked on top of the final totals."""
        late = [reading(5, input_tokens=3500), reading(6, input_tokens=3600)]
        assert apply(tmp_path, [A, B, C], [late[1]], [END, late[0]])[:2] == ("complete", None)

    def test_a_second_end_has_the_last_word(self, tmp_path: Path) -> None:
        """A call that went on and ended again is judged by its last end."""
        again = ended(6, final(input_tokens=5000), readings=4)
        assert apply(tmp_path, [A, B, C, END], [again])[:4] == ("repaired", None, 4, 3)
        seen = apply(tmp_path, [reading(5, input_tokens=4000)])
        assert seen[:4] == ("complete", None, 4, 4)


class TestEndless:
    def test_a_call_is_open_until_it_was_not_heard_of_for_long(self, tmp_path: Path) -> None:
        """Then its worker has died or its end is lost, so its last readings may be missing.

        How long that is, the reader says; it is compared with the moment of the ledger.
        """
        assert apply(tmp_path, [started(), A], after=SOON) == ("open", None, None, 1, None)
        assert states(tmp_path)[ID] == ("abandoned", None, None, 1, None)
        assert states(tmp_path, LATER, timedelta(hours=3))[ID][0] == "open"

    def test_the_start_alone_is_a_call(self, tmp_path: Path) -> None:
        """A call of which nothing else ever came is not forgotten."""
        assert apply(tmp_path, [started()]) == ("abandoned", None, None, 0, None)

    def test_a_reading_without_a_start_is_a_call(self, tmp_path: Path) -> None:
        """So is one whose start was lost."""
        assert apply(tmp_path, [A], after=SOON)[0] == "open"
        assert states(tmp_path)[ID][0] == "abandoned"

    def test_a_clock_far_ahead_keeps_no_call_open(self, tmp_path: Path) -> None:
        """The ledger goes by when it was told, so a time in an event is no sign of life."""
        ahead = msgspec.structs.replace(A, occurred_at=START_US + 10**14)
        assert apply(tmp_path, [ahead])[0] == "abandoned"

    def test_dropped_readings_make_endless_calls_of_that_worker_short(self, tmp_path: Path) -> None:
        """A worker says how many it dropped and not whose: those that ended have been repaired."""
        other = msgspec.structs.replace(END, session_id=session_id(2))
        assert apply(tmp_path, [started(), report(1, dropped=2), other]) == (
            "short",
            "producer_dropped",
            None,
            0,
            None,
        )
        assert states(tmp_path)[session_id(2)][0] == "repaired"
        assert states(tmp_path, SOON)[ID][0] == "open"


class TestShort:
    def test_a_refused_meter_of_the_end(self, tmp_path: Path) -> None:
        """Its final totals are not booked; what they cost is the most that can be missing."""
        seen = apply(tmp_path, [A, B, C, ended(4, final(input_tokens=2999))])
        assert seen == ("short", "backwards", 3, 3, Decimal("0.000370077"))

    def test_what_has_no_price_has_no_bound(self, tmp_path: Path) -> None:
        """Where not everything is priced, the worst case is unknown and not a number."""
        seen = apply(tmp_path, [C, ended(4, final(input_tokens=2999, output_tokens=1))])
        assert seen[:2] + seen[4:] == ("short", "backwards", None)

    def test_a_later_good_end_makes_it_whole(self, tmp_path: Path) -> None:
        """What one end could not book, the next one can."""
        bad, good = ended(4, final(input_tokens=1)), ended(5, final(input_tokens=3000), readings=3)
        assert apply(tmp_path, [A, B, C, bad], [good])[:2] == ("complete", None)

    def test_a_gap_behind_the_end(self, tmp_path: Path) -> None:
        """A reading after the end is in no final totals, so nobody knows what it said."""
        after = reading(6, input_tokens=3500)
        assert apply(tmp_path, [A, B, C, END, after])[:2] == ("short", "gap_after_end")
        between = reading(5, model="priced", characters=5)
        assert apply(tmp_path, [between])[:2] == ("complete", None)

    def test_a_late_reading_that_was_refused(self, tmp_path: Path) -> None:
        """No end comes behind it that could make it good."""
        seen = apply(tmp_path, [A, B, C, END, reading(5, input_tokens=1)])
        assert seen[:2] == ("short", "backwards")

    def test_an_end_that_says_more_than_a_later_reading(self, tmp_path: Path) -> None:
        """The later number wins, and the difference is noticed."""
        seen = apply(tmp_path, [reading(9, input_tokens=10), END])
        assert seen[:2] == ("short", "contradicts_end, gap_after_end")

    @pytest.mark.parametrize("groups", [[[A, ended(2)]], [[ended(2)], [A]]])
    def test_an_end_that_does_not_name_a_meter(
        self, tmp_path: Path, groups: list[list[Event]]
    ) -> None:
        """Final totals that lack what is booked are not what the ledger holds."""
        assert apply(tmp_path, *groups)[:2] == ("short", "contradicts_end")

    @pytest.mark.parametrize("broken", [{"totals": {"requests": -1}}, {"number": "two"}])
    def test_an_unreadable_reading_of_an_abandoned_call(
        self, tmp_path: Path, broken: dict[str, object]
    ) -> None:
        """A dead letter that can be read so far that it names its session counts there."""
        raw = msgspec.to_builtins(B) | broken
        batch = {"producer_id": PRODUCER, "number": 1, "events": [msgspec.to_builtins(A), raw]}
        with open_ledger(tmp_path) as ledger:
            ledger.apply([Message(SUBJECT, 1, msgspec.msgpack.encode(batch))])
        assert states(tmp_path)[ID][:2] == ("short", "invalid_event")
        assert states(tmp_path, SOON)[ID][:2] == ("open", None)
        numbered = "number" not in broken
        state = apply(tmp_path, [END])[0]  # an unknown number may lie behind the end
        assert state == ("repaired" if numbered else "short")

    def test_an_end_that_counts_usage_which_could_not_be_measured(self, tmp_path: Path) -> None:
        """Every reading came, and yet something was used that is in none of them."""
        end = ended(4, final(input_tokens=3000), unmeasured=1)
        assert apply(tmp_path, [A, B, C, end]) == ("short", "unmeasured", 3, 3, None)

    def test_no_later_end_makes_unmeasured_usage_good(self, tmp_path: Path) -> None:
        """It is in the totals of no end, so a call stays short whatever its ends say."""
        unmeasured = ended(4, final(input_tokens=3000), unmeasured=1)
        last = ended(5, final(input_tokens=3000), readings=3)
        assert apply(tmp_path, [A, B, C, unmeasured], [last])[:2] == ("short", "unmeasured")

    def test_unmeasured_usage_has_no_worst_case(self, tmp_path: Path) -> None:
        """Beside a refusal whose worst case is known, what is missing in all is unknown."""
        end = ended(4, final(input_tokens=2999), unmeasured=2)
        seen = apply(tmp_path, [A, B, C, end])
        assert seen[:2] + seen[4:] == ("short", "backwards, unmeasured", None)

    def test_a_stranger_cannot_make_a_call_short(self, tmp_path: Path) -> None:
        """An event of another project says nothing of a session, whatever it names."""
        raw = msgspec.to_builtins(B) | {"project": "other", "totals": {"requests": -1}}
        batch = {"producer_id": PRODUCER, "number": 9, "events": [raw]}
        apply(tmp_path, [A, B, C, END])
        with open_ledger(tmp_path) as ledger:
            ledger.apply([Message(SUBJECT, 9, msgspec.msgpack.encode(batch))])
        assert states(tmp_path)[ID][0] == "complete"


@settings(max_examples=3)
@given(st.data())
def test_only_what_is_whole_is_called_whole(data: st.DataObject) -> None:
    """Lose, repeat and mix anything: complete and repaired calls have their exact totals.

    With its end a call is always one of the two, and complete just when every reading came; without
    its end it never is.
    """
    check_states(data)


@pytest.mark.faults
@pytest.mark.timeout(900)
@settings(max_examples=60)
@given(st.data())
def test_only_what_is_whole_is_called_whole_at_length(data: st.DataObject) -> None:
    """The same, with many more examples."""
    check_states(data)


def check_states(data: st.DataObject) -> None:
    """Deliver some calls badly to a real ledger and compare what it says of each."""
    made = data.draw(calls())
    sent: list[Event] = []
    for call in made:
        for event in call.events:
            sent += [event] * data.draw(st.sampled_from([0, 1, 1, 1, 2, 3]))
    sent = data.draw(st.permutations(sent))
    batches = pieces(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)), sent)
    reopened = data.draw(st.sets(st.integers(0, max(0, len(batches) - 1)), max_size=2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        ledger = open_ledger(path, cached_sessions=2, cached_bytes=0)
        for place, events in enumerate(batches):
            if place in reopened:
                ledger.close()
                ledger = open_ledger(path, cached_sessions=2, cached_bytes=0)
            ledger.apply([message(place + 1, *events, number=place + 1)])
        ledger.close()
        seen = states(path, timedelta(days=9))
        held = booked(path / "costs.duckdb")
    for call in made:
        came = [event for event in sent if event in call.events]
        assert (call.session in seen) == bool(came)
        if came:
            state, cause, made_readings, arrived, _ = seen[call.session]
            numbers = {event.number for event in came if isinstance(event, MeterReading)}
            assert (cause, arrived) == (None, len(numbers))
            if not any(isinstance(event, SessionEnded) for event in came):
                assert state == "abandoned"
                continue
            assert state == ("complete" if arrived == made_readings else "repaired")
            ours = {
                meter: total for meter, total in held.items() if meter.session_id == call.session
            }
            assert ours == expected(call.events)


def reduce_to_first_version(ledger: Path) -> None:
    """Write a ledger anew with the tables and columns of the first migration, and no later one."""
    newer = ledger.rename(ledger.with_suffix(".newer"))
    with duckdb.connect(ledger) as older:
        older.execute(sql.CREATE_HISTORY)
        older.execute(sql.migrations()[1][1])
        older.execute("DELETE FROM ledger_state")
        tables = [name for (name,) in older.execute("SHOW TABLES").fetchall()]
        older.execute(f"ATTACH '{newer}' AS newer (READ_ONLY)")
        for name in tables:
            columns = ", ".join(older.table(name).columns)
            older.table(f"newer.{name}").project(columns).insert_into(name)
        older.execute("DELETE FROM schema_migrations WHERE version > 1")
    newer.unlink()


def test_an_older_ledger_is_brought_up_to_date(tmp_path: Path) -> None:
    """What an older version did not note is found in its rows, as far as it can be."""
    call = Call(session_id(3), [final(model="priced")])
    call.use(0, {"characters": 5})
    call.end()
    refused: list[Event] = [C, ended(4, final(input_tokens=1))]
    with open_ledger(tmp_path) as ledger:
        ledger.apply(
            [message(1, *refused, *call.events, reading(1, session_id=session_id(2), characters=1))]
        )
    as_before_letters(tmp_path)
    reduce_to_first_version(tmp_path / "ledger" / "ledger.duckdb")
    open_ledger(tmp_path).close()
    found = {session: seen[:2] for session, seen in states(tmp_path).items()}
    assert found == {
        ID: ("short", "backwards"),
        session_id(2): ("abandoned", None),
        session_id(3): ("complete", None),
    }


def test_a_note_is_made_once(tmp_path: Path) -> None:
    """What comes again adds nothing, in the same ledger or a later one."""
    events: list[Event] = [C, A, B, ended(4, final(input_tokens=1)), reading(9, input_tokens=4000)]
    with open_ledger(tmp_path) as ledger:
        assert ledger.apply([message(1, *events)]).session_notes == 5
        assert ledger.apply([message(1, *events)]).rows == 0
    with open_ledger(tmp_path) as ledger:
        assert ledger.apply([message(1, *events)]).rows == 0
    assert "session_notes" in sql.INSERT_SESSION_NOTES
