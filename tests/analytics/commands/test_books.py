"""`costs rerate`, `operations`, `close`, `adjust` and `void`: a bookkeeper changes the books on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.support.events import PROJECT, message, reading, session_id
from tests.support.price_books import no_price
from voicecosts import query
from voicecosts.analytics.commands import books, operations, rerate
from voicecosts.analytics.errors import BadFilter, BadQuestion
from voicecosts.consumer.booking.operations import Close
from voicecosts.consumer.errors import InvalidPrices, OperationRefused
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.price_file import PriceFile

Run = Callable[..., Result]

MILLION = 1_000_000
PRICES = """
[[cost]]
provider = "openai"
model = "gpt-4.1-mini"
unit = "million tokens"
price = "5"
"""
WHOLE_CALL = """
[[billed]]
tenant = "acme"
unit = "minute"
price = "0.12"
"""
NOVEMBER = {"since": "2026-11-01", "until": "2026-12-01"}


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stopped ledger with calls of two tenants, of whose models nothing had a price; now one has."""
    monkeypatch.delenv("COSTS_PRICES", raising=False)
    monkeypatch.setenv("COSTS_OUTBOX_DIR", str(tmp_path / "outbox"))
    with Ledger.open(tmp_path, no_price()) as ledger:
        ledger.apply(
            [
                message(1, reading(1, input_tokens=3 * MILLION)),
                message(2, reading(1, of=2, tenant="globex", input_tokens=MILLION)),
            ]
        )
    (tmp_path / "prices.toml").write_text(PRICES)
    return tmp_path


@pytest.fixture
def run(data_dir: Path) -> Run:
    """Return what runs a command on the ledger of this test."""
    apps = {"rerate": rerate.app, "operations": operations.app}

    def ran(name: str, *arguments: str) -> Result:
        app = apps.get(name, books.app)
        words = [*([] if name in apps else [name]), *arguments, "--data-dir", str(data_dir)]
        return CliRunner().invoke(app, words)

    return ran


def cost(data_dir: Path, **asked: object) -> Decimal | None:
    """Return what everything cost."""
    return query(data_dir=data_dir, **asked).total.cost  # type: ignore[arg-type]


def only(result: Result) -> str:
    """Return the output of a command that went well."""
    assert result.exception is None, result.exception
    return result.output


class TestRerate:
    def test_alone_it_shows_the_difference_and_writes_nothing(
        self, run: Run, data_dir: Path
    ) -> None:
        """By tenant and by model, before and after."""
        found = json.loads(only(run("rerate", "--format", "json")))
        assert [
            (row["tenant"], row["cost_before"], row["cost_after"], row["difference"])
            for row in found["by_tenant"]
        ] == [
            ("acme", None, "15.000000000", "15.000000000"),
            ("globex", None, "5.000000000", "5.000000000"),
        ]
        [model] = found["by_model"]
        assert (model["provider"], model["model"], model["unpriced_before"]) == (
            "openai",
            "gpt-4.1-mini",
            2,
        )
        assert found["total"]["cost_after"] == "20.000000000"
        table = only(run("rerate"))
        assert "unpriced" in table
        assert "nothing was changed" in table
        assert "cost difference" in table
        (data_dir / "prices.toml").write_text(PRICES + WHOLE_CALL)
        shown = json.loads(only(run("rerate", "--format", "json")))
        assert shown["without_time"] == [{"tenant": "acme", "calls": 1}]
        sentence = "! not in what is billed: 1 call of acme: a price for the whole call is charged"
        assert sentence in only(run("rerate"))
        assert cost(data_dir) is None

    def test_applied_it_is_booked_as_one_operation(self, run: Run, data_dir: Path) -> None:
        """The dry run said what comes of it; a second one finds nothing to do."""
        said = only(run("rerate", "--unpriced", "--apply", "--reason", "prices came"))
        assert said.startswith(
            "operation 1 is done: cost +20.000000, list +1.600000 USD, 2 calls; "
        )
        assert "`costs operations show 1" in said
        assert cost(data_dir) == 20
        again = json.loads(only(run("rerate", "--format", "json")))
        assert again["total"]["difference"] == "0.000000000"
        none = ["--where", "tenant=acme", "--since", "2026-11-20"]
        said = only(run("rerate", *none, "--apply", "--reason", "x"))
        assert "is done, and nothing that was used meets its conditions" in said

    def test_a_name_that_nothing_has_is_an_error(self, run: Run, data_dir: Path) -> None:
        """A typing error is no operation that is done."""
        for more in ([], ["--apply", "--reason", "x"]):
            refused = run("rerate", "--where", "tenant=globx", *more)
            assert isinstance(refused.exception, BadQuestion)
            said = "nothing has the tenant 'globx': did you mean 'globex'?"
            assert str(refused.exception) == said
        assert json.loads(only(run("operations", "list", "--format", "json"))) == []

    def test_conditions_choose_what_is_priced(self, run: Run, data_dir: Path) -> None:
        """The same words as in a query; a period is of days."""
        only(run("rerate", "--where", "tenant=globex", "--apply", "--reason", "x"))
        assert cost(data_dir) == 5
        found = json.loads(only(run("rerate", "--until", "2026-11-18", "--format", "json")))
        assert found["total"]["meters"] == 0
        for words, said in (
            (["--since", "2026-11-18T10:00"], "a re-rating is of whole days"),
            (["--since", "5m"], "a re-rating is of whole days"),
            (["--since", "2026-11-18", "--until", "2026-11-17"], "is not before --until"),
        ):
            refused = run("rerate", *words)
            assert refused.exit_code
            assert said in str(refused.exception or refused.output)

    def test_what_a_price_for_the_call_bills_changes_for_all_of_its_meters_or_for_none(
        self, run: Run, data_dir: Path
    ) -> None:
        """A part of them would bill the call twice, or not at all; what is included then is zero."""
        with Ledger.open(data_dir, no_price()) as ledger:
            time = {"modality": "agent_session", "provider": "livekit", "model": "agent-session"}
            ledger.apply([message(3, reading(1, session_us=61 * MILLION, **time))])
        markup = '[[billed]]\ntenant = "acme"\nmarkup = "20 %"\n'
        (data_dir / "prices.toml").write_text(PRICES + markup)
        only(run("rerate", "--apply", "--reason", "x"))
        acme = {"where": ["tenant=acme"], "by": "provider"}
        before = [row.billed for row in query(data_dir=data_dir, **acme).rows]
        assert before[0] == 18
        (data_dir / "prices.toml").write_text(PRICES + WHOLE_CALL)
        for part in ("provider=livekit", "provider=openai"):
            preview = ["rerate", "--where", part]
            assert json.loads(only(run(*preview, "--format", "json")))["keep_billed"] == 1
            for words in (preview, [*preview, "--apply", "--reason", "x"]):
                assert "! what is billed of 1 call stays as it is" in only(run(*words))
            assert [row.billed for row in query(data_dir=data_dir, **acme).rows] == before
        only(run("rerate", "--where", "tenant=acme", "--apply", "--reason", "x"))
        found = {it.group["provider"]: it.billed for it in query(data_dir=data_dir, **acme).rows}
        assert found == {"openai": 0, "livekit": Decimal("0.122")}
        (data_dir / "prices.toml").write_text(PRICES + WHOLE_CALL.replace("0.12", "0.24"))
        only(run("rerate", "--where", "provider=livekit", "--apply", "--reason", "x"))
        assert query(data_dir=data_dir, **acme).total.billed == Decimal("0.244")

    def test_what_if_prices_tokens_as_those_of_another_model(
        self, run: Run, data_dir: Path
    ) -> None:
        """It is an estimate, it says so, and it cannot be applied."""
        other = "openai/gpt-4.1-mini=openai/gpt-4.1"
        found = json.loads(only(run("rerate", "--what-if", other, "--format", "json")))
        assert found["total"]["cost_after"] == "8.000000000"  # 4 million at 2 dollars
        assert found["estimated"]
        refused = run("rerate", "--what-if", other, "--apply", "--reason", "x")
        assert isinstance(refused.exception, BadQuestion)

        refused = run("rerate", "--what-if", "openai/gpt-4.1-mini=gpt-4.1").exception
        assert isinstance(refused, BadQuestion)
        assert "'gpt-4.1' lacks its provider or model" in str(refused)
        unseen = only(run("rerate", "--what-if", "x/y=openai/gpt-4.1"))
        assert "these conditions; `costs query --by provider,model` shows names" in unseen

    def test_a_model_without_a_price_saves_nothing(self, run: Run, data_dir: Path) -> None:
        """Nobody knows what it would have cost, so there is no difference, and the reason is said."""
        only(run("rerate", "--apply", "--reason", "prices came"))
        other = "openai/gpt-4.1-mini=openai/gpt-9"
        found = json.loads(only(run("rerate", "--what-if", other, "--format", "json")))
        everything = [found["total"], *found["by_tenant"], *found["by_model"]]
        assert {row["difference"] for row in everything} == {None}
        assert found["total"]["cost_after"] is None
        [why] = found["unpriced_reasons"]
        assert "gpt-9" in why["reason"]
        assert why["meters"] == 2
        shown = only(run("rerate", "--what-if", other))
        assert f"! 2 meters would be unpriced: {why['reason']}\n" in shown
        assert "unknown" in shown
        assert "-20" not in shown

    def test_what_cannot_be_shown_is_not_booked(self, run: Run, data_dir: Path) -> None:
        """A file with mistakes, or one that is gone: the ledger would take older prices."""
        only(run("rerate", "--unpriced", "--apply", "--reason", "prices came"))
        for broken in ("[[cost]]", None):
            path = data_dir / "prices.toml"
            path.unlink() if broken is None else path.write_text(broken)
            for words in ([], ["--apply", "--reason", "x"]):
                assert isinstance(run("rerate", *words).exception, InvalidPrices)
        assert "1 rerate" in only(run("operations"))
        assert "2 rerate" not in only(run("operations"))

    def test_a_reason_is_needed(self, run: Run) -> None:
        """Who looks at it later wants to know why."""
        assert isinstance(run("rerate", "--apply").exception, BadQuestion)
        assert isinstance(run("rerate", "--apply", "--reason", " ").exception, BadQuestion)
        assert isinstance(run("operations", "revert", "1").exception, BadQuestion)

    def test_csv_has_both_tables(self, run: Run) -> None:
        """Told apart by the first column."""
        lines = only(run("rerate", "--format", "csv")).splitlines()
        assert lines[0].startswith("by,tenant,modality,provider,model,list_before")
        assert [line.split(",")[0] for line in lines[1:]] == ["tenant", "tenant", "model"]


class TestOperations:
    def test_they_are_listed_with_their_state(self, run: Run, data_dir: Path) -> None:
        """What was done, why, and whether it is in force."""
        assert "There are no operations" in only(run("operations"))
        only(run("rerate", "--apply", "--reason", "prices came"))
        said = only(run("operations", "revert", "1", "--reason", "a mistake"))
        assert "is reverted, by operation 2: cost -20.000000, list -1.600000 USD, 2 calls" in said
        assert cost(data_dir) is None
        found = json.loads(only(run("operations", "list", "--format", "json")))
        assert [(it["kind"], it["state"], it["reason"], it["cost"]) for it in found] == [
            ("rerate", "reverted by 2", "prices came", "20.000000000"),
            ("revert", "in force", "a mistake", "-20.000000000"),
        ]
        assert "reverted by 2" in only(run("operations"))
        assert "2 revert of 1  in force" in only(run("operations"))
        for _ in range(2):
            only(run("rerate", "--apply", "--reason", "prices came"))
        said = only(run("operations", "revert", "3", "--reason", "done twice"))
        assert "by operation 5, and no amount has changed: other operations say the same" in said
        assert cost(data_dir) == 20

    def test_one_is_shown_by_tenant(self, run: Run) -> None:
        """What it booked of each."""
        only(run("rerate", "--apply", "--reason", "prices came"))
        shown = only(run("operations", "show", "1"))
        assert "globex: cost +5.000000" in shown
        found = json.loads(only(run("operations", "show", "1", "--json")))
        assert found["by_tenant"][0]["tenant"] == "acme"
        assert isinstance(run("operations", "show", "2").exception, BadQuestion)

    def test_a_ledger_that_runs_is_asked(
        self, run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It does the operation between two groups of messages, and the command waits for its end.

        By other prices than the command has, nothing is shown and nothing is booked.
        """
        other = data_dir / "other.toml"
        other.write_text(PRICES.replace('"5"', '"7"'))
        opened, done = Flag(), Flag()

        def serve() -> None:
            own = PriceFile(data_dir / "prices.toml")
            with Ledger.open(data_dir, rate_by(ListPrices(), own), own_prices=own) as ledger:
                opened.set()
                while not done.wait(0.01):
                    ledger.answer_requests()
                    ledger.work()

        thread = Thread(target=serve)
        thread.start()
        opened.wait(10)
        try:
            assert "operation 1 is done" in only(run("rerate", "--apply", "--reason", "x"))
            monkeypatch.setattr(rerate, "_READ_S", 0.0)
            monkeypatch.setenv("COSTS_PRICES", str(other))
            for words in ([], ["--apply", "--reason", "x"]):
                refused = str(run("rerate", *words).exception)
                where = f"they are in {data_dir / 'prices.toml'}; leave out COSTS_PRICES"
                assert refused.endswith(f"uses other prices than {other}: {where}")
            missing = run("operations", "revert", "7", "--reason", "x")
            assert isinstance(missing.exception, OperationRefused)
        finally:
            done.set()
            thread.join()


class TestBooks:
    def test_a_credit_is_in_the_sums_of_its_day(self, run: Run, data_dir: Path) -> None:
        """And counts no session."""
        words = ["--amount", "-12.50", "--project", PROJECT, "--day", "2026-11-20"]
        said = only(run("adjust", *words, "--tenant", "acme", "--reason", "credit note 7"))
        assert said == "-12.50 USD (cost) on 2026-11-20, by operation 1\n"
        [row] = query("tenant", where="day=2026-11-20", data_dir=data_dir).rows
        assert (row.group["tenant"], row.cost, row.sessions) == ("acme", Decimal("-12.5"), 0)
        assert cost(data_dir, **NOVEMBER) == Decimal("-12.5")
        assert cost(data_dir, since="2026-11-20T00:00:01") == 0

    def test_a_credit_to_a_tenant_is_in_the_list(self, run: Run, data_dir: Path) -> None:
        """It moves no cost, and is not shown as nothing."""
        words = ["--amount", "-0.5", "--layer", "billed", "--project", PROJECT, "--tenant", "acme"]
        only(run("adjust", *words, "--day", "2026-11-20", "--reason", "credit"))
        shown = only(run("operations", "list"))
        assert "billed USD" in shown
        assert "-0.5" in shown
        assert "acme: billed -0.5" in only(run("operations", "show", "1"))
        asked = query(by="model", where="model=", data_dir=data_dir)
        assert [(row.cost, row.billed, row.unpriced_rows) for row in asked.rows] == [
            (0, Decimal("-0.5"), 0)
        ]

    @pytest.mark.parametrize("columns", [60, 80])
    def test_tables_fit_a_terminal(
        self, run: Run, columns: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whole columns are left out, the least of them first, and are named; no number is cut."""
        only(run("rerate", "--apply", "--reason", "a letter of November explains it at length"))
        monkeypatch.setattr("voicecosts.analytics.commands.output.width", lambda: columns)
        for words in (("operations", "list"), ("operations", "show", "1"), ("rerate",)):
            shown = only(run(*words))
            assert max(map(len, shown.splitlines())) <= columns, shown
        assert "20.000000" in only(run("operations", "list"))
        assert "difference" not in only(run("rerate"))
        assert "no amount would change" in " ".join(only(run("rerate")).split())
        only(run("operations", "revert", "1", "--reason", "x"))
        assert "difference" in only(run("rerate"))

    def test_a_name_that_nothing_else_has_is_said(self, run: Run, data_dir: Path) -> None:
        """A misspelled tenant would hold money where nobody looks."""
        words = ["--amount", "1", "--project", "pord", "--tenant", "Acme", "--reason", "x"]
        said = only(run("adjust", *words, "--day", "2999-01-01")).splitlines()[1:]
        end = f"if it is wrong, `costs operations revert 1 --reason … --data-dir {data_dir}`"
        assert said == [
            f"! nothing else in these books has the project pord (prod is one): {end}",
            f"! nothing else in these books has the tenant Acme (acme is one): {end}",
            f"! 2999-01-01 is still to come: {end}",
        ]
        words_of_a_model = ["--model", "gpt4.1-mini", "--modality", "LLM"]
        said = only(run("adjust", *words, "--day", "2026-11-20", *words_of_a_model))
        assert "has the model gpt4.1-mini (gpt-4.1-mini is one): if it is" in said
        assert "has the modality LLM (llm is one): if it is" in said
        early = only(run("adjust", *words, "--day", "2020-01-31"))
        assert "2020-01-31 is before everything else in these books, which begin on 2026-" in early
        blank = run("adjust", *words, "--project", " ", "--day", "2026-11-20")
        assert "--project is empty" in str(blank.exception)
        nobody = run("adjust", *words[:4], "--tenant", "(none)", "--day", "2026-11-20")
        assert "for no tenant leave --tenant out" in str(nobody.exception)

    @pytest.mark.parametrize(
        "words",
        [
            ["--amount", "x", "--day", "2026-11-20"],
            ["--amount", "1"],
            ["--amount", "1", "--day", "2026-11-20", "--month", "2026-11"],
            ["--amount", "1", "--month", "November"],
            ["--amount", "1", "--day", "20.11."],
        ],
    )
    def test_what_cannot_be_read_is_a_sentence(self, run: Run, words: list[str]) -> None:
        """Before any ledger is opened."""
        refused = run("adjust", *words, "--project", PROJECT, "--reason", "x")
        assert isinstance(refused.exception, BadQuestion)

    def test_a_session_is_voided_by_the_beginning_of_its_id(self, run: Run, data_dir: Path) -> None:
        """It is in no sum and in no count."""
        wanted = session_id(1)
        assert "several sessions" in str(run("void", wanted[:8], "--reason", "x").exception)
        assert "an id is not empty" in str(run("void", " ", "--reason", "x").exception)
        assert "no session" in str(run("void", "ffff", "--reason", "x").exception)
        last = str(run("void", "last", "--reason", "x").exception)
        assert last.endswith("`costs calls` and `costs call last` show the id")
        assert "is voided, by operation 1" in only(run("void", wanted, "--reason", "a test call"))
        report = query(data_dir=data_dir)
        assert (report.total.sessions, report.total.input_tokens) == (1, MILLION)

    @pytest.mark.parametrize("amount", ["1_000", "٣", " 5", "1e3", "nan", "Infinity", "5,0", "--1"])
    def test_an_amount_is_written_in_digits(self, run: Run, amount: str) -> None:
        """As in prices.toml: what is read otherwise than it looks is refused."""
        given = ("--project", "prod", "--day", "2026-11-20", "--reason", "credit")
        assert isinstance(run("adjust", "--amount", amount, *given).exception, BadQuestion)

    def test_a_month_may_be_named_as_in_a_statement(self, run: Run) -> None:
        """This one and the last one; and what is wrong with the amount is told before what is missing."""
        this = datetime.now(UTC).date().replace(day=1)
        of_acme = ["--amount", "1", "--project", PROJECT, "--tenant", "acme", "--reason", "x"]
        assert f" on {this}, by operation 1" in only(
            run("adjust", *of_acme, "--month", "this-month")
        )
        last = (this - timedelta(days=1)).replace(day=1)
        assert f" on {last}, by operation 2" in only(
            run("adjust", *of_acme, "--month", "last-month")
        )
        refused = run("adjust", "--amount", "12,50", "--project", PROJECT)
        assert "'12,50' is no amount" in str(refused.exception)

    def test_a_month_that_no_calendar_follows_is_refused(self, run: Run) -> None:
        """It has not begun, like every month to come."""
        assert isinstance(run("close", "9999-12", "--yes").exception, OperationRefused)

    @pytest.mark.parametrize(
        ("words", "slow"),
        [
            (("close", "2026-10"), "voicecosts.analytics.commands.asking.query"),
            (
                ("adjust", "--amount", "1", "--project", "prod", "--day", "2026-10-01"),
                "voicecosts.analytics.answers.operations.known",
            ),
            (("void", "019"), "voicecosts.analytics.answers.operations.sessions"),
        ],
    )
    def test_ctrl_c_before_a_change_says_that_there_is_none(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], slow: str
    ) -> None:
        """Also while it only reads: whoever ends it need not look."""

        def ended(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(slow, ended)
        assert "nothing was changed" in run(*words, "--reason", "x").output

    def test_a_month_is_closed_when_it_was_looked_at(self, run: Run, data_dir: Path) -> None:
        """What is not whole in it is said before; nobody is asked about one that has not ended."""
        early = run("close", f"{datetime.now(UTC):%Y-%m}")
        assert "has not ended" in str(early.exception)
        assert "Close" not in early.output
        asked = CliRunner().invoke(
            books.app, ["close", "2026-10", "--data-dir", str(data_dir)], input="n\n"
        )
        assert "nothing was changed" in asked.output
        assert "2026-10 is closed, by operation 1" in only(run("close", "2026-10", "--yes"))
        again = run("close", "2026-10")
        assert "2026-10 is closed already" in str(again.exception)
        assert not again.output
        assert isinstance(run("close", "2999-01", "--yes").exception, OperationRefused)

    def test_an_answer_says_how_much_corrects_a_closed_month(
        self, run: Run, data_dir: Path
    ) -> None:
        """It is dated in an open month; the figures of the closed one stay."""
        december = Clock(now=lambda: datetime(2026, 12, 5, tzinfo=UTC))
        with Ledger.open(data_dir, no_price(), clock=december) as ledger:
            ledger.operate(Close(month=date(2026, 11, 1)), reason="ended")
        before = query("day", data_dir=data_dir, **NOVEMBER)
        would = json.loads(only(run("rerate", "--format", "json")))
        [corrected] = would["corrected"]
        assert (corrected["month"], corrected["cost"]) == ("2026-11", would["total"]["difference"])
        assert Decimal(corrected["cost"]) != 0
        said = "which is closed and stays as it is: it would be dated 20"
        assert said in " ".join(only(run("rerate")).split())
        words = ["--amount", "7", "--project", PROJECT, "--month", "2026-11"]
        only(run("adjust", *words, "--reason", "invoice 9"))
        after = query("day", data_dir=data_dir, **NOVEMBER)
        assert (after.rows, after.total) == (before.rows, before.total)
        note = (
            "not in it, and dated later: 7.000000 USD in 1 row corrects 2026-11, which is closed; "
        )
        asked = f"`costs query --where corrects=2026-11 --data-dir {data_dir}` has it"
        assert after.notes == (*before.notes, note + asked)
        for asks in ({"where": "corrects=2026-11"}, {"where": {"corrects": date(2026, 11, 1)}}):
            [row] = query("corrects", data_dir=data_dir, **asks).rows
            assert (row.group, row.cost) == ({"corrects": "2026-11"}, 7)
        alone = query("day", data_dir=data_dir, where="corrects=(none)", **NOVEMBER)
        assert alone.rows == before.rows
        with pytest.raises(BadFilter, match="needs a month such as 2026-11"):
            query(data_dir=data_dir, where="corrects=november")
        report = query("day", data_dir=data_dir)
        assert report.total.cost == 7
        again = only(run("adjust", *words, "--reason", "invoice 9"))
        day = max(str(row.group["day"]) for row in query("day", data_dir=data_dir).rows)
        where = f"on {day}, correcting 2026-11, which is closed"
        assert again == f"+7 USD (cost) {where}, by operation 3\n"
        only(run("operations", "revert", "3", "--reason", "twice"))
        assert report.notes[-1] == "7.000000 USD of it in 1 row corrects 2026-11, which is closed"
        booked = " ".join(only(run("rerate", "--apply", "--reason", "it came late")).split())
        said = f"corrects 2026-11, which is closed and stays as it is: it is dated {day}"
        assert said in booked
        assert said in " ".join(only(run("operations", "show", "5")).split())
        [part] = json.loads(only(run("operations", "show", "5", "--json")))["corrects"]
        assert part == {"month": "2026-11", **{k: v for k, v in corrected.items() if k != "month"}}
        months = {row.group["month"]: row.cost for row in query("month", data_dir=data_dir).rows}
        assert months == {"2026-11": None, day[:7]: 7 + Decimal(corrected["cost"])}
        assert query(data_dir=data_dir, where=f"month={day[:7]}").total.cost == months[day[:7]]
