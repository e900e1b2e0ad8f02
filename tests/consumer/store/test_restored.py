"""An older copy of the ledger is put in its place: what no stream can bring back is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from tests.support.events import message, reading
from tests.support.oracle import rate
from voicecosts.consumer.store.ledger import Ledger


def gaps(data_dir: Path) -> list[tuple[object, ...]]:
    """Return the gaps that readers see."""
    path = (data_dir / "costs.duckdb").resolve()
    with duckdb.connect(path, read_only=True, config={"threads": 1}) as ledger:
        return ledger.execute("SELECT first_sequence, last_sequence, why FROM gaps").fetchall()


def book(data_dir: Path, number: int, sequence: int, *, embedded: bool) -> None:
    """Open the ledger, book a reading, and close it in order."""
    with Ledger.open(data_dir, rate, embedded=embedded) as ledger:
        ledger.apply([message(sequence, reading(number, input_tokens=number))])


@pytest.mark.parametrize("is_local", [True, False], ids=["outbox", "stream"])
def test_what_was_booked_from_outboxes_after_a_backup_is_a_gap(
    tmp_path: Path, *, is_local: bool
) -> None:
    """It left the outboxes when it was booked; what came from a stream is read again."""
    for number in (1, 2, 3):
        book(tmp_path, number, 0 if is_local else number, embedded=is_local)
        if number == 1:
            with Ledger.open(tmp_path, rate, embedded=is_local) as ledger:
                first = ledger.snapshot
            shutil.copyfile((tmp_path / "costs.duckdb").resolve(), tmp_path / "backup")
    published = int((tmp_path / "costs.duckdb").resolve().stem.removeprefix("costs-"))
    shutil.copyfile(tmp_path / "backup", tmp_path / "ledger" / "ledger.duckdb")
    (tmp_path / "ledger" / "ledger.duckdb.wal").unlink(missing_ok=True)
    for _ in range(2):  # it is noted once
        with Ledger.open(tmp_path, rate, embedded=is_local):
            pass
        found = gaps(tmp_path)
        assert found == ([(first + 1, published, "restored")] if is_local else [])


@pytest.mark.parametrize("embedded", [True, False])
def test_a_ledger_that_was_only_opened_again_has_no_gap(tmp_path: Path, *, embedded: bool) -> None:
    """Neither after an orderly end nor after a death in the middle of its work."""
    for number in (1, 2, 3):
        book(tmp_path, number, 0, embedded=embedded)
    dead = Ledger.open(tmp_path, rate, embedded=embedded)
    dead.apply([message(0, reading(9, input_tokens=9))])
    dead._connection.close()
    dead._lock.release()
    with Ledger.open(tmp_path, rate, embedded=embedded):
        pass
    assert gaps(tmp_path) == []
