"""A broken or hostile worker cannot book any amount, nor keep true readings out."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import duckdb

from tests.consumer.store.test_ledger import snapshot
from tests.support.events import ended, final, message, reading, started
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.ledger import Ledger

if TYPE_CHECKING:
    from pathlib import Path

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
        assert asked(ledger, "SELECT state, cause, missing_at_most FROM completeness") == [
            ("short", "above_ceiling", None)
        ]
    with Ledger.open(tmp_path / "high", rate_by(ListPrices(), max_reading=Decimal(50))) as ledger:
        ledger.apply([dear])
        assert asked(ledger, "SELECT sum(cost) FROM usage") == [(Decimal("20.000000000"),)]
