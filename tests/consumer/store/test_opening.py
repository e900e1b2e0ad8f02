"""Opening a ledger: who may, what is refused untouched, and what a killed writer leaves behind."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from msgspec import structs
from typer.testing import CliRunner

from tests.support.events import ended, message, reading, session_id, started
from tests.support.oracle import booked, expected, rate
from voicecosts.analytics.commands import rebuild
from voicecosts.consumer.errors import (
    InvalidConfig,
    LedgerDamaged,
    LedgerError,
    LedgerInUse,
    LedgerMissing,
    LedgerNewer,
    LedgerOutOfMemory,
)
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.faults import translated
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.ledger import Ledger

HOLDER = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A data directory whose ledger holds one booking."""
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply([message(1, reading(1, input_tokens=10))])
    return tmp_path


@pytest.fixture
def other_holder(filled: Path) -> Iterator[int]:
    """The pid of a process that has opened the ledger file as if it were its own."""
    command = [sys.executable, "-c", HOLDER, str(filled / "ledger" / "ledger.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield process.pid
        process.kill()


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of the ledger's folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


class TestOneWriter:
    def test_a_second_ledger_is_refused_and_told_who_is_first(self, tmp_path: Path) -> None:
        """There is one writer; a second one learns its pid and changes nothing."""
        with Ledger.open(tmp_path, rate):
            with pytest.raises(LedgerInUse, match=f"process {os.getpid()}") as refusal:
                Ledger.open(tmp_path, rate)
            assert refusal.value.pid == os.getpid()

    def test_a_closed_ledger_can_be_opened_again(self, filled: Path) -> None:
        """The lock goes with its holder."""
        with Ledger.open(filled, rate) as ledger:
            assert ledger.apply([message(1, reading(1, input_tokens=10))]).rows == 0

    def test_another_program_with_the_ledger_file_is_named(
        self, filled: Path, other_holder: int
    ) -> None:
        """A program that opened the file itself, without our lock, is named as well."""
        with pytest.raises(LedgerInUse) as refusal:
            Ledger.open(filled, rate)
        assert refusal.value.pid == other_holder

    def test_an_unusable_directory_is_a_problem_of_the_settings(self, tmp_path: Path) -> None:
        """A path that can never hold a ledger is told as such."""
        (tmp_path / "file").write_text("")
        with pytest.raises(InvalidConfig, match=r"has a \? in its path"):
            Ledger.open(tmp_path / "why?" / "data", rate)
        assert not (tmp_path / "why?").exists()
        with pytest.raises(InvalidConfig, match="cannot be used"):
            Ledger.open(tmp_path / "file", rate)

    def test_a_refused_opening_releases_the_lock(self, filled: Path) -> None:
        """After a failed start the next one fails for its own reasons only."""
        file = filled / "ledger" / "ledger.duckdb"
        good = file.read_bytes()
        file.write_bytes(b"")
        with pytest.raises(LedgerDamaged):
            Ledger.open(filled, rate)
        file.write_bytes(good)
        Ledger.open(filled, rate).close()


class TestMigrations:
    def test_versions_count_from_one_without_gaps(self) -> None:
        """Migrations are applied by number, so a gap or a double would lose one."""
        assert list(sql.migrations()) == list(range(1, len(sql.migrations()) + 1))

    def test_each_is_recorded_once(self, filled: Path) -> None:
        """The file itself says which migrations it has had, however often it was opened."""
        Ledger.open(filled, rate).close()
        with duckdb.connect(
            filled / "costs.duckdb", read_only=True, config={"threads": 1}
        ) as connection:
            found = connection.execute("SELECT version, name FROM schema_migrations").fetchall()
        assert found == [(version, name) for version, (name, _) in sql.migrations().items()]

    def test_views_are_renewed_on_every_opening(self, filled: Path) -> None:
        """A view is code: the one of this version replaces whatever the file holds."""
        with duckdb.connect(filled / "ledger" / "ledger.duckdb") as connection:
            connection.execute("CREATE OR REPLACE VIEW usage AS SELECT 1 AS gone")
        Ledger.open(filled, rate).close()
        with duckdb.connect(
            filled / "costs.duckdb", read_only=True, config={"threads": 1}
        ) as connection:
            assert "cost" in connection.table("usage").columns

    def test_ids_by_which_sessions_are_looked_up_are_not_packed(self, tmp_path: Path) -> None:
        """DuckDB unpacks thousands of ids to find one, so each group of messages would wait for that."""
        looked_up = (
            "session_identities",
            "session_starts",
            "session_ends",
            "session_readings",
            "bookings",
        )
        every = [
            structs.replace(event, session_id=session_id(of, after_ms=of * 977))
            for of in range(1, 2001)
            for event in (started(of), reading(1, of=of), ended(2, of=of))
        ]
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply([message(1, *every)])
        with duckdb.connect(tmp_path / "ledger" / "ledger.duckdb") as connection:
            connection.execute(
                "INSERT INTO session_readings SELECT project, session_id, 1, 1 FROM session_identities"
            )
            connection.execute("CHECKPOINT")
            for table in looked_up:
                found = connection.execute(
                    "SELECT DISTINCT compression FROM pragma_storage_info(?) "
                    "WHERE column_name = 'session_id' AND segment_type = 'UUID'",
                    [table],
                ).fetchall()
                assert (table, found) == (table, [("Uncompressed",)])


class TestNewer:
    def test_a_newer_schema_is_refused_untouched(self, filled: Path) -> None:
        """A ledger of a later version keeps every byte, even an unfolded write-ahead log."""
        folder, known = filled / "ledger", max(sql.migrations())
        with duckdb.connect(folder / "ledger.duckdb") as connection:
            connection.execute("SET checkpoint_threshold = '1TB'")
            connection.execute("PRAGMA disable_checkpoint_on_shutdown")
            connection.execute(
                sql.MARK_MIGRATION, {"version": known + 5, "name": "later", "applied_at": 0}
            )
        before = contents(folder)
        assert "ledger.duckdb.wal" in before
        said = f"has version {known + 5}, and this installation reads version {known}"
        with pytest.raises(LedgerNewer, match=said) as refusal:
            Ledger.open(filled, rate)
        assert (refusal.value.found, refusal.value.known) == (known + 5, known)
        assert contents(folder) == before

    def test_a_newer_file_format_is_refused_untouched(self, filled: Path) -> None:
        """A file that only a later DuckDB can read is told apart from a damaged one."""
        folder = filled / "ledger"
        file = folder / "ledger.duckdb"
        file.write_bytes(of_a_later_duckdb(file.read_bytes()))
        before = contents(folder)
        with pytest.raises(LedgerNewer, match="of a newer DuckDB"):
            Ledger.open(filled, rate)
        assert contents(folder) == before


class TestDamage:
    @pytest.mark.parametrize("damage", ["empty", "garbage", "cut", "flipped"])
    def test_a_damaged_file_is_refused(self, filled: Path, damage: str) -> None:
        """Nothing is booked on top of a file that cannot be trusted."""
        file = filled / "ledger" / "ledger.duckdb"
        good = file.read_bytes()
        flipped = bytearray(good)
        flipped[8200] ^= 0xFF
        file.write_bytes(
            {
                "empty": b"",
                "garbage": b"hello" * 5000,
                "cut": good[: len(good) // 3],
                "flipped": bytes(flipped),
            }[damage]
        )
        with pytest.raises(LedgerDamaged, match="of the newest snapshot that can be read"):
            Ledger.open(filled, rate)

    @pytest.mark.parametrize("damage", ["empty", "garbage", "cut"])
    def test_a_damaged_ledger_is_restored_as_the_error_says(
        self, filled: Path, damage: str
    ) -> None:
        """Whatever is damaged: the new one knows what the snapshot holds, and both old files are kept."""
        layout = Layout(filled)
        leave_a_log(filled)
        good = layout.ledger.read_bytes()
        made = {"empty": b"", "garbage": b"hello" * 5000, "cut": good[:100_000]}
        layout.ledger.write_bytes(made[damage])
        log = layout.log.read_bytes()
        with pytest.raises(LedgerDamaged) as refusal:
            Ledger.open(filled, rate)
        advice = re.search(r"`costs (rebuild --data-dir \S+)` makes it anew", str(refusal.value))
        assert advice is not None
        done = CliRunner().invoke(rebuild.app, [*advice[1].split()[1:], "--yes"])
        assert done.exit_code == 0, done.output
        with Ledger.open(filled, rate) as ledger:
            assert ledger.booked_sequence == 1
        assert booked(filled / "costs.duckdb") == expected([reading(1, input_tokens=10)])
        assert [path.read_bytes() for path in layout.kept()] == [made[damage], log]

    def test_a_lost_ledger_is_not_replaced_by_an_empty_one(self, filled: Path) -> None:
        """Readers keep their snapshots, and the error says how to go on, which works."""
        shutil.rmtree(filled / "ledger")
        with pytest.raises(LedgerMissing) as refusal:
            Ledger.open(filled, rate)
        duckdb.connect(filled / "ledger/ledger.duckdb").close()  # a file without tables is none
        with pytest.raises(LedgerMissing):
            Ledger.open(filled, rate)
        advice = re.search(r"what was booked, copy (\S+) to (\S+);", str(refusal.value))
        assert advice is not None
        shutil.copy(advice[1], advice[2])
        Ledger.open(filled, rate).close()
        assert booked(filled / "costs.duckdb") == expected([reading(1, input_tokens=10)])

    def test_a_lost_ledger_can_be_begun_anew_on_purpose(self, filled: Path) -> None:
        """The other half of the advice: without the snapshots it is a new ledger."""
        shutil.rmtree(filled / "ledger")
        with pytest.raises(LedgerMissing, match=r"move all \*\.duckdb files"):
            Ledger.open(filled, rate)
        elsewhere = filled / "before"
        elsewhere.mkdir()
        for file in filled.glob("*.duckdb"):
            file.rename(elsewhere / file.name)
        Ledger.open(filled, rate).close()
        assert booked(filled / "costs.duckdb") == {}

    def test_a_row_for_which_there_is_no_memory_is_told_as_that(self, tmp_path: Path) -> None:
        """DuckDB's package has an error of its own for it; other errors of that kind are mistakes of ours."""
        with pytest.raises(LedgerOutOfMemory), translated(tmp_path):
            raise RuntimeError("Could not allocate tuple object!")
        with pytest.raises(RuntimeError, match="another"), translated(tmp_path):
            raise RuntimeError("another")

    def test_every_error_of_duckdb_is_translated(self, tmp_path: Path) -> None:
        """No foreign exception leaves the store, whichever the library raises."""
        kinds = [
            kind
            for kind in vars(duckdb).values()
            if isinstance(kind, type)
            and issubclass(kind, Exception)
            and kind is not duckdb.Warning  # of the DB-API, never raised
        ]
        assert len(kinds) > 10
        for kind in kinds:
            with pytest.raises(LedgerError), translated(tmp_path):
                raise kind("whatever it was")


class TestLeftovers:
    def test_what_a_killed_writer_left_half_done_is_removed(self, filled: Path) -> None:
        """Drafts of snapshots, of a heartbeat, of a ledger and spilled data go at the next open."""
        drafts = [
            filled / "costs-99.duckdb.tmp",
            filled / "costs.duckdb.tmp",
            filled / "ledger.json.tmp",
            filled / "ledger" / "new.tmp",
            filled / "ledger" / "new.tmp.wal",
            filled / "ledger" / "ledger.duckdb.tmp" / "duckdb_temp_block-7.block",
            filled / "verified.duckdb.tmp",
        ]
        drafts[-2].parent.mkdir()
        for draft in drafts:
            draft.write_bytes(b"half")
        Ledger.open(filled, rate).close()
        assert [path for path in filled.rglob("*") if "tmp" in path.name] == []
        assert booked(filled / "costs.duckdb") == expected([reading(1, input_tokens=10)])

    def test_what_is_not_ours_stays(self, filled: Path) -> None:
        """Only names that this code makes are removed, and never a folder of somebody else."""
        others = [
            filled / "thesis.tmp" / "chapter",
            filled / "notes.tmp",
            filled / "costs-12.duckdb.tmp" / "mine",
            filled / "ledger" / "new.tmp.old",
            filled / "ledger" / "ledger.duckdb.tmp" / "mine",
            filled / "ledger" / "new.tmp" / "mine",
        ]
        for other in others:
            other.parent.mkdir(exist_ok=True)
            other.write_text("mine")
        Ledger.open(filled, rate).close()
        assert [other for other in others if not other.exists()] == []

    def test_a_ledger_whose_creation_was_cut_short_is_created_again(self, tmp_path: Path) -> None:
        """A kill while the first ledger is created leaves a draft, never half a ledger."""
        (tmp_path / "ledger").mkdir()
        (tmp_path / "ledger" / "new.tmp").write_bytes(b"")
        Ledger.open(tmp_path, rate).close()


def leave_a_log(data_dir: Path) -> None:
    """Leave a write-ahead log with a row beside the ledger, as a killed one does."""
    with duckdb.connect(data_dir / "ledger" / "ledger.duckdb") as connection:
        connection.execute("PRAGMA disable_checkpoint_on_shutdown")
        connection.execute("SET checkpoint_threshold = '1TB'")
        connection.execute(
            "INSERT INTO schema_migrations SELECT version + 90, name, applied_at FROM schema_migrations"
        )
    assert (data_dir / "ledger" / "ledger.duckdb.wal").stat().st_size > 0


def of_a_later_duckdb(file: bytes) -> bytes:
    """Return a database file with a storage version that no DuckDB writes yet, and its checksum."""
    header = bytearray(file[:4096])
    header[12:20] = struct.pack("<Q", 9999)
    checksum = 5381
    for (word,) in struct.iter_unpack("<Q", header[8:]):
        checksum ^= word * 0xBF58476D1CE4E5B9 % 2**64
    header[:8] = struct.pack("<Q", checksum)
    return bytes(header) + file[4096:]
