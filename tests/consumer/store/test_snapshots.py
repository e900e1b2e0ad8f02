"""Snapshots: what readers find, how often it is renewed, and how they learn that it is fresh."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from tests.support.events import message, reading
from tests.support.oracle import rate
from voicecosts.consumer.errors import (
    LedgerClosed,
    LedgerDamaged,
    LedgerMoved,
    SnapshotFailed,
)
from voicecosts.consumer.store import copying
from voicecosts.consumer.store.blocks import blocks_of, is_whole, place_of
from voicecosts.consumer.store.clock import LONGEST_REST_S, Clock, Pacing
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.settings import boot_id


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

    def test_a_large_copy_goes_on_between_bookings(
        self, ledger: Ledger, tmp_path: Path, hands: Hands, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody waits for all of it; it holds what was booked before it began, and says no more."""
        monkeypatch.setattr("voicecosts.consumer.store.ledger.PART_S", 0.0)
        book(ledger, 1)
        hands.forward(5)
        began = hands.moment
        assert not ledger.publish_if_due()
        assert ledger.is_at_work
        book(ledger, 2)
        hands.forward(5)
        ledger.heartbeat()
        parts = 1
        while not ledger.publish_if_due():
            parts += 1
            assert (heartbeat(tmp_path)["snapshot"], readings_in(tmp_path / "costs.duckdb")) == (
                1,
                0,
            )
        assert parts > 3
        assert readings_in(tmp_path / "costs.duckdb") == 1
        told = heartbeat(tmp_path)
        assert (told["snapshot"], told["whole"]) == (2, False)
        assert told["as_of"] == began.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ledger.publish_snapshot()
        assert readings_in(tmp_path / "costs.duckdb") == 2

    def test_what_is_published_at_once_overtakes_a_large_copy(
        self, ledger: Ledger, tmp_path: Path, hands: Hands, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who wants everything now does not get what an older copy holds."""
        monkeypatch.setattr("voicecosts.consumer.store.ledger.PART_S", 0.0)
        book(ledger, 1)
        hands.forward(5)
        assert not ledger.publish_if_due()
        book(ledger, 2)
        ledger.publish_snapshot()
        assert readings_in(tmp_path / "costs.duckdb") == 2
        assert not ledger._snapshots.is_at_work
        assert not [*tmp_path.glob("*.tmp")]

    def test_a_ledger_knows_its_snapshots_again_if_it_was_closed_in_order(
        self, tmp_path: Path
    ) -> None:
        """Then it need not compare all of them. What was put in its place is not taken for it."""
        for number in (1, 2, 3):
            with Ledger.open(tmp_path, rate) as ledger:
                book(ledger, number)
        file = tmp_path / "ledger" / "ledger.duckdb"
        with Ledger.open(tmp_path, rate, embedded=True) as ledger:
            first = ledger._snapshots._versions.first
            assert first is not None
            assert first <= ledger.snapshot - 2
        shutil.copyfile(tmp_path / "costs.duckdb", tmp_path / "restored")
        (tmp_path / "restored").replace(file)
        with Ledger.open(tmp_path, rate, embedded=True) as ledger:
            assert ledger._snapshots._versions.first is None

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
        blocked.rmdir()
        assert ledger.publish_if_due()
        assert readings_in(tmp_path / "costs.duckdb") == 2

    def test_what_is_written_in_a_day_is_bounded(self) -> None:
        """Whatever a snapshot takes: its bytes and a part that may be written at once."""
        for each in (1_000_000, 4_000_000, 100_000_000):
            pacing, now, written = Pacing(bytes_per_day=15e9), 0.0, 0
            while now < 86_400:
                now += 1
                if pacing.due(now):
                    pacing.tried(now, took_s=0.1, written=each)
                    written += each
            assert written < 15e9 * 1.06

    def test_a_quiet_ledger_is_published_at_once(self) -> None:
        """Bytes that were not written may be later: a few minutes of news come every five seconds."""
        pacing = Pacing(bytes_per_day=15e9)
        for now in range(0, 500, 5):
            assert pacing.due(now)
            pacing.tried(now, took_s=0.01, written=4_000_000)

    def test_no_copy_is_followed_by_more_than_an_hour(self) -> None:
        """A copy of all of a large ledger, made for once, does not make the answers of a day old."""
        pacing = Pacing(bytes_per_day=15e9)
        pacing.tried(0.0, took_s=10.0, written=20_000_000_000)
        assert not pacing.due(3599.0)
        assert pacing.due(3600.0)
        pacing.tried(3600.0, took_s=0.1, written=1_000_000)
        assert pacing.due(3610.0)

    def test_the_bytes_of_a_snapshot_are_counted(self, tmp_path: Path, hands: Hands) -> None:
        """What a ledger writes for its readers is what its pace follows."""
        pacing = Pacing(bytes_per_day=86_400)  # one byte a second
        with Ledger.open(tmp_path, rate, clock=hands.clock, pacing=pacing) as ledger:
            size = place_of(len(blocks_of(tmp_path / "costs-1.duckdb").used()))
            book(ledger, 1)
            hands.forward(LONGEST_REST_S - 1)
            assert size > LONGEST_REST_S
            assert not ledger.publish_if_due()
            hands.forward(1)
            assert ledger.publish_if_due()

    def test_a_long_rest_does_not_let_the_log_grow(
        self, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between two snapshots the write-ahead log is folded in: a start has to read all of it."""
        monkeypatch.setattr("voicecosts.consumer.store.snapshots.MAX_LOG_BYTES", 1000)
        book(ledger, 1)
        log = tmp_path / "ledger" / "ledger.duckdb.wal"
        assert log.stat().st_size > 1000
        assert not ledger.publish_if_due()
        assert not log.exists()
        book(ledger, 2)
        ledger.publish_snapshot()
        assert readings_in(tmp_path / "costs.duckdb") == 2


class TestRepair:
    def test_a_snapshot_that_was_deleted_is_published_again(
        self, ledger: Ledger, tmp_path: Path, hands: Hands
    ) -> None:
        """Also of a quiet ledger, and without a wait for the bytes of a day."""
        (tmp_path / "costs-1.duckdb").unlink()
        hands.forward(5)
        assert ledger.publish_if_due()
        assert readings_in(tmp_path / "costs.duckdb") == 0

    def test_a_link_that_was_deleted_is_put_back(
        self, ledger: Ledger, tmp_path: Path, hands: Hands
    ) -> None:
        """At the next look, by a new link alone: the snapshot is still there."""
        (tmp_path / "costs.duckdb").unlink()
        assert not ledger.publish_if_due()
        assert (tmp_path / "costs.duckdb").readlink() == Path("costs-1.duckdb")

    def test_a_ledger_without_room_for_a_copy_starts_and_books(
        self, tmp_path: Path, hands: Hands, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A start is no worse than a run: it warns, books, and tries again."""
        with Ledger.open(tmp_path, rate, clock=hands.clock) as ledger:
            book(ledger, 1)
        blocked = tmp_path / "costs-3.duckdb.tmp"
        blocked.mkdir()
        with Ledger.open(tmp_path, rate, clock=hands.clock) as ledger:
            assert "No snapshot could be published" in caplog.text
            book(ledger, 2)
            beat = heartbeat(tmp_path)
            assert (beat["snapshot"], beat["running"], beat["whole"]) == (2, True, False)
            assert not ledger.publish_if_due()
            blocked.rmdir()
            hands.forward(5)
            assert ledger.publish_if_due()
        assert readings_in(tmp_path / "costs.duckdb") == 2

    def test_a_copy_that_does_not_fit_is_not_begun(
        self, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It would fill the disk first, for the broker as well."""
        book(ledger, 1)
        full = os.statvfs_result((4096, 4096, *[0] * 8))
        with monkeypatch.context() as patch:
            patch.setattr(os, "statvfs", lambda _: full)
            with pytest.raises(SnapshotFailed, match="No space left"):
                ledger.publish_snapshot()
        assert not list(tmp_path.glob("*.tmp"))
        assert ledger.publish_snapshot()
        assert readings_in(tmp_path / "costs.duckdb") == 1

    def test_a_clock_that_was_set_back_keeps_no_old_snapshots(
        self, ledger: Ledger, tmp_path: Path, hands: Hands
    ) -> None:
        """The numbers say which ones are old."""
        hands.moment = datetime.now(UTC)
        for number in range(1, 6):
            book(ledger, number)
            ledger.publish_snapshot()
        hands.moment -= timedelta(days=365)
        book(ledger, 6)
        ledger.publish_snapshot()
        assert snapshots(tmp_path) == [5, 6, 7]
        assert readings_in(tmp_path / "costs.duckdb") == 6


def rot(path: Path) -> None:
    """Flip a byte in the block of each table's newest data, as a bad disk does."""
    with duckdb.connect(path, read_only=True, config={"threads": 1}) as connection:
        [(block,)] = connection.execute(
            "SELECT max(block_id) FROM pragma_storage_info('bookings') WHERE block_id >= 0"
        ).fetchall()
    with path.open("r+b") as file:
        file.seek(3 * 4096 + block * 262_144 + 1000)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))


class TestRot:
    def test_a_rotten_block_never_becomes_a_snapshot(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is noticed before the rename: readers keep the good ones, and the log names the file."""
        file = tmp_path / "ledger" / "ledger.duckdb"
        with Ledger.open(tmp_path, rate) as ledger:
            book(ledger, 1)
        rot(file)
        with pytest.raises(LedgerDamaged, match="of the newest snapshot that can be read"):
            Ledger.open(tmp_path, rate)
        assert "ledger.duckdb cannot be read" in caplog.text
        assert snapshots(tmp_path) == [1, 2]
        assert readings_in(tmp_path / "costs.duckdb") == 1

    def test_a_ledger_that_rots_while_it_is_open_stops(
        self, ledger: Ledger, tmp_path: Path
    ) -> None:
        """It books nothing more, and no message is acknowledged after that."""
        book(ledger, 1)
        ledger.publish_snapshot()
        rot_open(tmp_path / "ledger" / "ledger.duckdb", like=tmp_path / "costs-2.duckdb")
        book(ledger, 2)
        with pytest.raises(LedgerDamaged):
            ledger.publish_snapshot()
        with pytest.raises(LedgerClosed):
            ledger.apply([message(3, reading(3, input_tokens=3))])
        assert readings_in(tmp_path / "costs.duckdb") == 1

    def test_a_block_that_was_read_wrong_is_read_again(
        self, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only what is damaged twice is damage of the ledger itself."""
        answers = [False]
        monkeypatch.setattr(
            copying, "is_whole", lambda it: answers.pop() if answers else is_whole(it)
        )
        book(ledger, 1)
        ledger.publish_snapshot()
        assert not answers
        assert readings_in(tmp_path / "costs.duckdb") == 1

    def test_a_verified_snapshot_is_kept_apart(
        self, ledger: Ledger, tmp_path: Path, hands: Hands
    ) -> None:
        """It leaves the rotation with the second snapshot, and is renewed about once a day."""
        hands.moment = datetime.now(UTC)
        for number in range(1, 4):
            book(ledger, number)
            ledger.publish_snapshot()
        apart = tmp_path / "verified.duckdb"
        assert readings_in(apart) == 1
        assert apart.stat().st_ino != (tmp_path / "costs-2.duckdb").stat().st_ino
        hands.forward(86_500)
        ledger.publish_snapshot()
        with duckdb.connect(apart, read_only=True, config={"threads": 1}) as renewed:
            assert renewed.execute("SELECT snapshot FROM ledger_state").fetchall() == [(5,)]

    def test_without_room_for_that_the_disk_is_not_filled(
        self,
        ledger: Ledger,
        tmp_path: Path,
        hands: Hands,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """It is not begun, said once, and tried again an hour later."""
        hands.moment = datetime.now(UTC)
        with monkeypatch.context() as patch:
            patch.setattr("voicecosts.consumer.store.snapshots.LEFT_BYTES", 2**62)
            for number in range(1, 6):
                book(ledger, number)
                ledger.publish_snapshot()
        assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
            f"no snapshot could be kept apart in {tmp_path}/verified.duckdb, which is tried again in an hour"
        ]
        ledger.publish_snapshot()
        assert not list(tmp_path.glob("verified*"))
        hands.forward(3_601)
        ledger.publish_snapshot()
        assert (tmp_path / "verified.duckdb").exists()


def rot_open(path: Path, *, like: Path) -> None:
    """Flip a byte of a database that is open here, at the place that its copy tells."""
    with duckdb.connect(like, read_only=True, config={"threads": 1}) as connection:
        [(block,)] = connection.execute(
            "SELECT max(block_id) FROM pragma_storage_info('session_notes') WHERE block_id >= 0"
        ).fetchall()
    with path.open("r+b") as file:
        file.seek(3 * 4096 + block * 262_144 + 1000)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))


class TestInPlace:
    """What goes into a file without its name is lost when the file is closed."""

    def moved(self, path: Path) -> None:
        """Give the file another name."""
        path.rename(path.with_name("elsewhere"))

    def replaced(self, path: Path) -> None:
        """Put another file under the name, as an editor or a restore does."""
        copy = path.with_name("copy")
        copy.write_bytes(path.read_bytes())
        copy.replace(path)

    @pytest.mark.parametrize("loss", ["moved", "replaced", "removed"])
    def test_a_ledger_that_lost_its_file_stops(
        self, ledger: Ledger, tmp_path: Path, loss: str
    ) -> None:
        """It raises before anybody acknowledges, and its readers keep what they have."""
        file = tmp_path / "ledger" / "ledger.duckdb"
        {"moved": self.moved, "replaced": self.replaced, "removed": Path.unlink}[loss](file)
        with pytest.raises(LedgerMoved, match="start again"):
            book(ledger, 1)
        with pytest.raises(LedgerClosed):
            ledger.publish_snapshot()
        assert snapshots(tmp_path) == [1]

    def test_a_quiet_ledger_notices_with_its_heartbeat(
        self, ledger: Ledger, tmp_path: Path, hands: Hands
    ) -> None:
        """Within a second, and not only with the next message."""
        (tmp_path / "ledger" / "ledger.duckdb").unlink()
        hands.forward(1)
        with pytest.raises(LedgerMoved):
            ledger.heartbeat(waiting=0)

    def test_a_removed_log_is_noticed_as_well(self, ledger: Ledger, tmp_path: Path) -> None:
        """What is committed is in the log until the next snapshot."""
        book(ledger, 1)
        (tmp_path / "ledger" / "ledger.duckdb.wal").unlink()
        with pytest.raises(LedgerMoved, match=r"ledger\.duckdb\.wal was removed"):
            book(ledger, 2)


class TestPrivacy:
    def test_everything_is_for_its_owner_alone(self, tmp_path: Path) -> None:
        """Costs, tenants and calls are nobody else's business on a shared host."""
        old = os.umask(0)
        try:
            with Ledger.open(tmp_path / "new" / "data", rate) as ledger:
                book(ledger, 1)
                ledger.publish_snapshot()
                book(ledger, 2)
                assert open_to_others(tmp_path / "new") == []  # the log of the ledger among it
        finally:
            os.umask(old)
        assert open_to_others(tmp_path / "new") == []

    def test_what_an_earlier_version_left_open_is_tightened(self, tmp_path: Path) -> None:
        """At the next opening; the data directory itself stays as its owner made it."""
        with Ledger.open(tmp_path, rate) as ledger:
            book(ledger, 1)
        for path in [tmp_path, *tmp_path.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        Ledger.open(tmp_path, rate).close()
        assert open_to_others(tmp_path) == [tmp_path]

    def test_links_are_not_followed(self, tmp_path: Path) -> None:
        """Whoever may write in the data directory has no file elsewhere emptied, or its rights changed."""
        elsewhere = tmp_path / "elsewhere"
        elsewhere.write_text("kept")
        elsewhere.chmod(0o644)
        data_dir = tmp_path / "data"
        with Ledger.open(data_dir, rate) as ledger:
            book(ledger, 1)
        for name in ("ledger.json.tmp", "ledger/notes"):
            (data_dir / name).symlink_to(elsewhere)
        (data_dir / "ledger" / "loop").symlink_to("loop")
        with Ledger.open(data_dir, rate) as ledger:
            book(ledger, 2)
        assert elsewhere.read_text() == "kept"
        assert elsewhere.stat().st_mode & 0o777 == 0o644


def open_to_others(folder: Path) -> list[Path]:
    """Return what somebody else may read or write, links not followed."""
    found = [folder, *folder.rglob("*")]
    return [path for path in found if not path.is_symlink() and path.stat().st_mode & 0o077]


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
            "for_a_moment": False,
            "whole": True,
            "answered_at": None,
            "stream_bytes": None,
            "stream_max_bytes": None,
            "stream_messages": None,
            "trimmed_to": None,
            "run_by": None,
            "ledger_file": None,
            "known_from": None,
            "prices": None,
            "operations": 0,
            "boot": boot_id(),
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
