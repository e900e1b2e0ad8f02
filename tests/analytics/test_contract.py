"""Tests that what readers expect, and what their tests are written on, is what a ledger publishes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb

from tests.support.events import message, reading, session_id
from tests.support.oracle import rate
from tests.support.sample_ledger import write_ledger
from voicecosts import connect, query
from voicecosts.consumer.store.ledger import Ledger

SHAPE = """
SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns()
WHERE NOT internal ORDER BY ALL
"""


def test_the_sample_ledger_has_the_shape_of_a_real_one(tmp_path: Path) -> None:
    """Tests of readers would prove nothing on tables and views that no ledger has."""
    with Ledger.open(tmp_path / "real", rate):
        pass
    write_ledger(tmp_path / "sample")
    with connect(tmp_path / "real") as real, connect(tmp_path / "sample") as sample:
        assert sample.execute(SHAPE).fetchall() == real.execute(SHAPE).fetchall()


def test_a_real_ledger_can_be_queried_while_it_books(tmp_path: Path) -> None:
    """The answer is that of the newest snapshot, and the writer is not disturbed by readers."""
    before = datetime.now(UTC)
    with Ledger.open(tmp_path, rate) as ledger:
        assert query(data_dir=tmp_path).total.rows == 0
        ledger.apply([message(1, reading(1, input_tokens=1000), reading(2, input_tokens=3000))])
        with connect(tmp_path) as held:
            ledger.publish_snapshot()
            report = query("session", data_dir=tmp_path)
            assert held.execute("SELECT count(*) FROM usage").fetchall() == [(0,)]
        assert [row.group["session"] for row in report.rows] == [session_id(1)]
        assert report.total.cost == Decimal("0.000370200")
        assert report.as_of is not None
        assert before <= report.as_of <= datetime.now(UTC) + timedelta(seconds=1)
        assert report.completeness.running is True


def test_a_real_ledger_that_ended_is_said_to_be_stopped(tmp_path: Path) -> None:
    """Everything booked is in the last snapshot, and a reader knows that no more will come."""
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply([message(1, reading(1, input_tokens=1000))])
    report = query(data_dir=tmp_path)
    assert report.total.input_tokens == 1000
    assert report.completeness.running is False
    with duckdb.connect(tmp_path / "costs.duckdb", read_only=True, config={"threads": 1}) as plain:
        assert plain.execute("SELECT sum(cost) FROM usage").fetchall() == [(report.total.cost,)]
