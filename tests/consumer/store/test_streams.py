"""What the ledger's own file knows of the stream below it: written with the bookings, read again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import duckdb

from tests.support.events import message, reading
from tests.support.oracle import rate
from voicecosts.consumer.booking.progress import Progress, Seen
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.heartbeat import read_heartbeat
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.ledger import Ledger

CREATED_US = 1_790_000_000_123_456


def seen(first: int, last: int, *deleted: tuple[int, int], stream_us: int = CREATED_US) -> Seen:
    """What the broker says."""
    return Seen(stream_us=stream_us, first=first, last=last, deleted=deleted)


def heard_of(data_dir: Path) -> str | None:
    """When the broker answered, as readers are told."""
    beat = read_heartbeat(Layout(data_dir).heartbeat)
    assert beat is not None
    return beat.answered_at


def gaps(data_dir: Path) -> list[tuple[object, ...]]:
    """What readers see."""
    with duckdb.connect(
        (data_dir / "costs.duckdb").resolve(), read_only=True, config={"threads": 1}
    ) as snapshot:
        return snapshot.execute(
            "SELECT first_sequence, last_sequence, messages, why FROM gaps ORDER BY ALL"
        ).fetchall()


def test_progress_is_what_was_booked_and_survives(tmp_path: Path) -> None:
    """Out of order, in several groups, over a restart: the floor moves when the hole is filled."""
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.reconcile(seen(1, 6))
        ledger.apply([message(2, reading(1)), message(3, reading(2)), message(6, reading(3))])
        id_ = ledger.ledger_id
    with Ledger.open(tmp_path, rate) as ledger:
        assert ledger.ledger_id == id_
        expected = Progress(stream_us=CREATED_US, floor=0, above=((2, 3), (6, 6)), last=6)
        assert ledger.progress == expected
        ledger.apply([message(1, reading(4))])
        assert (ledger.progress.floor, ledger.progress.above) == (3, ((6, 6),))
        ledger.apply([message(4), message(5)])
        assert (ledger.progress.floor, ledger.progress.above) == (6, ())


def test_a_message_without_news_moves_the_floor_too(tmp_path: Path) -> None:
    """A repeat adds no row, and is booked all the same: otherwise it would be read again for ever."""
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply([message(1, reading(1))])
        ledger.apply([message(2, reading(1))])
        assert ledger.progress.floor == 2


def test_a_message_that_was_in_no_stream_does_not_count(tmp_path: Path) -> None:
    """What is booked from an outbox has no place in the stream."""
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply([message(0, reading(1))])
        assert ledger.progress == Progress()


def test_a_gap_is_published_before_anybody_hears_of_it(tmp_path: Path) -> None:
    """Readers see it when `reconcile` returns, and where that fails the broker counts as silent."""
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.reconcile(seen(3, 8))
        assert gaps(tmp_path) == [(1, 2, 2, "left_the_stream")]
        in_the_way = Layout(tmp_path).snapshot(ledger.snapshot + 1)
        in_the_way.with_name(in_the_way.name + ".tmp").mkdir()
        ledger.reconcile(seen(5, 8))
        ledger.heard(datetime.now(UTC), 0)
        ledger.heartbeat(running=False)
        assert heard_of(tmp_path) is None
        in_the_way.with_name(in_the_way.name + ".tmp").rmdir()
        ledger.publish_snapshot()
        ledger.heard(datetime.now(UTC), 0)
        ledger.heartbeat(running=False)
        assert heard_of(tmp_path) is not None
    assert gaps(tmp_path)[1:] == [(3, 4, 2, "left_the_stream")]


def test_gaps_are_facts_in_the_books_and_are_closed_when_they_are_filled(tmp_path: Path) -> None:
    """Readers see what is missing until it comes after all."""
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply([message(1, reading(1))])
        assert [str(gap) for gap in ledger.reconcile(seen(5, 8, (7, 7)))] == [
            "messages 2 to 4 (3 of them)",
            "message 7",
        ]
        assert ledger.reconcile(seen(5, 8, (7, 7))) == ()
    left = "left_the_stream"
    assert gaps(tmp_path) == [(2, 4, 3, left), (7, 7, 1, left)]
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply([message(3, reading(2)), message(5, reading(3)), message(7, reading(4))])
        assert ledger.progress.floor == 5
    assert gaps(tmp_path) == [(2, 2, 1, left), (4, 4, 1, left)]


def test_another_stream_is_another_progress(tmp_path: Path) -> None:
    """The same number in a stream made anew is another message."""
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.reconcile(seen(1, 3))
        ledger.apply([message(1, reading(1))])
        ledger.trimmed(1)
        ledger.reconcile(seen(1, 1, stream_us=CREATED_US + 1))
        assert (ledger.progress.floor, ledger.progress.stream_us) == (0, CREATED_US + 1)
    assert gaps(tmp_path) == [(2, 3, 2, "stream_gone"), (4, None, None, "stream_gone")]


def test_only_what_a_snapshot_on_disk_holds_is_kept(tmp_path: Path) -> None:
    """What was booked since the last snapshot may not be removed from the stream."""
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.reconcile(seen(1, 9))
        ledger.apply([message(1, reading(1))])
        ledger.publish_snapshot()
        ledger.apply([message(2, reading(2))])
        assert ledger.kept is not None
        assert (ledger.kept.floor, ledger.progress.floor) == (1, 2)
        Layout(tmp_path).snapshot(ledger.snapshot).unlink()
        assert ledger.kept is None


def test_a_ledger_of_an_older_version_goes_on_from_its_highest_number(tmp_path: Path) -> None:
    """It did not note a floor; what it acknowledged counts as booked, and the stream is adopted."""
    layout = Layout(tmp_path)
    layout.ledger_dir.mkdir(parents=True)
    with duckdb.connect(layout.ledger) as old:
        old.execute(sql.CREATE_HISTORY)
        for version, (name, text) in sql.migrations().items():
            if version < 6:
                old.execute(text)
                values = {"version": version, "name": name, "applied_at": 0}
                old.execute(sql.MARK_MIGRATION, values)
        old.execute("UPDATE ledger_state SET stream_sequence = 42")
    with Ledger.open(tmp_path, rate) as ledger:
        assert ledger.progress == Progress(floor=42, last=42)
        assert ledger.reconcile(seen(40, 50)) == ()
        assert (ledger.progress.floor, ledger.progress.stream_us) == (42, CREATED_US)
