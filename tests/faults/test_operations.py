"""A re-rating is killed at exactly one line of its work, and taken up by the next ledger."""

from __future__ import annotations

import signal
from decimal import Decimal
from pathlib import Path
from typing import Final

import duckdb
import pytest

from tests.support.events import message, reading
from tests.support.faulty_operation import FIGURE
from tests.support.price_books import mini
from tests.support.processes import program
from voicecosts.consumer.store.ledger import Ledger

pytestmark = pytest.mark.faults

SESSIONS: Final = 9
SUMS: Final = """
SELECT session_id, sum(cost), sum(list_cost), sum(input_tokens), count(*) FROM usage
GROUP BY session_id ORDER BY session_id
"""


@pytest.mark.parametrize(
    ("line", "times"), [("recorded", (1,)), ("before_commit", (1, 3, 2)), ("after_commit", (1, 2))]
)
def test_a_rerate_that_is_killed_ends_as_one_that_is_not(
    line: str, times: tuple[int, ...], tmp_path: Path
) -> None:
    """Each meter has one row of it, and costs what the prices of today say, to the last digit."""
    with Ledger.open(tmp_path, mini("2")) as ledger:
        ledger.apply(
            [message(1, *(reading(1, of=of, input_tokens=of * 333_333) for of in whole()))]
        )
    for at in times:
        killed = program("faulty_operation", line, at, tmp_path)
        assert killed.wait(60) == -signal.SIGKILL
    with Ledger.open(tmp_path, mini(FIGURE)) as ledger:
        while ledger.work():
            pass
        operation = ledger.operation(1)
        assert operation is not None
        assert operation.ended_us is not None
    with duckdb.connect(str(tmp_path / "costs.duckdb"), read_only=True) as connection:
        found = connection.execute(SUMS).fetchall()
        [(operations,)] = connection.execute("SELECT count(*) FROM operations").fetchall()
    costs = [row[1:] for row in found]
    dollars = [Decimal(of * 333_333) * Decimal(FIGURE) / 10**6 for of in whole()]
    assert costs == [(it, it, of * 333_333, 2) for of, it in zip(whole(), dollars, strict=True)]
    assert operations == 1


def whole() -> range:
    """Return the numbers of the sessions."""
    return range(1, SESSIONS + 1)
