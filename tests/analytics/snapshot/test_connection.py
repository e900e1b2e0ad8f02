"""Tests of opening a snapshot: read-only, checked, and every failure in our own words."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from tests.support.sample_ledger import STORE, write_ledger, write_snapshot
from tests.support.some_calls import write_calls
from voicecosts import connect
from voicecosts.analytics.commands.app import app
from voicecosts.analytics.errors import (
    LedgerInUse,
    LedgerNewer,
    NoRoom,
    NotALedger,
    SnapshotDamaged,
)
from voicecosts.analytics.snapshot import connection
from voicecosts.analytics.snapshot.connection import (
    SCHEMA_VERSION,
    beside,
    closing,
    open_newest,
    read,
)
from voicecosts.analytics.snapshot.files import Snapshot, locate


def test_a_connection_reads_the_views_and_writes_nothing(data_dir: Path) -> None:
    """It is an ordinary DuckDB connection that cannot change the snapshot."""
    with connect(data_dir) as ledger:
        assert ledger.execute("SELECT sum(cost)::VARCHAR FROM usage").fetchall() == [
            ("4.032000003",)
        ]
        with pytest.raises(duckdb.InvalidInputException, match="read-only"):
            ledger.execute("DELETE FROM bookings")


def test_a_connection_leaves_nothing_behind(tmp_path: Path) -> None:
    """Reading creates no file beside the snapshot, so a read-only mount is enough."""
    write_ledger(tmp_path)
    before = sorted(tmp_path.iterdir())
    with connect(tmp_path) as ledger:
        ledger.execute("SELECT * FROM sessions").fetchall()
        assert sorted(tmp_path.iterdir()) == before


def test_an_answer_that_is_too_large_says_where_to_make_room(
    data_dir: Path, tmp_path: Path
) -> None:
    """It uses no more memory than it may, and then the temporary folder, as long as that has room."""
    found, snapshot = open_newest(data_dir, spill=tmp_path / "spill")
    with closing(found):
        found.execute("SET memory_limit = '60MB'; SET max_temp_directory_size = '1MB'")
        with pytest.raises(NoRoom, match="set TMPDIR to a folder on a disk with more"):
            read(
                found,
                snapshot.path,
                "SELECT count(DISTINCT n) FROM range(5000000) AS numbers (n)",
                row=tuple[int],
            )


@pytest.mark.parametrize(
    "words",
    [
        ("query",),
        ("audit",),
        ("calls",),
        ("call", "last"),
        ("statement", "--tenant", "acme", "--month", "2026-11"),
        ("sql", "FROM sessions"),
    ],
)
def test_a_command_takes_a_bounded_amount_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """What needs more is in a folder, which is gone afterwards."""
    spilled: list[Path] = []

    def opened(
        snapshot: Snapshot, spill: Path | None
    ) -> tuple[duckdb.DuckDBPyConnection, Snapshot]:
        assert spill is not None
        assert spill.is_dir()
        spilled.append(spill)
        found, where = real(snapshot, spill)
        limit = found.execute("SELECT current_setting('memory_limit')").fetchone()
        assert limit == ("286.1 MiB",)
        return found, where

    real = connection._open
    monkeypatch.setattr(connection, "_open", opened)
    at = write_calls(tmp_path / "data")
    result = CliRunner().invoke(app, [*words, "--data-dir", str(at)])
    assert result.exception is None, result.exception
    assert spilled
    assert not any(it.exists() for it in spilled)


def test_work_beside_ends_with_its_body(data_dir: Path) -> None:
    """It is of the same snapshot, its error is told where its result is asked for, and a body that fails interrupts it."""
    ledger, snapshot = open_newest(data_dir)
    endless = "SELECT count(*) FROM range(1000000000000) AS a WHERE a.range % 7 = 3"
    begun = threading.Event()

    def never_ends(other: duckdb.DuckDBPyConnection) -> object:
        begun.set()
        return other.execute(endless).fetchall()

    def is_ended() -> None:
        with beside(ledger, snapshot, never_ends):
            assert begun.wait(30)
            raise KeyboardInterrupt

    with closing(ledger):
        with beside(
            ledger, snapshot, lambda it: it.execute("SELECT sum(cost) FROM usage").fetchall()
        ) as found:
            own = ledger.execute("SELECT sum(cost) FROM usage").fetchall()
            assert found() == own
        with (
            pytest.raises(duckdb.CatalogException),
            beside(ledger, snapshot, lambda it: it.execute("FROM nothing")) as found,
        ):
            found()
        with pytest.raises(KeyboardInterrupt):
            is_ended()
        assert ledger.execute("SELECT 1").fetchall() == [(1,)]


def test_plain_duckdb_opens_the_same_snapshot(data_dir: Path) -> None:
    """Nobody needs this package to read a ledger."""
    with duckdb.connect(data_dir / "costs.duckdb", read_only=True) as ledger:
        assert ledger.execute("SELECT count(*) FROM usage").fetchall() == [(10,)]


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    """Columns that this version does not know may change what the known ones mean."""
    newer = SCHEMA_VERSION + 1
    path = write_snapshot(tmp_path / "newer.duckdb", version=newer)
    said = f"schema {newer}, this version reads up to {SCHEMA_VERSION}"
    with pytest.raises(LedgerNewer, match=said) as caught:
        connect(path)
    assert (caught.value.found, caught.value.known) == (newer, SCHEMA_VERSION)


def test_the_known_schema_is_the_newest_migration() -> None:
    """A new migration must be looked at here before readers accept it."""
    numbers = [int(path.name[:4]) for path in (STORE / "migrations").glob("*.sql")]
    assert max(numbers) == SCHEMA_VERSION


@pytest.mark.parametrize("content", [b"", b"not a database at all", b"\x00" * 8192])
def test_a_file_that_is_no_database_is_named(tmp_path: Path, content: bytes) -> None:
    """The message names the file and says in one line why it cannot be read."""
    path = tmp_path / "costs.duckdb"
    path.write_bytes(content)
    with pytest.raises(NotALedger) as caught:
        connect(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_database_of_somebody_else_is_no_ledger(tmp_path: Path) -> None:
    """A DuckDB file without our tables, or without a version in them, is refused."""
    other = tmp_path / "other.duckdb"
    with duckdb.connect(other) as database:
        database.execute("CREATE TABLE t (x INTEGER)")
    with pytest.raises(NotALedger, match="schema_migrations"):
        connect(other)
    with duckdb.connect(other) as database:
        database.execute("CREATE TABLE schema_migrations (version INTEGER)")
    with pytest.raises(NotALedger):
        connect(other)


def test_the_writers_own_file_is_not_read(tmp_path: Path) -> None:
    """While the ledger holds its file, the error says which file to read instead."""
    path = write_snapshot(tmp_path / "ledger.duckdb")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print(flush=True); input()",
            str(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        with pytest.raises(LedgerInUse, match="name its data directory"):
            connect(path)
        holder.stdin.close()


@pytest.mark.parametrize("damage", ["cut", "rotten"])
def test_a_damaged_snapshot_is_called_damaged(tmp_path: Path, damage: str) -> None:
    """It is not called held by a ledger, and the error says what to do."""
    path = write_snapshot(tmp_path / "costs-1.duckdb")
    whole = path.read_bytes()
    path.write_bytes(whole[:20_000] if damage == "cut" else rotten(whole))
    with (
        pytest.raises(SnapshotDamaged, match=r"costs-1\.duckdb is damaged .* delete this file"),
        connect(path) as ledger,
    ):
        read(ledger, path, "SELECT bit_xor(hash(COLUMNS(*))) FROM bookings", row=tuple)


def rotten(file: bytes) -> bytes:
    """Return a database file with a byte flipped in each of its blocks."""
    changed = bytearray(file)
    for start in range(3 * 4096, len(file), 262_144):
        changed[start + 1000] ^= 0xFF
    return bytes(changed)


def test_a_snapshot_removed_while_it_is_opened_is_looked_for_again(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger keeps few snapshots: the one the link named a moment ago may be gone."""
    gone = Snapshot(path=tmp_path / "costs-0.duckdb", number=0)
    answers = iter([gone, locate(data_dir)])
    monkeypatch.setattr("voicecosts.analytics.snapshot.connection.locate", lambda _: next(answers))
    connection, snapshot = open_newest(data_dir)
    with connection:
        assert snapshot.number == 1


def test_values_that_break_the_contract_are_the_files_fault(data_dir: Path) -> None:
    """A view that gives another type than promised is reported, not passed on."""
    with connect(data_dir) as ledger, pytest.raises(NotALedger):
        read(ledger, data_dir, "SELECT 'one'", row=tuple[int])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """A missing permission is told as such."""
    path = write_snapshot(tmp_path / "costs.duckdb")
    path.chmod(0)
    with pytest.raises(NotALedger, match="ermission"):
        connect(path)
