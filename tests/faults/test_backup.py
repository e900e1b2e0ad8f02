"""Backups that are killed at every step, and backups of a ledger that books all the while."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.history import Told, history, often
from tests.support.oracle import booked, expected, rate
from tests.support.processes import program
from tests.support.traffic import traffic
from voicecosts.consumer.store.backup import MARK, back_up, backups, check
from voicecosts.consumer.store.ledger import Ledger

pytestmark = pytest.mark.faults

KEEP = 2
SEED = 71


def test_a_backup_that_is_killed_anywhere_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each thing that it does in its folder: what has a name is whole, and the next one tidies up."""
    often(monkeypatch)
    told = Told(tmp_path / "d")
    for step in history(6):
        told.take(step, seals=True)
    told.close()
    folder = tmp_path / "backups"
    (tmp_path / "d" / "prices.toml").write_text("# none\n")
    back_up(tmp_path / "d", folder, prices=tmp_path / "d" / "prices.toml")
    killed = program("faulty_backup", tmp_path / "d", folder, KEEP, stdout=subprocess.PIPE)
    output, _ = killed.communicate(timeout=280)
    assert killed.returncode == 0
    assert int(output) > len(check(folder)[0].manifest.files)  # type: ignore[union-attr]  # it is whole
    assert len(backups(folder)) == KEEP
    assert len(list(folder.iterdir())) == KEEP + 1
    assert (folder / MARK).is_file()


def test_each_backup_of_a_ledger_that_books_is_that_ledger_at_a_moment(tmp_path: Path) -> None:
    """Booking goes on; told everything again, each has every figure."""
    made = traffic(SEED)
    writer = program(
        "ledger_process", tmp_path / "d", SEED, "--rounds", 1000, stdout=subprocess.PIPE
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        sequences = set()
        while len(sequences) < 4:
            assert writer.stdout.readline().startswith("acked")
            done = back_up(tmp_path / "d", tmp_path / "backups", prices=tmp_path / "none")
            if done.manifest.sequence in sequences:
                shutil.rmtree(done.path)
            sequences.add(done.manifest.sequence)
        assert writer.stdout.readline().startswith("acked")  # nobody waited for a backup
    finally:
        writer.kill()
        writer.communicate()
    assert all(each.is_whole for each in check(tmp_path / "backups"))
    for number, path in enumerate(backups(tmp_path / "backups")):
        data_dir = tmp_path / f"restored-{number}"
        (data_dir / "ledger").mkdir(parents=True)
        [snapshot] = path.glob("costs-*.duckdb")
        shutil.copyfile(snapshot, data_dir / "ledger" / "ledger.duckdb")
        with Ledger.open(data_dir, rate) as ledger:
            ledger.apply(made.messages)
        assert booked(data_dir) == expected(made.events)
