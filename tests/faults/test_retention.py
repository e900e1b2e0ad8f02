"""A ledger is killed while it removes detail that grew too old, again and again."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final

import pytest

from tests.support.erasures import NOW
from tests.support.faulty_retention import little, remove
from tests.support.history import Told, figures, history
from tests.support.processes import program
from voicecosts.consumer.store.layout import Layout

pytestmark = pytest.mark.faults

STATEMENTS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11)
"""After which statement of what is left it dies, one time after the other."""


def test_a_ledger_that_is_killed_while_it_removes_detail_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row is counted as removed once, no sum has changed, and no file is left that nobody names."""
    little(monkeypatch)
    made = Told(tmp_path)
    steps = list(history(5))
    for place, step in enumerate(steps):
        made.take(step, seals=place < len(steps) // 2)
    before = figures(made.ledger._connection)
    made.close()
    deaths = [program("faulty_retention", at, tmp_path).wait(60) for at in STATEMENTS]
    assert deaths.count(-signal.SIGKILL) > len(STATEMENTS) // 2
    made = Told(tmp_path, NOW[0])
    remove(made)
    after = figures(made.ledger._connection)
    for name in before.keys() - {"usage", "operations"}:
        assert after[name] == before[name], name
    [(rows, removed)] = made.ledger._connection.execute(
        "SELECT sum(rows), sum(removed_rows) FROM detail"
    ).fetchall()
    assert (rows, removed) == (len(after["usage"]), len(before["usage"]) - len(after["usage"]))
    made.close()
    assert after["usage"] == []
    assert not Layout(tmp_path).sealed_files()
    assert not Layout(tmp_path).leftovers()
