"""A ledger is killed at every statement and every commit of folding, of adding up months and of settling, while calls go on."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.events import ended, final, message, reading, started
from tests.support.faulty_folding import in_small_slices
from tests.support.oracle import rate
from tests.support.processes import program
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.store import folding, months
from voicecosts.consumer.store.ledger import Ledger

pytestmark = pytest.mark.faults

CALLS: Final = 8
LATER: Final = (*range(1, 20), 3, 8, 9, 10, 11, 12, 7)
"""At which of the things that it does the ledger dies, one time after the other."""

ANSWERS: Final = (
    """
    SELECT session_id, model, sum(rows), sum(sessions), sum(cost), sum(output_tokens)
    FROM session_usage GROUP BY ALL ORDER BY ALL
    """,
    """
    SELECT month, tenant, model, sum(rows), sum(sessions), sum(cost), sum(output_tokens), sum(unpriced_output_tokens)
    FROM monthly_usage GROUP BY ALL ORDER BY ALL
    """,
    "SELECT session_id, cost, rows, status FROM sessions ORDER BY ALL",
    "SELECT session_id, state, cause, readings_arrived, cost FROM completeness ORDER BY ALL",
    "SELECT reason, model, rows, output_tokens FROM unpriced ORDER BY ALL",
    "SELECT count(*), sum(cost) FROM usage",
)


def used(number: int, of: int, thousands: int) -> Any:
    """Return a reading of a call; every third call is of a model without a price."""
    model = "unknown" if of % 3 == 0 else "priced"
    return reading(number, of=of, output_tokens=thousands * 1000, model=model)


def a_call(of: int) -> list[Any]:
    """Return the events of a call of two readings, and of its end for most."""
    model = "unknown" if of % 3 == 0 else "priced"
    totals = final(output_tokens=2000, model=model)
    end = [ended(3, of=of, readings=2, meters=(totals,))] if of % 4 else []
    return [started(of=of), used(1, of, 1), used(2, of, 2), *end]


def test_a_ledger_that_is_killed_while_it_adds_up_answers_as_one_that_never_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is counted twice, nothing is lost, and what comes late in between is booked."""
    told: list[Message] = [message(1, *(it for of in range(1, CALLS + 1) for it in a_call(of)))]
    folded, plain = tmp_path / "folded", tmp_path / "plain"
    with Ledger.open(folded, rate) as ledger:
        ledger.apply(told)
    deaths = 0
    for turn, at in enumerate(LATER):
        killed = program("faulty_folding", str(at), folded)
        deaths += killed.wait(60) == -signal.SIGKILL
        late = message(2 + turn, used(4 + turn, 1 + turn % CALLS, 10 + turn))
        told.append(late)
        with Ledger.open(folded, rate) as ledger:
            ledger.apply([late])
    assert deaths > len(LATER) // 2  # the others had less to do than that
    for name in ("FOLD_ROWS", "SLICE_ROWS", "SLICE_SESSIONS", "SETTLE_AFTER_US"):
        monkeypatch.setattr(folding, name, getattr(folding, name))  # put back after the test
    monkeypatch.setattr(months, "LOOSE_ROWS", months.LOOSE_ROWS)
    with Ledger.open(plain, rate) as ledger:
        ledger.apply(told)
        expected = [ledger._connection.execute(text).fetchall() for text in ANSWERS]
    in_small_slices()
    with Ledger.open(folded, rate) as ledger:
        while ledger.work():
            pass
        assert ledger._connection.execute("SELECT count(*) FROM settled_sessions").fetchone() != (
            0,
        )
        assert [ledger._connection.execute(text).fetchall() for text in ANSWERS] == expected
