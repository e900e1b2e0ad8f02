"""A ledger is killed at every line of sealing its days, again and again, while late readings arrive."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final

import duckdb
import pytest

from tests.support.faulty_sealing import SEED, go_on
from tests.support.history import Told, figures, history, often
from tests.support.processes import program
from voicecosts.consumer.store.layout import Layout

pytestmark = pytest.mark.faults

LEFT: Final = {
    "drafted": ({".parquet.tmp"}, 0),
    "named": (set[str](), 1),
    "moving": (set[str](), 1),
    "moved": (set[str](), 0),
    "copied": ({"new.tmp"}, 0),
    "replaced": (set[str](), 0),
}
"""What a death at each line leaves: drafts, and how many files that no row records."""

STATEMENTS: Final = range(1, 22)
"""After which of the statements and commits of sealing the ledger dies, one time after the other."""


def drafts(layout: Layout) -> set[str]:
    """Return which kinds of drafts are there."""
    names = (path.name for path in layout.leftovers())
    return {"".join(["", *name.partition(".parquet")[1:]]) or name for name in names} - {
        "new.tmp.wal",
        "verified.duckdb.tmp",
    }


def recorded(layout: Layout) -> set[str]:
    """Return which files the ledger's file has recorded."""
    with duckdb.connect(layout.ledger, read_only=True) as ledger:
        return {name for (name,) in ledger.execute("SELECT file FROM sealed_files").fetchall()}


def test_a_ledger_that_is_killed_while_it_seals_ends_as_one_that_only_booked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost, nothing is there twice, and no file is left that no row records."""
    plain, sealed = tmp_path / "plain", tmp_path / "sealed"
    told = Told(plain)
    for step in history(SEED):
        told.take(step, seals=False)
    told.close()
    layout = Layout(sealed)
    for at in (1, 2):
        for line, left in LEFT.items():
            times = 1 if line in ("copied", "replaced") else at
            killed = program("faulty_sealing", line, times, sealed)
            assert killed.wait(60) == -signal.SIGKILL, line
            assert (drafts(layout), len(set(layout.sealed_files()) - recorded(layout))) == left, (
                line
            )
    deaths = [program("faulty_sealing", "said", at, sealed).wait(60) for at in STATEMENTS]
    assert (
        deaths.count(-signal.SIGKILL) > len(STATEMENTS) // 2
    )  # the others had less to do than that
    often(monkeypatch)
    go_on(sealed).close()
    assert recorded(layout)
    assert recorded(layout) == set(layout.sealed_files())
    assert not layout.leftovers()
    found = []
    for data_dir in (plain, sealed):
        with duckdb.connect((data_dir / "costs.duckdb").resolve(), read_only=True) as snapshot:
            found.append(figures(snapshot))
    assert found[1] == found[0]
