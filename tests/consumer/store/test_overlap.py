"""A piece is worked out while the one before it is written: what if either of them fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.events import ended, final, message, reading, session_id, started
from tests.support.oracle import Priced, booked, count, expected, rate
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.booking.sessions import SessionKey
from voicecosts.consumer.errors import LedgerClosed, LedgerWriteFailed
from voicecosts.consumer.store import folding
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.overlap import Beside
from voicecosts.producer.events import Meter, MeterReading, Quantities

CALLS = [
    [started(of), *(reading(number, of=of, input_tokens=number) for number in (1, 2, 3))]
    for of in (1, 2, 3)
]
EVENTS = [event for turn in zip(*CALLS, strict=True) for event in turn]
UNREADABLE = Message(message(1).subject, 90, b"nothing of ours")


def sent() -> list[Message]:
    """Return three calls in turn, an event a message, and one that nobody can read."""
    return [*(message(n, event, number=n) for n, event in enumerate(EVENTS, 1)), UNREADABLE]


class Rating:
    """`rate`, that raises for one reading, and tells in which threads it was asked."""

    def __init__(self, fault: type[BaseException] | None = None, at: int = 2) -> None:
        self.fault = fault
        self.at = at
        self.threads: set[str] = set()

    def __call__(self, meter: Meter, totals: Quantities, at: datetime, **asked: object) -> Priced:
        """Rate, or raise for the reading of the second call."""
        self.threads.add(threading.current_thread().name)
        if self.fault and meter.session_id == session_id(2) and totals.input_tokens == self.at:
            raise self.fault("price list on fire")
        return rate(meter, totals, at, **asked)


def check_whole(folder: Path) -> None:
    """Compare a ledger with what was sent: nothing twice, nothing missing."""
    snapshot = folder / "costs.duckdb"
    assert booked(snapshot) == expected(EVENTS)
    readings = sum(isinstance(event, MeterReading) for event in EVENTS)
    assert (count(snapshot, "usage"), count(snapshot, "dead_letters")) == (readings, 1)


@pytest.fixture
def broken() -> Iterator[Rating]:
    """A rating that raises, and works afterwards."""
    rating = Rating(RuntimeError)
    yield rating
    assert rating.threads == {threading.current_thread().name}


def test_pieces_follow_one_another_in_the_state_that_each_leaves(tmp_path: Path) -> None:
    """What is not in memory any more, or not yet, is found as the piece before leaves it."""
    with Ledger.open(tmp_path, rate, piece_weight=1, cached_sessions=1, cached_bytes=0) as ledger:
        applied = ledger.apply(sent())
        assert (applied.messages, applied.events) == (len(EVENTS) + 1, len(EVENTS))
        assert ledger.apply(sent()).rows == 0
        assert ledger.booked_sequence == 90
    check_whole(tmp_path)


def test_what_is_pending_is_known_to_the_next_piece(tmp_path: Path) -> None:
    """A call is noted as pending once, and not with every piece that has something of it."""
    with Ledger.open(tmp_path, rate, piece_weight=1) as ledger:
        ledger.apply(sent())
        keys = [SessionKey("prod", session_id(of)) for of in (1, 2, 3)]
        assert all(session.pending for session in ledger._sessions_of(keys).values())
        pending = "SELECT count(*) FROM pending_sessions"
        assert ledger._connection.execute(pending).fetchone() == (3,)


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt])
def test_a_piece_that_cannot_be_worked_out_leaves_what_is_written(
    tmp_path: Path, broken: Rating, fault: type[BaseException]
) -> None:
    """The piece before it is in memory as on disk, so that the ledger goes on from there."""
    broken.fault = fault
    with Ledger.open(tmp_path, broken, piece_weight=1) as ledger:
        with pytest.raises(fault, match="on fire"):
            ledger.apply(sent())
        begun = ledger.booked_sequence
        assert begun == next(
            place for place, event in enumerate(EVENTS) if event == reading(2, of=2, input_tokens=2)
        )
        broken.fault = None
        assert ledger.apply(sent()).bookings == 9 - (begun - 3)
    check_whole(tmp_path)


@pytest.mark.parametrize(
    ("table", "written"), [("bookings", 3), ("ledger_state", 0), ("pending_sessions", 0)]
)
def test_a_piece_that_cannot_be_written_takes_the_next_one_with_it(
    tmp_path: Path, table: str, written: int
) -> None:
    """What was worked out from it is booked nowhere, and the ledger must be opened anew."""
    with Ledger.open(tmp_path, rate, piece_weight=1) as ledger:
        ledger._connection.execute(f"ALTER TABLE {table} RENAME TO hidden")
        with pytest.raises(LedgerWriteFailed, match="messages stay in the stream"):
            ledger.apply(sent())
        ledger._connection.execute(f"ALTER TABLE hidden RENAME TO {table}")
        assert ledger._connection.execute("SELECT count(*) FROM bookings").fetchone() == (0,)
        with pytest.raises(LedgerClosed, match="it failed"):
            ledger.apply(sent())
    with Ledger.open(tmp_path, rate) as ledger:
        assert ledger.booked_sequence == written
        ledger.apply(sent())
    check_whole(tmp_path)


def test_both_may_fail_at_once(tmp_path: Path, broken: Rating) -> None:
    """The failed write is what is told, and the one that ends the ledger."""
    broken.at = 1  # of the second call: the piece after the first row
    with Ledger.open(tmp_path, broken, piece_weight=1) as ledger:
        ledger._connection.execute("ALTER TABLE bookings RENAME TO hidden")
        with pytest.raises(LedgerWriteFailed) as failed:
            ledger.apply(sent())
        assert isinstance(failed.value.__context__, RuntimeError)
        ledger._connection.execute("ALTER TABLE hidden RENAME TO bookings")
    broken.fault = None
    with Ledger.open(tmp_path, broken) as ledger:
        ledger.apply(sent())
    check_whole(tmp_path)


def test_a_session_that_cannot_be_read_rolls_nothing_back(tmp_path: Path) -> None:
    """The piece that is written meanwhile is booked whole, and nothing is booked any more."""
    first, *others = sent()
    with Ledger.open(tmp_path, rate, piece_weight=1) as ledger:
        ledger.apply([first])
        ledger._connection.execute("ALTER TABLE session_ends RENAME TO hidden")
        again = [message(80, reading(1, input_tokens=1), number=80), *others]
        with pytest.raises(LedgerWriteFailed, match="session_ends"):
            ledger.apply(again)
        ledger._connection.execute("ALTER TABLE hidden RENAME TO session_ends")
        assert ledger._connection.execute("SELECT count(*) FROM bookings").fetchone() == (1,)
        with pytest.raises(LedgerClosed, match="it failed"):
            ledger.apply(again)
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply(sent())
    check_whole(tmp_path)


@pytest.mark.parametrize(
    ("late", "settled"),
    [(0, 1), (1, 0), (2, 0)],
    ids=["in what was written", "in what follows", "afterwards"],
)
def test_what_is_settled_meanwhile_has_all_that_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: int, settled: int
) -> None:
    """A call that has ended is settled while another is worked out; what comes later takes that back."""
    monkeypatch.setattr(folding, "SETTLE_AFTER_US", 0)
    monkeypatch.setattr(Beside, "is_awaited", False)  # there is always time to settle
    over = [started(1), reading(1, input_tokens=1), ended(2, final(input_tokens=1))]
    comes = [started(2), started(3), started(4)]
    comes[late] = reading(3, input_tokens=5)
    with Ledger.open(tmp_path, rate, piece_weight=1) as ledger:
        ledger.apply([message(1, *over)])
        ledger._folding._is_settling = True
        ledger.apply([message(2, comes[0]), message(3, comes[1])])
        ledger.apply([message(4, comes[2])])
        found = ledger._connection.execute("SELECT count(*) FROM settled_sessions").fetchone()
        assert found == (settled,)
    with Ledger.open(tmp_path, rate) as ledger:
        assert ledger.apply([message(5, *over), message(6, *comes)]).bookings == 0
    assert booked(tmp_path / "costs.duckdb") == expected([*over, *comes])
