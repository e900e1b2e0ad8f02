"""`costs demo` as a stranger runs it, and what it leaves behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest
from livekit.agents import Agent, AgentSession
from typer.testing import CliRunner

from tests.support.grafana import PANELS, VARIABLES, filled
from tests.support.jobs import job
from tests.support.oracle import rate
from tests.support.pool_agents import QUIET
from tests.support.processes import ROOT
from voicecosts import CostObserver, query
from voicecosts.analytics.commands.demo import METERED, BadFolder, _prepare, app, compare
from voicecosts.analytics.commands.exits import code_of
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.demo.calls import Billed
from voicecosts.producer.demo.providers import ScriptedLLM

CALLS = 12


def block() -> str:
    """Return the block of the README's first screen that has the demo."""
    blocks = (ROOT / "README.md").read_text(encoding="utf-8").split("```console\n")[1:]
    return next(found for it in blocks if "costs demo" in (found := it.split("```")[0]))


def readme_commands() -> list[str]:
    """Return what that block has a stranger type."""
    return [line.removeprefix("$ ") for line in block().splitlines() if line.startswith("$ ")]


def typed(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a line as somebody types it, who has this home directory and set nothing."""
    mine = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("COSTS_", "XDG_", "COLUMNS"))
    }
    return subprocess.run(
        ["bash", "-c", f'costs() {{ {sys.executable} -P -m voicecosts "$@"; }}\n{command}'],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={**mine, "HOME": str(home), "TMPDIR": str(home / "tmp")},
        check=False,
    )


@pytest.fixture(scope="module")
def shown() -> dict[str, str]:
    """What the demo printed, under `text`."""
    return {}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory: where a stranger's data goes who sets nothing."""
    home = tmp_path_factory.mktemp("home")
    (home / "tmp").mkdir()
    return home


@pytest.fixture(scope="module")
def kept(home: Path, shown: dict[str, str]) -> Path:
    """The data of the demo that the README's first screen has, with fewer calls."""
    dear = home / "dear.toml"
    dear.write_text('[[cost]]\nmodality = "llm"\nunit = "request"\nprice = "9"\n')
    for_others = (
        "export COSTS_SERVERS=tls://bus COSTS_CREDENTIALS=/absent COSTS_TLS_CA=/absent "
        f"COSTS_PRICES={dear} COSTS_MAX_READING=0.000001 COSTS_PROJECT=mine COSTS_OUTBOX_DIR="
    )
    command = readme_commands()[0].rpartition("&& ")[2]
    ran = typed(f"{for_others}; {command} --calls {CALLS}", home)
    assert ran.returncode == 0, ran.stderr
    shown["text"] = ran.stdout
    return home / ".local" / "share" / "voicecosts" / "demo"


def test_the_demo_agrees_with_the_providers(kept: Path, shown: dict[str, str]) -> None:
    """A table by tenant, what has no price, a receipt turn by turn, and the comparison."""
    for part in (
        "By tenant:",
        "(none)",
        "unpriced",
        "meadow",
        "cost most, turn by turn",
        "dearest",
    ):
        assert part in shown["text"]
    assert "agrees with the providers' own books" in shown["text"]


def test_the_demo_is_the_same_in_any_environment(kept: Path, shown: dict[str, str]) -> None:
    """Neither prices nor bounds of somebody's own ledger are in its figures, and it says so."""
    assert shown["text"].splitlines()[0] == (
        "not used here, so that every demo is the same: COSTS_CREDENTIALS, COSTS_MAX_READING, "
        "COSTS_PRICES, COSTS_PROJECT, COSTS_SERVERS, COSTS_TLS_CA"
    )
    report = query(("project", "modality"), data_dir=kept)
    assert report.total.cost == report.total.list_cost
    assert {row.group["project"] for row in report.rows} == {"demo"}
    assert report.completeness.dead_letters == 0


def test_the_demo_leaves_its_ledger_and_nothing_else(kept: Path, home: Path) -> None:
    """No process, no temporary file, and beside the ledger nothing that only the demo needed."""
    assert list((home / "tmp").iterdir()) == []
    assert [path.name for path in kept.parent.iterdir()] == ["demo"]
    assert not {"demo.log", "tmp", "up.json"} & {path.name for path in kept.iterdir()}
    marked = [p for p in psutil.process_iter(["cmdline"]) if str(home) in str(p.info)]
    assert marked == []


def test_the_commands_that_the_demo_ends_with_work(
    kept: Path, home: Path, shown: dict[str, str]
) -> None:
    """What a new user reads last can be pasted."""
    *commands, last = [line for line in shown["text"].splitlines() if line.startswith("  costs ")]
    assert len(commands) == 3
    for command in commands:
        assert str(kept) in command
        assert typed(command, home).returncode == 0
    assert last == "  costs query --by agent"  # of one's own agent: there is none here


@pytest.mark.parametrize("where", ["README", "demo"])
async def test_two_lines_meter_an_agent_without_anything_that_runs(
    where: str, shown: dict[str, str], kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the README's first screen, and those that the demo ends with, as they stand."""
    assert kept
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = page.split("```python\n")[1].split("```")[0] if where == "README" else METERED
    assert where == "README" or textwrap.indent(lines, "  ") in shown["text"]
    assert len(lines.splitlines()) == 2
    monkeypatch.setenv("COSTS_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("COSTS_OUTBOX_DIR", raising=False)
    session: AgentSession[Any] = AgentSession(llm=ScriptedLLM(), **QUIET)
    with job("call-1") as ctx:
        names = {"CostObserver": CostObserver, "session": session, "ctx": ctx}
        exec(lines, names)  # noqa: S102 - ours
        await session.start(Agent(instructions="x"))
        await session.run(user_input="#1# hello")
        await session.aclose()
    assert await names["observer"].flush()
    [row] = query("agent", data_dir=tmp_path).rows
    assert (row.group, row.sessions, row.requests) == ({"agent": "dental"}, 1, 1)


def test_the_first_screen_of_the_readme_works_as_typed(kept: Path, home: Path) -> None:
    """Its commands answer, and the tables have the columns that the page shows.

    `last` is the call that began last, which is another one where the machine is busy: it may have more columns.
    """
    (_, *then) = readme_commands()
    assert len(then) == 2
    answers = [typed(command, home) for command in then]
    assert [it.returncode for it in answers] == [0, 0]
    found = [set(line.split()) for it in answers for line in it.stdout.splitlines()]
    heads = [it for it in block().splitlines() if it.startswith(("tenant ", "modality ", "turn "))]
    assert len(heads) == 3
    assert [head for head in heads if not any(set(head.split()) <= it for it in found)] == []


def test_what_the_demo_keeps_can_be_queried_afterwards(kept: Path) -> None:
    """Five groups of tenants, one without a name; each call is one ended session."""
    report = query(("tenant",), data_dir=kept)
    assert report.total.sessions == CALLS
    assert None in {row.group["tenant"] for row in report.rows}
    assert report.total.cost is not None
    assert report.total.cost > 0
    assert report.total.unpriced_rows > 0
    assert report.completeness.running is False
    assert any("belongs to a demo that has ended" in it for it in report.warnings)
    assert not any("not running" in it for it in report.warnings)


@pytest.mark.slow
def test_the_advice_of_an_empty_ledger_fills_one(tmp_path: Path) -> None:
    """What it says to run is run as it stands, and the last command shows costs."""
    Ledger.open(tmp_path / "empty", rate).close()
    [sentence] = [it for it in query(data_dir=tmp_path / "empty").warnings if "no usage yet" in it]
    commands = re.findall(r"`(costs [^`]+)`", sentence)
    assert len(commands) == 2
    for command in commands:
        ran = typed(command.replace("DIR", str(tmp_path / "filled")), tmp_path)
        assert ran.returncode == 0, ran.stderr
    assert "no usage" not in ran.stdout + ran.stderr
    assert query(data_dir=tmp_path / "filled").total.sessions > 0


def test_a_plain_duckdb_connection_reads_what_the_demo_keeps(kept: Path) -> None:
    """Whoever has DuckDB has the data: no library of ours is needed."""
    with duckdb.connect(
        str(kept / "costs.duckdb"), read_only=True, config={"threads": 1}
    ) as ledger:
        labels = ledger.execute(
            "SELECT DISTINCT agent_label FROM usage WHERE agent_id = 'support'"
        ).fetchall()
    assert {label for (label,) in labels} == {"support", "specialist"}


@pytest.mark.parametrize("name", ["first_look", "one_call", "choosing_a_model"])
def test_the_notebooks_run_on_what_the_demo_keeps(kept: Path, name: str) -> None:
    """All cells of each notebook run headless on the demo's ledger."""
    notebook = ROOT / "analytics" / "notebooks" / f"{name}.py"
    ran = subprocess.run(
        [sys.executable, str(notebook)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COSTS_DATA_DIR": str(kept)},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_every_panel_of_grafana_runs_on_what_the_demo_keeps(kept: Path) -> None:
    """With all tenants and agents chosen, and its cost is that of the query."""
    with duckdb.connect(
        str(kept / "costs.duckdb"), read_only=True, config={"threads": 1}
    ) as ledger:
        tenants, agents = (
            [name for (name,) in ledger.sql(VARIABLES[each]).fetchall()]
            for each in ("tenant", "agent")
        )
        found = {
            title: ledger.sql(filled(sql, tenants=tenants, agents=agents)).fetchall()
            for title, sql in PANELS.items()
        }
    total = query(data_dir=kept).total
    assert found["Cost"] == [(total.cost,)]
    assert found["Calls"] == [(CALLS,)] == [(total.sessions,)]
    assert all(rows for title, rows in found.items() if title != "Unsettled calls")


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


def test_the_next_demo_replaces_the_folder_of_the_last_one(tmp_path: Path) -> None:
    """One folder, however often it is run; a folder that the demo did not make is left alone."""
    own = tmp_path / "demo"
    own.mkdir()
    (own / "precious").touch()
    with pytest.raises(BadFolder, match="is not empty"):
        _prepare(own, is_own=True)
    assert [path.name for path in own.iterdir()] == ["precious"]
    (own / "made-by-costs-demo").touch()
    _prepare(own, is_own=True)
    assert [path.name for path in own.iterdir()] == ["made-by-costs-demo"]


@pytest.mark.parametrize(
    ("keep", "problem"),
    [
        ("full", "full is not empty"),
        ("full/file", "full/file cannot be used (File exists)"),
        ("full/file/below", "full/file/below cannot be used (Not a directory)"),
        ("/proc/demo", "/proc/demo cannot be used ("),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path, keep: str, problem: str) -> None:
    """A folder with files, a file, a read-only place: nothing is touched, nothing is left."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    ended = CliRunner().invoke(app, ["--keep", str(tmp_path / keep)])
    assert isinstance(ended.exception, BadFolder)
    assert str(ended.exception).startswith(str(tmp_path / keep))
    assert problem in str(ended.exception)
    assert str(ended.exception).endswith("name a new or empty folder with --keep")
    assert code_of(ended.exception) == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full"]
