"""Whether a session that has no end still runs: by the ledger's own clock, and by its producer's life."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path

import duckdb
import pytest

from tests.support.events import PRODUCER, START_US, messages, reading, report, started
from tests.support.oracle import rate
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event

HOUR_US = 3_600_000_000
BEGIN = datetime.fromtimestamp(START_US / 1e6, UTC)


def state(
    folder: Path,
    *told: tuple[int, Sequence[Event]],
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
        for at, (minute, events) in enumerate(sorted([*told, *noted], key=itemgetter(0)), 1):  # noqa: B007 - the clock reads it
            if events is None:
                ledger.note_ended([producer])
            else:
                ledger.apply(messages(at, *events, number=at))
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


def test_the_report_of_a_worker_without_calls_says_nothing_of_life(tmp_path: Path) -> None:
    """It will not report again by itself, so its silence is judged by the hour."""
    told = [(0, [started()]), (5, [report(1, live_sessions=0, dropped=0)])]
    assert state(tmp_path, *told, asked=40) == "open"


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
