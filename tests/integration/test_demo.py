"""`costs demo` as a stranger runs it, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import psutil
import pytest

from tests.support.processes import ROOT
from voicecosts import query
from voicecosts.analytics.commands.demo import compare
from voicecosts.producer.demo.calls import Billed

CALLS = 12


def costs(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `costs` to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "voicecosts", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, **environ},
        check=False,
    )


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of one demo run."""
    folder = tmp_path_factory.mktemp("demo") / "kept"
    ran = costs("demo", "--calls", str(CALLS), "--keep", str(folder))
    assert ran.returncode == 0, ran.stderr
    assert str(folder) in ran.stdout.splitlines()[-1]
    return folder


def test_the_demo_agrees_with_the_providers_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Tables by tenant and agent, the unpriced line, the comparison; no process, no file."""
    ran = costs("demo", "--calls", str(CALLS), TMPDIR=str(tmp_path))
    assert ran.returncode == 0, ran.stderr
    assert "$ costs query --by tenant" in ran.stdout
    assert "$ costs query --by agent" in ran.stdout
    assert "(none)" in ran.stdout
    assert "unpriced: " in ran.stdout
    assert "no price list for provider 'Meadow AI'" in ran.stdout
    assert "agrees with the providers' own books" in ran.stdout
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("voicecosts")]
    marked = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(p.info)]
    assert marked == []


def test_what_the_demo_keeps_can_be_queried_afterwards(kept: Path) -> None:
    """Five groups of tenants, one without a name; each call is one ended session."""
    report = query(("tenant",), data_dir=kept)
    assert report.total.sessions == CALLS
    assert None in {row.group["tenant"] for row in report.rows}
    assert report.total.cost is not None
    assert report.total.cost > 0
    assert report.total.unpriced_rows > 0
    assert report.completeness.running is False


def test_a_plain_duckdb_connection_reads_what_the_demo_keeps(kept: Path) -> None:
    """Whoever has DuckDB has the data: no library of ours is needed."""
    with duckdb.connect(
        str(kept / "costs.duckdb"), read_only=True, config={"threads": 1}
    ) as ledger:
        labels = ledger.execute(
            "SELECT DISTINCT agent_label FROM usage WHERE agent_id = 'support'"
        ).fetchall()
    assert {label for (label,) in labels} == {"support", "specialist"}


def test_the_notebook_runs_on_what_the_demo_keeps(kept: Path) -> None:
    """All cells of the first notebook run headless on the demo's ledger."""
    notebook = ROOT / "analytics" / "notebooks" / "first_look.py"
    ran = subprocess.run(
        [sys.executable, str(notebook)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COSTS_DATA_DIR": str(kept)},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_a_difference_is_named_and_fails(kept: Path) -> None:
    """A single token more or less, or a group that only one side knows, is found."""
    with duckdb.connect(
        str(kept / "costs.duckdb"), read_only=True, config={"threads": 1}
    ) as ledger:
        differences, compared = compare(
            ledger,
            [
                Billed(
                    tenant="nobody",
                    agent_id="dental",
                    modality="llm",
                    provider="p",
                    model="m",
                    quantities={"input_tokens": 7},
                )
            ],
        )
    assert compared > len(differences) > 1
    assert "nobody / dental / llm / p / m: input_tokens booked 0, billed 7" in differences


def test_a_folder_that_holds_something_is_not_used(tmp_path: Path) -> None:
    """The demo writes only into a folder of its own."""
    (tmp_path / "precious").touch()
    ran = costs("demo", "--keep", str(tmp_path))
    assert ran.returncode == 1
    assert "is not empty" in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
