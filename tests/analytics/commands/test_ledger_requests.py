"""Asking the ledger for an operation: an end before it is done, and a session that was left empty."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.events import PROJECT, message, reading
from tests.support.price_books import mini, no_price
from voicecosts import query
from voicecosts.analytics.commands import books, rerate
from voicecosts.analytics.commands import operations as operations_command
from voicecosts.analytics.commands.ledger_requests import operate
from voicecosts.analytics.errors import BadQuestion
from voicecosts.consumer.booking.operations import Adjust, Rerate, Revert
from voicecosts.consumer.errors import LedgerBusy, SnapshotFailed
from voicecosts.consumer.store import operations
from voicecosts.consumer.store.heartbeat import RunBy
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.requests import ONCE, Asked, Halt, Operate, Outcome, Watch

PRICES = """
[[cost]]
provider = "openai"
model = "gpt-4.1-mini"
unit = "million tokens"
price = "5"
"""


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger with three calls that have no price, of which a slice does one."""
    monkeypatch.delenv("COSTS_PRICES", raising=False)
    monkeypatch.setenv("COSTS_OUTBOX_DIR", str(tmp_path / "outbox"))
    monkeypatch.setattr(operations, "SLICE_SESSIONS", 1)
    monkeypatch.setattr(operations, "MOST_SESSIONS", 1)
    with Ledger.open(tmp_path, no_price()) as ledger:
        ledger.apply([message(n, reading(1, of=n, input_tokens=10**6)) for n in (1, 2, 3)])
    return tmp_path


def costs(data_dir: Path, *words: str) -> str:
    """Return what a command of `costs operations` says."""
    result = CliRunner().invoke(operations_command.app, [*words, "--data-dir", str(data_dir)])
    assert result.exception is None, result.exception
    return result.output


def test_ctrl_c_stops_an_operation_between_two_slices_until_somebody_has_it_go_on(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it did stays booked, every answer says so, and no ledger goes on by itself."""
    (data_dir / "prices.toml").write_text(PRICES)
    work = Ledger.work

    def too_soon(*_: object, **__: object) -> None:
        raise RuntimeError("Query interrupted")  # as DuckDB ends a statement

    with monkeypatch.context() as early:
        early.setattr(Ledger, "open", too_soon)
        with pytest.raises(KeyboardInterrupt):
            operate(Rerate(), reason="x", source="", data_dir=data_dir, command="`costs rerate`")
    assert capsys.readouterr().err == "nothing was changed\n"
    assert "There are no operations" in costs(data_dir, "list")

    def interrupted(self: Ledger) -> bool:
        more = work(self)
        if more:
            os.kill(os.getpid(), signal.SIGINT)
        return more

    monkeypatch.setattr(Ledger, "work", interrupted)
    with pytest.raises(KeyboardInterrupt):
        operate(Rerate(), reason="x", source="", data_dir=data_dir, command="`costs rerate`")
    assert "operation 1 is stopped: what it did stays booked" in capsys.readouterr().err
    monkeypatch.setattr(Ledger, "work", work)
    Ledger.open(data_dir, no_price(), embedded=True).close()
    report = query(data_dir=data_dir)
    assert report.total.cost == 5
    assert [it for it in report.warnings if "`costs operations resume 1 --data-dir " in it]
    assert report.completeness.whole is False
    assert "stopped" in costs(data_dir, "list")
    assert costs(data_dir, "resume", "1").startswith("operation 1 is done: cost +15.000000")
    report = query(data_dir=data_dir)
    assert report.total.cost == 15
    assert not [it for it in report.warnings if "operation 1" in it]


def test_what_is_done_is_said_where_no_snapshot_can_be_published(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever heard of an error alone would not know that it is done."""

    def full(*_: object, **__: object) -> None:
        raise SnapshotFailed(data_dir, "No space left on device")

    credit = Adjust(day=date(2026, 11, 20), amount=Decimal(-1), project=PROJECT)
    with monkeypatch.context() as patch:
        patch.setattr("voicecosts.consumer.store.ledger.Snapshots.publish", full)
        number = operate(credit, reason="x", source="", data_dir=data_dir, command="`costs adjust`")
    assert number == 1
    assert "! No snapshot could be published" in capsys.readouterr().err
    assert "operation 1 was recorded after this snapshot" in costs(data_dir, "list")


def test_a_ledger_that_runs_stops_an_operation_and_does_a_credit_between_two_slices(
    data_dir: Path,
) -> None:
    """What has to wait is told for what; what was stopped and is reverted does not go on."""
    with Ledger.open(data_dir, mini("5")) as ledger:
        ledger.operate(Rerate(), reason="x")
        assert ledger.work()
        credit = Adjust(day=date(2026, 11, 20), amount=Decimal(-1), project=PROJECT)
        assert ledger.answer(Operate(work=credit, reason="y")).operation == 2
        waits = ledger.answer(Operate(work=Rerate(), reason="z"))
        assert "operation 1 (rerate) is under way: 1 of 3 calls are done" in waits.problem
        assert "costs operations stop 1" in waits.problem
        assert ledger.answer(Watch(operation=1)).at == "1 of 3 calls"
        assert not ledger.answer(Halt(operation=1, goes_on=True)).problem
        for _ in range(2):  # an answer may be lost, and is asked for again
            stopped = ledger.answer(Halt(operation=1))
            assert (stopped.is_stopped, stopped.problem) == (True, "")
        assert not ledger.work()
        assert "has ended" in ledger.answer(Halt(operation=2)).problem
        assert ledger.answer(Operate(work=Revert(operation=1), reason="no")).operation == 3
        while ledger.work():
            pass
        assert "has ended" in ledger.answer(Halt(operation=1, goes_on=True)).problem
    assert query(data_dir=data_dir).total.cost == -1


def test_what_is_asked_again_because_no_answer_came_is_done_once(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A request keeps its id until it is answered; the same words after that are another request."""
    credit = Adjust(day=date(2026, 11, 20), amount=Decimal(-1), project=PROJECT)
    answer = Ledger.answer
    lost = []

    def unheard(self: Ledger, asked: Asked) -> Outcome:
        outcome = answer(self, asked)
        if isinstance(asked, Operate):
            lost.append(outcome.operation)
            raise LedgerBusy(data_dir, 1, took=True)
        return outcome

    def ask() -> int:
        return operate(credit, reason="x", source="", data_dir=data_dir, command="`costs adjust`")

    monkeypatch.setattr(Ledger, "answer", unheard)
    with pytest.raises(LedgerBusy, match="run the same command again"):
        ask()
    assert lost == [1, 1]  # it repeats once by itself
    monkeypatch.setattr(Ledger, "answer", answer)
    assert ask() == 1
    said = capsys.readouterr().err
    assert re.search(r"operation 1 did this already: it was asked \d+ s ago", said)
    assert "to do it once more, run the command again" in said
    assert ask() == 2
    assert not capsys.readouterr().err
    assert query(data_dir=data_dir).total.cost == -2
    # Whoever uses the same words much later means it anew, and is told of the first time.
    monkeypatch.setattr(Ledger, "answer", unheard)
    with pytest.raises(LedgerBusy):
        ask()
    [unanswered] = (data_dir / "ledger" / "requests").glob("*.asked")
    then = time.time() - ONCE.total_seconds() - 60
    os.utime(unanswered, (then, then))
    monkeypatch.setattr(Ledger, "answer", answer)
    assert ask() == 4
    said = capsys.readouterr().err
    assert "the same was asked 12 h ago, and its answer was lost. Operation 4 did it now" in said
    assert f"revert 4 --reason … --data-dir {data_dir}` undoes it" in said
    assert ask() == 5
    assert not capsys.readouterr().err


def test_a_price_above_the_ceiling_is_named_with_its_entry(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A re-rating that leaves meters as they are says how many, and why, also later."""
    monkeypatch.setenv("COSTS_MAX_READING", "4")
    (data_dir / "prices.toml").write_text(PRICES)
    why = "one of llm openai gpt-4.1-mini in call "
    words = ["--data-dir", str(data_dir)]
    shown = CliRunner().invoke(rerate.app, words).output
    assert f"! 3 meters would stay as they are: {why}" in shown
    assert "by prices.toml line 2 it costs 5.000000000 US dollars, above the limit of 4" in shown
    shown = CliRunner().invoke(rerate.app, [*words, "--format", "json"]).output
    assert json.loads(shown)["left"] == 3
    assert "by prices.toml line 2 it costs 5" in json.loads(shown)["left_why"]
    operate(Rerate(), reason="x", source="", data_dir=data_dir, command="`costs rerate`")
    said = capsys.readouterr().err
    assert "! 3 meters stay as they are: one of llm openai gpt-4.1-mini in call " in said
    assert "by prices.toml line 2 it costs 5.000000000 US dollars, above the limit of 4" in said
    assert "by prices.toml line 2 it costs 5" in costs(data_dir, "show", "1")


@pytest.mark.parametrize("session", ["", " "])
def test_no_session_is_voided_by_an_id_that_was_left_empty(tmp_path: Path, session: str) -> None:
    """A variable that is not set is the beginning of every id."""
    with Ledger.open(tmp_path, no_price()) as ledger:
        ledger.apply([message(1, reading(1, input_tokens=10**6))])
    words = ["void", session, "--reason", "x", "--data-dir", str(tmp_path)]
    result = CliRunner().invoke(books.app, words)
    assert isinstance(result.exception, BadQuestion)
    assert "is not empty" in str(result.exception)


def test_a_ledger_of_a_stream_that_a_command_has_open_says_so(tmp_path: Path) -> None:
    """Nobody reads the stream meanwhile: its broker has not been silent, and no ledger runs."""
    with Ledger.open(
        tmp_path, no_price(), has_source=True, run_by=RunBy("consume", ("nats://a:1",))
    ) as ledger:
        ledger.apply([message(1, reading(1, input_tokens=10**6))])
        ledger.heard(datetime.now(UTC) - timedelta(hours=1), 0)
    with Ledger.open(tmp_path, no_price(), embedded=True, has_source=True):
        found = query(data_dir=tmp_path).completeness
        said = " ".join(each.text for each in found.findings)
        assert "a command has the ledger open and works on its books" in said
        assert "start the ledger with `costs consume --servers nats://a:1" in said
        assert "the broker has not answered" not in said
        assert found.running is False
    after = query(data_dir=tmp_path).completeness
    assert "the ledger is not running" in " ".join(each.text for each in after.findings)
