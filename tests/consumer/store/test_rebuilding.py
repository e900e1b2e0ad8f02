"""A ledger is made anew of its rows: no figure changes, but for what was damaged, and booking goes on."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.consumer.store.test_proof import DAMAGES, changed, sealed
from tests.support.events import message
from tests.support.events import reading as read_at
from tests.support.history import Step, Told, figures, history, often
from tests.support.long_forms import later
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.booking.operations import (
    Adjust,
    Close,
    Rerate,
    Retain,
    Revert,
    Work,
)
from voicecosts.consumer.errors import LedgerDamaged, RebuildFailed
from voicecosts.consumer.store import rebuilding
from voicecosts.consumer.store.clock import micros
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.rebuilding import Found, Rebuilding, find_source

LAST = history(1)[-1].now
OF_ROWS = {
    "a single row is gone",
    "a single row says less",
    "a row that is in no sum yet is gone",
    "whose a call is",
}
"""Damages of what was booked: nothing in the file says how it was."""


@pytest.fixture(scope="module")
def expected(partly_sealed: Path) -> dict[str, list[Any]]:
    """What every view answers."""
    return answered(partly_sealed)


@pytest.fixture
def copy(partly_sealed: Path, tmp_path: Path) -> Path:
    """A copy of it to be damaged."""
    return Path(shutil.copytree(partly_sealed, tmp_path / "data", symlinks=True))


@pytest.fixture(autouse=True)
def slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a few rows up at a time."""
    monkeypatch.setattr(rebuilding, "SLICE_ROWS", 30)


def answered(data_dir: Path, of: Path | None = None) -> dict[str, list[Any]]:
    """Return what every view of a ledger's file answers."""
    with duckdb.connect(of or data_dir / "ledger" / "ledger.duckdb", read_only=True) as ledger:
        ledger.execute("SET VARIABLE costs_dir = ?", [str(data_dir)])
        return figures(ledger)


def rebuilt(data_dir: Path, name: str = "then") -> tuple[Found, Path | None]:
    """Make a ledger anew, and put it in the old one's place."""
    layout = Layout(data_dir)
    found = find_source(layout, micros(LAST))
    work = Rebuilding(layout, found, micros(LAST))
    work.make()
    return found, work.swap(name)


def test_a_whole_ledger_made_anew_answers_everything_as_before(
    copy: Path, expected: dict[str, list[Any]]
) -> None:
    """The old one is kept as it was, and nothing else is left, whatever the folder is called."""
    copy = copy.rename(copy.with_name("it's [d]ata"))
    before = (copy / "ledger" / "ledger.duckdb").read_bytes()
    _, kept = rebuilt(copy)
    assert answered(copy) == expected
    assert kept is not None
    assert kept.read_bytes() == before
    names = {path.name for path in (copy / "ledger").iterdir()}
    assert names == {"ledger.duckdb", "lock", kept.name}


def test_what_is_damaged_beside_the_rows_is_made_of_them(
    copy: Path, expected: dict[str, list[Any]]
) -> None:
    """Sums, calls, readings and views are as before the damage, whatever of it there is."""
    for damage in sorted(DAMAGES.keys() - OF_ROWS):
        changed(copy, " ".join(DAMAGES[damage][:2]))
    found, _ = rebuilt(copy)
    assert found.proof is not None
    assert not found.proof.is_whole
    assert answered(copy) == expected


def test_booking_goes_on_exactly_once(copy: Path, partly_sealed: Path, tmp_path: Path) -> None:
    """What comes again books nothing, what is new is booked, numbers go on, and operations can be undone."""
    other = Path(shutil.copytree(partly_sealed, tmp_path / "other", symlinks=True))
    rebuilt(copy)
    said: list[Message] = [it for step in history(1) for it in step.messages]
    found = []
    for data_dir in (copy, other):
        told = Told(data_dir, LAST + timedelta(hours=1))
        assert told.ledger.booked_sequence == max(it.sequence for it in said)
        told.take(Step(told.now, said), seals=False)
        new = [
            message(10**6, read_at(1, of=77)),
            message(10**6 + 1, read_at(2, of=77, input_tokens=9)),
        ]
        told.take(Step(told.now, new), seals=False)
        told.close()
        found.append(answered(data_dir))
        assert (data_dir / "costs.duckdb").resolve().is_file()
    assert found[0] == found[1]


def work(told: Told, *works: Work) -> None:
    """Do operations, the first of them at other prices; each to its end, with folding and sealing."""
    for each in works:
        told.take(Step(told.now, work=each), seals=True)


@pytest.mark.slow
def test_corrections_of_a_closed_month_and_removed_detail_stay_what_they_are(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebuilt ledger undoes a re-rating as the old one does, also where the rows of calls lie in two months."""
    often(monkeypatch)
    december = LAST.replace(month=12, day=5)
    told = Told(copy, december)
    work(told, Close(month=date(2026, 11, 1)), Rerate(), Retain(days=18))
    told.now += timedelta(days=4)
    work(told, Adjust(amount=Decimal("-2.5"), day=date(2026, 11, 19), project="prod"))
    told.close()
    [(corrected, removed)] = changed(
        copy,
        "SELECT (SELECT count(*) FROM usage WHERE corrects IS NOT NULL AND session_id IS NOT NULL), "
        "(SELECT count(DISTINCT day) FROM removed_detail)",
    )
    assert corrected > 10
    assert 0 < removed < 4
    before = answered(copy)
    other = Path(shutil.copytree(copy, copy.with_name("other"), symlinks=True))
    found, _ = rebuilt(copy)
    assert found.lost == ()
    assert found.proof is not None
    assert found.proof.is_whole
    assert answered(copy) == before
    undone = []
    for data_dir in (copy, other):
        told = Told(data_dir, december + timedelta(days=5))
        operations = told.ledger._operations
        numbers = [it.number for it in operations._known.values() if isinstance(it.work, Rerate)]
        work(told, *(Revert(operation=number) for number in reversed(numbers)))
        told.close()
        undone.append(answered(data_dir))
    assert undone[0] == undone[1]
    assert undone[0]["session_usage"] != before["session_usage"]


@pytest.mark.parametrize(
    "damage", ["a single row is gone", *later("a file is gone", "a file is cut off")]
)
def test_days_whose_rows_are_not_all_there_keep_their_sums(
    copy: Path, expected: dict[str, list[Any]], damage: str
) -> None:
    """Answers are as before, but for the rows themselves, of which it is said how many are gone."""
    if damage in DAMAGES:
        changed(copy, " ".join(DAMAGES[damage][:2]))
    else:
        file = sealed(copy)[0]
        data = file.read_bytes()
        file.unlink()
        if damage == "a file is cut off":
            file.write_bytes(data[:-100])
    found, _ = rebuilt(copy)
    [lost] = found.lost
    after = answered(copy)
    assert {name for name in after if after[name] != expected[name]} == {"usage"}
    assert set(map(str, after["usage"])) < set(map(str, expected["usage"]))
    [(removed,)] = changed(copy, "SELECT sum(rows)::BIGINT FROM removed_detail")
    assert removed == len(expected["usage"]) - len(after["usage"])
    assert (lost.rows == 1) == (damage in DAMAGES)
    if damage == "a file is cut off":
        assert file.with_name(file.name + ".damaged").is_file()
    Told(copy, LAST).close()  # the next opening has nothing to say of it
    again, _ = rebuilt(copy, "later")
    assert again.lost == ()
    assert answered(copy) == after


def test_a_ledger_that_cannot_be_read_is_made_of_the_newest_snapshot(
    copy: Path, expected: dict[str, list[Any]]
) -> None:
    """So is one that is gone; with nothing that can be read, nothing is changed."""
    layout = Layout(copy)
    file = layout.ledger
    file.unlink()
    assert rebuilt(copy, "gone")[1] is None
    assert answered(copy) == expected
    size = file.stat().st_size
    with file.open("r+b") as ledger:
        ledger.seek(12288)
        ledger.write(bytes(size - 12288))
    damaged = file.read_bytes()
    found, kept = rebuilt(copy)
    assert found.source == layout.current.resolve()
    assert "orrupt" in found.problem
    assert answered(copy) == expected
    assert kept is not None
    assert kept.read_bytes() == damaged
    for path in (layout.ledger, *layout.snapshots().values(), layout.verified):
        if path.exists():
            path.write_bytes(damaged)
    with pytest.raises(LedgerDamaged, match="cannot be read"):
        find_source(layout, micros(LAST))


def test_what_is_not_what_it_should_be_does_not_take_the_place(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old ledger is as it was, and the draft is gone."""
    before = (copy / "ledger" / "ledger.duckdb").read_bytes()
    whole_fold = rebuilding.Rebuilding._fold
    times = iter(range(1000))

    def fold(self: Rebuilding, connection: duckdb.DuckDBPyConnection) -> None:
        if next(times) != 1:
            whole_fold(self, connection)

    monkeypatch.setattr(rebuilding.Rebuilding, "_fold", fold)
    with pytest.raises(RebuildFailed, match="is not whole"):
        rebuilt(copy)
    assert (copy / "ledger" / "ledger.duckdb").read_bytes() == before
    assert not (copy / "ledger" / "rebuilt.tmp").exists()
