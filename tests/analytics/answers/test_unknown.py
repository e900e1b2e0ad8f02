"""What nobody knows is NULL and not zero, in every answer and layer, by the state of the meters alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest

from tests.support.events import PROJECT, message, reading, session_id, started
from tests.support.long_forms import later
from tests.support.older import before_counting
from tests.support.price_books import MODEL, Figures, no_price
from voicecosts import connect, query
from voicecosts.analytics.answers import audit
from voicecosts.analytics.commands.price_check import answer as check
from voicecosts.consumer.booking.operations import Adjust, Close, Layer, Rerate, Revert, Void
from voicecosts.consumer.pricing import Rate, rate_by
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.pricing.terms import Finder
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger

MILLION: Final = 1_000_000
DAY: Final = date(2026, 11, 18)
NOBODY_KNOWS: Final = (None, None, None)

BILLED: Final = '[[billed]]\nprovider = "openai"\nunit = "million tokens"\nprice = "{}"\n'
LABELLED: Final = """
[[cost]]
tenant = "acme"
provider = "openai"
unit = "million tokens"
price = "3"

[[cost]]
label = { campaign = "winter" }
provider = "openai"
discount = "10 %"

[[billed]]
tenant = "acme"
provider = "openai"
unit = "million tokens"
price = "5"

[[billed]]
label = { campaign = "winter" }
provider = "openai"
markup = "20 %"
of = "list"
"""


DECEMBER: Final = "01a243b7-0e80-7000-8000-000000000001"


def priced(figure: str | None, book: str = "") -> Rate:
    """Return how meters are rated: by a list price for a million tokens, if any, and by a book."""
    return rate_by(Figures({} if figure is None else {MODEL: figure}), read(book))


def money(*amounts: str) -> tuple[Decimal, ...]:
    """Return amounts as the ledger has them."""
    return tuple(map(Decimal, amounts))


class Books:
    """A ledger of one tenant, and the cost, the list price and the billed amount in all of its answers."""

    def __init__(self, folder: Path, rate: Rate, *, at: datetime | None = None) -> None:
        self.at = at or datetime(2026, 11, 20, tzinfo=UTC)
        self.folder = folder
        self.ledger = Ledger.open(folder, rate, clock=Clock(now=lambda: self.at))
        self.messages = 0

    def migrate(self) -> None:
        """Have the next ledger work it out from the rows of an older version."""
        rate = self.ledger._rate
        self.ledger._folding.fold()
        self.ledger.close()
        with duckdb.connect(self.folder / "ledger" / "ledger.duckdb") as older:
            before_counting(older)
        self.ledger = Ledger.open(self.folder, rate, clock=Clock(now=lambda: self.at))

    def apply(self, *events: Any) -> None:
        """Book the events of one message."""
        self.messages += 1
        self.ledger.apply([message(self.messages, *events)])

    def run(self, work: Any, rate: Rate | None = None) -> int:
        """Do an operation to its end, by new prices if there are any."""
        self.ledger._rate = rate or self.ledger._rate
        number = self.ledger.operate(work, reason="because")
        while self.ledger.work():
            pass
        return number

    def told(self) -> tuple[Decimal | None, ...]:
        """Return the amounts, which every view and question has alike."""
        self.ledger.publish_snapshot()
        total = query("tenant", data_dir=self.folder).total
        found = total.cost, total.list_cost, total.billed
        with connect(self.folder) as ledger:
            for view, amounts in (
                ("sessions", "cost, list_cost, billed"),
                ("cost_by_day", "cost"),
                ("completeness", "cost"),
                ("sessions", "llm_cost"),
            ):
                rows = ledger.execute(f"SELECT {amounts} FROM {view}").fetchall()  # noqa: S608
                assert rows == [found[: len(rows[0])]], view
        row = query("session", data_dir=self.folder).rows[0]
        assert (row.cost, row.list_cost, row.billed) == found
        [model] = check(self.folder, Finder(Figures({}), read("")), read("")).models
        assert model.money == (found[1], found[0], found[2])
        assert (model.by is None) == (found[0] is None)
        return found


@pytest.mark.slow
def test_it_makes_no_difference_how_usage_was_split(tmp_path: Path) -> None:
    """Also where the first reading has requests and no tokens yet: that has no price either."""
    splits: dict[str, Sequence[dict[str, int]]] = {
        "at once": [{"requests": 2, "input_tokens": MILLION}],
        "a request first": [{"requests": 1}, {"requests": 2, "input_tokens": MILLION}],
        "by halves": [
            {"requests": 1, "input_tokens": MILLION // 2},
            {"requests": 2, "input_tokens": MILLION},
        ],
    }
    for name, totals in splits.items():
        books = Books(tmp_path / name, no_price())
        for number, amounts in enumerate(totals, 1):
            books.apply(reading(number, **amounts))
            assert books.told() == NOBODY_KNOWS
        books.migrate()
        assert books.told() == NOBODY_KNOWS
        unpriced = query(data_dir=books.folder).total
        assert (unpriced.unpriced_requests, unpriced.unpriced_input_tokens) == (2, MILLION)
        books.ledger.close()


@pytest.mark.parametrize("order", ["start first", "start last", "start between"])
def test_a_price_for_a_label_that_takes_another_one_away_leaves_none(
    tmp_path: Path, order: str
) -> None:
    """Whenever the start comes, which has the label: here it discounts a list price that there is not."""
    books = Books(tmp_path, priced(None, LABELLED))
    start = started(labels={"campaign": "winter"})
    half, whole = (reading(n, requests=n, input_tokens=n * MILLION // 2) for n in (1, 2))
    for event in {
        "start first": [start, whole],
        "start last": [whole, start],
        "start between": [half, start, whole],
    }[order]:
        books.apply(event)
    assert books.told() == NOBODY_KNOWS
    books.migrate()
    assert books.told() == NOBODY_KNOWS
    books.ledger.close()


@pytest.mark.parametrize(
    ("before", "after", "first", "then"),
    [
        ((None, ""), ("2", BILLED.format("3")), NOBODY_KNOWS, money("2", "2", "3")),
        (("2", BILLED.format("3")), (None, ""), money("2", "2", "3"), NOBODY_KNOWS),
        *later(
            ((None, ""), ("0", BILLED.format("0")), NOBODY_KNOWS, money("0", "0", "0")),
            (("0", BILLED.format("0")), (None, ""), money("0", "0", "0"), NOBODY_KNOWS),
            (("2", BILLED.format("3")), ("0", BILLED.format("0")), money("2", "2", "3"), money("0", "0", "0")),
        ),
    ],
)  # fmt: skip
def test_a_re_rating_there_and_back_restores_what_is_unknown(
    tmp_path: Path,
    before: tuple[str | None, str],
    after: tuple[str | None, str],
    first: tuple[Decimal | None, ...],
    then: tuple[Decimal | None, ...],
) -> None:
    """And tells it as if the meter had been booked by those prices; free is zero."""
    books = Books(tmp_path, priced(*before))
    books.apply(started(), reading(1, input_tokens=MILLION))
    assert books.told() == first
    one = books.run(Rerate(), priced(*after))
    assert books.told() == then
    books.migrate()
    assert books.told() == then
    two = books.run(Revert(operation=one))
    assert books.told() == first
    books.run(Revert(operation=two))
    books.run(Rerate(), priced(*before))
    books.migrate()
    assert books.told() == first
    books.apply(reading(2, input_tokens=2 * MILLION))
    assert books.told() == tuple(None if it is None else 2 * it for it in first)
    books.ledger.close()


@pytest.mark.parametrize(("layer", "place"), [("cost", 0), ("list", 1), ("billed", 2)])
def test_an_adjustment_counts_as_long_as_it_is_in_force(
    tmp_path: Path, layer: Layer, place: int
) -> None:
    """Two that balance come to zero, and not to nothing; beside usage whose amount nobody knows."""
    books = Books(tmp_path, no_price())
    books.apply(reading(1, input_tokens=MILLION))

    def told() -> Decimal | None:
        books.ledger.publish_snapshot()
        total = query(data_dir=tmp_path, where="tenant=acme").total
        others = [total.cost, total.list_cost, total.billed]
        found = others.pop(place)
        assert others == [None, None]
        assert total.unpriced_input_tokens == MILLION
        return found

    def adjust(amount: str) -> int:
        work = Adjust(project=PROJECT, tenant="acme", amount=Decimal(amount), day=DAY, layer=layer)
        return books.run(work)

    assert told() is None
    numbers = [adjust("2.5"), adjust("-2.5")]
    books.migrate()
    assert told() == 0
    for number in numbers:
        books.run(Revert(operation=number))
    assert told() is None
    books.migrate()
    assert told() is None
    books.ledger.close()


def test_what_was_voided_comes_to_zero_and_hides_nothing_unknown(tmp_path: Path) -> None:
    """In every layer, also where it had no price; of another call beside it still nobody knows."""
    books = Books(tmp_path, no_price())
    books.apply(reading(1, input_tokens=MILLION))
    other = reading(1, of=2, input_tokens=MILLION)
    books.run(Void(project=PROJECT, session_id=session_id(1)))
    books.ledger.publish_snapshot()
    total = query(data_dir=tmp_path).total
    assert (total.cost, total.list_cost, total.billed) == money("0", "0", "0")
    books.apply(other, started(of=3))
    books.ledger.publish_snapshot()
    total = query(data_dir=tmp_path).total
    assert (total.cost, total.list_cost, total.billed) == NOBODY_KNOWS
    words: Any = {
        "since": None,
        "until": None,
        "where": (),
        "state": "open",
        "top": 1,
        "open_for": "1h",
    }
    states = audit.answer(audit.ask(**words, now=books.at), tmp_path, now=books.at).states
    assert [it.cost for it in states if it.sessions] == [None]
    books.ledger.close()


def test_a_free_call_beside_one_without_a_price_costs_nothing(tmp_path: Path) -> None:
    """In an audit as in a query: what is free has a cost, and a call that used nothing has none to show."""
    books = Books(
        tmp_path,
        priced(None, '[[cost]]\nprovider = "home"\nunit = "million tokens"\nprice = "0"\n'),
    )
    books.apply(started(of=3), reading(1, of=2, input_tokens=MILLION))

    def audited() -> Decimal | None:
        books.ledger.publish_snapshot()
        words: Any = {
            "since": None,
            "until": None,
            "where": (),
            "state": "open",
            "top": 1,
            "open_for": "1h",
        }
        found = audit.answer(audit.ask(**words, now=books.at), tmp_path, now=books.at)
        [cost] = [it.cost for it in found.states if it.sessions]
        assert cost == query(data_dir=tmp_path).total.cost
        return cost

    assert audited() is None
    books.apply(reading(1, provider="home", input_tokens=MILLION))
    assert audited() == 0
    books.ledger.close()


def test_corrections_of_a_closed_month_are_amounts(tmp_path: Path) -> None:
    """In December a call of 2.00 and a void of an equal one of November come to zero."""
    books = Books(tmp_path, priced("2", BILLED.format("3")))
    books.apply(reading(1, input_tokens=MILLION))
    books.at = datetime(2026, 12, 5, tzinfo=UTC)
    books.run(Close(month=date(2026, 11, 1)))
    books.apply(reading(2, input_tokens=2 * MILLION))

    def in_december() -> tuple[Decimal | None, ...]:
        books.ledger.publish_snapshot()
        total = query(data_dir=tmp_path, since="2026-12-01").total
        return total.cost, total.list_cost, total.billed

    assert in_december() == money("2", "2", "3")
    books.run(Void(project=PROJECT, session_id=session_id(1)))
    assert in_december() == money("-2", "-2", "-3")
    books.apply(reading(1, session_id=DECEMBER, input_tokens=MILLION))
    assert in_december() == money("0", "0", "0")
    books.ledger.close()


@pytest.mark.parametrize("done", [Void(project=PROJECT, session_id=session_id(1)), Rerate()])
def test_what_is_taken_back_from_a_closed_month_hides_nothing_of_another(
    tmp_path: Path, done: Void | Rerate
) -> None:
    """A call of December without a price stays one, whatever becomes of one of November."""
    own = '[[cost]]\nprovider = "openai"\nunit = "million tokens"\nprice = "4"\nto = 2026-12-01\n'
    books = Books(tmp_path, no_price())
    books.apply(reading(1, requests=2, input_tokens=MILLION))
    books.at = datetime(2026, 12, 5, tzinfo=UTC)
    books.run(Close(month=date(2026, 11, 1)))
    books.apply(reading(1, session_id=DECEMBER, requests=1, input_tokens=7))
    books.run(done, priced(None, own))
    cost = None if isinstance(done, Void) else Decimal(4)
    books.ledger.publish_snapshot()
    for by, since in (
        ("tenant", "2026-12-01"),
        ("day", "2026-12-01"),
        ("day", None),
        ("day", "2026-11-01"),
    ):
        report = query(by, data_dir=tmp_path, since=since, sort="cost")
        row = next(row for row in report.rows if row.group.get("day", "2026-12-05") == "2026-12-05")
        assert (row.cost, row.unpriced_requests, row.unpriced_input_tokens) == (cost, 1, 7)
        [lacking] = report.completeness.unpriced
        assert (lacking.requests, lacking.input_tokens) == (1, 7)
        assert report.total.unpriced_requests == 1
        apart = query("corrects", data_dir=tmp_path, since=since)
        own_row = next(row for row in apart.rows if row.group["corrects"] is None)
        assert (own_row.cost, own_row.unpriced_requests % 2) == (None, 1)
        late = query(data_dir=tmp_path, since=since, where="corrects=2026-11")
        assert (late.total.cost, late.total.unpriced_requests) == (cost or 0, 0)
        assert late.completeness.unpriced == ()
    with connect(tmp_path) as ledger:
        days = ledger.execute("SELECT cost FROM cost_by_day ORDER BY day").fetchall()
    assert days == [(None,), (cost,)]
    books.ledger.close()


def test_what_has_no_list_price_is_told_where_its_cost_is(tmp_path: Path) -> None:
    """Not under the closed month that is corrected; and a listed meter whose list price stays has one."""
    books = Books(tmp_path, priced("2"))
    books.apply(
        reading(1, input_tokens=MILLION), reading(2, model="unlisted", input_tokens=MILLION)
    )
    books.at = datetime(2026, 12, 5, tzinfo=UTC)
    books.run(Close(month=date(2026, 11, 1)))
    books.apply(reading(1, session_id=DECEMBER, input_tokens=MILLION))
    own = '[[cost]]\nprovider = "openai"\nunit = "million tokens"\nprice = "5"\n'
    books.run(Rerate(), priced("2", own))
    books.ledger.publish_snapshot()
    november = query(data_dir=tmp_path, until="2026-12-01")
    assert [note for note in november.notes if "list is a part" in note] == []
    december = query(data_dir=tmp_path, since="2026-12-01")
    assert [note for note in december.notes if "list is a part" in note] == [
        "list is a part: it leaves out what cost 5.000000 USD and has no list price"
    ]
    books.ledger.close()


def test_what_a_bill_lacks_is_said_and_what_a_rule_includes_is_zero(tmp_path: Path) -> None:
    """A mark-up on a cost that nobody knows; then a price for the whole call; then a credit in full."""
    books = Books(tmp_path, priced("2", '[[billed]]\nmarkup = "20 %"\n'))
    books.apply(
        reading(1, input_tokens=MILLION), reading(2, model="unlisted", input_tokens=MILLION)
    )

    def billed() -> tuple[list[Decimal | None], list[str]]:
        books.ledger.publish_snapshot()
        report = query("model", data_dir=tmp_path)
        by_model = sorted((str(row.group["model"]), row.billed) for row in report.rows)
        return [amount for _, amount in by_model], [it.model for it in report.completeness.unbilled]

    assert billed() == ([Decimal("2.4"), None], ["unlisted"])
    books.run(Rerate(), priced("2", '[[billed]]\nunit = "minute"\nprice = "0.30"\n'))
    assert billed() == ([None, None], [])  # nobody knows how long the call was
    assert query(data_dir=tmp_path).total.billed is None
    time = {"modality": "agent_session", "provider": "livekit", "model": "a session"}
    books.apply(reading(3, session_us=60 * MILLION, **time))
    whole = [Decimal("0.3"), Decimal(0), Decimal(0)], []
    assert billed() == whole
    books.run(Void(project=PROJECT, session_id=session_id(1)))
    books.run(Revert(operation=2))
    assert billed() == whole
    books.run(Rerate(), priced("2", '[[billed]]\ndiscount = "100 %"\n'))
    assert billed() == ([None, Decimal(0), None], ["a session", "unlisted"])
    books.run(Revert(operation=4))
    assert billed() == whole
    books.run(Revert(operation=1))
    assert billed() == (
        [None, Decimal("2.4"), None],
        ["a session", "unlisted"],
    )  # as its readings found, and not by both ways of charging the call
    books.ledger.close()
