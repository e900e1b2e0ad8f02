"""Tests of `costs calls`: which calls are listed, in which order, and that each costs what a query says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.events import ended, final, message, reading, session_id, started
from tests.support.history import Told, history, often
from tests.support.long_forms import later
from tests.support.price_books import mini
from tests.support.sample_ledger import write_snapshot
from tests.support.some_calls import (
    EMPTY,
    HALF,
    HOSTILE,
    NOW,
    OPEN,
    OTHER,
    SHORT,
    STARTLESS,
    TWO,
    UNPRICED,
    VOIDED,
    call_id,
    write_calls,
)
from voicecosts import call, calls, query
from voicecosts.analytics.answers.calls import Call, Calls, per_minute
from voicecosts.analytics.errors import BadQuestion, NotALedger
from voicecosts.analytics.text.receipts import as_table
from voicecosts.consumer.booking.operations import Close, Revert, Void
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger

Listed = Callable[..., Calls]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real ledger with a call of every kind."""
    return write_calls(tmp_path_factory.mktemp("calls"))


@pytest.fixture
def listed(real: Path) -> Listed:
    """Ask for its calls."""
    return lambda **more: calls(data_dir=real, now=NOW, **more)


def numbers(found: Calls) -> list[int]:
    """Return which calls are listed, one of another project as less than zero."""
    return [_number(it) for it in found.calls]


def _number(call: Call) -> int:
    number = call.session.int & 0xFF
    return -number if call.project == OTHER else number


def test_the_newest_calls_come_first(listed: Listed) -> None:
    """By default the last twenty; an id that two projects have is two calls."""
    found = listed()
    assert numbers(found) == [8, 7, 6, 5, 4, 3, 2, 1, -1]
    assert (found.found, found.is_shared) == (9, True)
    assert numbers(listed(top=2)) == [UNPRICED, VOIDED]
    assert listed(top=2).found == 9


def test_a_call_says_whose_it_was_and_whether_it_is_whole(listed: Listed) -> None:
    """Length, room, job and state are those of the views; what is not known is None."""
    by_number = {_number(it): it for it in listed().calls}
    half = by_number[HALF]
    assert (half.session, half.project, half.agent, half.tenant) == (
        call_id(HALF), "prod", "dental", "acme",
    )  # fmt: skip
    assert (half.room, half.job, half.length_seconds) == ("front-desk", "AJ_1", Decimal(30))
    assert by_number[TWO].room == HOSTILE
    assert by_number[EMPTY].tenant is None
    assert {number: it.state for number, it in by_number.items()} == {
        -HALF: "complete", HALF: "complete", TWO: "complete", EMPTY: "complete", OPEN: "open",
        STARTLESS: "complete", SHORT: "short", VOIDED: "voided", UNPRICED: "complete",
    }  # fmt: skip
    assert (by_number[SHORT].cause, by_number[SHORT].missing_at_most) == (
        "backwards", Decimal("0.4"),
    )  # fmt: skip
    assert by_number[OPEN].missing_at_most is None
    began = [it.started_at for it in by_number.values()]
    assert began == sorted(began, reverse=True)


def test_a_minute_costs_the_cost_by_the_length(listed: Listed) -> None:
    """There is no such figure of a call that goes on, of an unknown or no length, or of no known cost."""
    assert {_number(it): it.cost_per_minute for it in listed().calls} == {
        HALF: Decimal("1.6"), -HALF: Decimal("1.6"), TWO: Decimal("0.2"), EMPTY: None, OPEN: None,
        STARTLESS: None, SHORT: Decimal("1.2"), VOIDED: Decimal(0), UNPRICED: None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cost", "length_us", "figure"),
    [
        ("1", 90_000_000, "0.666666667"),
        ("0.000000001", 120_000_000, "0.000000000"),  # half of it is even below
        ("0.000000003", 120_000_000, "0.000000002"),  # and here above
        ("999999999.999999999", 1, "59999999999999999.940000000"),
        ("-0.000000001", 40_000_000, "-0.000000002"),
        (None, 60_000_000, None),
        ("1", 0, None),
        ("1", None, None),
    ],
)
def test_a_minute_is_rounded_half_to_even_to_nine_digits(
    cost: str | None, length_us: int | None, figure: str | None
) -> None:
    """The figure is exact until it is rounded once."""
    found = per_minute(None if cost is None else Decimal(cost), length_us)
    assert found == (None if figure is None else Decimal(figure))


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        ("started:asc", [HALF, -HALF, TWO]),
        ("length", [TWO, UNPRICED, VOIDED]),
        ("length:asc", [EMPTY, HALF, UNPRICED]),
        ("cost", [-HALF, SHORT, HALF]),
        ("cost:asc", [VOIDED, EMPTY, STARTLESS]),
        ("cost_per_minute", [HALF, -HALF, SHORT]),
        ("billed", [-HALF, SHORT, HALF]),
        ("tenant", [UNPRICED, VOIDED, SHORT]),
        ("tenant:desc", [TWO, UNPRICED, VOIDED]),
        ("agent:desc", [TWO, UNPRICED, VOIDED]),
        ("room", [TWO, EMPTY, HALF]),
        ("state", [SHORT, OPEN, UNPRICED]),
    ],
)
def test_every_column_orders_them(listed: Listed, sort: str, first: list[int]) -> None:
    """Amounts come largest first and names in their order; what is not known is last, the rest by its start."""
    found = numbers(listed(sort=sort))
    assert found[:3] == first
    assert len(found) == 9
    if sort.startswith("cost"):
        assert found[-1] == (UNPRICED if "minute" not in sort else EMPTY)


def test_conditions_choose_calls_and_not_parts_of_them(listed: Listed) -> None:
    """One that used the model is listed with all that it cost."""
    assert numbers(listed(where="model=llama")) == [UNPRICED, TWO]
    assert listed(where="model=llama").calls[1].used.cost == Decimal("0.4")
    assert numbers(listed(where=["tenant=acme", "project=staging"])) == [-HALF]
    assert numbers(listed(where={"tenant": None})) == [EMPTY]
    assert numbers(listed(where=f"session={call_id(HALF)}")) == [HALF, -HALF]


def test_a_call_belongs_to_the_period_in_which_it_started(listed: Listed) -> None:
    """The start is included, the end is not, in every order."""
    began = {_number(it): it.started_at for it in listed().calls}
    for sort in ("started", "cost", "cost_per_minute", "state", "length"):
        found = listed(since=began[TWO], until=began[OPEN], sort=sort)
        assert sorted(numbers(found)) == [TWO, EMPTY]
        assert found.found == 2


def test_what_is_said_is_about_the_calls_that_are_listed(listed: Listed) -> None:
    """Others may lack prices or an end: that is not told here."""
    assert [it.model for it in listed().completeness.unpriced] == ["llama"]
    found = listed(where="project=staging").completeness
    assert (found.unpriced, found.open_sessions, found.short_sessions) == ((), 0, 0)


def test_where_nothing_matches_it_is_said_what_there_is(listed: Listed) -> None:
    """An empty list comes with what to do."""
    found = listed(since="2025-01", until="2025-02")
    assert (found.calls, found.found) == ((), 0)
    assert found.warnings[0].startswith("no usage matches: the ledger holds usage from ")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"sort": "csot"}, "unknown sort column 'csot', did you mean 'cost'"),
        ({"sort": "cost:up"}, "must end in :asc or :desc"),
        ({"top": 0}, "top 0 shows nothing"),
        ({"where": "rom=x"}, "unknown column to group or filter by 'rom', did you mean 'room'"),
        ({"since": "soon"}, "cannot be read as a time"),
    ],
)
def test_what_cannot_be_asked_is_said(asked: dict[str, Any], said: str) -> None:
    """No ledger is opened for a question that makes no sense."""
    with pytest.raises(BadQuestion, match=said):
        calls(**asked, data_dir="/nowhere")


def assert_as_queried(folder: Path) -> Calls:
    """Every call costs and used what a query by session and project says of it, and none is missing."""
    found = calls(data_dir=folder, top=1000, now=NOW)
    rows = query("project,session", data_dir=folder, now=NOW).rows
    queried = {
        (it.group["project"], it.group["session"]): {**it.record(), "sessions": 1}
        for it in rows
        if it.group["session"] is not None  # an adjustment is of no call
    }
    listed = {(it.project, str(it.session)): it for it in found.calls}
    for key, row in queried.items():
        project, session = key
        assert listed[key].used.record() | {"project": project, "session": session} == row
    for key in listed.keys() - queried.keys():
        assert listed[key].used.cost == 0
        assert listed[key].used.rows == 0
    return found


def test_each_costs_what_a_query_says(real: Path) -> None:
    """Also where it is voided, short or unpriced."""
    assert_as_queried(real)


@pytest.mark.parametrize("seed", [3, *later(2)])
def test_each_costs_what_a_query_says_in_a_long_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """With calls of every kind, late readings, a void, an adjustment and a re-rating; folded, settled, sealed."""
    often(monkeypatch)
    told = Told(tmp_path)
    for step in history(seed):
        told.take(step, seals=True)
    told.close()
    found = assert_as_queried(tmp_path)
    with duckdb.connect((tmp_path / "costs.duckdb").resolve(), read_only=True) as ledger:
        for call in found.calls:
            [(cost, length)] = ledger.execute(
                "SELECT cost, duration_us FROM sessions WHERE session_id = ?", [call.session]
            ).fetchall()
            assert call.used.cost == cost
            assert call.cost_per_minute == per_minute(cost, length)


def test_a_call_is_whole_where_its_month_was_closed(tmp_path: Path) -> None:
    """What came later is in its cost, and it is said that it is dated elsewhere."""
    now = [NOW]
    with Ledger.open(tmp_path, mini("1"), clock=Clock(now=lambda: now[0])) as ledger:
        ledger.apply([message(1, reading(1, input_tokens=1_000_000))])
        now[0] += timedelta(days=20)
        ledger.operate(Close(month=date(2026, 11, 1)), reason="month end")
        ledger.apply([message(2, reading(2, input_tokens=3_000_000))])
    found = assert_as_queried(tmp_path)
    assert found.calls[0].used.cost == 3
    (note,) = [it for it in found.notes if "corrects" in it]
    assert note.startswith("2.000000 USD of it in 1 row corrects 2026-11, which is closed")
    with Ledger.open(tmp_path, mini("1"), clock=Clock(now=lambda: now[0])) as ledger:
        ledger.operate(Void(project="prod", session_id=session_id(1)), reason="a test call")
    (call,) = assert_as_queried(tmp_path).calls
    assert (call.used.cost, call.state) == (0, "voided")


def test_a_call_that_was_brought_back_after_its_month_was_closed_lacks_nothing(
    tmp_path: Path,
) -> None:
    """That month stays without it, so `completeness` does not have it; what it cost is dated later."""
    now = [NOW]
    with Ledger.open(tmp_path, mini("1"), clock=Clock(now=lambda: now[0])) as ledger:
        ledger.apply([message(1, started(), reading(1, input_tokens=1_000_000))])
        ledger.apply([message(2, ended(2, final(input_tokens=1_000_000)))])
        void = ledger.operate(Void(project="prod", session_id=session_id(1)), reason="a test call")
        now[0] += timedelta(days=20)
        ledger.operate(Close(month=date(2026, 11, 1)), reason="month end")
        ledger.operate(Revert(operation=void), reason="it was a real one")
    found = assert_as_queried(tmp_path)
    (one,) = found.calls
    assert (one.used.cost, one.state, one.missing_at_most) == (1, "restored", None)
    assert found.completeness.short_sessions == 0
    text = as_table(call(data_dir=tmp_path, now=now[0]), now=now[0])
    assert "restored: brought back after its month was closed without it" in text
    assert "short" not in text


def test_an_older_ledger_says_what_to_do(tmp_path: Path) -> None:
    """One that noted too little of single calls is not read halfway."""
    path = write_snapshot(tmp_path / "old.duckdb", version=10)
    with pytest.raises(NotALedger, match="`costs up` brings it up to date"):
        calls(data_dir=path)
