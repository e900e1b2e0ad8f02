"""Tests of the command as a user runs it: output, exit codes, terminals, missing parts."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from importlib import import_module
from pathlib import Path

import pytest
from rich.cells import cell_len
from typer.main import get_group

from tests.analytics.conftest import ROOT, Costs
from tests.support.sample_ledger import write_snapshot
from tests.support.some_calls import write_calls
from voicecosts.analytics.commands.app import COMMANDS, main

HEAVY = ("duckdb", "nats", "livekit", "rich", "marimo", "voice_prices")

LOADED = f"""
import atexit, sys
atexit.register(lambda: print(*sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr))
"""

WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""


def test_the_answer_is_on_standard_output_and_nothing_else(costs: Costs, data_dir: Path) -> None:
    """A pipe gets the whole table, plain: no width, no colour, no control codes."""
    done = costs("query", "--exact", "--by", "tenant,session,model", "--data-dir", str(data_dir))
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) > 80
    assert "4.032000003" in done.stdout
    assert not [it for it in done.stdout if not it.isprintable() and it != "\n"]


def test_every_option_reaches_the_question(costs: Costs, data_dir: Path) -> None:
    """Commas and repeated options name groups; filters, period, order and top are all in effect."""
    done = costs(
        *("query", "--by", "agent,day", "--by", "model", "--since", "2026-11-20T00:00Z"),
        *("--until", "2026-11-21", "--where", "tenant=acme", "--where", "tenant=globex"),
        *("--sort", "requests:asc", "--top", "2", "--format", "json"),
        *("--data-dir", str(data_dir)),
    )
    document = json.loads(done.stdout)
    assert document["by"] == ["agent", "day", "model"]
    assert document["total"]["cost"] == "3.532000002"
    assert [row["requests"] for row in document["rows"]] == [1, 1]
    assert (document["since"], document["until"]) == (
        "2026-11-20T00:00:00Z",
        "2026-11-21T00:00:00Z",
    )


def test_the_environment_names_the_ledger(costs: Costs, data_dir: Path) -> None:
    """Without an option the variable counts."""
    done = costs("query", "--format", "csv", COSTS_DATA_DIR=str(data_dir))
    assert done.stdout.splitlines()[0].startswith("tenant,cost,")
    assert done.stderr.startswith("warning: not in these costs: 2 requests to homebrew/llama")


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_an_empty_ledger_is_not_an_error(costs: Costs, empty_dir: Path, form: str) -> None:
    """There is nothing yet, which is an answer, and it comes with what to do."""
    done = costs("query", "--format", form, "--data-dir", str(empty_dir))
    assert done.returncode == 0
    assert "the ledger holds no usage yet" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--by", "tenat"], 2, "unknown column to group or filter by 'tenat', did you mean"),
        (["--since", "soon"], 2, "'soon' cannot be read as a time: use 2026-11-21"),
        (["--where", "acme"], 2, "filter 'acme' is not of the form name=value"),
        (["--where", "tenant>=acme"], 2, "filter 'tenant>=acme' compares by something else than ="),
        (["--sort", "tenant:up"], 2, "sort 'tenant:up' must end in :asc or :desc"),
        (["--since", "2026-11-02", "--until", "2026-11-01"], 2, "is not after the start"),
        (["--where", "tenant=a", "--sort", "x"], 2, "unknown sort column 'x'"),
        (["--top", "0"], 2, "top 0 shows nothing"),
        (["--metric", "cost,profit"], 2, "unknown metric 'profit'"),
        (["--fail-over", "1e3"], 2, "--fail-over '1e3' is no amount: write US dollars such as 500"),
        (
            ["--compare", "previous"],
            2,
            "comparing needs a period that begins somewhere: add --since",
        ),
        (["--since", "7d", "--compare", "ever"], 2, "'ever' is no period: use previous, last-week"),
        (["--digits", "10"], 2, "Invalid value for '--digits'"),
        (["--top", "many"], 2, "Invalid value for '--top'"),
        (["--format", "xml"], 2, "Invalid value for '--format'"),
        (["--buy", "tenant"], 2, "No such option: --buy"),
        (["--group-by", "tenant"], 2, "No such option: --group-by: did you mean --by?"),
        (["--limit", "5"], 2, "No such option: --limit: did you mean --top?"),
        (
            ["--data-dir", "/nowhere"],
            3,
            "no ledger at /nowhere: run a worker with a CostObserver and ask again",
        ),
    ],
)
def test_a_failure_is_one_line_and_a_code(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    """Standard output stays empty, standard error has one line, and the code says which kind."""
    with pytest.raises(SystemExit) as ended:
        main(["query", *arguments])
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (code, "")
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert shown.err.count("\n") == 1


def test_two_periods_stand_side_by_side(costs: Costs, data_dir: Path) -> None:
    """In each format; a script fails on what either lacks, and on what the period itself costs."""
    asked = ("query", "--since", "2026-11-20", "--until", "2026-11-21", "--compare", "2026-11-18")
    named = (*asked, "--data-dir", str(data_dir))
    table = costs(*named).stdout
    assert table.splitlines()[0].split() == [
        *(
            "tenant",
            "cost",
            "USD",
            "before",
            "change",
            "change",
            "%",
            "unpriced",
            "unpriced",
            "before",
        )
    ]
    assert "money is rounded to 4 digits" in table
    assert "1.032000002" in costs(*named, "--exact").stdout
    document = json.loads(costs(*named, "--format", "json", "--metric", "cost,calls").stdout)
    assert (document["total"]["cost_change"], document["total"]["calls_change"]) == (
        "3.432000001",
        1,
    )
    done = costs(*named, "--format", "csv", "--strict", "--fail-over", "3.5")
    assert done.returncode == 9
    assert done.stdout.startswith("tenant,presence,cost,cost_before,cost_change,")
    said = done.stderr.splitlines()
    assert [it for it in said if it.startswith("note: period")] == []
    assert any("--strict asks for a whole answer: not in these costs: 1 req" in it for it in said)
    assert said[-1] == "the exit code is 9 because of --fail-over: 3.532000002 USD is over 3.5"
    assert costs(*asked[:-4], "--compare", "previous").stderr.startswith("error: no ledger")


def test_money_has_four_digits_and_all_where_it_is_asked_for(costs: Costs, data_dir: Path) -> None:
    """A table says that it rounds, and what is less than a digit is not shown as none; JSON has all."""
    asked = ("query", "--by", "model", "--data-dir", str(data_dir))
    table = costs(*asked).stdout
    assert "4.0320 " in table
    assert "<0.0001" in table
    assert "money is rounded to 4 digits (--exact shows all)" in table
    for more in (("--exact",), ("--digits", "9")):
        exact = costs(*asked, *more).stdout
        assert "4.032000003" in exact
        assert "rounded" not in exact
    assert '"4.032000003"' in costs(*asked, "--digits", "0", "--format", "json").stdout


def test_a_script_can_fail_on_what_an_answer_says(
    costs: Costs, data_dir: Path, empty_dir: Path
) -> None:
    """The answer is written all the same; what has no price is not over any amount, and `--strict` fails on it."""
    asked = ("query", "--format", "json", "--data-dir", str(data_dir))
    over = costs(*asked, "--fail-over", "4.032000002", "--strict")
    assert json.loads(over.stdout)["total"]["cost"] == "4.032000003"
    assert over.returncode == 9
    said = over.stderr.splitlines()
    assert said[0].startswith("--strict asks for a whole answer: not in these costs: 2 requests")
    assert said[1] == (
        "the exit code is 9 because of --fail-over: 4.032000003 USD is over 4.032000002"
    )
    assert costs(*asked, "--fail-over", "4.032000003").returncode == 0
    strict = costs(*asked, "--strict")
    assert strict.returncode == 1
    assert strict.stderr.startswith("the exit code is 1 because of --strict: not in these costs: 2")
    unpriced = ("--where", "model=llama", "--where", "tenant=*sh*")
    assert costs(*asked, *unpriced, "--fail-over", "0").returncode == 0


@pytest.mark.parametrize("form", ["table", "csv"])
def test_no_name_of_the_ledger_and_no_argument_acts_on_the_terminal(
    costs: Costs, data_dir: Path, form: str
) -> None:
    """Whoever starts calls chooses names; escape codes in them are shown, in warnings as well."""
    by = ("--by", "tenant,model,provider", "--data-dir", str(data_dir))
    done = costs("query", "--format", form, *by)
    assert "31m" in done.stdout
    wrong = costs("\x1b[31mquery")
    assert wrong.returncode == 2
    for text in (done.stdout, done.stderr, wrong.stderr):
        assert not [it for it in text if not it.isprintable() and it != "\n"]


def test_a_newer_ledger_has_its_own_code(costs: Costs, tmp_path: Path) -> None:
    """A script can tell that an upgrade is wanted."""
    path = write_snapshot(tmp_path / "newer.duckdb", version=99)
    done = costs("query", "--data-dir", str(path))
    assert done.returncode == 4
    assert "pip install -U voicecosts" in done.stderr


@pytest.mark.parametrize("name", ["duckdb", "rich"])
def test_a_missing_extra_names_the_command_and_how_to_install_it(
    costs: Costs, data_dir: Path, name: str
) -> None:
    """The base installation has the command; what it lacks for it is one line away."""
    done = costs("query", "--data-dir", str(data_dir), code=WITHOUT.format(names=[name]))
    assert done.returncode == 6
    assert done.stderr == (
        "error: `costs query` needs the extra 'analytics': pip install 'voicecosts[analytics]'\n"
    )


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["livekit"], "the extra 'agents': pip install 'voicecosts[agents]'"),
        (
            ["livekit", "rich"],
            "the extras 'analytics' and 'agents': pip install 'voicecosts[analytics,agents]'",
        ),
        (
            ["livekit", "nats", "duckdb", "rich", "voice_prices"],
            (
                "the extras 'producer', 'consumer', 'analytics' and 'agents': "
                "pip install 'voicecosts[producer,consumer,analytics,agents]'"
            ),
        ),
    ],
)
def test_the_demo_names_all_that_it_lacks_at_once(
    costs: Costs, names: list[str], said: str
) -> None:
    """The demo needs nearly everything, so one line says all of it and one command installs it."""
    done = costs("demo", code=WITHOUT.format(names=names))
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr == f"error: `costs demo` needs {said}\n"


def test_programs_need_no_table_library(costs: Costs, data_dir: Path) -> None:
    """JSON and CSV work where only the ledger's own packages are installed."""
    for form in ("json", "csv"):
        done = costs(
            *("query", "--format", form, "--data-dir", str(data_dir)),
            code=WITHOUT.format(names=["rich"]),
        )
        assert done.returncode == 0


def test_a_wrong_command_is_named_with_what_may_have_been_meant(costs: Costs) -> None:
    """A typo costs one line."""
    done = costs("qurey")
    assert done.returncode == 2
    assert done.stderr == "error: No such command 'qurey'. Did you mean 'query'?\n"


def test_no_command_is_answered_with_the_help_page(costs: Costs) -> None:
    """Whoever types only `costs` wants to know what there is; a script that does is wrong."""
    done = costs()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: costs ")


def test_help_names_the_commands_and_the_exit_codes(costs: Costs) -> None:
    """The codes are public, so they are where a user looks for them."""
    done = costs("--help")
    assert done.returncode == 0
    assert "query" in done.stdout
    for code in range(10):
        assert f"  {code}  " in done.stdout


def test_every_command_has_its_place() -> None:
    """A command that a module offers and nobody lists could not be called."""
    offered: set[str | None] = set()
    for module in set(COMMANDS.values()):
        group = get_group(import_module(f"voicecosts.analytics.commands.{module}").app)
        offered |= {group.name} if group.name else set(group.commands)
    assert offered == set(COMMANDS)


@pytest.mark.parametrize("command", ["query", "calls", "call", "statement", "sql", "audit"])
def test_the_examples_of_a_help_page_keep_their_lines(costs: Costs, command: str) -> None:
    """One line is one command, which can be copied."""
    done = costs(command, "--help", COLUMNS="80")
    page = done.stdout.replace("\\\n", "")  # as a shell reads what is folded
    examples = page.partition("Examples:\n")[2].rstrip().splitlines()
    assert len(examples) >= 3
    assert all(line.startswith(f"    costs {command}") for line in examples)


def test_help_and_version_load_nothing_heavy(costs: Costs) -> None:
    """The command answers at once, whatever is installed."""
    for arguments in (["--help"], ["--version"], ["query", "--help"]):
        done = costs(*arguments, code=LOADED)
        assert (done.returncode, done.stderr) == (0, "\n")


def test_a_query_loads_only_what_it_reads_with(costs: Costs, data_dir: Path) -> None:
    """The broker client, the agents framework and the price lists stay out of it."""
    done = costs("query", "--format", "json", "--data-dir", str(data_dir), code=LOADED)
    assert done.stderr == "duckdb\n"


def test_the_version_is_told(costs: Costs) -> None:
    """From a source tree that is not installed there is none, which is not an error."""
    done = costs("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("voicecosts ")


LONG_ROOM = "a-room-with-a-name-that-is-as-long-as-no-person-would-write-it-down-on-any-morning"


def on_terminal(width: int, *arguments: str, **variables: str) -> list[str]:
    """Return the lines that a command writes to a terminal of this width, without colours unless it has them."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    env |= variables or {"NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "voicecosts", *arguments],
        check=True,
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=env,
        cwd=ROOT,
        timeout=60,
    )
    os.close(theirs)
    text = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.stderr == b""
    assert ("\x1b" in text) == ("NO_COLOR" in variables and variables.get("TERM") != "dumb")
    return text.replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("width", [60, 100])
def test_a_terminal_gets_a_table_of_its_width(data_dir: Path, width: int) -> None:
    """Columns that do not fit are left out and named; no line is wider than the terminal."""
    lines = on_terminal(width, "query", "--data-dir", str(data_dir))
    assert max(map(cell_len, lines)) <= width
    assert [line for line in lines if line.startswith("columns that do not fit: ")]


def test_a_terminal_shows_what_counts_in_colours(data_dir: Path) -> None:
    """Totals are bold, notes dim, warnings amber, and columns where they were; a dumb terminal has none of it."""
    asked = (100, "query", "--data-dir", str(data_dir))
    plain = on_terminal(*asked)
    assert on_terminal(*asked, NO_COLOR="", TERM="dumb")[:8] == plain[:8]
    lines = on_terminal(*asked, NO_COLOR="", TERM="xterm")
    codes = {it[: it.index("m") + 1] for it in lines if it.startswith("\x1b")}
    assert codes == {"\x1b[1m", "\x1b[2m", "\x1b[33m"}
    bare = [it.partition("m")[2].removesuffix("\x1b[0m") if "\x1b" in it else it for it in lines]
    assert bare[:8] == plain[:8]
    assert [it for it in lines if it.startswith("\x1b[1mtotal")]
    assert [it for it in lines if it.startswith("\x1b[33m! ")]


def test_other_commands_fit_a_terminal_of_80_columns(data_dir: Path) -> None:
    """The audit, the agents and the rules of a route: nothing is broken at the edge."""
    agents = ("--agents-dir", str(ROOT / "examples" / "agents"))
    for arguments in (
        ("calls", "--data-dir", str(data_dir)),
        ("audit", "--data-dir", str(data_dir), "--state", "complete,open,abandoned"),
        ("agents", "list", *agents),
        ("agents", "route", *agents, "--room", LONG_ROOM),
    ):
        assert max(map(cell_len, on_terminal(80, *arguments))) <= 80


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_cannot_show_a_name_still_gets_the_answer(
    costs: Costs, data_dir: Path, encoding: str
) -> None:
    """An old encoding costs a few odd characters, not the numbers."""
    done = costs("query", "--exact", "--data-dir", str(data_dir), PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4.032000003" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "redirect", "code", "said"),
    [
        ("query", ">/dev/full", 1, "(No space left on device): the answer is not complete"),
        ("query --format json", ">/dev/full", 1, "(No space left on device): the answer is not"),
        ("--help", ">/dev/full", 1, "(No space left on device): the answer is not complete"),
        ("query", ">&-", 1, "(it is closed): the answer is not complete"),
        ("query", "<&- >&- 2>&-", 1, None),
        ("query", "2>&-", 0, None),
        ("query --format csv", "2>/dev/full", 0, None),
        ("qurey", "2>/dev/full", 2, None),
        ("qurey", "2>&-", 2, None),
    ],
)
def test_a_stream_that_cannot_be_written_is_one_line_and_a_code(
    data_dir: Path, arguments: str, redirect: str, code: int, said: str | None
) -> None:
    """A full disk and closed streams: no traceback, and never a success without an answer."""
    command = f"{sys.executable} -P -m voicecosts {arguments} {redirect}"
    done = subprocess.run(
        ["sh", "-c", command],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "COSTS_DATA_DIR": str(data_dir)},
        cwd=ROOT,
        timeout=60,
    )
    assert done.returncode == code
    expected = said and f"error: standard output cannot be written {said}"
    assert (expected or "") in done.stderr
    assert done.stderr.count("\n") == bool(said)


NO_FOLDER = """
import tempfile
def refuse(*_):
    raise OSError("Read-only file system")
tempfile.mkdtemp = refuse
"""


def test_without_a_temporary_folder_there_is_an_answer(costs: Costs, data_dir: Path) -> None:
    """Where everything is read-only, an answer has memory alone."""
    done = costs("query", "--exact", "--by", "session", "--data-dir", str(data_dir), code=NO_FOLDER)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4.032000003" in done.stdout


@pytest.mark.parametrize("form", ["table", "csv"])
def test_a_reader_that_ends_early_is_no_error(data_dir: Path, form: str) -> None:
    """`costs query | true` is what the user wanted: the shell's code for it, and no message."""
    asked = f"--by session --format {form} --data-dir {data_dir}"
    command = f"{sys.executable} -P -m voicecosts query {asked} | true; "
    done = subprocess.run(
        ["bash", "-c", command + "echo ${PIPESTATUS[0]}"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.parametrize(
    "asked", [["--strict"], ["--fail-over", "100"], ["--strict", "--fail-over", "0"]]
)
@pytest.mark.parametrize("more", [[], ["--compare", "previous", "--since", "7d"]])
def test_a_guard_of_a_name_that_nothing_has_does_not_pass(
    costs: Costs, tmp_path: Path, asked: list[str], more: list[str]
) -> None:
    """A misspelled name is below any amount, and what is missing from nothing is not told."""
    folder = write_calls(tmp_path)
    named = ["query", "--data-dir", str(folder), *more, *asked]
    done = costs(*named, "--where", "tenant=acm")
    assert done.returncode == 1
    assert f"because of {asked[0]}: no usage matches: nothing has the tenant 'acm'" in done.stderr
    there = costs(
        "query", "--data-dir", str(folder), "--where", "tenant=acme", "--fail-over", "100"
    )
    assert there.returncode == 0
