"""Tests of `costs statement` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.analytics.conftest import Costs


def test_a_statement_is_written_in_every_form(costs: Costs, data_dir: Path) -> None:
    """What is meant for the operator is on standard error; the page is what is sent."""
    at = ("--month", "2026-11", "--data-dir", str(data_dir))
    done = costs("statement", "--tenant", "globex", *at)
    assert (done.returncode, done.stdout.split("\n")[0]) == (0, "# Statement: globex, 2026-11")
    assert "warning: not in these costs: 1 request to homebrew/llama" in done.stderr
    assert "costs" not in done.stdout
    done = costs("statement", "--tenant", "acme", "--format", "json", "--with-cost", *at)
    assert json.loads(done.stdout)["total"]["cost"] == "1.132000003"
    done = costs("statement", "--tenant", "(none)", "--format", "csv", "--project", "prod", *at)
    assert done.stdout.split("\n")[1].startswith(",2026-11,usage,False,,,sales,llm,1,1,")
    wrong = costs("statement", "--tenant", "glbex", *at)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert "did you mean 'globex'" in wrong.stderr
