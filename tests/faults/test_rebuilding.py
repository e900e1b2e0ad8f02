"""A ledger is killed while it is made anew, at every thing that is done with a file."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.history import Told, figures, history
from tests.support.processes import program
from voicecosts.consumer.store.layout import Layout

pytestmark = pytest.mark.faults

LAST = history(1)[-1].now


def answered(data_dir: Path) -> dict[str, list[Any]]:
    """Return what every view of the newest snapshot answers."""
    with duckdb.connect((data_dir / "costs.duckdb").resolve(), read_only=True) as snapshot:
        snapshot.execute("SET VARIABLE costs_dir = ?", [str(data_dir)])
        return figures(snapshot)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("has_log", [False, True])
def test_a_ledger_is_whole_wherever_its_rebuild_is_killed(
    partly_sealed: Path,
    tmp_path: Path,
    has_log: bool,  # noqa: FBT001 - two cases
) -> None:
    """The next opening has the old one or the new one, with every row, also those of its log, and no draft."""
    whole = Path(shutil.copytree(partly_sealed, tmp_path / "whole", symlinks=True))
    if has_log:  # as of a ledger that was killed: rows that only its log has
        with duckdb.connect(whole / "ledger" / "ledger.duckdb") as ledger:
            ledger.execute("PRAGMA disable_checkpoint_on_shutdown")
            ledger.execute("SET wal_autocheckpoint = '1TB'")
            ledger.execute("INSERT INTO month_closings VALUES ('2020-01-01', 1)")
        assert Layout(whole).log.stat().st_size > 0
    expected = None
    deaths = 0
    for at in range(1, 100):
        data_dir = Path(shutil.copytree(whole, tmp_path / "data", symlinks=True))
        layout = Layout(data_dir)
        code = program("faulty_rebuilding", at, data_dir).wait(300)
        deaths += code == -signal.SIGKILL
        told = Told(data_dir, LAST)
        told.ledger._snapshots.changed = True
        told.close()
        assert not layout.leftovers(), at
        assert not layout.swap.exists()
        assert not layout.rebuilt.exists()
        found = answered(data_dir)
        expected = expected or found
        assert found == expected, at
        assert (len(found["closed_months"]) == 1) == has_log
        kept = layout.kept()
        assert all(path.stat().st_nlink == 1 for path in kept)
        shutil.rmtree(data_dir)
        if code == 0:
            break
    assert code == 0
    assert kept
    assert deaths > 8
