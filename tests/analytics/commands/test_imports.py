"""Packages that commands do without, although DuckDB would load them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.processes import CostsProcess
from tests.support.some_calls import write_calls
from voicecosts.analytics.commands.imports import without_pandas


def answers(folder: Path) -> CostsProcess:
    """Return a command that reads a ledger."""
    write_calls(folder / "data")
    return CostsProcess(["calls", "--data-dir", str(folder / "data")], folder / "run")


def books(folder: Path) -> CostsProcess:
    """Return one that writes a ledger, and is told to end at once."""
    return CostsProcess(["up", "--data-dir", str(folder / "data")], folder / "run")


@pytest.mark.parametrize("command", [answers, books])
def test_neither_an_answer_nor_a_ledger_loads_pandas(
    tmp_path: Path, command: Callable[[Path], CostsProcess]
) -> None:
    """DuckDB tries to for each value of a statement: it takes longer than an answer, and Ctrl-C in it is lost."""
    asked = tmp_path / "asked"
    (tmp_path / "pandas.py").write_text(f"open({str(asked)!r}, 'w').close()\n", encoding="utf-8")
    process = command(tmp_path)
    path = [str(tmp_path), *filter(None, [process.environ.get("PYTHONPATH")])]
    process.environ["PYTHONPATH"] = os.pathsep.join(path)
    with process:
        code = process.wait_ready().stop() if command is books else process.wait()
        assert code == 0, process.log
    assert not asked.exists()


def test_pandas_is_there_again_after_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs later in the process may need it; where it is loaded, it stays."""
    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    with without_pandas():
        assert sys.modules["pandas"] is None
    assert "pandas" not in sys.modules
    loaded = ModuleType("pandas")
    monkeypatch.setitem(sys.modules, "pandas", loaded)
    with without_pandas():
        assert sys.modules["pandas"] is loaded
