"""`costs agents` as an operator runs it: what a folder holds, and where a call would go."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from voicecosts.analytics.commands.app import main
from voicecosts.producer.pool.modules import is_discovered

ROOT = Path(__file__).parents[3]

AGENT = """
from functools import partial
from livekit.agents import Agent
from voicecosts import agent_config
from voicecosts.producer.demo.providers import ScriptedLLM, ScriptedTTS
from beside import GREETING

print("a module that talks while it is imported")

class SecretVoice(ScriptedTTS):
    key = "sk-secret"

def make_llm():
    return ScriptedLLM()

@agent_config({mark})
class {name}(Agent):
    def __init__(self):
        super().__init__(instructions="x")
"""

ER = "name='dental-er', llm=partial(ScriptedLLM, model='m'), tts=SecretVoice(), greeting=GREETING"

WITHOUT_LIVEKIT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "livekit":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""


class Ran(NamedTuple):
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


Costs = Callable[..., Ran]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two agents that use a module beside their worker."""
    place = tmp_path_factory.mktemp("worker")
    (place / "beside.py").write_text("GREETING = 'Good evening. ' * 5")
    agents = place / "agents"
    agents.mkdir()
    marks = {
        "dental.py": ("stt='deepgram/nova-3', llm=make_llm", "Dental"),
        "er.py": (ER, "Emergency"),
    }
    for file, (mark, name) in marks.items():
        (agents / file).write_text(AGENT.format(mark=mark, name=name))
    return agents


@pytest.fixture
def costs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Costs]:
    """Run `costs agents` in this process, as the command itself would."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def forget() -> None:
        for name in set(sys.modules) - before:
            if is_discovered(name) or name == "beside":
                del sys.modules[name]

    def run(*arguments: str) -> Ran:
        forget()
        with pytest.raises(SystemExit) as ended:
            main(["agents", *arguments])
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, *capsys.readouterr())

    yield run
    forget()


def test_the_table_shows_each_agent_and_marks_the_default(costs: Costs, folder: Path) -> None:
    """In the order of registration; cells are cut, and what a provider holds is not shown."""
    shown = costs("list", "--agents-dir", str(folder))
    assert shown.returncode == 0
    title, _, first, second = shown.stdout.splitlines()
    assert title == (
        "name              class      stt              llm            tts          greeting"
    )
    assert first == "dental (default)  Dental     deepgram/nova-3  make_llm()     -            -"
    assert second == (
        "dental-er         Emergency  -                ScriptedLLM()  SecretVoice  "
        "Good evening. Good evening. Good ev…"
    )


def test_json_holds_everything_and_nothing_else_is_on_standard_output(
    costs: Costs, folder: Path
) -> None:
    """What the modules print goes to standard error, so the answer can be piped."""
    shown = costs("list", "--agents-dir", str(folder), "--json")
    first, second = json.loads(shown.stdout)["agents"]
    assert first == {
        "name": "dental",
        "class": "Dental",
        "stt": "deepgram/nova-3",
        "llm": "make_llm()",
        "tts": None,
        "greeting": None,
        "default": True,
        "file": str(folder / "dental.py"),
    }
    assert (second["name"], second["default"]) == ("dental-er", False)
    assert second["greeting"] == "Good evening. " * 5
    assert "sk-secret" not in shown.stdout + shown.stderr
    assert shown.stderr == "a module that talks while it is imported\n" * 2


def test_plain_is_one_line_per_agent(costs: Costs, folder: Path) -> None:
    """For `grep`."""
    first, second = costs("list", "--agents-dir", str(folder), "--plain").stdout.splitlines()
    assert first == (
        "dental: class='Dental', stt='deepgram/nova-3', llm='make_llm()', tts=None, "
        "greeting=None, default=True"
    )
    assert second.startswith("dental-er: class='Emergency'")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["list"], 2, "Missing option '--agents-dir'"),
        (["list", "--agents-dir", "nowhere"], 1, "does not exist: name a folder with .py files"),
        (["list", "--agents-dir", "."], 1, "holds no agent: put one into a .py file"),
        (["list", "--agents-dir", ".", "--json", "--plain"], 2, "give --json or --plain, not both"),
        (["route", "--agents-dir", "."], 1, "holds no agent"),
    ],
)
def test_a_mistake_is_one_line_and_a_code(
    costs: Costs, arguments: list[str], code: int, message: str
) -> None:
    """Standard output stays empty."""
    done = costs(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["list", "route"])
def test_a_broken_module_is_named_with_its_error(
    costs: Costs, tmp_path: Path, command: str
) -> None:
    """The same that keeps the worker from starting."""
    (tmp_path / "broken.py").write_text("import no_such_plugin")
    done = costs(command, "--agents-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: agent module 'broken.py' in {tmp_path}: it cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_plugin'\n"
    )


def test_without_livekit_the_missing_extra_is_named(folder: Path) -> None:
    """The base installation has the command; what it lacks for it is one line away."""
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-c",
                f"{WITHOUT_LIVEKIT}\nfrom voicecosts.analytics.commands.app import main; main()",
            ),
            *("agents", "list", "--agents-dir", str(folder)),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == 6
    assert done.stderr == (
        "error: `costs agents list` needs the extra 'agents': pip install 'voicecosts[agents]'\n"
    )


def test_route_shows_which_rule_decides_and_why(costs: Costs, folder: Path) -> None:
    """Every rule in its order: what it found, which one decided, which were not asked."""
    shown = costs(
        *("route", "--agents-dir", str(folder), "--room", "dental-er-7"),
        *("--job-metadata", '{"agent": " ", "tenant": "acme"}', "--room-metadata", "no JSON"),
    )
    assert shown.returncode == 0
    assert shown.stdout.splitlines() == [
        "dental, via room name prefix; tenant acme",
        "",
        "  job metadata 'agent'   it is blank",
        "  job metadata 'demo'    there is no such key",
        "  room metadata 'agent'  the metadata is not a JSON object",
        "  room metadata 'demo'   the metadata is not a JSON object",
        "  room name prefix       'dental-er-7' begins with 'dental-', before 'dental-er' <- decides",
        "  default fallback       not asked",
    ]


def test_route_by_metadata_asks_nothing_else(costs: Costs, folder: Path) -> None:
    """The first rule that names an agent ends the chain."""
    metadata = '{"agent": "dental-er"}'
    shown = costs("route", "--agents-dir", str(folder), "--job-metadata", metadata)
    lines = shown.stdout.splitlines()
    assert lines[0] == "dental-er, via job metadata; tenant (none)"
    assert lines[2] == "  job metadata 'agent'   it is 'dental-er' <- decides"
    assert all(line.endswith("  not asked") for line in lines[3:])


def test_a_call_that_would_be_refused_is_an_error_with_its_steps(
    costs: Costs, folder: Path
) -> None:
    """The same words as in the worker's log, and a code that a script can see."""
    metadata = '{"agent": "sales"}'
    done = costs("route", "--agents-dir", str(folder), "--job-metadata", metadata)
    assert done.returncode == 1
    assert done.stdout.startswith("refused\n\n  job metadata 'agent'")
    assert done.stdout.count("<- decides") == 1
    refusal = "Unknown agent 'sales' requested via job metadata. Registered: dental, dental-er."
    assert done.stderr.splitlines()[-1] == f"error: {refusal}"


def test_the_tenant_of_a_route_is_kept_as_a_call_keeps_it(costs: Costs, folder: Path) -> None:
    """A tenant with a blank in it is shown as it will stand in the ledger."""
    metadata = '{"tenant": " Acme Corp "}'
    shown = costs("route", "--agents-dir", str(folder), "--job-metadata", metadata)
    assert shown.stdout.splitlines()[0] == "dental, via default fallback; tenant Acme Corp"


def test_a_route_as_json_can_be_read_by_a_program(costs: Costs, folder: Path) -> None:
    """Agent, source, tenant, refusal, and what each rule says."""
    done = costs("route", "--agents-dir", str(folder), "--json", "--room", "x")
    answer = json.loads(done.stdout)
    assert {key: answer[key] for key in ("agent", "source", "tenant", "refused")} == {
        "agent": "dental",
        "source": "default fallback",
        "tenant": None,
        "refused": None,
    }
    assert [rule["asks"] for rule in answer["rules"]][-2:] == [
        "room name prefix",
        "default fallback",
    ]
    assert answer["rules"][-1]["agent"] == "dental"
    metadata = '{"agent": "sales"}'
    done = costs("route", "--agents-dir", str(folder), "--json", "--job-metadata", metadata)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["agent"]) == (1, None)
    assert answer["refused"].startswith("Unknown agent 'sales'")
    assert answer["rules"][1] == {"asks": "job metadata 'demo'", "agent": None, "says": None}
