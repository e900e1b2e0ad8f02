"""Tests of `costs calls` as a user runs it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from tests.analytics.conftest import Costs
from tests.support.some_calls import EMPTY, TWO, UNPRICED, call_id, write_calls


def test_every_option_reaches_the_question(costs: Costs, tmp_path: Path) -> None:
    """Period, condition, order and number are in effect in each form, and CSV has its warnings beside it."""
    at = ("--data-dir", str(write_calls(tmp_path / "data")))
    chosen = ("--since", "2026-11-18T11:08Z", "--until", "2026-11-18T11:10:30Z")
    done = costs("calls", *chosen, "--sort", "started:asc", "--format", "json", *at)
    document = json.loads(done.stdout)
    assert [it["session"] for it in document["calls"]] == [str(call_id(TWO)), str(call_id(EMPTY))]
    assert (document["found"], document["since"]) == (2, "2026-11-18T11:08:00Z")
    table = costs("calls", "--where", "model=llama", "--top", "1", *at, NO_COLOR="1")
    assert (table.returncode, table.stderr) == (0, "")
    assert str(call_id(UNPRICED)) in table.stdout
    assert "1 of 2 calls shown (--top)" in table.stdout
    done = costs("calls", "--format", "csv", "--sort", "cost", *at)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [it["project"] for it in rows if it["cost"] == "1.600000000"] == ["staging"]
    assert rows[-1]["cost"] == ""
    assert done.stderr.startswith("warning: ")
    wrong = costs("calls", "--sort", "csot", *at)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "did you mean 'cost'" in wrong.stderr
