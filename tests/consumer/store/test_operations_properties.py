"""After any sequence of readings, operations and reverts the books are what the operations in force say."""

from __future__ import annotations

import tempfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct, field

from tests.support.events import PROJECT, message, reading, session_id
from tests.support.older import before_counting
from tests.support.price_books import MODEL, mini, no_price
from voicecosts.consumer.booking.operations import Close, Rerate, Revert, Void
from voicecosts.consumer.errors import OperationRefused
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger

T = TypeVar("T")
Book = tuple[int | None, bool]
"""Dollars for a million tokens, None for no price, and whether tenants are charged a quarter more."""

SESSIONS = st.integers(1, 3)
BOOKS: st.SearchStrategy[Book] = st.tuples(st.sampled_from([None, 0, 2, 7]), st.booleans())
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), SESSIONS, st.integers(1, 9)),
        st.tuples(st.just("rerate"), BOOKS, st.booleans()),
        st.tuples(st.just("revert"), st.integers(1, 6)),
        st.tuples(st.just("void"), SESSIONS),
        st.tuples(st.just("reopen"), BOOKS),
    ),
    min_size=3,
    max_size=14,
)
SUMS = """
SELECT
    session_id::VARCHAR, sum(input_tokens)::BIGINT, summed(cost, priced_meters, meters),
    summed(list_cost, listed_meters, meters), summed(billed, billed_meters, meters),
    sum(unpriced_input_tokens)::BIGINT
FROM usage
GROUP BY session_id
ORDER BY session_id
"""


class Told(Struct):
    """What is known of a session: its tokens, its readings, and who decided when on its price and on its bill."""

    tokens: int = 0
    readings: int = 0
    prices: list[tuple[int | None, int | None]] = field(default_factory=list)
    bills: list[tuple[int | None, bool]] = field(default_factory=list)


class Oracle:
    """Says what the books are, from what was done: nothing of it is added up row by row."""

    def __init__(self) -> None:
        self.sessions: dict[int, Told] = {}
        self.operations: dict[int, tuple[str, int]] = {}
        self.book: Book = (None, False)

    def in_force(self) -> set[int]:
        """Return the operations that are not undone: an undone one undoes nothing."""
        found: set[int] = set()
        for number in sorted(self.operations, reverse=True):
            undoers = (other for other in found if self.operations[other] == ("revert", number))
            if next(undoers, None) is None:
                found.add(number)
        return found

    def decided(self, told: Told) -> Book:
        """Return the newest decisions that stand."""
        return self._newest(told.prices), self._newest(told.bills)

    def _newest(self, decisions: list[tuple[int | None, T]]) -> T:
        return next(
            decided
            for operation, decided in reversed(decisions)
            if operation is None or operation in self.in_force()
        )

    def is_voided(self, session: int) -> bool:
        """Return whether a void of a session is in force."""
        return any(self.operations[each] == ("void", session) for each in self.in_force())

    def read(self, session: int, millions: int) -> None:
        """The first reading decides by which book a session is billed; each finds a price where there is none."""
        told = self.sessions.setdefault(session, Told())
        told.readings += 1
        if self.is_voided(session):
            return
        told.tokens += millions
        price, is_billed = self.book
        if not told.bills:
            told.bills.append((None, is_billed))
        if not told.prices or (price is not None and self.decided(told)[0] is None):
            told.prices.append((None, price))

    def rerate(self, number: int, *, unpriced: bool) -> None:
        """An operation decides, also where it changes nothing."""
        price, is_billed = self.book
        for session, told in self.sessions.items():
            if not told.prices or self.is_voided(session):
                continue
            if unpriced and self.decided(told)[0] is not None:
                continue
            told.prices.append((number, price))
            told.bills.append((number, is_billed))
        self.operations[number] = ("rerate", 0)

    def expected(self) -> list[tuple[object, ...]]:
        """Return the sums of every session that has rows."""
        rows: list[tuple[object, ...]] = []
        for session, told in sorted(self.sessions.items()):
            if not told.prices:
                continue
            figure, is_billed = (0, True) if self.is_voided(session) else self.decided(told)
            tokens = 0 if self.is_voided(session) else told.tokens
            cost = None if figure is None else Decimal(tokens * figure)
            billed = cost * Decimal("1.25") if is_billed and cost is not None else None
            lacking = tokens * 10**6 if figure is None else 0
            rows.append((session_id(session), tokens * 10**6, cost, cost, billed, lacking))
        return rows


@settings(max_examples=3)
@given(ACTIONS)
def test_the_books_are_what_the_operations_in_force_say(actions: list[tuple[Any, ...]]) -> None:
    """Also whether there is an amount: whatever was done and undone, and wherever it was opened again.

    What the rows of an older version tell is the same.
    """
    check(actions)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=15)
@given(ACTIONS)
def test_the_books_are_what_the_operations_in_force_say_at_length(
    actions: list[tuple[Any, ...]],
) -> None:
    """The same, with many more examples."""
    check(actions)


FIGURES = (
    """
    SELECT day, count(*), sum(cost), sum(list_cost), sum(billed), sum(input_tokens),
        count(DISTINCT session_id) FILTER (operation IS NULL)
    FROM usage WHERE day < '2026-12-01' GROUP BY day
    """,
    """
    SELECT day, count(*), sum(cost), sum(list_cost), sum(billed), sum(rows)
    FROM sessions WHERE day < '2026-12-01' GROUP BY day
    """,
    "SELECT day, cost, sessions FROM cost_by_day WHERE day < '2026-12-01' ORDER BY ALL",
    "SELECT session_id, cost, billed FROM sessions WHERE day < '2026-12-01' ORDER BY ALL",
    "SELECT session_id, cost FROM completeness WHERE day < '2026-12-01' ORDER BY ALL",
)


@settings(max_examples=2)
@given(ACTIONS, ACTIONS)
def test_no_figure_of_a_closed_month_changes(
    before: list[tuple[Any, ...]], after: list[tuple[Any, ...]]
) -> None:
    """Under any arrival, operation and revert; and the books are still what is in force."""
    check(before, after)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=10)
@given(ACTIONS, ACTIONS)
def test_no_figure_of_a_closed_month_changes_at_length(
    before: list[tuple[Any, ...]], after: list[tuple[Any, ...]]
) -> None:
    """The same, with many more examples."""
    check(before, after)


def check(  # noqa: C901 - a branch for each thing that can be done
    before: list[tuple[Any, ...]], after: list[tuple[Any, ...]] | None = None
) -> None:
    """Do everything to a real ledger and to the oracle, and compare them in the end.

    The month is closed between `before` and `after`: its figures are compared as well.
    """
    oracle = Oracle()
    figures: list[object] = []
    actions = [*before, *([("close",)] if after is not None else []), *(after or ())]
    with tempfile.TemporaryDirectory() as folder:
        ledger = opened(folder, oracle)
        for place, (kind, *given) in enumerate(actions, 1):
            match kind:
                case "read":
                    oracle.read(*given)
                    told = oracle.sessions[given[0]]
                    ledger.apply([message(place, read_of(given[0], told, given[1]))])
                case "rerate":
                    oracle.book = given[0]
                    ledger._rate = rate_of(oracle.book)
                    number = operated(ledger, Rerate(unpriced=given[1]))
                    assert number is not None
                    oracle.rerate(number, unpriced=given[1])
                case "revert":
                    if oracle.operations.get(given[0], ("", 0))[0] == "close":
                        continue  # what opens a month is shown elsewhere
                    number = operated(ledger, Revert(operation=given[0]))
                    assert (number is None) == (given[0] not in oracle.in_force())
                    if number is not None:
                        oracle.operations[number] = ("revert", given[0])
                case "void":
                    work = Void(project=PROJECT, session_id=session_id(given[0]))
                    number = operated(ledger, work)
                    if number is not None:
                        oracle.operations[number] = ("void", given[0])
                case "reopen":
                    ledger.close()
                    oracle.book = given[0]
                    ledger = opened(folder, oracle)
                case "close":
                    number = operated(ledger, Close(month=date(2026, 11, 1)))
                    assert number is not None
                    oracle.operations[number] = ("close", 0)
                    figures = figures_of(ledger)
        assert not figures or figures_of(ledger) == figures
        found = ledger._connection.execute(SUMS).fetchall()
        ledger._folding.fold()
        ledger._folding.settle(ledger._now().us)
        ledger.close()
        assert found == oracle.expected()
        with duckdb.connect(Path(folder) / "ledger" / "ledger.duckdb") as older:
            before_counting(older)
        with opened(folder, oracle) as ledger:
            assert ledger._connection.execute(SUMS).fetchall() == oracle.expected()
            assert not figures or figures_of(ledger) == figures


def opened(folder: str, oracle: Oracle) -> Ledger:
    """Return the ledger, some days after the month of the calls."""
    clock = Clock(now=lambda: datetime(2026, 12, 5, tzinfo=UTC))
    return Ledger.open(Path(folder), rate_of(oracle.book), embedded=True, clock=clock)


def figures_of(ledger: Ledger) -> list[object]:
    """Return every figure of the month of the calls."""
    return [ledger._connection.execute(query).fetchall() for query in FIGURES]


def rate_of(book: Book) -> Any:
    """Return how a book rates."""
    figure, is_billed = book
    if figure is None:
        return no_price(billed=is_billed)
    return mini(str(figure), billed=is_billed)


def read_of(session: int, told: Told, millions: int) -> Any:
    """Return the next reading of a session; what was refused before it is in its totals as well."""
    totals = told.tokens * 10**6
    return reading(told.readings, of=session, model=MODEL, input_tokens=totals)


def operated(ledger: Ledger, work: Any) -> int | None:
    """Return the number of an operation that was done to its end, None where it was refused."""
    try:
        number = ledger.operate(work, reason="because")
    except OperationRefused:
        return None
    while ledger.work():
        pass
    return number
