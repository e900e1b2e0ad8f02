"""Tests of JSON and CSV: public formats, held by golden files."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.sample_ledger import NOW
from voicecosts import query
from voicecosts.analytics.text.render import as_csv, as_json

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("by_tenant", {"by": "tenant"}),
        ("by_day_and_model", {"by": "day,model", "where": "tenant=acme", "since": "2026-11-20"}),
    ],
)
@pytest.mark.parametrize("form", ["json", "csv"])
def test_output_is_what_it_was(data_dir: Path, name: str, asked: dict[str, str], form: str) -> None:
    """Scripts read these bytes: keys, order, nulls and digits change only on purpose."""
    report = query(**asked, data_dir=data_dir, now=NOW)  # type: ignore[arg-type]  # all of them are text
    output = as_json(report) if form == "json" else as_csv(report)
    assert output.decode() == (GOLDEN / f"{name}.{form}").read_text()


def test_money_in_json_is_text_and_unknown_money_is_null(data_dir: Path) -> None:
    """A binary number would lose nano-dollars, a zero would hide what has no price."""
    document = json.loads(as_json(query("tenant", data_dir=data_dir, now=NOW)))
    costs = {row["tenant"]: row["cost"] for row in document["rows"]}
    assert costs["acme"] == "1.132000003"
    assert costs[None] == "0.400000000"
    assert costs["[red]sh\x1b[31my[/red]"] is None
    assert document["total"]["cost"] == "4.032000003"


def test_json_says_what_it_speaks_of(data_dir: Path) -> None:
    """Columns, currency, period, moment and source are in the document itself."""
    report = query("agent", until="today", data_dir=data_dir, now=NOW)
    document = json.loads(as_json(report))
    told = {key: document[key] for key in ("by", "currency", "since", "until", "as_of", "source")}
    assert told == {
        "by": ["agent"],
        "currency": "USD",
        "since": None,
        "until": "2026-11-21T00:00:00Z",
        "as_of": "2026-11-21T14:03:12Z",
        "source": "snapshot",
    }


def test_csv_adds_up_and_leaves_unknown_values_empty(data_dir: Path) -> None:
    """No total line, so the column can be summed; no tenant and no price are empty fields."""
    rows = list(csv.DictReader(io.StringIO(as_csv(query(data_dir=data_dir, now=NOW)).decode())))
    assert sum(Decimal(row["cost"]) for row in rows if row["cost"]) == Decimal("4.032000003")
    assert [row["tenant"] for row in rows] == ["globex", "acme", "", "[red]sh\x1b[31my[/red]"]
    assert rows[-1]["cost"] == ""


def test_an_empty_report_is_still_a_document(empty_dir: Path) -> None:
    """A script gets an empty list and a header, not an error."""
    report = query(data_dir=empty_dir, now=NOW)
    document = json.loads(as_json(report))
    assert document["rows"] == []
    assert document["total"]["cost"] is None
    assert as_csv(report).decode().splitlines() == [as_csv(report).decode().strip()]
