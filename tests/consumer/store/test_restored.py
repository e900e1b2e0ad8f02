"""An older copy of the ledger is put in its place: what no stream can bring back is said."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from tests.support.events import message, reading
from tests.support.oracle import rate
from voicecosts import query
from voicecosts.consumer.booking.operations import Acknowledge, Adjust, Revert
from voicecosts.consumer.errors import OperationRefused
from voicecosts.consumer.local import open_and_book
from voicecosts.consumer.store.heartbeat import read_heartbeat
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


def restore(data_dir: Path, *, keeps_times: bool) -> tuple[int, int]:
    """Book, copy the ledger away, book more, and put the copy back; return which snapshots it lacks."""
    book(data_dir, 1, 0, embedded=True)
    first = int((data_dir / "costs.duckdb").resolve().stem.removeprefix("costs-"))
    ledger = data_dir / "ledger" / "ledger.duckdb"
    shutil.copy2(ledger, data_dir / "backup")
    book(data_dir, 2, 0, embedded=True)
    last = int((data_dir / "costs.duckdb").resolve().stem.removeprefix("costs-"))
    (shutil.copy2 if keeps_times else shutil.copyfile)(data_dir / "backup", ledger)
    return first + 1, last


@pytest.mark.parametrize("keeps_times", [True, False])
def test_the_first_question_after_a_restore_is_answered_by_what_was_restored(
    tmp_path: Path, *, keeps_times: bool
) -> None:
    """Nothing waits, so nothing has to be booked; but the newest snapshot is of another ledger."""
    lacks = restore(tmp_path, keeps_times=keeps_times)
    asked_at = datetime.now(UTC)
    open_and_book(tmp_path, None, asked_at=asked_at)
    assert gaps(tmp_path) == [(*lacks, "restored")]
    path = (tmp_path / "costs.duckdb").resolve()
    with duckdb.connect(path, read_only=True, config={"threads": 1}) as ledger:
        assert ledger.execute("SELECT sum(input_tokens) FROM usage").fetchall() == [(1,)]


def test_a_question_of_which_nothing_waits_opens_no_ledger(tmp_path: Path) -> None:
    """The file is as its last writer left it, and that is seen without opening it."""
    book(tmp_path, 1, 0, embedded=True)
    ledger = tmp_path / "ledger" / "ledger.duckdb"
    before = ledger.stat(), (tmp_path / "costs.duckdb").readlink()
    asked_at = datetime.now(UTC)
    open_and_book(tmp_path, None, asked_at=asked_at)
    after = ledger.stat(), (tmp_path / "costs.duckdb").readlink()
    assert (after[0].st_mtime_ns, after[1]) == (before[0].st_mtime_ns, before[1])
    beat = read_heartbeat(tmp_path / "ledger.json")
    assert beat is not None
    assert beat.moment == asked_at


@pytest.mark.parametrize("embedded", [True, False])
def test_operations_after_a_backup_are_named_until_somebody_does_them_again(
    tmp_path: Path, *, embedded: bool
) -> None:
    """A credit that vanished, a voided call that counts again: no stream brings back what was done.

    Where nothing else was booked since, also from an outbox, nothing else is missing.
    """
    book(tmp_path, 1, 0 if embedded else 1, embedded=embedded)
    credit = Adjust(day=date(2026, 11, 20), amount=Decimal(-1), project="prod")
    with Ledger.open(tmp_path, rate, embedded=embedded) as ledger:
        ledger.operate(credit, reason="credit")
    with Ledger.open(tmp_path, rate, embedded=embedded) as ledger:
        shutil.copyfile((tmp_path / "costs.duckdb").resolve(), tmp_path / "backup")
        for _ in range(2):
            ledger.operate(credit, reason="another credit")
    shutil.copyfile(tmp_path / "backup", tmp_path / "ledger" / "ledger.duckdb")
    (tmp_path / "ledger" / "ledger.duckdb.wal").unlink(missing_ok=True)
    unseen = r"found just now .* lack operations up to 3"
    with (
        Ledger.open(tmp_path, rate, embedded=embedded) as ledger,
        pytest.raises(OperationRefused, match=unseen),
    ):
        ledger.operate(Acknowledge(), reason="no answer has said so yet")
    for _ in range(2):  # it is noted once
        Ledger.open(tmp_path, rate, embedded=embedded).close()
        assert gaps(tmp_path) == [(2, 3, "operations_lost")]
    report = query(data_dir=tmp_path)
    assert any("operations 2 to 3" in warning for warning in report.warnings)
    assert report.completeness.whole is False
    with Ledger.open(tmp_path, rate, embedded=embedded) as ledger:
        assert ledger.operate(credit, reason="done again") == 4  # their numbers are nobody else's
        noted = ledger.operate(Acknowledge(), reason="both were done again")
        with pytest.raises(OperationRefused, match="lack no operation"):
            ledger.operate(Acknowledge(), reason="again")
    Ledger.open(tmp_path, rate, embedded=embedded).close()
    assert gaps(tmp_path) == []
    with Ledger.open(tmp_path, rate, embedded=embedded) as ledger:
        with pytest.raises(OperationRefused, match="they are 1 and 4 to 5"):
            ledger.operate(Revert(operation=2), reason="it is not there")
        ledger.operate(Revert(operation=noted), reason="one was not")
    assert gaps(tmp_path) == [(2, 3, "operations_lost")]
