"""Money in layers: what is kept of the prices that rated a row, and that a meter keeps its own."""

from __future__ import annotations

import logging
import random
import signal
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
import pytest

from tests.support.events import ended, final, message, reading, started
from tests.support.older import before_money
from tests.support.processes import ROOT
from voicecosts import query
from voicecosts.consumer.booking.months import Months
from voicecosts.consumer.booking.operations import Adjust, Close
from voicecosts.consumer.pricing import ListPrices, Terms, rate_by, rated_by
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event, Meter, Quantities

LISTED: Final = ListPrices()

BOOK: Final = """
[[cost]]
provider = "openai"
discount = "15 %"

[[cost]]
provider = "homebrew"
model = "llama"
unit = "million tokens"
price = "0.10"

[[billed]]
tenant = "globex"
markup = "20 %"
at_least = "0.01"
"""


def ask(folder: Path, query: str) -> list[tuple[Any, ...]]:
    """Return what a reader of the newest snapshot gets."""
    with duckdb.connect(
        folder / "costs.duckdb", read_only=True, config={"threads": 1}
    ) as connection:
        return connection.execute(query).fetchall()


def book(folder: Path, *events: Event, prices: str = BOOK, cached: int = 10) -> None:
    """Book each event in a message of its own, by a ledger with these prices."""
    place = book.place  # type: ignore[attr-defined]  # the next place in the stream
    with Ledger.open(
        folder, rate_by(LISTED, read(prices)), cached_sessions=cached, cached_bytes=0
    ) as ledger:
        for event in events:
            place += 1
            ledger.apply([message(place, event)])
    book.place = place  # type: ignore[attr-defined]


book.place = 0  # type: ignore[attr-defined]

LAYERS: Final = "SELECT sum(list_cost), sum(cost), sum(billed) FROM usage"


def money(*amounts: str | None) -> list[tuple[Decimal | None, ...]]:
    """Return amounts as a reader gets them, in one row."""
    return [tuple(None if each is None else Decimal(each) for each in amounts)]


class TestLayers:
    """Each layer is a function of a meter's totals, and is booked by difference."""

    def test_list_price_cost_and_billed_stand_beside_each_other(self, tmp_path: Path) -> None:
        """A million tokens at 0.40 by the list, 15 % less to pay, 20 % more than that to bill."""
        book(tmp_path, started(tenant="globex"), reading(1, tenant="globex", input_tokens=10**6))
        assert ask(tmp_path, LAYERS) == money("0.4", "0.34", "0.408")

    def test_without_a_rule_nothing_is_billed_and_the_list_price_is_paid(
        self, tmp_path: Path
    ) -> None:
        """What is billed without a rule is not known: it is not zero."""
        book(tmp_path, started(), reading(1, input_tokens=10**6), prices="")
        assert ask(tmp_path, LAYERS) == money("0.4", "0.4", None)

    def test_what_a_rule_bills_in_part_is_said(self, tmp_path: Path) -> None:
        """Text has a price and speech has none: what is billed is not all, and every answer says so."""
        rule = (
            '[[billed]]\nprovider = "openai"\nmodel = "gpt-realtime"\nunit = "million tokens"\n'
            'price = { input = "5", output = "20" }\n'
        )
        spoken = {
            "modality": "realtime",
            "model": "gpt-realtime",
            "input_tokens": 2 * 10**6,
            "text_input_tokens": 10**6,
            "audio_input_tokens": 10**6,
        }
        book(tmp_path, started(), reading(1, **spoken), prices=rule)
        assert ask(tmp_path, "SELECT sum(billed) FROM usage") == money("5")
        report = query(data_dir=tmp_path)
        assert report.total.billed == 5
        [finding] = [it for it in report.warnings if "billed" in it]
        assert "openai/gpt-realtime (realtime)" in finding
        assert "has no price for audio_input: add it" in finding
        assert report.completeness.whole is False

    def test_a_model_without_a_list_price_has_the_operators_own(self, tmp_path: Path) -> None:
        """Its list cost is NULL, and nothing of it is unpriced."""
        local = {"provider": "homebrew", "model": "llama"}
        book(tmp_path, started(), reading(1, input_tokens=10**6, requests=2, **local))
        assert ask(tmp_path, LAYERS) == money(None, "0.1", None)
        assert ask(tmp_path, "SELECT count(*) FROM unpriced") == [(0,)]
        assert ask(tmp_path, "SELECT list_cost, cost, billed FROM sessions") == money(
            None, "0.1", None
        )

    @pytest.mark.parametrize("seed", range(4))
    def test_no_layer_depends_on_how_readings_were_split_repeated_or_ordered(
        self, tmp_path: Path, seed: int
    ) -> None:
        """Round-ups, minimums and shares are of the totals: any deliveries of them sum up alike."""
        chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
        whose = {"tenant": "globex", "modality": "stt", "provider": "deepgram", "model": "nova-3"}
        prices = (
            BOOK
            + '[[cost]]\nprovider = "deepgram"\nprice = "0.006"\nunit = "minute"\n'
            + 'minimum = "10 s"\nincrement = "60 s"\n'
        )
        steps = sorted(chance.sample(range(1, 200_000_000), 12))
        readings = [reading(n, audio_us=step, **whose) for n, step in enumerate(steps, 1)]
        last = ended(
            13,
            final(audio_us=steps[-1], **{k: v for k, v in whose.items() if k != "tenant"}),
            tenant="globex",
        )
        events = [started(tenant="globex"), *chance.choices(readings, k=18), last]
        chance.shuffle(events)
        book(tmp_path, *events, prices=prices, cached=chance.choice([0, 10]))
        minutes = -(-steps[-1] // 60_000_000)
        cost = Decimal("0.006") * minutes
        [(_, paid, billed)] = ask(tmp_path, LAYERS)
        assert (paid, billed) == (cost, max(cost * Decimal("1.2"), Decimal("0.01")))

    def test_only_what_it_costs_may_be_too_much_to_be_believed(self, tmp_path: Path) -> None:
        """Neither a list price that nobody pays nor a mark-up makes usage impossible."""
        prices = (
            '[[cost]]\nprovider = "openai"\nunit = "million tokens"\nprice = "6000"\n'
            '[[billed]]\nmarkup = "100 %"\n'
        )
        book(tmp_path, started(), reading(1, input_tokens=10**6), prices=prices)
        assert ask(tmp_path, LAYERS) == money("0.4", "6000", "12000")


class TestKept:
    """What rated a row is kept, and a meter that is priced keeps its prices for its whole life."""

    def test_a_price_that_changes_in_the_middle_of_a_call_moves_nothing(
        self, tmp_path: Path
    ) -> None:
        """Whoever edits the file, upgrades the list or loses a price: the next call has it."""
        book(tmp_path, started(), reading(1, input_tokens=10**6))
        book(
            tmp_path,
            reading(2, input_tokens=2 * 10**6),
            prices='[[cost]]\nprovider = "openai"\ndiscount = "50 %"\n',
            cached=0,
        )
        assert ask(tmp_path, LAYERS) == money("0.8", "0.68", None)

    @pytest.mark.parametrize("cached", [0, 10])
    @pytest.mark.parametrize("after", ["", '[[billed]]\nunit = "minute"\nprice = "0.50"\n'])
    def test_a_meter_that_is_only_billed_keeps_what_it_is_billed_by(
        self, tmp_path: Path, after: str, cached: int
    ) -> None:
        """Minutes that cost nobody knows what are billed by the rule of the call's beginning."""
        rule = '[[billed]]\nunit = "minute"\nprice = "0.12"\nincrement = "60 s"\n'
        minutes = {"modality": "agent_session", "provider": "livekit", "model": "agent-session"}
        book(tmp_path, started(), reading(1, session_us=600_000_000, **minutes), prices=rule)
        later = reading(2, session_us=601_000_000, **minutes)
        book(tmp_path, later, prices=after, cached=cached)
        assert ask(tmp_path, LAYERS) == money(None, None, "1.32")
        cost = '[[cost]]\nprovider = "livekit"\nunit = "minute"\nprice = "0.01"\n'
        book(tmp_path, reading(3, session_us=660_000_000, **minutes), prices=after + cost)
        assert ask(tmp_path, LAYERS) == money(None, "0.11", "1.32")

    def test_a_meter_without_a_price_gets_the_one_that_comes(self, tmp_path: Path) -> None:
        """Until it is priced once, each reading looks again."""
        local = {"provider": "homebrew", "model": "llama"}
        book(tmp_path, started(), reading(1, input_tokens=10**6, **local), prices="")
        known = "SELECT cost, terms->>'$.listed', terms->>'$.billed' FROM usage JOIN prices_used USING (price_id)"
        assert ask(tmp_path, known) == [(None, None, None)]
        book(tmp_path, reading(2, input_tokens=2 * 10**6, **local))
        assert ask(tmp_path, LAYERS) == money(None, "0.2", None)

    def test_equal_prices_are_kept_once_and_rate_the_row_again(self, tmp_path: Path) -> None:
        """Across restarts too; the row points to them, and they give what is booked."""
        book(tmp_path, started(), reading(1, input_tokens=10**6))
        book(tmp_path, started(of=2), reading(1, of=2, input_tokens=777))
        rows = ask(
            tmp_path,
            "SELECT session_id::VARCHAR, input_tokens, cost, terms FROM usage JOIN prices_used "
            "USING (price_id) ORDER BY ALL",
        )
        assert len(rows) == 2
        assert ask(tmp_path, "SELECT price_id FROM prices_used") == [(1,)]
        for session, tokens, cost, text in rows:
            terms = msgspec.json.decode(text, type=Terms)
            meter = Meter(session, "Greeter", "llm", "openai", "gpt-4.1-mini", False)  # noqa: FBT003
            assert rated_by(terms, meter, Quantities(input_tokens=tokens)).cost == cost


class TestLabels:
    """A price may be for a label, and the labels come with the session's start."""

    WINTER: Final = (
        BOOK + '[[cost]]\nprovider = "openai"\nlabel = { campaign = "winter" }\ndiscount = "50 %"\n'
    )

    @pytest.mark.parametrize("cached", [0, 10])
    @pytest.mark.parametrize("late", [False, True])
    def test_a_start_that_comes_late_prices_what_came_before_it(
        self,
        tmp_path: Path,
        late: bool,  # noqa: FBT001 - of pytest
        cached: int,
    ) -> None:
        """Money does not depend on which event arrived first."""
        start = started(labels={"campaign": "winter"})
        first = reading(1, input_tokens=10**6)
        events = [first, start] if late else [start, first]
        book(
            tmp_path, *events, reading(2, input_tokens=3 * 10**6), prices=self.WINTER, cached=cached
        )
        assert ask(tmp_path, LAYERS) == money("1.2", "0.6", None)

    def test_a_start_that_comes_late_prices_no_meter_that_moved_nothing(
        self, tmp_path: Path
    ) -> None:
        """It has no row, and gets none: a ledger that was opened again meanwhile does not know it."""
        start = started(labels={"campaign": "winter"})
        book(tmp_path, reading(1, input_tokens=0), start, prices=self.WINTER)
        assert ask(tmp_path, "SELECT count(*) FROM usage") == [(0,)]

    @pytest.mark.parametrize("late", [False, True])
    def test_labels_that_no_price_names_move_nothing(
        self,
        tmp_path: Path,
        late: bool,  # noqa: FBT001 - of pytest
    ) -> None:
        """A file that was edited meanwhile is not looked up for them."""
        start, first = started(labels={"note": "x"}), reading(1, input_tokens=10**6)
        events = [first, start] if late else [start, first]
        book(tmp_path, events[0])
        book(tmp_path, events[1], prices='[[cost]]\nprovider = "openai"\ndiscount = "50 %"\n')
        paid = "0.34" if late else "0.2"  # each at the price of its first usage
        assert ask(tmp_path, "SELECT sum(cost) FROM usage") == money(paid)

    def test_a_price_above_the_ceiling_is_not_booked_for_labels_that_come_late(
        self, tmp_path: Path
    ) -> None:
        """The meter stays as it is, and its session is short."""
        prices = (
            BOOK + '[[cost]]\nprovider = "openai"\nmodel = "gpt-4.1-mini"\n'
            'label = { campaign = "winter" }\nunit = "million tokens"\nprice = "50000"\n'
        )
        start = started(labels={"campaign": "winter"})
        end = ended(2, final(input_tokens=10**6))
        book(tmp_path, reading(1, input_tokens=10**6), start, end, prices=prices)
        assert ask(tmp_path, "SELECT sum(cost) FROM usage") == money("0.34")
        assert ask(tmp_path, "SELECT state, cause FROM completeness") == [
            ("short", "above_ceiling")
        ]


class TestClosedMonths:
    """A closed month takes no row: what comes late is dated in an open one, and names the month."""

    def test_the_day_of_a_row(self) -> None:
        """Today's, or the first day of the next month that is open."""
        october, november = date(2026, 10, 1), date(2026, 11, 1)
        months = Months(frozenset({october}), date(2026, 11, 26))
        assert months.dated(date(2026, 11, 3)) == (None, None)
        assert months.dated(date(2026, 10, 31)) == (date(2026, 11, 26), october)
        both = Months(frozenset({october, november}), date(2026, 11, 26))
        assert both.dated(date(2026, 10, 31)) == (date(2026, 12, 1), october)
        december = Months(frozenset({date(2026, 12, 1)}), date(2026, 12, 31))
        assert december.dated(date(2026, 12, 31)) == (date(2027, 1, 1), date(2026, 12, 1))

    def test_no_figure_of_a_closed_month_changes(self, tmp_path: Path) -> None:
        """Neither its money nor its calls: a later reading, and a call that was never heard of."""
        book(tmp_path, started(), reading(1, input_tokens=10**6))
        month = ask(tmp_path, "SELECT date_trunc('month', day)::DATE FROM usage")[0][0]
        with Ledger.open(tmp_path, rate_by(LISTED)) as ledger:
            ledger._connection.execute("INSERT INTO month_closings VALUES (?, 1)", [month])
        usage = (
            "SELECT day, sum(cost), count(DISTINCT session_id) FROM usage WHERE day < '2026-12-01' "
            "GROUP BY day"
        )
        figures = (usage, "SELECT count(*) FROM sessions WHERE day < '2026-12-01'")
        before = [ask(tmp_path, query) for query in figures]
        book(tmp_path, reading(2, input_tokens=3 * 10**6), reading(1, of=2, input_tokens=10**6))
        assert [ask(tmp_path, query) for query in figures] == before
        assert ask(
            tmp_path,
            "SELECT sum(cost), min(corrects) FROM usage WHERE corrects IS NOT NULL",
        ) == [(Decimal("1.02"), month)]


def test_a_period_holds_the_corrections_that_are_dated_in_it(tmp_path: Path) -> None:
    """A closed month stays what it was, the periods add up, and an adjustment is no call."""
    book(tmp_path, started(), reading(1, input_tokens=10**6))
    december = datetime(2026, 12, 3, tzinfo=UTC)
    with Ledger.open(tmp_path, rate_by(LISTED), clock=Clock(now=lambda: december)) as ledger:
        ledger.operate(Close(month=date(2026, 11, 1)), reason="month end")
        adjusted = Adjust(
            day=date(2026, 11, 30), amount=Decimal("-0.01"), layer="cost", project="prod"
        )
        ledger.operate(adjusted, reason="credit", source="invoice 1")
    book(tmp_path, reading(2, input_tokens=3 * 10**6), reading(1, of=2, input_tokens=10**6))
    november = query(data_dir=tmp_path, since="2026-11-01", until="2026-12-01").total
    later = query(data_dir=tmp_path, since="2026-12-01").total
    everything = query(data_dir=tmp_path).total
    assert (november.cost, november.sessions) == (Decimal("0.34"), 1)
    assert later.cost == Decimal("0.68") + Decimal("0.34") - Decimal("0.01")
    assert everything.cost == november.cost + later.cost
    assert everything.sessions == 2


def test_a_ledger_of_before_has_the_cost_as_list_price(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was booked until now was the published price; no price of it was kept. Each step is told."""
    book(tmp_path, started(), reading(1, input_tokens=10**6), prices="")
    path = tmp_path / "ledger" / "ledger.duckdb"
    with duckdb.connect(path) as connection:
        before_money(connection)
    with caplog.at_level(logging.INFO, logger="voicecosts.consumer.store.database"):
        book(tmp_path, reading(2, input_tokens=2 * 10**6), prices="")
    steps = [
        f"{path} is brought to version {version}" for version in sql.migrations() if version > 7
    ]
    assert [line.partition(" (")[0] for line in caplog.messages] == steps
    assert ask(tmp_path, LAYERS) == money("0.8", "0.8", None)
    assert (
        max(sql.migrations()) == ask(tmp_path, "SELECT max(version) FROM schema_migrations")[0][0]
    )


KILLED: Final = """
import os, signal, sys
from pathlib import Path
from voicecosts.consumer.store import database
from voicecosts.consumer.store.layout import Layout

apply, connect, done = database._apply, database._connect, []

class Deadly:
    def __init__(self, connection):
        self.connection = connection

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def execute(self, statement, *rest):
        if statement == "CHECKPOINT" and int(sys.argv[2]) in done:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.connection.execute(statement, *rest)

def deadly(connection, version, *rest):
    apply(connection, version, *rest)
    done.append(version)
    if version == int(sys.argv[2]) and sys.argv[3] == "in it":
        os.kill(os.getpid(), signal.SIGKILL)

database._connect = lambda path: Deadly(connect(path))
database._apply = deadly
database.open_database(Layout(Path(sys.argv[1])), 0)
"""


@pytest.mark.faults
@pytest.mark.parametrize("moment", ["in it", "before its checkpoint"])
@pytest.mark.parametrize("version", [8, 11, max(sql.migrations())])
def test_an_upgrade_that_is_killed_goes_on_with_the_step_that_it_was_in(
    tmp_path: Path, version: int, moment: str
) -> None:
    """The steps before it are done for good, and it is where it was committed: DuckDB reads its log again."""
    book(tmp_path, started(), reading(1, input_tokens=10**6), prices="")
    path = tmp_path / "ledger" / "ledger.duckdb"
    with duckdb.connect(path) as connection:
        before_money(connection)
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(version), moment]
    assert subprocess.run(command, check=False, cwd=ROOT).returncode == -signal.SIGKILL
    with duckdb.connect(path) as connection:
        done = connection.execute("SELECT max(version) FROM schema_migrations").fetchall()
    assert done == [(version - (moment == "in it"),)]
    book(tmp_path, reading(2, input_tokens=2 * 10**6), prices="")
    assert ask(tmp_path, LAYERS) == money("0.8", "0.8", None)
