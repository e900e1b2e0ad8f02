"""Tests of the first notebook: every cell runs on a real ledger and shows its numbers."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from decimal import Decimal
from html import unescape
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.analytics.conftest import ROOT
from tests.support.events import message, reading, session_id
from tests.support.history import Told, history, often
from tests.support.sample_ledger import ACME, Booking, day, write_ledger
from voicecosts import query
from voicecosts.consumer.booking.operations import Adjust, Rerate, Retain, Revert, Void
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.price_file import PriceFile

NOTEBOOK = ROOT / "analytics" / "notebooks" / "first_look.py"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:marimo.*")


def run_cells(notebook: Path = NOTEBOOK) -> tuple[list[str], Any]:
    """Run the notebook in this process; return what its cells show as text, and its variables."""
    spec = spec_from_file_location("first_look", notebook)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    outputs, variables = module.app.run()
    return [unescape(str(getattr(it, "text", it))) for it in outputs], variables


def test_every_cell_shows_the_numbers_of_the_ledger(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The total in the heading, the tenants, the days and the models are those of the ledger."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(data_dir))
    shown, variables = run_cells()
    page = "\n".join(shown)
    for expected in ("4.032000003 USD", "2.500000000", "1.132000003", "sonic-2", "unknown_model"):
        assert expected in page
    assert "<td>(none)</td>" in page  # as everywhere, and not "None"
    number = '<td class="number">'
    assert f"{number}unpriced</td>" in page
    assert f"{number}4.000000001</td>{number}0.000000000</td>" in page  # none is estimated
    with duckdb.connect(data_dir / "costs.duckdb", read_only=True) as plain:
        days = plain.execute("SELECT day, modality, sum(cost) FROM usage GROUP BY ALL").fetchall()
    rows = variables["records"](variables["by_day"])
    assert {(row["day"], row["modality"], row["cost"]) for row in rows} == set(days)
    bars = variables["chart"].to_dict()["data"]["values"]
    assert {(bar["day"], bar["cost"]) for bar in bars} == {
        (str(day), float(cost)) for day, _, cost in days if cost is not None
    }


def test_the_same_id_in_two_projects_is_two_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table counts as the heading does."""
    both = [
        Booking(occurred_at=day(20), session_id=ACME, project=project, cost="1.000000000")
        for project in ("prod", "staging")
    ]
    monkeypatch.setenv("COSTS_DATA_DIR", str(write_ledger(tmp_path, both)))
    _, variables = run_cells()
    assert [row["sessions"] for row in variables["records"](variables["by_tenant"])] == [2]


def test_its_figures_are_those_of_a_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A voided call and an adjustment are no calls, and a price that was taken back is not zero."""
    used = {"input_tokens": 1_000_000, "text_input_tokens": 1_000_000, "requests": 1}
    lost = used | {"provider": "homebrew", "model": "llama"}
    path = tmp_path / "prices.toml"
    own = PriceFile(path)
    with Ledger.open(tmp_path, rate_by(ListPrices(), own), own_prices=own) as ledger:
        calls = [reading(1, of=n, tenant="acme", **used) for n in (1, 2, 3)]
        calls.append(reading(1, of=4, tenant="globex", **lost))
        ledger.apply([message(1, *calls)])
    path.write_text('[[cost]]\nprovider = "homebrew"\nunit = "million tokens"\nprice = "1"\n')
    project = calls[0].project
    adjusted = Adjust(amount=Decimal(-1), day=date(2026, 11, 18), project=project, tenant="late")
    own = PriceFile(path)
    with Ledger.open(tmp_path, rate_by(ListPrices(), own), own_prices=own) as ledger:
        for work in (
            Void(project=project, session_id=session_id(1)),
            adjusted,
            Rerate(unpriced=True),
            Revert(operation=3),
        ):
            ledger.operate(work, reason="a test")
            while ledger.work():
                pass
    monkeypatch.setenv("COSTS_DATA_DIR", str(tmp_path))
    _, variables = run_cells()
    shown = {
        row["tenant"]: (row["cost"], row["sessions"])
        for row in variables["records"](variables["by_tenant"])
    }
    asked = query(data_dir=tmp_path).rows
    assert shown == {row.group["tenant"]: (row.cost, row.sessions) for row in asked}
    assert shown == {
        "acme": (Decimal("0.8"), 2),
        "late": (Decimal(-1), 0),
        "globex": (None, 1),
    }
    models = {row["model"]: row["cost"] for row in variables["records"](variables["by_model"])}
    assert models == {
        row.group["model"]: row.cost for row in query("model", data_dir=tmp_path).rows
    }


def test_its_figures_stay_when_single_rows_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads sums, which are kept for ever."""
    often(monkeypatch)
    told = Told(tmp_path)
    for step in history(2):
        told.take(step, seals=True)
    told.ledger.operate(Retain(days=1), reason="a test")
    while told.ledger.work():
        pass
    told.close()
    monkeypatch.setenv("COSTS_DATA_DIR", str(tmp_path))
    _, variables = run_cells()
    left, booked = (
        variables["ledger"]
        .sql("SELECT (SELECT count(*) FROM usage), (SELECT sum(rows) FROM session_usage)")
        .fetchall()[0]
    )
    assert left < booked
    for name, cell in (("tenant", "by_tenant"), ("model", "by_model")):
        shown = {row[name]: row["cost"] for row in variables["records"](variables[cell])}
        assert shown == {it.group[name]: it.cost for it in query(name, data_dir=tmp_path).rows}
    days = variables["records"](variables["by_day"])
    assert sum(row["cost"] or 0 for row in days) == query(data_dir=tmp_path).total.cost


def test_an_empty_ledger_shows_a_page_without_rows(
    empty_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new installation opens the notebook too."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(empty_dir))
    shown, _ = run_cells()
    page = "\n".join(shown)
    assert "the ledger holds no usage yet" in page
    assert "no rows" in page


def test_without_a_ledger_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No bare headings: the sentence of the error, and no cell that fails after it."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(tmp_path / "none"))
    page = tmp_path / "page.html"
    command = [
        *(sys.executable, "-m", "marimo", "export", "html", str(NOTEBOOK), "-o", str(page)),
        *("--", "--data-dir", str(tmp_path / "none")),
    ]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=False, capture_output=True, env=env, cwd=tmp_path, timeout=100)
    assert "no ledger at" in page.read_text()
    assert "Traceback" not in page.read_text()


def test_a_query_of_ones_own_that_cannot_run_says_why(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB's own words, and the page goes on."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(data_dir))
    text = NOTEBOOK.read_text().replace(
        "        agent_id,\n        agent_label,\n        count",
        "        agent_idd,\n        count",
        1,
    )
    wrong = data_dir.parent / "wrong.py"
    wrong.write_text(text)
    shown, _ = run_cells(wrong)
    assert any("DuckDB cannot run this query" in it and "agent_idd" in it for it in shown)


@pytest.mark.parametrize("how", ["python", "export"])
def test_it_runs_headless(data_dir: Path, tmp_path: Path, how: str) -> None:
    """As a script and as an exported page, with the data directory as an argument."""
    page = tmp_path / "page.html"
    commands = {
        "python": [sys.executable, str(NOTEBOOK), "--data-dir", str(data_dir)],
        "export": [
            *(sys.executable, "-m", "marimo", "export", "html", str(NOTEBOOK), "-o", str(page)),
            *("--", "--data-dir", str(data_dir)),
        ],
    }
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    subprocess.run(
        commands[how], check=True, capture_output=True, env=env, cwd=tmp_path, timeout=100
    )
    if how == "export":
        assert "4.032000003" in page.read_text()
