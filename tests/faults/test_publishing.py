"""A ledger is killed while it publishes, at one line after the other, while a reader keeps what it has open."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import duckdb
import pytest

from tests.support.oracle import rate
from tests.support.processes import program
from voicecosts.consumer.store.blocks import SIZE, blocks_of, is_whole, place_of
from voicecosts.consumer.store.ledger import Ledger

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

EACH = 3
"""At which of the lines it is killed: a process takes a second."""

FOUND = "SELECT count(*), sum(input_tokens) FROM usage"


def test_a_ledger_that_is_killed_at_any_line_of_publishing_leaves_whole_snapshots(
    tmp_path: Path,
) -> None:
    """Readers find the last snapshot or the next one, never a part of one; and it goes on from there."""
    with Ledger.open(tmp_path, rate):
        pass
    link = tmp_path / "costs.duckdb"
    held = duckdb.connect(link.resolve(), read_only=True, config={"threads": 1})
    before, line, is_done = 0, 0, False
    while not is_done:
        line += EACH
        with program("faulty_publishing", line, tmp_path, stdout=subprocess.PIPE) as process:
            said = process.communicate()[0].splitlines()
        is_done = process.returncode == 0
        assert is_done or process.returncode == -signal.SIGKILL
        booked = int(said[0].split()[1])
        assert booked == before + 1
        with duckdb.connect(link.resolve(), read_only=True, config={"threads": 1}) as reader:
            [(count, tokens)] = reader.execute(FOUND).fetchall()
        assert count == booked if is_done else count in (before, booked)
        assert tokens in (None, count * (count + 1) // 2)
        check_whole(link.resolve())
        assert held.execute(FOUND).fetchall() == [(0, None)]
        before = booked
    held.close()
    assert line > 100


def check_whole(path: Path) -> None:
    """Compare the checksum of each block that is used."""
    with path.open("rb") as file:
        for block in blocks_of(path).used():
            file.seek(place_of(block))
            assert is_whole(file.read(SIZE))
