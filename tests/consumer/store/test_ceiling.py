"""A broken or hostile worker cannot book any amount, nor keep true readings out."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import duckdb
import pytest

from tests.consumer.store.test_ledger import snapshot
from tests.support.events import ended, final, message, reading, started
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.requests import Action, Outcome, Request

if TYPE_CHECKING:
    from pathlib import Path

    from voicecosts.consumer.booking.message import Message

HOSTILE = 2_400_000_000_000_000
"""Tokens: 960,000,000 US dollars at gpt-4.1-mini."""


def asked(ledger: Ledger, sql: str) -> list[tuple[object, ...]]:
    """Return the answer of a fresh snapshot."""
    with duckdb.connect(snapshot(ledger), read_only=True, config={"threads": 1}) as connection:
        return connection.execute(sql).fetchall()


def test_a_reading_above_the_ceiling_is_kept_and_true_ones_after_it_are_booked(
    tmp_path: Path,
) -> None:
    """It is a dead letter that says what to do; its session is short, and nothing else is lost."""
    with Ledger.open(tmp_path, rate_by(ListPrices())) as ledger:
        ledger.apply([message(1, started(), reading(1, input_tokens=1000, requests=1))])
        ledger.apply([message(2, reading(2, input_tokens=HOSTILE, requests=2))])
        ledger.apply([message(3, reading(3, input_tokens=2000, requests=3))])
        ledger.apply([message(4, ended(4, final(input_tokens=3000, requests=4)))])
        assert asked(ledger, "SELECT sum(cost), sum(input_tokens) FROM usage") == [
            (Decimal("0.001200000"), 3000)
        ]
        [(reason, detail)] = asked(ledger, "SELECT reason, detail FROM dead_letters")
        assert reason == "above_ceiling"
        assert f"input_tokens is {HOSTILE}, above the fixed limit of 10000000000" in str(detail)


def test_what_one_meter_may_cost_is_a_setting(tmp_path: Path) -> None:
    """The operator who really has such calls raises it; the sentence names the setting."""
    dear = message(1, started(), reading(1, input_tokens=50_000_000, requests=900))
    with Ledger.open(tmp_path / "low", rate_by(ListPrices(), max_reading=Decimal(5))) as ledger:
        ledger.apply([dear])
        [(reason, detail)] = asked(ledger, "SELECT reason, detail FROM dead_letters")
        assert (reason, asked(ledger, "SELECT count(*) FROM usage")) == ("above_ceiling", [(0,)])
        for word in ("20.000000000 US dollars", "limit of 5", "COSTS_MAX_READING"):
            assert word in str(detail)
        later = "completeness_at(TIMESTAMP '2100-01-01', INTERVAL 1 HOUR)"
        assert asked(ledger, f"SELECT state, cause, missing_at_most FROM {later}") == [  # noqa: S608
            ("short", "above_ceiling", None)
        ]
    with Ledger.open(tmp_path / "high", rate_by(ListPrices(), max_reading=Decimal(50))) as ledger:
        ledger.apply([dear])
        assert asked(ledger, "SELECT sum(cost) FROM usage") == [(Decimal("20.000000000"),)]


DEAR = 50_000_000
"""Tokens: 20 US dollars."""

FIRST = message(1, started(), reading(1, input_tokens=1000, requests=1))
DEAR_READING = message(2, reading(2, input_tokens=DEAR, requests=2))
DEAR_END = message(3, ended(3, final(input_tokens=DEAR, requests=2)))
OTHER_METER = final(model="gpt-4.1", input_tokens=10, requests=1)


def state_of(ledger: Ledger) -> tuple[object, ...]:
    """Return the state of the one call, why it is so, and what may be missing of it."""
    [found] = asked(ledger, "SELECT state, cause, missing_at_most FROM completeness")
    return found


class TestRaised:
    """The ceiling was too low, the operator raises it and has the letters read again."""

    @pytest.mark.parametrize(
        ("call", "refused", "state"),
        [
            ([FIRST, DEAR_READING, DEAR_END], 2, "complete"),
            ([FIRST, DEAR_END], 1, "repaired"),
            (
                [FIRST, message(3, ended(3, final(input_tokens=DEAR, requests=2), OTHER_METER))],
                1,
                "repaired",
            ),
        ],
        ids=["a reading and the end", "the end", "one of two meters of the end"],
    )
    def test_a_call_that_is_booked_after_all_is_whole(
        self, tmp_path: Path, call: list[Message], refused: int, state: str
    ) -> None:
        """Nothing is noted of it any more, and neither a replay nor a restart brings it back."""
        low, high = (rate_by(ListPrices(), max_reading=Decimal(limit)) for limit in (5, 50))
        with Ledger.open(tmp_path, low) as ledger:
            ledger.apply(call)
            assert state_of(ledger) == ("short", "above_ceiling", None)
        with Ledger.open(tmp_path, high) as ledger:
            assert ledger.do(Request(action=Action.REQUEUE)) == Outcome(letters=refused)
            assert state_of(ledger) == (state, None, 0)
        with Ledger.open(tmp_path, high) as ledger:
            assert ledger.apply(call).rows == 0
            assert state_of(ledger) == (state, None, 0)
            assert asked(
                ledger, "SELECT sum(input_tokens) FROM usage WHERE model = 'gpt-4.1-mini'"
            ) == [(DEAR,)]

    def test_letters_may_be_read_again_one_by_one(self, tmp_path: Path) -> None:
        """Between a reading and its end the books differ from the end; after both they do not."""
        with Ledger.open(tmp_path, rate_by(ListPrices(), max_reading=Decimal(5))) as ledger:
            ledger.apply([FIRST, DEAR_READING, DEAR_END])
            ids = asked(ledger, "SELECT id FROM dead_letters ORDER BY stream_sequence")
        states = []
        for [letter] in ids:
            with Ledger.open(tmp_path, rate_by(ListPrices(), max_reading=Decimal(50))) as ledger:
                ledger.do(Request(action=Action.REQUEUE, ids=(str(letter),)))
                states.append(state_of(ledger)[0])
        assert states == ["short", "complete"]

    def test_what_is_still_refused_stays_noted(self, tmp_path: Path) -> None:
        """One letter of two is booked; the call is short because of the other one."""
        with Ledger.open(tmp_path, rate_by(ListPrices(), max_reading=Decimal(5))) as ledger:
            dearer = final(model="gpt-4.1", input_tokens=10 * DEAR, requests=1)
            ledger.apply([FIRST, DEAR_READING, message(3, ended(3, dearer))])
        with Ledger.open(tmp_path, rate_by(ListPrices(), max_reading=Decimal(50))) as ledger:
            assert ledger.do(Request(action=Action.REQUEUE)) == Outcome(letters=2, left=1)
            assert state_of(ledger) == ("short", "above_ceiling, contradicts_end", None)

    def test_an_end_that_names_another_meter_still_contradicts_the_books(
        self, tmp_path: Path
    ) -> None:
        """What was booked of a meter that the end does not name is noted again when it is judged again."""
        with Ledger.open(tmp_path, rate_by(ListPrices(), max_reading=Decimal(5))) as ledger:
            unnamed = message(2, reading(2, model="gpt-4.1", input_tokens=10, requests=1))
            ledger.apply([FIRST, unnamed, DEAR_END])
            assert state_of(ledger) == ("short", "above_ceiling, contradicts_end", None)
        with Ledger.open(tmp_path, rate_by(ListPrices(), max_reading=Decimal(50))) as ledger:
            ledger.do(Request(action=Action.REQUEUE))
            assert state_of(ledger) == ("short", "contradicts_end", None)

    def test_what_no_later_reading_makes_good_stays_refused(self, tmp_path: Path) -> None:
        """Later readings were booked without it: it is read again, and is as lost as before."""
        call = [FIRST, message(2, reading(2, input_tokens=HOSTILE, requests=2))]
        call += [message(3, reading(3, input_tokens=2000, requests=3))]
        backwards = [
            message(4, reading(1, of=2, input_tokens=1200)),
            message(5, ended(2, final(input_tokens=1000), of=2)),
        ]
        backwards += [message(6, reading(3, of=2, input_tokens=1500))]
        with Ledger.open(tmp_path, rate_by(ListPrices())) as ledger:
            ledger.apply([*call, *backwards])
            before = asked(ledger, "SELECT state, cause FROM completeness ORDER BY session_id")
            assert ledger.do(Request(action=Action.REQUEUE)) == Outcome(letters=2, left=2)
            assert (
                asked(ledger, "SELECT state, cause FROM completeness ORDER BY session_id") == before
            )
            assert before[1] == ("short", "backwards")
            assert asked(ledger, "SELECT dead_letters FROM losses") == [(2,)]
