"""What operations do to the books: nothing is edited, and everything can be undone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.events import PROJECT, ended, final, message, reading, session_id, started
from tests.support.price_books import Figures, mini, no_price
from voicecosts.consumer.booking.operations import (
    Adjust,
    Close,
    Rerate,
    Revert,
    Void,
    work_of,
)
from voicecosts.consumer.errors import OperationRefused
from voicecosts.consumer.pricing import Rate, rate_by
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.requests import Action, Operate, Request

MILLION = 1_000_000
DAY = date(2026, 11, 18)
NOVEMBER, OCTOBER = date(2026, 11, 1), date(2026, 10, 1)
SUMS = """
SELECT
    sum(input_tokens)::BIGINT AS tokens, sum(list_cost) AS list, sum(cost) AS cost,
    sum(billed) AS billed, sum(reported_cost) AS reported, sum(unpriced_input_tokens)::BIGINT AS unpriced
FROM usage
"""

COSTS = """
SELECT cost FROM sessions UNION ALL SELECT cost FROM cost_by_day UNION ALL SELECT cost FROM completeness
"""


class At:
    """A clock that a test sets."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def clock(self) -> Clock:
        """Return the ledger's clock."""
        return Clock(now=lambda: self.moment)


IN_NOVEMBER = datetime(2026, 11, 20, tzinfo=UTC)
IN_DECEMBER = datetime(2026, 12, 5, tzinfo=UTC)


@pytest.fixture
def clock() -> At:
    """The ledger's clock: a day in November, when the calls of these tests take place."""
    return At(IN_NOVEMBER)


@pytest.fixture
def ledger(tmp_path: Path, clock: At) -> Iterator[Ledger]:
    """A ledger where a million tokens cost two dollars, and tenants are charged a quarter more."""
    with Ledger.open(tmp_path, mini("2", billed=True), clock=clock.clock()) as ledger:
        yield ledger


def ask(ledger: Ledger, query: str) -> list[tuple[Any, ...]]:
    """Return the answer of a fresh snapshot."""
    ledger.publish_snapshot()
    path = ledger._layout.current.resolve()
    with duckdb.connect(path, read_only=True, config={"threads": 1}) as connection:
        return connection.execute(query).fetchall()


def sums(ledger: Ledger, where: str = "") -> tuple[Any, ...]:
    """Return tokens, list price, cost, billed, reported cost and unpriced tokens."""
    return ask(ledger, SUMS + where)[0]


def run(ledger: Ledger, work: Any, reason: str = "because") -> int:
    """Do an operation to its end."""
    number = ledger.operate(work, reason=reason)
    while ledger.work():
        pass
    return number


def settle(ledger: Ledger, clock: At) -> None:
    """Add up and settle all that has ended, days later."""
    clock.moment += timedelta(days=9)
    while ledger.work():
        pass
    assert ask(ledger, "SELECT count(*) FROM settled_sessions") != [(0,)]


def used(millions: int, number: int = 1, *, of: int = 1, **more: object) -> Any:
    """Return a reading of some million tokens."""
    return reading(number, of=of, input_tokens=millions * MILLION, requests=number, **more)


def dollars(*amounts: str | None) -> tuple[Decimal | None, ...]:
    """Return amounts as the ledger has them."""
    return tuple(None if each is None else Decimal(each) for each in amounts)


def priced_by(ledger: Ledger, figure: str, *, billed: bool = True) -> None:
    """Change the prices that the ledger finds."""
    ledger._rate = mini(figure, billed=billed)


class TestRerate:
    def test_what_is_booked_becomes_what_the_prices_of_today_say(self, ledger: Ledger) -> None:
        """Rows of the difference are added, in every layer, and no quantity moves."""
        ledger.apply([message(1, used(3))])
        priced_by(ledger, "5")
        number = run(ledger, Rerate())
        assert sums(ledger) == (3 * MILLION, *dollars("15", "15", "18.75"), None, 0)
        rows = ask(ledger, "SELECT operation, cost, input_tokens FROM usage ORDER BY cost")
        assert rows == [(None, Decimal(6), 3 * MILLION), (number, Decimal(9), 0)]

    def test_a_slice_that_changes_nothing_writes_nothing_and_goes_on(self, ledger: Ledger) -> None:
        """Without a row there is nothing in the log of the file, and that is no sign that it was moved."""
        ledger.apply([message(1, *(used(1, of=of) for of in range(1, 151)))])
        number = ledger.operate(Rerate(), reason="the same prices")
        ledger.publish_snapshot()  # the log is empty, as after a restart
        while ledger.work():
            ledger.publish_snapshot()
        done = ledger.operation(number)
        assert done is not None
        assert done.ended_us is not None
        assert sums(ledger)[0] == 150 * MILLION

    def test_there_and_back_restores_every_figure(self, ledger: Ledger) -> None:
        """By the old prices the books are what they were."""
        ledger.apply([message(1, used(3), used(1, of=2, model="unknown"))])
        before = sums(ledger), ask(ledger, "SELECT * FROM sessions ORDER BY session_id")
        priced_by(ledger, "5", billed=False)
        run(ledger, Rerate())
        assert sums(ledger) != before[0]
        priced_by(ledger, "2")
        run(ledger, Rerate())
        after = sums(ledger), ask(ledger, "SELECT * FROM sessions ORDER BY session_id")
        assert after[0] == before[0]
        assert [row[11:17] for row in after[1]] == [row[11:17] for row in before[1]]

    def test_later_readings_keep_the_new_prices(self, ledger: Ledger, tmp_path: Path) -> None:
        """Also in a ledger that was opened again, and has the states from the rows."""
        ledger.apply([message(1, used(3))])
        priced_by(ledger, "5")
        run(ledger, Rerate())
        priced_by(ledger, "7")
        ledger.apply([message(2, used(4, 2))])
        assert sums(ledger)[2] == 20
        ledger.close()
        with Ledger.open(tmp_path, mini("9", billed=True), clock=At(IN_NOVEMBER).clock()) as again:
            again.apply([message(3, used(5, 3))])
            assert sums(again)[1:4] == dollars("25", "25", "31.25")

    def test_a_price_that_is_lost_stays_lost(self, ledger: Ledger, tmp_path: Path) -> None:
        """A meter that became unpriced is not priced again by an old row when the ledger is reopened."""
        ledger.apply([message(1, used(3))])
        ledger._rate = no_price()
        run(ledger, Rerate())
        assert sums(ledger)[2] == 0
        assert sums(ledger)[5] == 3 * MILLION
        ledger.close()
        with Ledger.open(tmp_path, no_price(), clock=At(IN_NOVEMBER).clock()) as again:
            again.apply([message(2, used(4, 2))])
            assert sums(again)[2] == 0
            assert sums(again)[5] == 4 * MILLION

    @pytest.mark.parametrize(
        "work",
        [
            Rerate(where={"tenant": ("globex", None)}),
            Rerate(where={"model": ("nova-3",)}),
            Rerate(where={"project": ("staging",)}),
            Rerate(where={"agent_label": ("Booker",)}),
            Rerate(unpriced=True),
            Rerate(until=DAY),
            Rerate(since=date(2026, 11, 19)),
        ],
    )
    def test_what_was_not_asked_for_stays(self, ledger: Ledger, work: Rerate) -> None:
        """Only the sessions and meters that meet every condition are priced anew."""
        ledger.apply([message(1, used(3))])
        priced_by(ledger, "5")
        run(ledger, work)
        assert sums(ledger)[2] == 6

    @pytest.mark.parametrize(
        "work",
        [
            Rerate(where={"tenant": ("globex", "acme"), "model": ("gpt-4.1-mini",)}),
            Rerate(since=DAY, until=date(2026, 11, 19)),
        ],
    )
    def test_what_was_asked_for_changes(self, ledger: Ledger, work: Rerate) -> None:
        """A day is that on which a session started."""
        ledger.apply([message(1, used(3))])
        priced_by(ledger, "5")
        run(ledger, work)
        assert sums(ledger)[2] == 15

    def test_only_what_has_no_price_is_priced(self, ledger: Ledger, tmp_path: Path) -> None:
        """With `unpriced`, what has a price keeps it."""
        ledger._rate = no_price()
        ledger.apply([message(1, used(3))])
        priced_by(ledger, "2")
        ledger.apply([message(2, used(1, of=2))])
        priced_by(ledger, "5")
        run(ledger, Rerate(unpriced=True))
        assert sums(ledger)[2] == 15 + 2
        assert ask(ledger, "SELECT * FROM unpriced") == []

    def test_many_sessions_are_done_in_slices(self, ledger: Ledger, monkeypatch: Any) -> None:
        """Each slice is a transaction, messages are booked in between, and all are done in the end."""
        monkeypatch.setattr("voicecosts.consumer.store.operations.SLICE_SESSIONS", 2)
        ledger.apply([message(1, *(used(1, of=of) for of in range(1, 8)))])
        priced_by(ledger, "5")
        ledger.operate(Rerate(), reason="because")
        assert ledger.work()
        assert sums(ledger)[2] == 7 * 2 + 2 * 3
        ledger.apply([message(2, used(2, 2, of=1), used(2, 2, of=7))])
        while ledger.work():
            pass
        assert sums(ledger)[2] == 9 * 5

    def test_a_ledger_that_was_closed_in_it_goes_on(
        self, ledger: Ledger, tmp_path: Path, monkeypatch: Any
    ) -> None:
        """What is booked by it is known by its rows; another operation waits until it has ended."""
        monkeypatch.setattr("voicecosts.consumer.store.operations.SLICE_SESSIONS", 2)
        ledger.apply([message(1, *(used(1, of=of) for of in range(1, 8)))])
        priced_by(ledger, "5")
        ledger.operate(Rerate(), reason="because")
        ledger.work()
        ledger.close()
        with Ledger.open(tmp_path, mini("5", billed=True), clock=At(IN_NOVEMBER).clock()) as again:
            with pytest.raises(OperationRefused, match="under way"):
                again.operate(Rerate(), reason="because")
            while again.work():
                pass
            assert sums(again)[2] == 7 * 5
            [(rows,)] = ask(again, "SELECT count(*) FROM usage WHERE operation = 1")
            assert rows == 7


class TestRevert:
    def test_a_reverted_rerate_leaves_the_books_as_they_were(self, ledger: Ledger) -> None:
        """Also where readings came in between: they cost what they would have cost without it."""
        ledger.apply([message(1, used(3))])
        priced_by(ledger, "5")
        number = run(ledger, Rerate())
        ledger.apply([message(2, used(4, 2))])
        run(ledger, Revert(operation=number))
        assert sums(ledger) == (4 * MILLION, *dollars("8", "8", "10"), None, 0)
        ledger.apply([message(3, used(5, 3))])
        assert sums(ledger)[2] == 10

    @pytest.mark.parametrize("label", ["tier", "region"])
    @pytest.mark.parametrize("order", sorted(set(permutations(["start", "rerate", "read"]))))
    def test_labels_that_came_in_between_keep_their_own_prices_alone(
        self, tmp_path: Path, clock: At, label: str, order: tuple[str, ...]
    ) -> None:
        """Of a re-rating nothing stays, and of a price for a label nothing is lost, in whatever order they came."""
        book = (
            '[[cost]]\nprovider="openai"\nunit="million tokens"\nprice="{}"\n'
            '[[cost]]\nlabel={{tier="gold"}}\nprovider="openai"\nunit="million tokens"\nprice="7"\n'
            '[[billed]]\nlabel={{tier="gold"}}\nmarkup="20 %"\n'
            '[[billed]]\nlabel={{region="gold"}}\nmarkup="50 %"\n'
        )

        def rate(price: str) -> Rate:
            return rate_by(Figures({}), read(book.format(price)))

        with Ledger.open(tmp_path, rate("2"), clock=clock.clock()) as ledger:
            ledger.apply([message(1, used(1))])
            for number, step in enumerate(order, 2):
                if step == "start":
                    ledger.apply([message(number, started(labels={label: "gold"}), number=number)])
                elif step == "read":
                    ledger.apply([message(number, used(4, 2), number=number)])
                else:
                    ledger._rate = rate("3")
                    rerate = run(ledger, Rerate())
                    ledger._rate = rate("2")
            run(ledger, Revert(operation=rerate))
            expected = {"tier": dollars("28", "33.6"), "region": dollars("8", "12")}
            assert list(sums(ledger)[2:4]) == list(expected[label])
            ledger.apply([message(9, used(5, 3), number=9)])
            assert sums(ledger)[2] == {"tier": 35, "region": 10}[label]

    def test_a_price_that_was_taken_back_is_unknown_in_every_sum(self, ledger: Ledger) -> None:
        """Not zero: as if no operation had ever found it."""
        ledger.apply([message(1, started(), used(3, model="unknown"))])
        ledger._rate = rate_by(Figures({"unknown": "5"}))
        number = run(ledger, Rerate(unpriced=True))
        assert ask(ledger, COSTS) == [(Decimal(15),)] * 3
        run(ledger, Revert(operation=number))
        assert ask(ledger, COSTS) == [(None,)] * 3

    def test_a_newer_rerate_by_the_same_prices_stands(self, ledger: Ledger) -> None:
        """It had nothing to change, and is in force: reverting the older one moves nothing."""
        ledger.apply([message(1, used(3))])
        priced_by(ledger, "5")
        older, newer = run(ledger, Rerate()), run(ledger, Rerate())
        run(ledger, Revert(operation=older))
        assert sums(ledger)[2] == 15
        run(ledger, Revert(operation=newer))
        assert sums(ledger)[2] == 6

    def test_a_revert_that_is_reverted_does_it_again(self, ledger: Ledger) -> None:
        """To the last digit, and it can be undone once more."""
        ledger.apply([message(1, used(3))])
        priced_by(ledger, "5")
        one = run(ledger, Rerate())
        two = run(ledger, Revert(operation=one))
        three = run(ledger, Revert(operation=two))
        assert sums(ledger)[2] == 15
        run(ledger, Revert(operation=three))
        assert sums(ledger)[2] == 6

    def test_what_was_reverted_cannot_be_reverted_again(self, ledger: Ledger) -> None:
        """The error names the operation that did it."""
        ledger.apply([message(1, used(3))])
        one = run(ledger, Rerate())
        run(ledger, Revert(operation=one))
        with pytest.raises(OperationRefused, match="reverted by operation 2"):
            run(ledger, Revert(operation=one))
        with pytest.raises(OperationRefused, match="o operation has the number 9"):
            run(ledger, Revert(operation=9))

    def test_the_older_of_two_is_reverted_without_the_newer_one(self, ledger: Ledger) -> None:
        """What the newer one says stands; when it goes as well, the first prices are back."""
        ledger.apply([message(1, used(3))])
        priced_by(ledger, "5")
        one = run(ledger, Rerate())
        priced_by(ledger, "7")
        two = run(ledger, Rerate())
        run(ledger, Revert(operation=one))
        assert sums(ledger)[2] == 21
        run(ledger, Revert(operation=two))
        assert sums(ledger)[2] == 6

    @pytest.mark.parametrize("billed", [True, False])
    def test_a_rerate_that_found_no_price_stands_when_a_newer_one_is_reverted(
        self, ledger: Ledger, *, billed: bool
    ) -> None:
        """What the readings were booked with is not in force."""
        ledger.apply([message(1, used(1))])
        ledger._rate = no_price()
        run(ledger, Rerate())
        without = sums(ledger)
        assert without[-1] == MILLION
        priced_by(ledger, "7", billed=billed)
        run(ledger, Revert(operation=run(ledger, Rerate())))
        assert sums(ledger)[2:] == without[2:]
        run(ledger, Revert(operation=run(ledger, Void(project="prod", session_id=session_id(1)))))
        assert sums(ledger)[2:] == without[2:]

    def test_what_had_no_price_has_none_again(self, ledger: Ledger) -> None:
        """With the same reason and the same amounts: a cost that is unknown is not zero."""
        ledger._rate = no_price()
        ledger.apply([message(1, used(3))])
        before = ask(ledger, "SELECT * FROM unpriced"), ask(ledger, "SELECT cost FROM sessions")
        priced_by(ledger, "5")
        number = run(ledger, Rerate())
        run(ledger, Revert(operation=number))
        [found] = ask(ledger, "SELECT reason, input_tokens FROM unpriced")
        assert found == ("no figure", 3 * MILLION)
        assert ask(ledger, "SELECT cost FROM sessions") == before[1] == [(None,)]


class TestVoid:
    def test_a_voided_session_is_in_no_sum(self, ledger: Ledger) -> None:
        """Its usage and its money leave, whatever is asked; other sessions stay."""
        ledger.apply([message(1, used(3, reported_cost="1.5"), used(1, of=2))])
        run(ledger, Void(project=PROJECT, session_id=session_id(1)))
        assert sums(ledger) == (MILLION, *dollars("2", "2", "2.5", "0"), 0)

    def test_what_comes_of_it_later_is_a_dead_letter(self, ledger: Ledger) -> None:
        """With a reason of its own, also in a ledger that was opened again."""
        ledger.apply([message(1, started(), used(3))])
        run(ledger, Void(project=PROJECT, session_id=session_id(1)))
        ledger.apply([message(2, used(4, 2), ended(3, final(input_tokens=5 * MILLION)))])
        assert sums(ledger)[:3] == (0, *dollars("0", "0"))
        assert ask(ledger, "SELECT reason, count(*) FROM dead_letters GROUP BY ALL") == [
            ("voided", 2)
        ]

    def test_reverted_it_is_back_and_its_letters_can_be_booked(self, ledger: Ledger) -> None:
        """Nothing is lost by a void that was a mistake."""
        ledger.apply([message(1, started(), used(3, reported_cost="1.5"))])
        before = sums(ledger)
        number = run(ledger, Void(project=PROJECT, session_id=session_id(1)))
        ledger.apply(
            [message(2, ended(3, final(input_tokens=5 * MILLION, requests=9, reported_cost="2")))]
        )
        run(ledger, Revert(operation=number))
        assert sums(ledger) == before
        ledger.do(Request(action=Action.REQUEUE))
        assert sums(ledger) == (5 * MILLION, *dollars("10", "10", "12.5", "2"), 0)
        assert ask(ledger, "SELECT state FROM completeness") == [("repaired",)]

    def test_only_a_known_session_that_is_not_voided(self, ledger: Ledger) -> None:
        """The errors say what is in the way."""
        ledger.apply([message(1, used(3))])
        with pytest.raises(OperationRefused, match="o session"):
            run(ledger, Void(project="staging", session_id=session_id(1)))
        run(ledger, Void(project=PROJECT, session_id=session_id(1)))
        with pytest.raises(OperationRefused, match="voided by operation 1"):
            run(ledger, Void(project=PROJECT, session_id=session_id(1)))

    def test_prices_that_change_meanwhile_hold_when_it_is_back(self, ledger: Ledger) -> None:
        """A re-rating that is reverted while the session is voided is reverted for it as well."""
        ledger.apply([message(1, used(3))])
        priced_by(ledger, "5")
        one = run(ledger, Rerate())
        two = run(ledger, Void(project=PROJECT, session_id=session_id(1)))
        run(ledger, Revert(operation=one))
        run(ledger, Revert(operation=two))
        assert sums(ledger)[2] == 6


class TestAdjust:
    @pytest.mark.parametrize(("layer", "place"), [("list", 1), ("cost", 2), ("billed", 3)])
    def test_an_amount_is_in_the_sums_of_its_layer(
        self, ledger: Ledger, layer: Any, place: int
    ) -> None:
        """And in those of the day and the tenant that it names, with no session and no usage."""
        ledger.apply([message(1, used(3))])
        before = list(sums(ledger))
        work = Adjust(
            amount=Decimal("-12.50"), day=DAY, project=PROJECT, tenant="acme", layer=layer
        )
        number = run(ledger, work)
        before[place] += Decimal("-12.5")
        assert list(sums(ledger, "WHERE tenant = 'acme' AND day = '2026-11-18'")) == before
        assert ask(ledger, "SELECT count(*) FROM sessions") == [(1,)]
        run(ledger, Revert(operation=number))
        before[place] -= Decimal("-12.5")
        assert list(sums(ledger)) == before

    @pytest.mark.parametrize("amount", ["0", "1000000000", "0.0000000001", "NaN"])
    def test_an_amount_that_no_row_holds_is_refused(self, ledger: Ledger, amount: str) -> None:
        """Nothing is rounded."""
        with pytest.raises(OperationRefused, match="amount"):
            run(ledger, Adjust(amount=Decimal(amount), day=DAY, project=PROJECT))

    @pytest.mark.parametrize("figure", ['"1E-9"', "1E-9", '"0.000000001"'])
    def test_an_amount_of_a_request_is_taken_exactly(self, ledger: Ledger, figure: str) -> None:
        """However a decimal is written, it is that decimal."""
        run(
            ledger,
            work_of(f'{{"kind":"adjust","amount":{figure},"day":"2026-11-18","project":"prod"}}'),
        )
        assert sums(ledger)[2] == Decimal("0.000000001")


class TestClose:
    def test_a_month_before_a_closed_one_is_closed(self, ledger: Ledger, clock: At) -> None:
        """Otherwise the sum up to the end of a closed month would still change."""
        ledger.apply([message(1, used(3))])
        clock.moment = IN_DECEMBER
        run(ledger, Close(month=NOVEMBER))
        run(ledger, Adjust(amount=Decimal("-0.5"), day=date(2020, 10, 3), project=PROJECT))
        rows = ask(ledger, "SELECT day, corrects FROM usage WHERE operation IS NOT NULL")
        assert rows == [(IN_DECEMBER.date(), date(2020, 10, 1))]

    def test_no_row_is_dated_in_a_closed_month(self, ledger: Ledger, clock: At) -> None:
        """What comes late or is corrected is dated today, and names the month."""
        ledger.apply([message(1, used(3))])
        clock.moment = IN_DECEMBER
        run(ledger, Close(month=NOVEMBER))
        ledger.apply([message(2, used(4, 2), used(1, of=2))])
        priced_by(ledger, "5")
        number = run(ledger, Rerate())
        run(ledger, Adjust(amount=Decimal(1), day=DAY, project=PROJECT))
        run(ledger, Void(project=PROJECT, session_id=session_id(1)))
        run(ledger, Revert(operation=number))
        by_day = ask(
            ledger, "SELECT day, corrects, count(*), sum(cost) FROM usage GROUP BY ALL ORDER BY ALL"
        )
        assert [row[:2] for row in by_day] == [(DAY, None), (date(2026, 12, 5), NOVEMBER)]
        assert by_day[0][2:] == (1, Decimal(6))
        assert sums(ledger)[2] == 2 + 1
        sessions = ask(ledger, "SELECT day, cost, rows FROM sessions ORDER BY session_id")
        assert sessions == [(DAY, Decimal(6), 1), (date(2026, 12, 5), None, 0)]

    def test_what_came_later_is_in_corrections_and_in_no_sum_of_calls(
        self, ledger: Ledger, clock: At
    ) -> None:
        """Also of a call that came wholly later: what it cost in its month is not known, and not zero."""
        silent = started(of=3), ended(1, of=3)
        ledger.apply([message(1, used(1), started(of=2), *silent)])
        clock.moment = IN_DECEMBER
        run(ledger, Close(month=NOVEMBER))
        ends = (ended(3, final(input_tokens=2 * MILLION), of=of) for of in (1, 2, 4))
        ledger.apply([message(2, used(2, 2), used(2, of=2), used(2, of=4), *ends)])
        calls = [
            *((1, Decimal(2), Decimal(2), 1), (2, None, None, 0)),
            *((3, Decimal(0), Decimal(0), 0), (4, None, None, 0)),
        ]
        for _ in range(2):
            found = ask(
                ledger, "SELECT session_id, cost, list_cost, rows FROM sessions ORDER BY session_id"
            )
            assert [(str(it[0]), *it[1:]) for it in found] == [
                (session_id(of), *figures) for of, *figures in calls
            ]
            later = "SELECT sum(cost), sum(rows) FROM corrections"
            assert ask(ledger, later) == [(2 + 4 + 4, 3)]
            assert sums(ledger)[2] == 2 + 2 + 4 + 4
            settle(ledger, clock)

    def test_an_older_ledger_takes_it_out_of_its_calls(
        self, ledger: Ledger, clock: At, tmp_path: Path
    ) -> None:
        """Calls that were settled with it are settled once more; all others stay as they are."""
        own = used(1), ended(2, final(input_tokens=MILLION))
        ledger.apply([message(1, *own)])
        clock.moment = IN_DECEMBER
        run(ledger, Close(month=NOVEMBER))
        ledger.apply([message(2, used(2, of=2), ended(2, final(input_tokens=2 * MILLION), of=2))])
        settle(ledger, clock)
        costs = "SELECT cost FROM sessions ORDER BY session_id"
        assert ask(ledger, costs) == [(2,), (None,)]
        ledger.close()
        with duckdb.connect(tmp_path / "ledger" / "ledger.duckdb") as older:
            older.execute("UPDATE settled_sessions SET cost = 4, list_cost = 4 WHERE cost IS NULL")
            older.execute("DELETE FROM schema_migrations WHERE version >= 17")
        with Ledger.open(tmp_path, mini("2"), clock=clock.clock()) as again:
            kept = "SELECT session_id FROM settled_sessions"
            assert [str(it) for (it,) in ask(again, kept)] == [session_id(1)]
            assert ask(again, costs) == [(2,), (None,)]
            settle(again, clock)
            assert (len(ask(again, kept)), ask(again, costs)) == (2, [(2,), (None,)])

    def test_what_is_known_of_its_calls_keeps_their_money(self, ledger: Ledger, clock: At) -> None:
        """Also of one without a row of that month, and of those that are voided and brought back later."""
        completeness = """
        SELECT session_id, state, cost, missing_at_most FROM completeness WHERE day < '2026-12-01'
        ORDER BY ALL
        """
        ends = (ended(2, final(input_tokens=(of == 2) * MILLION), of=of) for of in (2, 3))
        ledger.apply([message(1, started(), used(1, of=2), *ends, used(1, of=4))])
        before = run(ledger, Void(project=PROJECT, session_id=session_id(4)))
        clock.moment = IN_DECEMBER
        run(ledger, Close(month=NOVEMBER))
        figures = ask(ledger, completeness)
        assert [row[2] for row in figures] == [0, 2, 0]
        run(ledger, Revert(operation=before))
        assert ask(ledger, completeness) == figures
        void = run(ledger, Void(project=PROJECT, session_id=session_id(2)))
        ledger.apply([message(2, used(3, 3, of=2))])  # a dead letter
        assert ask(ledger, completeness) == figures
        run(ledger, Revert(operation=void))
        ledger.apply([message(3, used(3, of=1))])
        later = ask(ledger, completeness)
        assert [row[2] for row in later] == [0, 2, 0]
        assert sums(ledger)[2] == 6 + 2 + 2

    def test_a_closed_month_survives_the_ledger(
        self, ledger: Ledger, clock: At, tmp_path: Path
    ) -> None:
        """It is closed in the file."""
        ledger.apply([message(1, used(3))])
        clock.moment = IN_DECEMBER
        run(ledger, Close(month=NOVEMBER))
        ledger.close()
        with Ledger.open(tmp_path, mini("2"), clock=At(IN_DECEMBER).clock()) as again:
            again.apply([message(2, used(4, 2))])
            assert sums(again, "WHERE day < '2026-12-01'")[2] == 6

    def test_what_cannot_be_closed_says_why(self, ledger: Ledger, clock: At) -> None:
        """A month that has not ended, that is closed, or that has an open one with rows before it."""
        ledger.apply([message(1, used(3))])
        with pytest.raises(OperationRefused, match="has not ended"):
            run(ledger, Close(month=NOVEMBER))
        with pytest.raises(OperationRefused, match="has not begun"):
            run(ledger, Close(month=date(9999, 12, 1)))
        clock.moment = datetime(2027, 1, 5, tzinfo=UTC)
        with pytest.raises(OperationRefused, match="2026-11 is open and has rows"):
            run(ledger, Close(month=date(2026, 12, 1)))
        run(ledger, Close(month=OCTOBER))
        run(ledger, Close(month=NOVEMBER))
        with pytest.raises(OperationRefused, match="closed already"):
            run(ledger, Close(month=NOVEMBER))

    def test_it_can_be_opened_until_something_corrects_it(self, ledger: Ledger, clock: At) -> None:
        """From the last closed month on, and not once a later month names it."""
        ledger.apply([message(1, used(3))])
        clock.moment = IN_DECEMBER
        october = run(ledger, Close(month=OCTOBER))
        november = run(ledger, Close(month=NOVEMBER))
        with pytest.raises(OperationRefused, match="from the last one"):
            run(ledger, Revert(operation=october))
        opened = run(ledger, Revert(operation=november))
        ledger.apply([message(2, used(4, 2))])
        assert sums(ledger, "WHERE day < '2026-12-01'")[2] == 8
        again = run(ledger, Revert(operation=opened))
        ledger.apply([message(3, used(5, 3))])
        with pytest.raises(OperationRefused, match=r"stays closed, also .* `costs adjust`"):
            run(ledger, Revert(operation=again))


def test_a_re_rating_of_a_column_that_is_none_is_refused(ledger: Ledger) -> None:
    """Else it would be about everything."""
    with pytest.raises(OperationRefused, match="no column 'region': use project, agent, tenant"):
        ledger.operate(Rerate(where={"region": ("eu",)}), reason="x")


def test_a_folder_among_the_requests_ends_no_ledger(tmp_path: Path, ledger: Ledger) -> None:
    """Whoever made it can remove it; what is asked beside it is done."""
    folder = tmp_path / "ledger" / "requests" / "0.json"
    folder.mkdir(parents=True)
    ledger.answer_requests()
    assert folder.is_dir()


def test_who_hears_that_an_operation_is_done_sees_it_in_the_next_answer(
    tmp_path: Path, ledger: Ledger
) -> None:
    """The advice that is printed then is to look at it; the next snapshot would be seconds away."""
    ledger.apply([message(1, reading(1, input_tokens=1))])
    work = Adjust(amount=Decimal(-1), day=date(2026, 11, 20), project=PROJECT)
    assert ledger.answer(Operate(work=work, reason="credit")).is_done
    with duckdb.connect(tmp_path / "costs.duckdb", read_only=True) as reader:
        assert reader.execute("SELECT kind FROM operations").fetchall() == [("adjust",)]
