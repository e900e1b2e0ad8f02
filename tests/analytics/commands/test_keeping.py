"""`costs retention` and `costs erase`: what is not kept."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.support.erasures import GONE, ids_of, traces
from tests.support.events import PROJECT, message, reading
from tests.support.oracle import rate
from voicecosts import query
from voicecosts.analytics.commands import erase, operations, retention
from voicecosts.analytics.errors import BadQuestion
from voicecosts.consumer.store import database
from voicecosts.consumer.store.ledger import Ledger

Run = Callable[..., Result]
APPS = {"erase": erase.app, "retention": retention.app, "operations": operations.app}


@pytest.fixture
def ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sessions of a tenant in a stopped ledger, which has another one too."""
    monkeypatch.delenv("COSTS_PRICES", raising=False)
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply(
            [message(1, reading(1, tenant=GONE)), message(2, reading(1, of=2, tenant="globex"))]
        )
        return ids_of(ledger._connection)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return what runs a command on the ledger of this test."""

    def ran(name: str, *arguments: str, answer: str = "") -> Result:
        words = ["--data-dir", str(tmp_path), *arguments]
        if name == "operations":
            words = [*arguments, "--data-dir", str(tmp_path)]
        return CliRunner().invoke(APPS[name], words, input=answer)

    return ran


class TestErase:
    def test_it_shows_what_there_is_asks_and_erases(
        self, run: Run, ids: list[str], tmp_path: Path
    ) -> None:
        """What it cannot reach is said before, and the record names nobody."""
        words = ("erase", "--tenant", GONE, "--reason", "ticket 7")
        refused = run(*words, answer="n\n")
        assert refused.exit_code == 1
        assert "1 call, 1 row of 1 day" in refused.output
        assert "not reached: messages in the stream" in refused.output
        assert query(data_dir=tmp_path).total.sessions == 2
        near = run("erase", "--tenant", "globecks", "--reason", "ticket 8", answer="n\n")
        assert "nothing in these books has that tenant (globex is one)" in near.output
        elsewhere = run("erase", "--tenant", GONE, "--project", "nowhere")
        assert (
            f"nothing of that tenant is in project nowhere: it is in {PROJECT}" in elsewhere.output
        )
        done = run(*words, answer="y\n")
        assert done.exception is None
        assert "it is erased, by operation 1" in done.output
        assert (
            f"refused until `costs operations revert 1 --reason … --data-dir {tmp_path}`"
            in done.output
        )
        assert traces(tmp_path, ids) == []
        assert query(data_dir=tmp_path).total.sessions == 1
        [record] = json.loads(run("operations", "list", "--format", "json").output)
        assert (record["kind"], record["sessions"], record["rows"]) == ("erase", 1, 1)
        assert (record["reason"], record["request"]) == ("ticket 7", {"kind": "erase"})
        back = run("operations", "revert", "1", "--reason", "they came back")
        assert "what was erased does not come back" in back.output

    def test_what_stands_in_its_way_is_said(
        self, run: Run, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Files that are not there, before it is asked; and of one that stopped, that it is not undone."""

        def full(*_: object) -> None:
            raise OSError("No space left on device")

        monkeypatch.setattr(database, "_copy_tables", full)
        with Ledger.open(tmp_path, rate) as ledger:
            ledger._connection.execute(
                "INSERT INTO sealed_files VALUES ('2026-11-01', 'sealed/usage/day=2026-11-01/1-2.parquet', 2, 1, 2, 9, '', 14, '2026-11-03')"
            )
            ledger._snapshots.changed = True
        result = run("erase", "--tenant", GONE, "--reason", "ticket 7", "--yes")
        assert "1 file of sealed days cannot be looked through" in result.output
        assert "is stopped: No space left on device" in str(result.exception)
        [said] = [it for it in query(data_dir=tmp_path).warnings if "not finished" in it]
        assert said.endswith("goes on with it, what it took out does not come back")
        assert ids

        stopped = run("operations", "stop", "1")
        assert "is an erasure, and stopped already: `costs operations resume 1` goes on" in str(
            stopped.exception
        )
        early = run("erase", "--tenant", "globex", "--reason", "ticket 8")
        assert "1 was stopped: first go on with it" in str(early.exception)
        assert "Erase it?" not in early.output

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_one_that_is_ended_says_what_was_done_and_what_goes_on_with_it(
        self,
        run: Run,
        ids: list[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        number: signal.Signals,
    ) -> None:
        """As a machine that is shut down ends it."""
        work = Ledger.work

        def ended(self: Ledger) -> bool:
            more = work(self)
            if more:
                os.kill(os.getpid(), number)
            return more

        words = ("erase", "--tenant", GONE, "--reason", "ticket 7", "--yes")
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "work", ended)
            with contextlib.suppress(KeyboardInterrupt):
                result = run(*words)
                assert result.exit_code in (128 + number, 1)
                assert (
                    "operation 1 is an erasure, and is not stopped: what it took out"
                    in result.output
                )
                assert "`costs operations resume 1`, or a ledger that runs" in result.output
        assert "operation 1 is done" in run("operations", "resume", "1").output
        assert traces(tmp_path, ids) == []
        [record] = json.loads(run("operations", "list", "--format", "json").output)
        assert record["state"] == "in force"

    def test_what_was_not_booked_is_not_called_erased(self, run: Run, ids: list[str]) -> None:
        """A name that is misspelled ends with 1, also where nobody is asked."""
        assert ids
        result = run("erase", "--tenant", "globecks", "--reason", "ticket 8", "--yes")
        assert result.exit_code == 1
        assert "nothing of it was booked" in result.output
        assert "it is erased" not in result.output

    def test_a_tenant_may_have_the_name_of_none(self, run: Run, tmp_path: Path) -> None:
        """It is written as in a condition of a query."""
        with Ledger.open(tmp_path, rate) as ledger:
            ledger.apply(
                [
                    message(1, reading(1, tenant="(none)")),
                    message(2, reading(1, of=2, tenant=None), number=2),
                ]
            )
        result = run("erase", "--tenant", "\\(none)", "--reason", "ticket 9", "--yes")
        assert "tenant \\(none) in every project: 1 call" in result.output
        assert [it.group["tenant"] for it in query(data_dir=tmp_path).rows] == [None]

    def test_a_ledger_that_runs_does_it_while_it_books(
        self, run: Run, ids: list[str], tmp_path: Path
    ) -> None:
        """It has another file then, and goes on with that one; the command waits for the end."""
        opened, done = Flag(), Flag()

        def serve() -> None:
            with Ledger.open(tmp_path, rate) as ledger:
                opened.set()
                while not done.wait(0.01):
                    ledger.answer_requests()
                    ledger.work()
                ledger.apply([message(3, reading(2, of=2, tenant="globex"), number=3)])

        thread = Thread(target=serve)
        thread.start()
        try:
            assert opened.wait(30)
            result = run("erase", "--tenant", GONE, "--reason", "ticket 7", "--yes")
        finally:
            done.set()
            thread.join(30)
        assert result.exception is None, result.output
        assert "it is erased, by operation 1" in result.output
        assert traces(tmp_path, ids) == []
        total = query(data_dir=tmp_path).total
        assert (total.sessions, total.rows) == (1, 2)

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (("--tenant", GONE), "--reason is needed"),
            (("--tenant", GONE, "--reason", f"{GONE} asked"), "names the tenant"),
            (("--tenant", "(none)", "--reason", "x"), "name nobody"),
            (("--tenant", "\udcff", "--reason", "x"), "UTF-8"),
        ],
    )
    def test_what_cannot_be_is_said(
        self, run: Run, ids: list[str], words: tuple[str, ...], says: str
    ) -> None:
        """Nothing was changed, and it says what to do."""
        assert ids
        with pytest.raises(BadQuestion, match=says):
            raise run("erase", *words).exception or AssertionError


class TestRetention:
    def test_a_rule_is_set_for_a_program(self, run: Run, ids: list[str]) -> None:
        """One object, with the operation; without --yes nobody can be asked."""
        assert ids
        with pytest.raises(BadQuestion, match="--yes"):
            raise run("retention", "13mo", "--json").exception or AssertionError
        done = json.loads(run("retention", "13mo", "--json", "--yes").output)
        assert (done["rule"], done["operation"], done["would_go"]["rows"]) == ("13mo", 1, 0)
        again = json.loads(run("retention", "13mo", "--json", "--yes").output)
        assert again["operation"] is None

    def test_it_shows_the_rule_and_what_would_go_and_sets_it(
        self, run: Run, ids: list[str], tmp_path: Path
    ) -> None:
        """By default everything is kept; a reverted rule is one no more."""
        assert ids
        shown = json.loads(run("retention", "--json").output)
        assert (shown["rule"], shown["would_go"]) == ("keep", None)
        assert (shown["kept"]["rows"], shown["removed"]["rows"]) == (2, 0)
        asked = run("retention", "13mo", answer="n\n")
        assert asked.exit_code == 1
        assert "keep -> 13mo" in asked.output
        assert "would go  nothing" in asked.output
        assert "operation 1" in run("retention", "13mo", "--yes").output
        assert json.loads(run("retention", "--json").output)["rule"] == "13mo"
        assert "already" in run("retention", "13mo", "--yes").output
        back = run("operations", "revert", "1", "--reason", "no")
        assert "what was removed does not come back" in back.output
        assert json.loads(run("retention", "--json").output)["rule"] == "keep"

    def test_ctrl_c_before_a_change_says_that_there_is_none(
        self, run: Run, ids: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also while it only reads; where nothing is to be changed, there is nothing to say."""
        assert ids

        def ended(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("voicecosts.analytics.answers.detail.days", ended)
        assert "nothing was changed" in run("retention", "13mo").output
        assert "nothing was changed" not in run("retention").output

    @pytest.mark.parametrize("rule", ["0d", "13", "d", "1y", "-3d", "forever"])
    def test_what_is_no_rule_is_said(self, run: Run, ids: list[str], rule: str) -> None:
        """With what is one."""
        assert ids
        with pytest.raises(BadQuestion, match="400d"):
            raise run("retention", "--", rule).exception or AssertionError
