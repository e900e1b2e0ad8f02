"""Tests of `costs calls` and `costs call` as a user runs them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from tests.analytics.conftest import Costs
from tests.support.some_calls import EMPTY, HALF, OPEN, TWO, UNPRICED, call_id, write_calls


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
    assert "\nwarning: " in done.stderr
    wrong = costs("calls", "--sort", "csot", *at)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "did you mean 'cost'" in wrong.stderr


def test_a_receipt_is_written_in_every_form(costs: Costs, tmp_path: Path) -> None:
    """What is meant is one call; where it may be several, nothing is written but what to type."""
    at = ("--data-dir", str(write_calls(tmp_path / "data")))
    page = costs("call", "lobby", *at, NO_COLOR="1")
    assert (page.returncode, page.stderr) == (0, "")
    assert f"call        {call_id(OPEN)}" in page.stdout
    done = costs("call", str(call_id(HALF)), "--project", "staging", "--format", "json", *at)
    assert json.loads(done.stdout)["total"]["cost"] == "1.600000000"
    done = costs("call", "last", "--format", "csv", *at)
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert (row["kind"], row["cost"]) == ("outside", "")
    assert "warning: not in these costs: 2 requests to homebrew/llama" in done.stderr
    for name, said in (("front-desk", "3 calls are meant by"), ("\x1b[31m", "no call has an id")):
        wrong = costs("call", name, *at)
        assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
        assert said in wrong.stderr
        assert wrong.stderr.rstrip("\n").isprintable()
