"""Tests of the notebook about one call: its cells say what the receipt says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.analytics.conftest import ROOT
from tests.analytics.test_notebook import run_cells
from tests.support.sample_ledger import ACME, SHY
from voicecosts import call

NOTEBOOK = ROOT / "analytics" / "notebooks" / "one_call.py"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:marimo.*")


def naming(call_id: str, tmp_path: Path) -> Path:
    """Return the notebook with this call in its field from the start."""
    copy = tmp_path / "one_call.py"
    text = NOTEBOOK.read_text()
    assert text.count('or "last"') == 1
    copy.write_text(text.replace('or "last"', f"or {call_id!r}"))
    return copy


def test_its_parts_and_its_readings_are_those_of_the_receipt(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The total, each modality, what is in no turn, the prices, and the single rows behind it."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(data_dir))
    shown, variables = run_cells(naming(str(ACME), tmp_path))
    receipt = call(str(ACME), data_dir=data_dir)
    page = "\n".join(shown)
    assert variables["receipt"].total == receipt.total
    assert f"<td>{receipt.total.cost:f} USD</td>" in page
    for part in receipt.parts:
        cost = f'<td class="number">{part.cost:f}</td>'
        assert f"<td>{part.group['modality']}</td>{cost}" in page
    assert "in no turn" in page
    assert "sonic-2" in page
    readings = variables["readings"].fetchall()
    assert sum(row[4] for row in readings) == receipt.total.cost


def test_the_name_of_a_tenant_is_text(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not printable is spelled out, and what has no price says so."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(data_dir))
    shown, _ = run_cells(naming(str(SHY), tmp_path))
    page = "\n".join(shown)
    assert r"[red]sh\x1b[31my[/red]" in page
    assert "<td>unpriced USD</td>" in page


def test_a_call_that_is_not_there_is_a_sentence(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is a data directory without a ledger; no cell below fails."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(data_dir))
    shown, variables = run_cells(naming("nobody-knows-it", tmp_path))
    said = [at for at, it in enumerate(shown) if "nobody-knows-it" in it]
    last = next(at for at, it in enumerate(shown) if "How the cells above" in it)
    assert said[0] < last  # where one looks, and not below the end of the page
    assert "receipt" not in variables
    monkeypatch.setenv("COSTS_DATA_DIR", str(tmp_path / "none"))
    shown, _ = run_cells(NOTEBOOK)
    assert any("no ledger at" in it for it in shown)
