"""Tests of the notebook that compares models: its figures are those of a query."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tests.analytics.conftest import ROOT
from tests.analytics.test_notebook import run_cells
from tests.support.events import message, reading, session_id
from voicecosts import query
from voicecosts.consumer.booking.operations import Rerate, Void
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.price_file import PriceFile

NOTEBOOK = ROOT / "analytics" / "notebooks" / "choosing_a_model.py"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:marimo.*")


def test_its_costs_are_those_of_a_query(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each model, as booked, after a re-rating, and without a call that was voided."""
    used = {"input_tokens": 1_000_000, "text_input_tokens": 1_000_000, "requests": 1}
    path = tmp_path / "prices.toml"
    own = PriceFile(path)
    with Ledger.open(tmp_path, rate_by(ListPrices(), own), own_prices=own) as ledger:
        calls = [reading(1, of=n, tenant="acme", **used) for n in (1, 2, 3)]
        lost = used | {"provider": "homebrew", "model": "llama"}
        calls.append(reading(1, of=4, tenant="globex", **lost))
        ledger.apply([message(1, *calls)])
    path.write_text('[[cost]]\nprovider = "homebrew"\nunit = "million tokens"\nprice = "1"\n')
    own = PriceFile(path)
    with Ledger.open(tmp_path, rate_by(ListPrices(), own), own_prices=own) as ledger:
        for work in (
            Void(project=calls[0].project, session_id=session_id(1)),
            Rerate(unpriced=True),
        ):
            ledger.operate(work, reason="a test")
            while ledger.work():
                pass
    for directory in (data_dir, tmp_path):
        monkeypatch.setenv("COSTS_DATA_DIR", str(directory))
        _, variables = run_cells(NOTEBOOK)
        asked = query("modality,provider,model", data_dir=directory).rows
        expected = {
            tuple(row.group.values()): (row.cost, row.sessions, row.input_tokens) for row in asked
        }
        assert expected == {
            (it["modality"], it["provider"], it["model"]): (
                it["cost"], it["calls"], it["input_tokens"],
            )
            for it in variables["models"]
        }  # fmt: skip


def test_the_same_usage_at_other_prices(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every amount by its price, exactly: cached tokens are no other input, speech is billed by its text."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(data_dir))
    _, variables = run_cells(NOTEBOOK)
    zero = {
        "input_tokens": 0, "cached_tokens": 0, "output_tokens": 0, "characters": 0, "audio_us": 0,
    }  # fmt: skip
    prices = {"input": "1", "cached": "0.1", "output": "3", "characters": "0.03", "audio": "0.006"}
    priced = variables["priced"]
    model = zero | {"input_tokens": 1_000_000, "cached_tokens": 400_000, "output_tokens": 10}
    assert priced(model, prices) == Decimal("0.6") + Decimal("0.04") + Decimal("0.00003")
    voice = zero | {"characters": 1500, "audio_us": 90_000_000}
    assert priced(voice, prices) == Decimal("0.045")
    assert priced(zero | {"audio_us": 90_000_000}, prices) == Decimal("0.009")
    for wrong in ("", "cheap", "NaN", "Infinity"):
        assert priced(model, prices | {"input": wrong}) is None


def test_a_ledger_without_calls_has_no_models(
    empty_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new installation opens it too; without a ledger it says what to do."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(empty_dir))
    shown, variables = run_cells(NOTEBOOK)
    assert variables["models"] == []
    assert "the ledger holds no usage yet" in "\n".join(shown)
    monkeypatch.setenv("COSTS_DATA_DIR", str(tmp_path / "none"))
    shown, _ = run_cells(NOTEBOOK)
    assert any("no ledger at" in it for it in shown)
