"""What a ledger says twice is compared, and what differs is told by day, call, meter and quantity."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.events import message
from tests.support.events import reading as read_at
from tests.support.history import Step, Told, history
from voicecosts.consumer.store import proof as proofs
from voicecosts.consumer.store.clock import micros
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.proof import Proof, prove, reading


@pytest.fixture(scope="module")
def whole(partly_sealed: Path) -> Path:
    """A closed ledger with calls of every kind: most is folded, settled and sealed, and some is not."""
    with duckdb.connect(partly_sealed / "ledger" / "ledger.duckdb", read_only=True) as ledger:
        for table in ("bookings", "sealed_files", "settled_sessions", "pending_sessions"):
            assert ledger.execute(f"SELECT count(*) FROM {table}").fetchone() != (0,)  # noqa: S608 - our own names
        assert ledger.execute(
            "SELECT count(*) FROM bookings WHERE place <= (SELECT folded_to FROM fold_state)"
        ).fetchone() != (0,)
    return partly_sealed


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy of it to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "data", symlinks=True))


def proved(data_dir: Path) -> Proof:
    """Return what came of the comparison."""
    layout = Layout(data_dir)
    now_us = micros(history(1)[-1].now)
    with reading(layout.ledger, layout) as books:
        return prove(books, layout, now_us)


def changed(data_dir: Path, *statements: str) -> list[Any]:
    """Change the ledger's file behind its back; return what the last statement answers."""
    with duckdb.connect(data_dir / "ledger" / "ledger.duckdb") as ledger:
        ledger.execute(PLACES)
        for statement in statements:
            ledger.execute(statement)
        return ledger.fetchall()


def sealed(data_dir: Path) -> list[Path]:
    """Return the files of sealed days, in their order."""
    return sorted(data_dir.rglob("*.parquet"))


@pytest.fixture(params=[7, 100_000])
def slices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare a few rows at a time, which also parts a day, or all of them at once."""
    monkeypatch.setattr(proofs, "SLICE_ROWS", request.param)
    monkeypatch.setattr(proofs, "SLICE_SESSIONS", min(request.param, 2_500))


def test_nothing_differs_in_a_ledger_that_nobody_touched(whole: Path, slices: None) -> None:
    """However few rows are compared at a time, all of them are."""
    found = proved(whole)
    assert (found.differences, found.left_out) == ([], [])
    assert (found.rows, found.files, found.calls) == (118, 12, 16)
    assert found.sums > 40


def test_rows_that_were_never_sealed_are_compared(tmp_path: Path) -> None:
    """With sums of them that are there, in a ledger without any file of a sealed day."""
    told = Told(tmp_path)
    told.take(Step(told.now, [message(1, read_at(1), read_at(2, requests=5))]), seals=False)
    told.ledger._folding.fold()
    told.close()
    found = proved(tmp_path)
    assert (found.rows, found.sums, found.files, found.differences) == (*(2, 1, 0), [])


PLACES = """
CREATE TEMP MACRO a_sum() AS (SELECT min(first_place) FROM folded_usage WHERE cost > 0);
CREATE TEMP MACRO a_row() AS (
    SELECT min(place) FROM bookings WHERE place <= (SELECT folded_to FROM fold_state)
);
CREATE TEMP MACRO a_call() AS (SELECT min(session_id) FROM settled_sessions WHERE cost > 0);
CREATE TEMP MACRO another_call() AS (SELECT max(session_id) FROM settled_sessions WHERE cost > 0);
"""
_OF_SUM = "WHERE first_place = a_sum()"
_OF_CALL = "WHERE session_id = a_call()"

DAMAGES = {
    "a sum of money": ("UPDATE folded_usage SET cost = cost + 1", _OF_SUM, "sums", "cost"),
    "a quantity of a sum": (
        "UPDATE folded_usage SET input_tokens = 1", _OF_SUM, "sums", "input_tokens",
    ),
    "whose a sum is": ("UPDATE folded_usage SET tenant = 'x'", _OF_SUM, "sums", "cost"),
    "a sum is gone": ("DELETE FROM folded_usage", _OF_SUM, "sums", "cost"),
    "a sum is there twice": (
        "INSERT INTO folded_usage FROM folded_usage", _OF_SUM, "sums", "cost",
    ),
    "a single row is gone": ("DELETE FROM bookings", "WHERE place = a_row()", "sums", "rows"),
    "a single row says less": (
        "UPDATE bookings SET requests = 0", "WHERE place = a_row()", "sums", "requests",
    ),
    "a row that is in no sum yet is gone": (
        "DELETE FROM bookings", "WHERE place = (SELECT folded_to + 1 FROM fold_state)", "rows", "row",
    ),
    "the sum of a month": (
        "UPDATE folded_months SET cost = cost + 1", "WHERE modality = 'llm'", "months", "cost",
    ),
    "what a call cost": ("UPDATE settled_sessions SET cost = 0", _OF_CALL, "calls", "cost"),
    "in which state a call is": (
        "UPDATE settled_sessions SET state = 'open'", _OF_CALL, "calls", "state",
    ),
    "a call is gone": (
        "DELETE FROM settled_sessions", _OF_CALL, "calls", "times that it is kept",
    ),
    "what a call stands at": (
        "UPDATE settled_sessions SET kept = (SELECT kept FROM settled_sessions WHERE session_id = another_call())",
        _OF_CALL,
        "calls",
        "kept cost",
    ),
    "what a call stands at, spoiled": (
        "UPDATE settled_sessions SET kept = unhex(left(hex(kept), 20))",
        _OF_CALL,
        "calls",
        "kept for booking",
    ),
    "which readings came": ("DELETE FROM session_readings", "", "calls", "reading that came"),
    "whose a call is": ("DELETE FROM session_identities", "", "calls", "agent_id"),
    "the view of single rows": (
        "CREATE OR REPLACE MACRO all_bookings(folder := NULL) AS TABLE SELECT * FROM bookings",
        "",
        "views",
        "rows of usage",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_changed_is_found_where_it_is(copy: Path, damage: str) -> None:
    """By the rule that single rows are right: sums and calls are made of them."""
    *statement, what, quantity = DAMAGES[damage]
    changed(copy, " ".join(statement))
    assert (what, quantity) in {(it.what, it.quantity) for it in proved(copy).differences}


def test_a_sum_that_differs_is_told_with_its_day_call_meter_and_both_amounts(copy: Path) -> None:
    """And nothing else is told: all other sums are as they were."""
    [(session_id, day, cost)] = changed(
        copy,
        f"SELECT session_id::VARCHAR, day, cost FROM folded_usage {_OF_SUM}",  # noqa: S608 - our own
    )
    changed(copy, " ".join(DAMAGES["a sum of money"][:2]))
    [first, *others] = [it for it in proved(copy).differences if it.what != "months"]
    assert (first.what, first.quantity, first.session_id, first.day) == (
        *("sums", "cost", session_id, day),
    )
    assert (first.expected, first.found) == (f"{cost:f}", f"{cost + 1:f}")
    assert first.meter == "llm openai/gpt-4.1-mini (Greeter)"
    # what the call came to was worked out before the damage
    assert {(it.what, it.session_id) for it in others} == {("calls", session_id)}


def _truncate(files: list[Path]) -> None:
    files[0].write_bytes(files[0].read_bytes()[:-100])


def _turn_a_bit(files: list[Path]) -> None:
    data = bytearray(files[0].read_bytes())
    data[len(data) // 2] ^= 1
    files[0].write_bytes(data)


def _swap(files: list[Path]) -> None:
    first, last = files[0].read_bytes(), files[-1].read_bytes()
    files[0].write_bytes(last)
    files[-1].write_bytes(first)


FILES: dict[str, tuple[Callable[[list[Path]], None], str]] = {
    "cut off": (_truncate, "bytes"),
    "a bit turned": (_turn_a_bit, "sha256"),
    "swapped": (_swap, "content"),
    "gone": (lambda files: files[0].unlink(), "bytes"),
}


@pytest.mark.parametrize("damage", FILES)
def test_a_file_of_a_sealed_day_that_is_not_as_it_was_sealed_is_told(
    copy: Path, damage: str
) -> None:
    """The sums of that day are not compared with what cannot be believed, and all other days are."""
    harm, quantity = FILES[damage]
    files = sealed(copy)
    harm(files)
    found = proved(copy)
    assert {(it.what, it.quantity) for it in found.differences} == {("sealed file", quantity)}
    assert found.differences[0].file == files[0].relative_to(copy).as_posix()
    assert len(found.left_out) == 1
    if damage == "swapped":
        other = files[-1].relative_to(copy).as_posix()
        assert found.differences[0].found == f"that of {other}"
        assert len(found.differences) == 2


def test_days_without_their_single_rows_are_not_called_different(copy: Path) -> None:
    """Sums of days whose detail was removed by age are left out, and that is said."""
    changed(
        copy,
        "INSERT INTO removed_detail SELECT day, sum(rows)::BIGINT, 1, now()::TIMESTAMP FROM sealed_files "
        "WHERE day = (SELECT min(day) FROM sealed_files) GROUP BY day",
        "DELETE FROM sealed_files WHERE day = (SELECT min(day) FROM sealed_files)",
    )
    found = proved(copy)
    assert [it.what for it in found.differences] == ["views"]  # which still names the files
    assert "were removed" in found.left_out[0]
    changed(copy, "UPDATE removed_detail SET rows = rows - 1")
    assert ("sums", "rows") in {(it.what, it.quantity) for it in proved(copy).differences}


def test_more_differences_than_are_listed_are_said(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is bounded, whatever happened to the file."""
    monkeypatch.setattr(proofs, "LISTED", 5)
    changed(copy, "UPDATE folded_usage SET requests = requests + 1")
    found = proved(copy)
    assert (len(found.differences), found.more) == (5, True)
