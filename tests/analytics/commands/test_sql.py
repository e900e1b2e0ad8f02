"""Tests of `costs sql` as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.analytics.conftest import ROOT, Costs
from tests.support.long_forms import later


def test_a_statement_is_read_from_wherever_it_is(
    costs: Costs, data_dir: Path, tmp_path: Path
) -> None:
    """From the command or a file; each form says as of when, and a mistake is one line."""
    at = ("--data-dir", str(data_dir))
    done = costs("sql", "SELECT sum(cost) AS cost FROM sessions", *at)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        "       cost\n───────────\n4.032000003\n\n1 row\nas of 2026-11-21 "
    )
    (tmp_path / "a.sql").write_text(
        "-- ä\nSELECT tenant FROM sessions\nWHERE tenant = 'acme' LIMIT 1;\n"
    )
    done = costs("sql", "--file", "a.sql", "--format", "csv", *at)
    assert (done.returncode, done.stdout) == (0, "tenant\nacme\n")
    assert done.stderr.startswith("as of 2026-11-21 14:03:12Z")
    (tmp_path / "a.sql").write_bytes(b"SELECT '\xff'")
    for wrong, said in (
        (("SELECT x FROM sessions", "--format", "json"), 'line 1, column 8: Referenced column "x"'),
        ((), "give one statement"),
        (("SELECT 1", "--file", "a.sql"), "give one statement"),
        (("--file", "none.sql"), "none.sql cannot be read (No such file or directory)"),
        (("--file", "a.sql"), "the statement is not UTF-8 text"),
    ):
        done = costs("sql", *wrong, *at)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), wrong
        assert said in done.stderr


_PEAK = """
import atexit, pathlib, re, sys
told = pathlib.Path("/proc/self/status")  # getrusage counts what the process that started it had
peak = re.compile("VmHWM:[^0-9]+([0-9]+)")
atexit.register(lambda: print(peak.search(told.read_text())[1], file=sys.stderr))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the bound is one of Linux")
@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("SELECT repeat('x', 2000000) FROM range(3000)", "csv"),
        ("SELECT repeat('x', 230000000)", "json"),
        *later(
            ("SELECT repeat('x', 1000000000)", "table"),
            ("SELECT range(200000000)", "csv"),
            ("SELECT list_transform(range(100000000), lambda x: x::VARCHAR)", "csv"),
        ),
    ],
)
def test_a_statement_that_needs_too_much_memory_is_told_so(
    costs: Costs, data_dir: Path, text: str, output: str
) -> None:
    """Its process stays below 1 GB, whether DuckDB or the writing of an answer needs more."""
    done = costs("sql", text, "--format", output, "--data-dir", str(data_dir), code=_PEAK)
    said, peak_kb = done.stderr.splitlines()
    assert done.returncode == 1
    assert said.startswith("error: the statement needs more memory than it may use: ask for fewer ")
    assert int(peak_kb) < 1_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="the bound is one of Linux")
def test_long_rows_are_written_a_few_at_a_time(data_dir: Path) -> None:
    """What would not fit as a thousand rows, of DuckDB, of Python and of text, is answered."""
    program = "from voicecosts.analytics.commands.app import main; main()"
    text = "SELECT repeat(' ', 350000) AS a FROM range(1000)"
    command = [sys.executable, "-c", program, "sql", text, "--format", "json"]
    done = subprocess.run(
        [*command, "--data-dir", str(data_dir)],
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")


_ENDLESS = "SELECT count(*) FROM range(1000000) a(i), range(1000000) b(j) WHERE i * j % 7 = 3"
_ONE_CALL = "SELECT levenshtein(repeat('a', 400000), repeat('b', 400000))"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (_ENDLESS, signal.SIGINT),
        (_ENDLESS, signal.SIGTERM),
        (_ONE_CALL, signal.SIGINT),
        *later((_ENDLESS, signal.SIGHUP), (_ONE_CALL, signal.SIGTERM)),
    ],
)
def test_a_signal_ends_a_statement_that_is_read_from_standard_input(
    data_dir: Path, tmp_path: Path, text: str, number: signal.Signals
) -> None:
    """However long it would take, also in one call of a function, which DuckDB does not interrupt.

    Nothing of it is left, also not in the temporary folder.
    """
    program = "from voicecosts.analytics.commands.app import main; main()"
    command = [sys.executable, "-c", program, "sql", "-", "--data-dir", str(data_dir)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    running = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with running:
        assert running.stdin is not None
        running.stdin.write(text.encode())
        running.stdin.close()
        deadline = time.monotonic() + 60
        while cpu_s(running.pid) < 2:  # starting takes a part of a second
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert [it.name[:6] for it in tmp_path.iterdir()] == ["costs-"]
        running.send_signal(number)
        assert running.wait(20) == 128 + number
        assert running.stdout is not None
        assert running.stderr is not None
        assert (running.stdout.read(), running.stderr.read()) == (b"", b"")
    assert list(tmp_path.iterdir()) == []


def cpu_s(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    done = subprocess.run(
        ["ps", "-o", "cputimes=", "-p", str(pid)], capture_output=True, check=False, text=True
    )
    return float(done.stdout or 0)
