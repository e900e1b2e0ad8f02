"""Whether a session that has no end still runs: by the ledger's own clock, and by its producer's life."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path

import duckdb
import msgspec
import pytest

from tests.support.events import (
    PRODUCER,
    START_US,
    final,
    message,
    messages,
    reading,
    report,
    started,
)
from tests.support.events import (
    ended as end_of,
)
from tests.support.oracle import rate
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event

HOUR_US = 3_600_000_000
BEGIN = datetime.fromtimestamp(START_US / 1e6, UTC)


def state(
    folder: Path,
    *told: tuple[int, Sequence[Event | Message]],
    asked: int,
    ended: int | None = None,
    producer: str = PRODUCER,
) -> str:
    """Return the state of the one session: what came in which minute, and the minute of asking.

    In the minute `ended` the ledger learns from an outbox that the process of `producer` has ended.
    """
    minute = 0
    clock = Clock(now=lambda: BEGIN + timedelta(minutes=minute))
    with Ledger.open(folder, rate, clock=clock) as ledger:
        noted = [] if ended is None else [(ended, None)]
        for at, (minute, events) in enumerate(sorted([*told, *noted], key=itemgetter(0)), 1):
            if events is None:
                ledger.note_ended([producer])
            elif minute > asked:
                break
            else:
                whole = [each for each in events if isinstance(each, Message)]
                parts = [each for each in events if not isinstance(each, Message)]
                ledger.apply(whole or messages(at, *parts, number=at))
        minute = asked
        ledger.publish_snapshot()
    with duckdb.connect((folder / "costs.duckdb").resolve(), read_only=True) as snapshot:
        [(found,)] = snapshot.execute("SELECT state FROM completeness").fetchall()
    return str(found)


@pytest.mark.parametrize("skew_us", [-2 * HOUR_US, 0, 2 * HOUR_US])
@pytest.mark.parametrize(("asked", "expected"), [(59, "open"), (61, "abandoned")])
def test_the_clock_of_a_worker_does_not_matter(
    tmp_path: Path, skew_us: int, asked: int, expected: str
) -> None:
    """Two hours off either way: what counts is when the ledger heard of the call."""
    events = [
        started(started_at=START_US + skew_us),
        reading(1, input_tokens=1, occurred_at=START_US + skew_us),
    ]
    assert state(tmp_path, (0, events), asked=asked) == expected


def test_a_call_on_hold_is_open_while_its_worker_reports(tmp_path: Path) -> None:
    """Seventy minutes without any usage, and the process says every five that it has the call."""
    alive = [(minute, [report(minute, live_sessions=1)]) for minute in range(5, 71, 5)]
    assert state(tmp_path, (0, [started()]), *alive, asked=72) == "open"


def test_a_call_whose_worker_is_silent_is_abandoned(tmp_path: Path) -> None:
    """Three reports are missing: the process is gone, and the call has no end."""
    told = [(0, [started()]), (5, [report(1, live_sessions=1)])]
    assert state(tmp_path / "1", *told, asked=19) == "open"
    assert state(tmp_path / "2", *told, asked=21) == "abandoned"


def test_usage_counts_as_well_as_a_report(tmp_path: Path) -> None:
    """A call that goes on is open, even if reports are lost."""
    told = [
        (0, [started()]),
        (5, [report(1, live_sessions=1)]),
        (20, [reading(1, input_tokens=1)]),
    ]
    assert state(tmp_path, *told, asked=34) == "open"


def idle(number: int, minute: float, **more: object) -> list[Event]:
    """Return the report of a producer that has no live call at that minute, by its own clock."""
    at_us = START_US + int(minute * 60_000_000)
    return [report(number, live_sessions=0, reported_at=at_us, **more)]


def test_a_call_without_an_end_is_over_when_its_worker_has_no_calls(tmp_path: Path) -> None:
    """Its end is lost, or about to come: that is said 10 s later and not an hour later."""
    told = [(0, [started(), reading(1, input_tokens=1)]), (5, idle(1, 5))]
    assert state(tmp_path / "1", *told, asked=5) == "open"
    assert state(tmp_path / "2", *told, asked=6) == "abandoned"
    told = [(0, [started()]), (5, idle(1, 5, dropped=1))]
    assert state(tmp_path / "3", *told, asked=6) == "short"


def test_the_end_of_a_call_corrects_what_was_said_of_it(tmp_path: Path) -> None:
    """A report may overtake the end, by seconds, or by more where the outbox had to be adopted."""
    told = [(0, [started(), reading(1, input_tokens=1)]), (5, idle(1, 5))]
    end = end_of(2, final(input_tokens=1))
    assert state(tmp_path / "1", *told, (8, [end]), asked=7) == "abandoned"
    assert state(tmp_path / "2", *told, (8, [end]), asked=8) == "complete"


def test_a_later_call_of_the_worker_does_not_revive_a_lost_one(tmp_path: Path) -> None:
    """One moment without live calls proves that all that had started before are over."""
    told = [(0, [started()]), (5, idle(1, 5)), (9, [report(2, live_sessions=1)])]
    assert state(tmp_path, *told, asked=10) == "abandoned"


def test_a_report_from_before_the_call_says_nothing_of_it(tmp_path: Path) -> None:
    """By the worker's own clock, in whatever order the two arrive."""
    start = started(started_at=START_US + 10 * 60_000_000)
    assert state(tmp_path / "1", (9, idle(1, 9)), (10, [start]), asked=40) == "open"
    assert state(tmp_path / "2", (10, [start]), (11, idle(1, 9)), asked=40) == "open"


def test_what_another_worker_says_is_of_its_own_calls(tmp_path: Path) -> None:
    """Only the producer of a call knows whether it is over."""
    other = msgspec.structs.replace(report(1, live_sessions=0), producer_id="another")
    other = msgspec.structs.replace(other, reported_at=START_US + 5 * 60_000_000)
    batch = [message(9, other, producer="another")]
    assert state(tmp_path, (0, [started()]), (5, batch), asked=40) == "open"


def test_the_call_of_a_worker_that_is_known_dead_is_abandoned_at_once(tmp_path: Path) -> None:
    """The lock of its outbox is free, so nobody has to wait for its silence."""
    told = [(0, [started()]), (5, [report(1, live_sessions=1)])]
    assert state(tmp_path / "1", *told, asked=6) == "open"
    assert state(tmp_path / "2", *told, asked=6, ended=6) == "abandoned"
    assert state(tmp_path / "3", *told, asked=6, ended=6, producer="another") == "open"


def test_a_worker_that_is_heard_of_again_lives(tmp_path: Path) -> None:
    """What comes after the note counts more than the note: an outbox that was set aside is no death."""
    told = [(0, [started()]), (5, [reading(1, input_tokens=1)])]
    assert state(tmp_path / "1", *told, asked=6, ended=3) == "open"
    told = [(0, [started()]), (5, [report(1, live_sessions=1)])]
    assert state(tmp_path / "2", *told, asked=6, ended=3) == "open"


def test_what_the_ledger_notes_of_a_worker_is_no_loss(tmp_path: Path) -> None:
    """It is noted once, for those whose calls have no end, and counts nothing."""
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply(messages(1, started()))
        for _ in range(2):
            ledger.note_ended([PRODUCER, "another"])
        ledger.publish_snapshot()
        with duckdb.connect((tmp_path / "costs.duckdb").resolve(), read_only=True) as snapshot:
            noted = snapshot.execute("SELECT producer_id, number, ended FROM producer_reports")
            assert noted.fetchall() == [(PRODUCER, 0, True)]
            lost = snapshot.execute("SELECT producers, dropped, unmeasured FROM losses")
            assert lost.fetchall() == [(0, 0, 0)]
