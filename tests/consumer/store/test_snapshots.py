"""Snapshots: what readers find, how often it is renewed, and how they learn that it is fresh."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from tests.support.events import message, reading
from tests.support.oracle import rate
from voicecosts.consumer.errors import SnapshotFailed
from voicecosts.consumer.store.clock import Clock, Pacing
from voicecosts.consumer.store.ledger import Ledger


class Hands:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 21, 14, 0, tzinfo=UTC)
        self.seconds = 100.0

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.moment += timedelta(seconds=seconds)
        self.seconds += seconds

    @property
    def clock(self) -> Clock:
        """What the ledger reads."""
        return Clock(lambda: self.moment, lambda: self.seconds)


@pytest.fixture
def hands() -> Hands:
    """The hands of the clock that the ledger under test reads."""
    return Hands()


@pytest.fixture
def ledger(tmp_path: Path, hands: Hands) -> Iterator[Ledger]:
    """A ledger whose time stands still."""
    with Ledger.open(tmp_path, rate, clock=hands.clock) as ledger:
        yield ledger


def book(ledger: Ledger, number: int) -> None:
    """Book one more reading."""
    assert ledger.apply([message(number, reading(number, input_tokens=number))]).bookings == 1


def readings_in(path: Path) -> int:
    """Return how many bookings a reader of `path` sees."""
    with duckdb.connect(path, read_only=True, config={"threads": 1}) as connection:
        return len(connection.table("usage"))


def heartbeat(folder: Path) -> dict[str, object]:
    """Return what the ledger last said of itself."""
    found: dict[str, object] = json.loads((folder / "ledger.json").read_text())
    return found


class TestPublishing:
    def test_a_fresh_ledger_has_a_snapshot_at_once(self, ledger: Ledger, tmp_path: Path) -> None:
        """Readers find something from the first moment on."""
        assert ledger.snapshot == 1
        assert readings_in(tmp_path / "costs.duckdb") == 0

    def test_a_snapshot_holds_what_was_booked_before_it(
        self, ledger: Ledger, tmp_path: Path
    ) -> None:
        """Bookings show with the next snapshot and not before."""
        book(ledger, 1)
        assert readings_in(tmp_path / "costs.duckdb") == 0
        assert ledger.publish_snapshot() == 2
        assert readings_in(tmp_path / "costs.duckdb") == 1

    def test_the_name_is_a_relative_link(self, ledger: Ledger, tmp_path: Path) -> None:
        """A data directory can be mounted elsewhere: the link names its neighbour."""
        assert (tmp_path / "costs.duckdb").readlink() == Path("costs-1.duckdb")

    def test_an_open_reader_keeps_its_snapshot(self, ledger: Ledger, tmp_path: Path) -> None:
        """A notebook's connection stays consistent while a new one sees what is new."""
        book(ledger, 1)
        ledger.publish_snapshot()
        with duckdb.connect(
            tmp_path / "costs.duckdb", read_only=True, config={"threads": 1}
        ) as notebook:
            book(ledger, 2)
            ledger.publish_snapshot()
            assert len(notebook.table("usage")) == 1
            assert readings_in((tmp_path / "costs.duckdb").resolve()) == 2

    def test_a_question_to_the_ledger_itself_does_not_hold_up_a_snapshot(
        self, ledger: Ledger, tmp_path: Path
    ) -> None:
        """A second cursor in the middle of reading sees its moment; publishing goes on beside it."""
        book(ledger, 1)
        with ledger._connection.cursor() as live:
            live.execute("BEGIN TRANSACTION READ ONLY")
            assert len(live.table("usage")) == 1
            book(ledger, 2)
            ledger.publish_snapshot()
            assert readings_in(tmp_path / "costs.duckdb") == 2
            assert len(live.table("usage")) == 1
            live.execute("ROLLBACK")

    def test_a_checkpoint_that_has_to_wait_costs_a_snapshot_only(
        self, ledger: Ledger, tmp_path: Path
    ) -> None:
        """Should the database refuse for now, the ledger goes on and the next publish works."""
        with ledger._connection.cursor() as live:
            live.execute("BEGIN TRANSACTION READ ONLY")
            live.table("usage").fetchall()
            ledger._connection.execute("UPDATE ledger_state SET snapshot = 5")
            with pytest.raises(SnapshotFailed, match="Cannot CHECKPOINT"):
                ledger.publish_snapshot()
            live.execute("ROLLBACK")
        book(ledger, 1)
        ledger.publish_snapshot()
        assert readings_in(tmp_path / "costs.duckdb") == 1

    def test_a_snapshot_knows_its_number_and_moment(
        self, ledger: Ledger, tmp_path: Path, hands: Hands
    ) -> None:
        """A copied file still tells which moment it speaks of."""
        hands.forward(60)
        book(ledger, 1)
        hands.forward(1)
        ledger.publish_snapshot()
        with duckdb.connect(
            tmp_path / "costs-2.duckdb", read_only=True, config={"threads": 1}
        ) as connection:
            found = connection.execute("FROM ledger_state").fetchone()
        assert found == (hands.moment.replace(tzinfo=None), 1, 2)

    def test_numbers_go_on_after_a_restart(self, tmp_path: Path) -> None:
        """A number never means two snapshots, not even one that a killed writer had begun."""
        Ledger.open(tmp_path, rate).close()
        (tmp_path / "costs-7.duckdb").write_bytes(b"never linked")
        with Ledger.open(tmp_path, rate) as ledger:
            assert ledger.snapshot == 8

    def test_closing_publishes_what_is_left(self, tmp_path: Path) -> None:
        """A ledger that ends in order leaves nothing unpublished, and no empty snapshot either."""
        with Ledger.open(tmp_path, rate) as ledger:
            book(ledger, 1)
        assert readings_in(tmp_path / "costs.duckdb") == 1
        with Ledger.open(tmp_path, rate):
            pass
        assert (tmp_path / "costs.duckdb").readlink() == Path("costs-3.duckdb")

    def test_old_snapshots_go_when_no_reader_can_be_on_the_way(
        self, ledger: Ledger, tmp_path: Path, hands: Hands
    ) -> None:
        """The last three stay, and any younger than a reader needs to follow the link."""
        hands.moment = datetime.now(UTC)
        for number in range(1, 6):
            book(ledger, number)
            ledger.publish_snapshot()
        assert snapshots(tmp_path) == [1, 2, 3, 4, 5, 6]
        hands.forward(60)
        ledger.publish_snapshot()
        assert snapshots(tmp_path) == [5, 6, 7]

    def test_a_snapshot_needs_the_format_of_duckdb_1_5_only(
        self, ledger: Ledger, tmp_path: Path
    ) -> None:
        """Every supported DuckDB can open what any of them wrote."""
        with duckdb.connect(
            tmp_path / "costs.duckdb", read_only=True, config={"threads": 1}
        ) as connection:
            tags = connection.execute(
                "SELECT tags FROM duckdb_databases() WHERE NOT internal"
            ).fetchone()
        assert tags == ({"storage_version": "v1.5.0+"},)


def snapshots(folder: Path) -> list[int]:
    """Return the numbers of the snapshots that are there."""
    return sorted(int(path.stem[6:]) for path in folder.glob("costs-*.duckdb"))


class TestPacing:
    def test_nothing_new_is_not_published(self, ledger: Ledger, hands: Hands) -> None:
        """A quiet night writes no copies."""
        hands.forward(3600)
        assert not ledger.publish_if_due()

    def test_news_waits_for_the_interval(self, ledger: Ledger, hands: Hands) -> None:
        """Two snapshots are five seconds apart, at least."""
        book(ledger, 1)
        hands.forward(4.9)
        assert not ledger.publish_if_due()
        hands.forward(0.1)
        assert ledger.publish_if_due()
        assert not ledger.publish_if_due()

    def test_a_slow_copy_is_followed_by_a_long_rest(self) -> None:
        """Publishing takes a twentieth of the time, however large the ledger."""
        pacing = Pacing()
        assert pacing.due(0.0)
        pacing.tried(10.0, took_s=3.0)
        assert not pacing.due(69.9)
        assert pacing.due(70.0)

    def test_a_failed_publish_waits_as_well(
        self, ledger: Ledger, hands: Hands, tmp_path: Path
    ) -> None:
        """A full disk is not tried again in a loop; the bookings are safe, and later it works."""
        book(ledger, 1)
        hands.forward(10)
        blocked = tmp_path / "costs-2.duckdb.tmp"
        blocked.mkdir()
        with pytest.raises(SnapshotFailed, match="Everything booked is safe"):
            ledger.publish_if_due()
        assert not ledger.publish_if_due()
        book(ledger, 2)
        hands.forward(5)
        assert ledger.publish_if_due()
        assert readings_in(tmp_path / "costs.duckdb") == 2


class TestHeartbeat:
    def test_it_tells_of_snapshot_moment_and_process(self, ledger: Ledger, tmp_path: Path) -> None:
        """A reader learns what is published, until when it is complete, and who writes."""
        assert heartbeat(tmp_path) == {
            "snapshot": 1,
            "as_of": "2026-11-21T14:00:00.000000Z",
            "pid": os.getpid(),
            "waiting": None,
            "running": True,
            "embedded": False,
            "whole": True,
            "answered_at": None,
        }

    def test_it_moves_on_while_nothing_happens(
        self, ledger: Ledger, tmp_path: Path, hands: Hands
    ) -> None:
        """An old snapshot of a quiet ledger is known to be complete until now."""
        hands.forward(3600)
        ledger.heartbeat(waiting=0)
        beat = heartbeat(tmp_path)
        assert (beat["snapshot"], beat["as_of"]) == (1, "2026-11-21T15:00:00.000000Z")
        assert beat["waiting"] == 0

    def test_it_waits_for_the_publish_when_something_was_booked(
        self, ledger: Ledger, tmp_path: Path, hands: Hands
    ) -> None:
        """A snapshot is never called complete while the ledger holds more."""
        hands.forward(2)
        ledger.heartbeat(waiting=5)
        book(ledger, 1)
        hands.forward(2)
        ledger.heartbeat(waiting=4)
        assert heartbeat(tmp_path)["as_of"] == "2026-11-21T14:00:02.000000Z"
        ledger.publish_snapshot()
        beat = heartbeat(tmp_path)
        assert (beat["snapshot"], beat["as_of"]) == (2, "2026-11-21T14:00:04.000000Z")
        assert beat["waiting"] == 4

    def test_it_is_written_once_a_second(
        self, ledger: Ledger, tmp_path: Path, hands: Hands
    ) -> None:
        """Beating after every fetch costs nothing."""
        hands.forward(0.5)
        ledger.heartbeat(waiting=1)
        assert heartbeat(tmp_path)["waiting"] is None
        hands.forward(0.5)
        ledger.heartbeat(waiting=2)
        assert heartbeat(tmp_path)["waiting"] == 2

    def test_a_closed_ledger_says_that_it_runs_no_more(self, tmp_path: Path) -> None:
        """A reader can tell a stopped ledger from a quiet one."""
        with Ledger.open(tmp_path, rate):
            assert heartbeat(tmp_path)["running"] is True
        assert heartbeat(tmp_path)["running"] is False
