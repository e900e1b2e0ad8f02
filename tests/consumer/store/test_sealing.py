"""Days that are over leave the ledger file, and no number changes."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.events import message, reading
from tests.support.history import ALL, Step, Told, figures, history, often
from tests.support.price_books import mini
from voicecosts import connect
from voicecosts.analytics.errors import SealedMissing
from voicecosts.analytics.snapshot.connection import closing, open_newest, read
from voicecosts.consumer.store import database, sql
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger

NEEDS_NO_FILE = sorted({"sessions", "session_usage", "cost_by_day", "completeness", "operations"})


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One history, told to a ledger that does nothing but book, and to one that seals whenever it may."""
    plain, sealed = (Told(tmp_path_factory.mktemp(name)) for name in ("plain", "sealed"))
    with pytest.MonkeyPatch.context() as patch:
        often(patch)
        for place, step in enumerate(history(1)):
            plain.take(step, seals=False)
            sealed.take(step, seals=True)
            if place % 40 == 39:
                sealed.open_again()
                mine, other = (figures(it.ledger._connection) for it in (plain, sealed))
                assert other == mine
    plain.close()
    sealed.close()
    return plain.data_dir, sealed.data_dir


def opened(data_dir: Path) -> duckdb.DuckDBPyConnection:
    """Open the newest snapshot as DuckDB alone does."""
    return duckdb.connect((data_dir / "costs.duckdb").resolve(), read_only=True)


def rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[Any]:
    """Return all rows."""
    return connection.execute(query).fetchall()


class TestNumbers:
    """What a question is answered with."""

    def test_every_view_is_the_same_before_and_after(self, told: tuple[Path, Path]) -> None:
        """Late readings, corrections, dead letters and calls of every kind included."""
        plain, sealed = told
        with opened(plain) as before, opened(sealed) as after:
            assert figures(after) == figures(before)

    def test_a_meter_has_one_row_in_the_sums_of_sealed_days(self, told: tuple[Path, Path]) -> None:
        """However many times it was folded, while its operation and its prices are the same."""
        meter = (
            "project, session_id, agent_label, modality, provider, model, estimated, size_tier, "
            "service_tier, day, operation, price_id"
        )
        with opened(told[1]) as snapshot:
            assert rows(snapshot, "SELECT count(*) FROM bookings") == [(0,)]
            [(meters, folded)] = rows(
                snapshot,
                f"SELECT count(DISTINCT ({meter})), count(*) FROM folded_usage",  # noqa: S608 - our own names
            )
        assert folded == meters

    def test_a_question_about_a_day_reads_the_files_of_that_day(
        self, told: tuple[Path, Path]
    ) -> None:
        """The folders say which."""
        with opened(told[1]) as snapshot:
            [(of_day, every)] = rows(
                snapshot, "SELECT count(*) FILTER (day = '2026-11-19'), count(*) FROM sealed_files"
            )
            asked = "SELECT sum(cost) FROM usage WHERE day = '2026-11-19'"
            [(_, plan)] = rows(snapshot, f"EXPLAIN ANALYZE {asked}")
        assert 0 < of_day < every
        assert re.search(rf"Scanning Files: {of_day}/{every}\b", plan)


class TestFiles:
    """What lies in the data directory."""

    def test_each_file_is_recorded_as_it_is(self, told: tuple[Path, Path]) -> None:
        """Private, in a private folder, and sorted for who asks about a tenant."""
        data_dir = told[1]
        with opened(data_dir) as snapshot:
            recorded = rows(
                snapshot,
                "SELECT file, rows, first_place, last_place, bytes, sha256 FROM sealed_files",
            )
            for name, count, first, last, size, digest in recorded:
                path = data_dir / name
                assert path.name == f"{first}-{last}.parquet"
                assert path.stat().st_size == size
                assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
                assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (
                    0o600,
                    0o700,
                )
                found = snapshot.execute(
                    "SELECT tenant, agent_id, session_id, place FROM read_parquet(?)", [str(path)]
                ).fetchall()
                assert len(found) == count
                assert found == sorted(found, key=lambda row: [(it is None, it) for it in row])
        files = {
            str(it.relative_to(data_dir)) for it in (data_dir / "sealed").rglob("*") if it.is_file()
        }
        assert files == {name for name, *_ in recorded}

    @pytest.mark.parametrize(
        "name", ["it's moved", "day=1999-01-01/cost=7/tenant=evil", "st*r", "[star]", "st?r"]
    )
    def test_a_directory_that_was_moved_is_read_where_it_is(
        self, told: tuple[Path, Path], tmp_path: Path, name: str
    ) -> None:
        """By our own functions as it is, and by DuckDB alone after one line.

        Neither a folder that is named like a column nor one that is named like a pattern changes a row.
        """
        plain, sealed = told
        moved = tmp_path / name
        shutil.copytree(sealed, moved, symlinks=True)
        for beside in ("star", "s"):
            (tmp_path / beside).symlink_to(moved)
        aside = sealed.rename(sealed.with_name("aside"))
        try:
            with opened(plain) as snapshot:
                expected = figures(snapshot)
            connection = connect(moved)
            with closing(connection):
                assert figures(connection) == expected
            with opened(moved) as snapshot:
                snapshot.execute("SET VARIABLE costs_dir = ?", [str(moved)])
                assert figures(snapshot) == expected
        finally:
            aside.rename(sealed)

    def test_a_snapshot_alone_answers_all_but_single_rows(
        self, told: tuple[Path, Path], tmp_path: Path
    ) -> None:
        """And whoever asks for those is told what to do."""
        plain, sealed = told
        alone = tmp_path / "alone.duckdb"
        shutil.copyfile((sealed / "costs.duckdb").resolve(), alone)
        with opened(plain) as snapshot:
            expected = figures(snapshot)
        connection, found = open_newest(alone)
        with closing(connection):  # where it was made, the files are found
            assert rows(connection, ALL["usage"]) == expected["usage"]
        aside = sealed.rename(sealed.with_name("aside"))
        try:
            connection, found = open_newest(alone)
            with closing(connection):
                for view in NEEDS_NO_FILE:
                    assert len(rows(connection, f"FROM {view}")) > 0
                with pytest.raises(SealedMissing, match=r"put the folder `sealed` .* beside alone"):
                    read(connection, found.path, "SELECT count(*) FROM usage", row=tuple[int])
        finally:
            aside.rename(sealed)

    def test_a_ledger_without_its_files_opens_and_goes_on(
        self, told: tuple[Path, Path], tmp_path: Path
    ) -> None:
        """Only the single rows are gone."""
        data_dir = tmp_path / "data"
        shutil.copytree(told[1], data_dir, symlinks=True, ignore=shutil.ignore_patterns("sealed"))
        again = Told(data_dir)
        again.take(Step(again.now, [message(10**6, reading(1, of=99))]), seals=False)
        again.close()
        with opened(data_dir) as snapshot:
            assert rows(snapshot, "SELECT count(*) FROM sessions WHERE rows = 1") != [(0,)]
            with pytest.raises(duckdb.IOException, match="sealed/usage/day="):
                rows(snapshot, "SELECT count(*) FROM usage")


def sealing(tmp_path: Path, patch: pytest.MonkeyPatch) -> Told:
    """Return a ledger with three rows of one day, one of which is not folded, that may be sealed."""
    often(patch)
    made = Told(tmp_path)
    made.take(
        Step(made.now, [message(1, *(reading(it, input_tokens=it * 1000) for it in (1, 2, 3)))]),
        seals=False,
    )
    made.now += timedelta(days=3)
    return made


def work(told: Told) -> None:
    """Do all that is to be done."""
    told.take(Step(told.now), seals=True)


def work_until(told: Told, *, written: bool) -> None:
    """Go on until what comes next is to write a file of rows, or to move those that are written."""
    sealing, folding = told.ledger._sealing, told.ledger._folding
    while not (sealing._written if written else sealing._days and folding.folded_to == hot(told)):
        assert told.ledger.work()


def leave_no_memory(connection: duckdb.DuckDBPyConnection) -> None:
    """Set the limit of memory to what is used and cannot be freed, and a little more."""
    [(used,)] = rows(connection, "SELECT sum(memory_usage_bytes)::BIGINT FROM duckdb_memory()")
    limit = used >> 10
    with contextlib.suppress(duckdb.OutOfMemoryException):
        while True:
            connection.execute(f"SET memory_limit = '{limit - 100} KiB'")
            limit -= 100
    connection.execute(f"SET memory_limit = '{limit + 200} KiB'")


def hot(told: Told) -> int:
    """Return how many rows are in the ledger file."""
    [(count,)] = rows(told.ledger._connection, "SELECT count(*) FROM bookings")
    return int(count)


class TestWhen:
    """Which days are sealed, and when."""

    @pytest.mark.parametrize(("hours", "left"), [(47.9, 3), (48.1, 0)])
    def test_a_day_is_sealed_when_it_is_over_for_a_day(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: float, left: int
    ) -> None:
        """By the clock of the ledger."""
        told = sealing(tmp_path, monkeypatch)
        told.now = (told.now - timedelta(days=3)).replace(hour=0, minute=0) + timedelta(hours=hours)
        work(told)
        assert hot(told) == left
        told.close()

    def test_a_day_of_which_something_came_is_sealed_hours_later(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And then in a further file, beside the first one, which stays as it is, if it is worth one."""
        told = sealing(tmp_path, monkeypatch)
        monkeypatch.setattr("voicecosts.consumer.store.sealing.LEAST_ROWS", 2)
        work(told)
        first = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
        assert first
        for number, hours in ((4, 6.1), (5, 5.9)):
            late = message(number, reading(number, input_tokens=number * 9000))
            told.take(Step(told.now, [late]), seals=True)
            told.now += timedelta(hours=hours)
            work(told)
            assert hot(told) == number - 3
        told.now += timedelta(hours=0.2)
        work(told)
        assert hot(told) == 0
        files = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
        assert len(files) == len(first) + 1
        assert first.items() <= files.items()
        told.close()

    @pytest.mark.parametrize(("seconds", "left"), [(1.0, 0), (-1.0, 3)])
    def test_whoever_asks_waits_for_it_some_moments_only(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, left: int
    ) -> None:
        """A ledger that is opened to book what waits goes on with it when it is opened again."""
        told = sealing(tmp_path, monkeypatch)
        told.close()
        monkeypatch.setattr("voicecosts.consumer.store.ledger.SEALING_S", seconds)
        clock = Clock(now=lambda: told.now, ticks=lambda: 0.0)
        with Ledger.open(tmp_path, mini("2"), clock=clock, embedded=True) as ledger:
            assert rows(ledger._connection, "SELECT count(*) FROM bookings") == [(left,)]

    def test_a_small_ledger_stays_one_file(self, tmp_path: Path) -> None:
        """Some thousand rows are read in a moment, and a file a day would be many files."""
        with pytest.MonkeyPatch.context() as patch:
            told = sealing(tmp_path, patch)
        work(told)
        assert hot(told) == 3
        told.close()
        assert not (tmp_path / "sealed").exists()


class TestTrouble:
    """What may be in the way."""

    def test_a_file_that_cannot_be_written_keeps_the_day_where_it_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The ledger books on, and tries it again."""
        (tmp_path / "sealed").write_text("in the way")
        told = sealing(tmp_path, monkeypatch)
        with caplog.at_level(logging.WARNING):
            work(told)
        assert "day 2026-11-18 cannot be sealed, and is kept as it is" in caplog.text
        assert hot(told) == 3
        (tmp_path / "sealed").unlink()
        told.now += timedelta(minutes=10)
        work(told)
        assert hot(told) == 0
        told.close()

    @pytest.mark.usefixtures("made_anew")  # another one takes other memory
    def test_where_memory_is_short_the_rows_stay_and_no_file_does(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Writing a file, or moving its rows; booking goes on, and it is tried again."""
        told = sealing(tmp_path, monkeypatch)
        connection = told.ledger._connection
        for files in (0, 1):
            work_until(told, written=files == 1)
            assert len([*tmp_path.rglob("*.parquet")]) == files
            leave_no_memory(connection)
            told.ledger.work()
            connection.execute("SET memory_limit = '400MB'")
            assert "day 2026-11-18 cannot be sealed, and is kept as it is" in caplog.text
            assert hot(told) == 3
            assert not [*tmp_path.rglob("*.parquet*")]
            told.now += timedelta(minutes=10)
            caplog.clear()
        work(told)
        assert hot(told) == 0
        told.close()

    def test_a_ledger_that_is_closed_leaves_no_file_whose_rows_it_has(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between writing and moving it may book, publish and be closed."""
        told = sealing(tmp_path, monkeypatch)
        work_until(told, written=True)
        assert len([*tmp_path.rglob("*.parquet")]) == 1
        told.take(Step(told.now, [message(2, reading(4, input_tokens=9000))]), seals=False)
        told.close()
        assert not [*tmp_path.rglob("*.parquet")]
        with opened(tmp_path) as snapshot:
            assert rows(snapshot, "SELECT count(*) FROM usage") == [(4,)]

    def test_no_day_is_sealed_in_a_directory_that_duckdb_takes_for_a_pattern(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A view could not name its files."""
        told = sealing(tmp_path / "a[1]", monkeypatch)
        work(told)
        assert "move the data directory" in caplog.text
        assert hot(told) == 3
        told.close()

    def test_what_a_killed_ledger_left_is_removed_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that no row records, all of whose rows are in the ledger file, and a draft."""
        told = sealing(tmp_path, monkeypatch)
        span = told.ledger._sealing._span(told.now.date() - timedelta(days=3))
        assert span is not None
        folder = tmp_path / "sealed/usage/day=2026-11-18"
        told.ledger._sealing._write(span, folder / "1-3.parquet")
        kept = [folder / "notes.txt", folder / "mine.parquet", folder.parent / "day=x/1-3.parquet"]
        kept[2].parent.mkdir()
        for path in (*kept, folder / "4-9.parquet.tmp"):
            path.write_text("x")
        told.open_again()
        assert sorted(it for it in (tmp_path / "sealed").rglob("*") if it.is_file()) == sorted(kept)
        told.close()

    def test_a_file_with_rows_that_a_restored_ledger_lacks_is_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It may be the only one that has them; and a new file does not take its name."""
        told = sealing(tmp_path, monkeypatch)
        work(told)
        told.close()
        backup = tmp_path / "backup"
        shutil.copyfile(tmp_path / "ledger/ledger.duckdb", backup)
        told = Told(tmp_path)
        told.now += timedelta(days=5)
        late = Step(told.now, [message(2, reading(4, input_tokens=9000))])
        told.take(late, seals=True)
        told.now += timedelta(days=1)
        work(told)
        told.close()
        [lacking] = tmp_path.rglob("4-4.parquet")
        before = lacking.read_bytes()
        shutil.copyfile(backup, tmp_path / "ledger/ledger.duckdb")
        told = Told(tmp_path)
        assert "was an older copy of the ledger put in its place?" in caplog.text
        told.now += timedelta(days=7)
        told.take(Step(told.now, late.messages), seals=True)
        told.now += timedelta(days=1)
        work(told)
        assert hot(told) == 0
        assert (lacking.read_bytes(), lacking.with_name("4-4_2.parquet").exists()) == (before, True)
        told.close()
        with opened(tmp_path) as snapshot:
            assert rows(snapshot, "SELECT count(*), sum(input_tokens) FROM usage") == [(4, 9000)]


def test_files_of_an_older_version_lack_the_columns_of_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are NULL there, and files of both versions are read together."""
    told = sealing(tmp_path, monkeypatch)
    work(told)
    told.close()
    newer = {
        **sql.migrations(),
        99: ("0099_more", "ALTER TABLE bookings ADD COLUMN more BIGINT DEFAULT 7;"),
    }
    monkeypatch.setattr(sql, "migrations", lambda: newer)
    monkeypatch.setattr(
        sql,
        "INSERT_BOOKINGS",
        sql.INSERT_BOOKINGS.replace(
            "coalesce(entry.counted.billed_meters, 0)",
            "coalesce(entry.counted.billed_meters, 0), 7",
        ),
    )
    told = Told(tmp_path)
    told.now += timedelta(days=5)
    told.take(Step(told.now, [message(2, reading(4, input_tokens=9000))]), seals=True)
    told.now += timedelta(days=1)
    work(told)
    assert hot(told) == 0
    found = rows(told.ledger._connection, "SELECT place, more FROM all_bookings() ORDER BY place")
    assert found == [(1, None), (2, None), (3, None), (4, 7)]
    told.close()


class TestReclaiming:
    """A large file of which most is free is written anew when it is opened."""

    def test_it_becomes_small_and_no_number_changes(
        self, told: tuple[Path, Path], tmp_path: Path
    ) -> None:
        """Every table is copied whole, the views are there, and the ledger goes on."""
        plain, sealed = told
        data_dir = tmp_path / "data"
        shutil.copytree(sealed, data_dir, symlinks=True)
        path = data_dir / "ledger/ledger.duckdb"
        with duckdb.connect(path) as connection:
            connection.execute(
                "CREATE TABLE filler AS SELECT hash(range) AS it FROM range(2_000_000)"
            )
            connection.execute("CHECKPOINT")
            connection.execute(
                "UPDATE folded_usage SET cost = cost, agent_id = agent_id"
            )  # behind it
            connection.execute("CHECKPOINT")
            connection.execute("DROP TABLE filler")
        large = path.stat().st_size
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(database, "_HOLLOW_BYTES", 2**20)
            again = Told(data_dir, history(1)[-1].now)
        assert path.stat().st_size < large
        with opened(plain) as before:
            assert figures(again.ledger._connection) == figures(before)
        again.close()

    @pytest.mark.parametrize("fails", ["copy_table", "compare_table"])
    def test_where_it_cannot_be_done_the_ledger_stays_as_it_is(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        fails: str,
    ) -> None:
        """A full disk, or a copy that differs: it is a warning."""
        told = sealing(tmp_path, monkeypatch)
        told.close()
        monkeypatch.setattr(database, "_HOLLOW_BYTES", 0)
        monkeypatch.setattr(sql, "FREE_BLOCKS", "SELECT TRUE")
        broken: dict[str, Callable[[str], str]] = {
            "copy_table": lambda table: f"SELECT error('no space for {table}')",
            "compare_table": lambda _: "SELECT 1 UNION ALL SELECT 2",
        }
        monkeypatch.setattr(sql, fails, broken[fails])
        told = Told(tmp_path)
        assert "has free space that was not reclaimed" in caplog.text
        assert hot(told) == 3
        assert not list((tmp_path / "ledger").glob("*.tmp*"))
        told.close()
