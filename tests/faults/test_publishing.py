"""A ledger is killed while it publishes, at one line after the other, while a reader keeps what it has open."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from tests.support.events import message, reading
from tests.support.oracle import rate
from tests.support.processes import program
from voicecosts.consumer.store import copying
from voicecosts.consumer.store.blocks import SIZE, blocks_of, is_whole, place_of
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.files import share_blocks
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


@pytest.fixture
def sharing(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system whose files can share blocks."""
    image, folder = tmp_path / "image", tmp_path / "mounted"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(400 * 2**20)
    for command in (["mkfs.xfs", "-q", image], ["mount", "-o", "loop", image, folder]):
        if shutil.which(command[0]) is None or subprocess.run(command, check=False).returncode:
            pytest.skip(f"{command[0]} cannot be used here, so there is no such file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_where_files_can_share_blocks_nothing_is_copied(
    sharing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each snapshot has the blocks of the ledger; those that are open stay as they were."""
    shared = []

    def noted(source: int, target: int) -> bool:
        shared.append(share_blocks(source, target))
        return shared[-1]

    monkeypatch.setattr(copying, "share_blocks", noted)
    ahead = timedelta()
    clock = Clock(now=lambda: datetime.now(UTC) + ahead)
    held = []
    with Ledger.open(sharing, rate, clock=clock) as ledger:
        for number in range(1, 8):
            ledger.apply([message(number, reading(number, input_tokens=number))])
            ledger.publish_snapshot()
            ahead += timedelta(seconds=60)
            path = (sharing / "costs.duckdb").resolve()
            check_whole(path)
            assert path.read_bytes() == (sharing / "ledger" / "ledger.duckdb").read_bytes()
            held.append(duckdb.connect(path, read_only=True, config={"threads": 1}))
    assert shared == [True] * 8
    for number, reader in enumerate(held, 1):
        assert reader.execute("SELECT count(*) FROM usage").fetchall() == [(number,)]
        reader.close()


def check_whole(path: Path) -> None:
    """Compare the checksum of each block that is used."""
    with path.open("rb") as file:
        for block in blocks_of(path).used():
            file.seek(place_of(block))
            assert is_whole(file.read(SIZE))
