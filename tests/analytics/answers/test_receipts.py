"""Tests of `costs call`: which call is meant, and that the parts of its receipt are what it cost."""

from __future__ import annotations

import shlex
import shutil
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.events import message, session_id, started
from tests.support.history import Told, history, often
from tests.support.price_books import no_price
from tests.support.sample_ledger import ACME, write_ledger
from tests.support.some_calls import (
    CUT_OFF,
    DEAREST,
    EMPTY,
    HALF,
    HOSTILE,
    NOW,
    OPEN,
    OTHER,
    SHORT,
    TWO,
    UNPRICED,
    VOIDED,
    call_id,
    write_calls,
    write_turns,
)
from voicecosts import call, calls, query
from voicecosts.analytics.answers.receipts import Receipt
from voicecosts.analytics.errors import BadQuestion, SeveralCalls, UnknownCall
from voicecosts.consumer.booking.operations import Retain
from voicecosts.consumer.store.ledger import Ledger

TURNS = 30


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real ledger with a call of every kind."""
    return write_calls(tmp_path_factory.mktemp("calls"))


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Receipt:
    """The receipt of a call with many turns."""
    return call(data_dir=write_turns(tmp_path_factory.mktemp("turns"), TURNS), now=NOW)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("last", UNPRICED),
        (str(call_id(TWO)), TWO),
        (str(call_id(TWO)).upper(), TWO),
        (str(call_id(TWO)).replace("-", ""), TWO),
        (str(call_id(TWO))[:13], TWO),
        (f" {call_id(TWO)} ", TWO),
        (HOSTILE, TWO),
        ("AJ_2", TWO),
        ("lobby", OPEN),
    ],
)
def test_a_call_is_known_by_its_id_its_room_and_its_job(real: Path, name: str, number: int) -> None:
    """An id may be cut short, and is the same in capitals and without its dashes."""
    assert call(name, data_dir=real, now=NOW).call.session == call_id(number)


def test_what_may_be_several_calls_is_listed(real: Path) -> None:
    """At most ten, the newest first, with what to type; and nothing is guessed."""
    with pytest.raises(SeveralCalls) as raised:
        call("front-desk", data_dir=real, now=NOW)
    assert [(it[0], it[1][-1]) for it in raised.value.candidates] == [
        ("prod", "3"), ("prod", "1"), (OTHER, "1"),
    ]  # fmt: skip
    said = str(raised.value)
    assert "Type as much of an id as stands here, and --project; `costs calls --where" in said
    assert said.endswith("`costs calls --where room=front-desk` shows the calls")
    for project, begins, tenant in (("prod", 3, "(none)"), ("prod", 1, "acme"), (OTHER, 1, "acme")):
        began = f"{call_id(begins)!s:.13} (2026-11-18 11:0{6 + begins}"
        assert f"{began}, project {project}, tenant {tenant}, agent dental)" in said
    with pytest.raises(SeveralCalls, match="Type --project as well"):
        call(str(call_id(HALF)), data_dir=real, now=NOW)
    assert call(str(call_id(HALF)), project=OTHER, data_dir=real, now=NOW).total.cost == Decimal(
        "1.6"
    )
    with pytest.raises(SeveralCalls) as raised:
        call("0", data_dir=real, now=NOW)
    assert (raised.value.found, len(raised.value.candidates)) == (9, 9)
    assert "calls are meant by '0': the newest are " in str(raised.value)
    assert str(raised.value).count(", agent ") == 5
    assert str(raised.value).endswith("`costs calls` shows the calls")


def test_the_command_that_is_named_lists_the_calls_that_are_meant(tmp_path: Path) -> None:
    """Also of a room whose name has a star, a backslash or a blank, or is what an absent one is called."""
    for name in ("a *", "\\*", "(none)", "x\\"):
        folder = tmp_path / f"of-{name.encode().hex()}"
        with Ledger.open(folder, no_price()) as ledger:
            starts = [started(1, session_id=session_id(of), room_name=name) for of in (1, 2)]
            other = started(1, session_id=session_id(3), room_name="a b")
            ledger.apply([message(1, *starts, other)])
        with pytest.raises(SeveralCalls) as raised:
            call(name, data_dir=folder, now=NOW)
        _, command, _ = str(raised.value).split("`")
        *_, where, condition = shlex.split(command)
        assert where == "--where"
        found = {str(it.session) for it in calls(where=condition, data_dir=folder, now=NOW).calls}
        assert found == {session_id(1), session_id(2)}


def test_an_id_in_full_is_no_room(tmp_path: Path) -> None:
    """Whoever names rooms cannot hide a call behind the id of another, and a room may look like an id."""
    twin = write_turns(tmp_path, 1)
    with pytest.raises(UnknownCall):
        call(str(call_id(OPEN)), data_dir=twin, now=NOW)
    assert call(str(call_id(HALF)), data_dir=twin, now=NOW).call.room == HOSTILE


@pytest.mark.parametrize("name", ["nobody", "fff", "01a1-ee57", "%", "_", "' OR 1=1 --"])
def test_what_is_no_call_is_said(real: Path, name: str) -> None:
    """A name is compared as it is, whatever is in it."""
    with pytest.raises(UnknownCall, match="`costs calls` shows what there is"):
        call(name, data_dir=real, now=NOW)


def test_nothing_is_no_name(real: Path, empty_dir: Path) -> None:
    """And where there is no call, there is no last one."""
    with pytest.raises(BadQuestion, match="no call is named"):
        call(" ", data_dir="/nowhere")
    with pytest.raises(UnknownCall, match="there is no call yet"):
        call("last", data_dir=empty_dir)
    for name in ("last", "lobby"):
        with pytest.raises(
            UnknownCall, match="there is no project 'nowhere': `costs query --by pro"
        ):
            call(name, project="nowhere", data_dir=real)
    with pytest.raises(UnknownCall, match=f"no call of project '{OTHER}' has an id that begins"):
        call("lobby", project=OTHER, data_dir=real)


def assert_adds_up(receipt: Receipt, folder: Path) -> None:
    """The receipt's total is what a query says of the session, and its parts are all of it."""
    own = receipt.call
    where = {"session": str(own.session), "project": own.project}
    assert receipt.total == query("project", where=where, data_dir=folder, now=NOW).total
    if own.used.rows:
        assert own.used.cost == receipt.total.cost
    assert sum(it.cost or 0 for it in receipt.parts) == (receipt.total.cost or 0)
    assert sum(it.cost or 0 for it in receipt.priced) == (receipt.total.cost or 0)
    if receipt.detail_missing is None:
        every = [*receipt.turns, receipt.outside, receipt.by_operations]
        found = [it for it in every if it is not None]
        assert sum(it.cost or 0 for it in found) == (receipt.total.cost or 0)
        assert sum(it.rows for it in found) == receipt.total.rows
        for it in found:
            assert sum(cost or 0 for cost in it.costs.values()) == (it.cost or 0)


def test_turns_and_the_rest_are_what_the_call_cost(tmp_path: Path, long: Receipt) -> None:
    """A turn is one speech; what names none is in none; the dearest is known, and so is what was cut off."""
    assert len(long.turns) == TURNS
    assert [it.first_at for it in long.turns] == sorted(it.first_at for it in long.turns)
    assert long.dearest is long.turns[DEAREST - 1]
    assert long.dearest.cost == Decimal(2)
    assert long.turns[0].costs == {"llm": Decimal("0.4"), "tts": None}
    assert long.turns[0].lacks_prices
    assert [at for at, it in enumerate(long.turns, 1) if it.cancelled] == [CUT_OFF]
    assert long.turns[CUT_OFF - 1].cancelled_cost == Decimal("0.4")
    assert long.outside is not None
    assert long.outside.costs == {"llm": Decimal("0.23")}
    assert [(it.model, it.cost) for it in long.priced if it.estimated] == [
        ("gpt-4.1-mini", Decimal("0.2")),
    ]  # fmt: skip
    assert {it.model: it.price for it in long.priced} == {
        "gpt-4.1-mini": "test 1 gpt-4.1-mini", "summary": "test 1 summary", "voice": None,
    }  # fmt: skip
    folder = write_turns(tmp_path, TURNS)
    assert_adds_up(call(data_dir=folder, now=NOW), folder)


def test_every_kind_of_call_has_a_receipt(real: Path) -> None:
    """Also one that used nothing, goes on, is short, or is voided; what is said is about it alone."""
    for each in calls(data_dir=real, now=NOW).calls:
        receipt = call(str(each.session), project=each.project, data_dir=real, now=NOW)
        assert receipt.call == each
        assert_adds_up(receipt, real)
    of = {
        number: call(str(call_id(number)), data_dir=real, now=NOW)
        for number in (EMPTY, OPEN, SHORT, VOIDED, UNPRICED)
    }
    assert (of[EMPTY].total.cost, of[EMPTY].parts, of[EMPTY].detail_missing) == (0, (), None)
    assert "1 call is still running" in of[OPEN].notes
    assert of[OPEN].call.cost_per_minute is None
    assert of[SHORT].completeness.short_sessions == 1
    assert "voided this call" in of[VOIDED].warnings[0]
    assert of[VOIDED].by_operations is not None
    assert (of[UNPRICED].total.cost, of[UNPRICED].dearest) == (None, None)


def test_a_call_of_which_only_the_id_is_known_has_a_receipt(tmp_path: Path) -> None:
    """Nothing was booked of it, so it cost nothing yet; whose it was is unknown."""
    folder = write_ledger(tmp_path, [], endless=[ACME])
    (listed,) = calls(data_dir=folder, now=NOW).calls
    receipt = call(str(ACME), data_dir=folder, now=NOW)
    assert receipt.call == listed
    assert (listed.session, listed.agent, listed.state) == (ACME, None, "abandoned")
    assert (receipt.total.cost, receipt.parts, receipt.turns) == (0, (), ())


def test_the_turns_of_a_call_need_the_file_that_shows_the_columns(
    asked: Path, tmp_path: Path
) -> None:
    """DuckDB takes them from the first file, of whatever day; the sums of the call stay as they are."""
    folder = Path(shutil.copytree(asked, tmp_path / "copy", symlinks=True))
    ids = [str(it.session) for it in calls(data_dir=folder, now=NOW).calls]
    whole = [call(it, data_dir=folder, now=NOW) for it in ids]
    first = min(folder.glob("sealed/usage/*/*.parquet"))
    first.write_bytes(first.read_bytes()[:-9] + bytes(9))
    for before, receipt in zip(
        whole, (call(it, data_dir=folder, now=NOW) for it in ids), strict=True
    ):
        assert (receipt.total, receipt.parts) == (before.total, before.parts)
        if before.turns:
            assert f"{first.name} has changed since" in (receipt.detail_missing or "")
    assert any(it.turns for it in whole)


@pytest.mark.slow
def test_sums_stay_where_turns_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receipt in four of a long history adds up, folded and sealed; then files go, and then rows by age."""
    often(monkeypatch)
    told = Told(tmp_path)
    for step in history(3):
        told.take(step, seals=True)
    told.ledger.publish_snapshot()
    listed = calls(data_dir=tmp_path, top=1000, now=NOW).calls[::4]

    def receipts() -> list[Receipt]:
        return [
            call(str(it.session), project=it.project, data_dir=tmp_path, now=NOW) for it in listed
        ]

    before = receipts()
    for receipt in before:
        assert_adds_up(receipt, tmp_path)
        assert receipt.detail_missing is None
    assert any(it.by_operations for it in before)
    sealed, aside = tmp_path / "sealed", tmp_path / "aside"
    sealed.rename(aside)
    for receipt, whole in zip(receipts(), before, strict=True):
        assert (receipt.total, receipt.parts) == (whole.total, whole.parts)
    assert any("put the folder `sealed`" in (it.detail_missing or "") for it in receipts())
    aside.rename(sealed)
    for file in sealed.rglob("*.parquet"):
        file.write_bytes(file.read_bytes()[:-5] + bytes(5))
    for receipt, whole in zip(receipts(), before, strict=True):
        assert (receipt.total, receipt.parts) == (whole.total, whole.parts)
        assert receipt.turns == whole.turns or "has changed since the ledger wrote it" in (
            receipt.detail_missing or ""
        )
    told.ledger.operate(Retain(days=1), reason="the law")
    told.now += timedelta(hours=1)
    while told.ledger.work():
        pass
    told.close()
    for receipt, whole in zip(receipts(), before, strict=True):
        assert (receipt.total, receipt.parts) == (whole.total, whole.parts)
        assert receipt.turns == ()
        if whole.total.rows:
            assert "removed by age" in (receipt.detail_missing or "")
