"""Tests of `costs query --watch` on a real terminal: what is painted, when, and what is left at the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.analytics.conftest import ROOT, Costs
from tests.support.processes import program
from tests.support.sample_ledger import ACME, SAMPLE, Booking, day, write_ledger, write_snapshot
from tests.support.waiting import wait_until
from voicecosts.analytics.commands.watch import _clipped

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
MORE = Booking(occurred_at=day(21), session_id=ACME, tenant="newcomer", cost="7.5")


QUERY = (sys.executable, "-P", "-m", "voicecosts", "query")
SHELL = """
import fcntl, os, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
"""
"""A shell whose jobs can be suspended: the terminal is that of its session."""


class Terminal:
    """A command on a terminal of its own, and all that it has written there."""

    def __init__(
        self,
        *arguments: str,
        width: int = 100,
        height: int = 40,
        program: Sequence[str] = QUERY,
        **variables: str,
    ) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(width, height)
        env = {key: it for key, it in os.environ.items() if key not in ("COLUMNS", "LINES")}
        self._process = subprocess.Popen(
            [*program, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**env, "TERM": "xterm", **variables},
            cwd=ROOT,
            start_new_session=True,
        )
        os.close(theirs)
        self.written = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while part := os.read(self._ours, 65536):
                self.written += part.decode()
        except OSError:
            return  # nobody writes any more

    def resize(self, width: int, height: int) -> None:
        """Make the terminal of another size."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._ours, text.encode())

    @property
    def screen(self) -> list[str]:
        """The lines that were painted last, as they are seen."""
        painted = self.written.rpartition("\x1b[H")[2].partition(LEAVE)[0]
        return CODES.sub("", painted).split("\r\n")

    def sees(self, text: str) -> bool:
        """Whether a text is on the screen, whole: the last painting has come to its end."""
        return self.written.endswith("\x1b[J") and text in "\n".join(self.screen)

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """End the command; return its exit code, and what is left on the terminal's own screen."""
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Return the same of a command that ends by itself."""
        code = self._process.wait(timeout=60)
        self._reader.join(timeout=60)
        return code, CODES.sub("", self.written.rpartition(LEAVE)[2]).replace("\r\n", "\n")

    def close(self) -> None:
        """End it whatever happens."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(timeout=60)
        self._reader.join(timeout=60)
        os.close(self._ours)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Terminals that are closed at the end."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


def opened(terminals: list[Terminal], folder: Path, *arguments: str, **more: int) -> Terminal:
    """Return a terminal on which a question to a ledger is watched."""
    terminals.append(Terminal("--watch", "0.2", "--data-dir", str(folder), *arguments, **more))  # type: ignore[arg-type]  # sizes
    return terminals[-1]


def test_a_newer_snapshot_is_answered_in_place(tmp_path: Path, terminals: list[Terminal]) -> None:
    """On the other screen; Ctrl-C leaves the last table on the terminal's own one, and is no failure."""
    folder = write_ledger(tmp_path / "data")
    terminal = opened(terminals, folder, "--by", "tenant")
    wait_until(lambda: terminal.sees("4.0320"))
    assert terminal.written.startswith(ENTER)
    assert re.fullmatch(
        r"answered \d\d:\d\d:\d\dZ, looks every 0.2 s, Ctrl-C ends", terminal.screen[0]
    )
    assert not terminal.sees("newcomer")
    write_ledger(folder, [*SAMPLE, MORE], number=2)
    wait_until(lambda: terminal.sees("newcomer"))
    assert terminal.sees("11.5320")
    code, left = terminal.end()
    assert code == 0
    assert left.startswith("tenant ")
    assert "newcomer" in left
    assert "answered" not in left
    assert terminal.written.count(ENTER) == terminal.written.count(LEAVE) == 1
    assert terminal.written.rpartition(LEAVE)[0].endswith("\x1b[?7h\x1b[?25h")


def test_a_terminal_of_another_size_is_painted_anew(
    tmp_path: Path, terminals: list[Terminal]
) -> None:
    """Columns go and come back; of a low one the head and the total stay."""
    terminal = opened(terminals, write_ledger(tmp_path / "data"), width=200)
    wait_until(lambda: terminal.sees("audio s"))
    terminal.resize(60, 40)
    wait_until(lambda: terminal.sees("columns that do not fit: "))
    assert max(map(len, terminal.screen[: terminal.screen.index("", 2)])) <= 60
    terminal.resize(200, 9)
    wait_until(lambda: terminal.sees("more than fits here"))
    assert len(terminal.screen) <= 9
    assert terminal.sees("tenant ")
    assert terminal.sees("\ntotal ")
    terminal.resize(200, 40)
    wait_until(lambda: terminal.sees("globex"))
    assert terminal.end()[0] == 0


def test_where_there_is_no_ledger_yet_it_waits(tmp_path: Path, terminals: list[Terminal]) -> None:
    """It says so, goes on looking, and answers when there is one; Ctrl-C before leaves what was said."""
    folder = tmp_path / "data"
    for has_come in (False, True):
        terminal = opened(terminals, folder)
        wait_until(lambda terminal=terminal: terminal.sees("! no ledger at"))  # type: ignore[misc]  # a default of a lambda
        assert terminal.screen[0].startswith("waiting for a ledger, looks every 0.2 s")
        if has_come:
            write_ledger(folder)
            wait_until(lambda terminal=terminal: terminal.sees("4.0320"))  # type: ignore[misc]  # same
            assert not terminal.sees("no ledger at")
        code, left = terminal.end()
        assert code == 0
        assert left.startswith("tenant " if has_come else "! no ledger at")


def test_a_ledger_that_breaks_is_told_above_the_last_answer(
    tmp_path: Path, terminals: list[Terminal]
) -> None:
    """In words, until there is a whole one again; a newer version of it ends the command with its code."""
    folder = write_ledger(tmp_path / "data")
    terminal = opened(terminals, folder)
    wait_until(lambda: terminal.sees("4.0320"))
    (folder / "costs-2.duckdb").write_bytes(b"nothing of a database" * 100)
    link = folder / "costs.duckdb"
    link.unlink()
    link.symlink_to("costs-2.duckdb")
    wait_until(lambda: terminal.sees("! "))
    wait_until(lambda: terminal.sees("costs-2.duckdb"))
    assert terminal.sees("4.0320")
    write_ledger(folder, [*SAMPLE, MORE], number=3)
    wait_until(lambda: terminal.sees("newcomer"))
    assert not terminal.sees("costs-2.duckdb")
    write_snapshot(folder / "costs-4.duckdb", version=99)
    link.unlink()
    link.symlink_to("costs-4.duckdb")
    code, left = terminal.wait()
    assert code == 4
    assert left.startswith("tenant ")
    assert "error: " in left


def test_what_a_worker_without_a_server_stores_comes_on_the_screen(
    tmp_path: Path, terminals: list[Terminal]
) -> None:
    """Nobody publishes a snapshot there: the question books what waits, while the worker goes on."""
    folder = tmp_path / "data"
    terminals.append(
        Terminal(
            "--watch", "0.2", "--metric", "calls", "--by", "project", COSTS_DATA_DIR=str(folder)
        )
    )
    wait_until(lambda: terminals[0].sees("! no ledger at"))
    worker = program(
        *("embedded_worker", folder / "outbox", 1, 3, 0.0),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: re.search(r"\ntotal +3\n", "\n".join(terminals[0].screen)) is not None)
        assert worker.poll() is None
    finally:
        worker.communicate(timeout=60)
    assert terminals[0].end()[0] == 0


def test_sigterm_gives_the_terminal_back(tmp_path: Path, terminals: list[Terminal]) -> None:
    """With the exit code of the signal, and the cursor where it was."""
    terminal = opened(
        terminals, write_ledger(tmp_path / "data"), "--since", "2026-11", "--compare", "last-month"
    )
    wait_until(lambda: terminal.sees("before, by --compare"))
    code, left = terminal.end(signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert left.startswith("tenant ")
    assert LEAVE in terminal.written


def test_ctrl_z_gives_the_terminal_back_until_fg(tmp_path: Path, terminals: list[Terminal]) -> None:
    """The own screen, with its cursor, is there for the shell; after `fg` the other one is painted again."""
    folder = write_ledger(tmp_path / "data")
    shell = Terminal("-c", SHELL, program=[sys.executable], PS1="ready> ")
    terminals.append(shell)
    shell.type(shlex.join([*QUERY, "--watch", "0.2", "--data-dir", str(folder)]) + "\n")
    wait_until(lambda: shell.sees("4.0320"))
    shell.type("\x1a")
    wait_until(lambda: shell.written.endswith("ready> "))
    painted, _, after = shell.written.rpartition(LEAVE)
    assert painted.endswith("\x1b[?7h\x1b[?25h")
    assert "Stopped" in after
    assert not CODES.search(after.replace("\x1b[?2004h", "").replace("\x1b[?2004l", ""))
    shell.type("bg\n")

    def is_stopped_again() -> bool:
        shell.type("jobs -s\n")
        return shell.written.count("Stopped") > 1

    wait_until(is_stopped_again)
    assert shell.written.count(ENTER) == 1
    shell.type("fg\n")
    wait_until(lambda: shell.written.count(ENTER) > 1 and shell.sees("4.0320"))
    shell.type("\x03")
    wait_until(lambda: shell.written.endswith("ready> "))
    assert shell.written.count(ENTER) == shell.written.count(LEAVE) == 2
    shell.type("exit $?\n")
    assert shell.wait()[0] == 0


def test_what_cannot_be_watched_is_said(costs: Costs, data_dir: Path) -> None:
    """A pipe, a format for programs and what ends with a code; a number that is none, and a wrong question."""
    for arguments, said in (
        (["--watch"], "--watch needs a terminal to show answers on"),
        (["--watch", "--format", "json"], "--watch goes on until Ctrl-C, and shows a table"),
        (["--watch", "5", "--strict"], "leave out --format, --strict and --fail-over"),
        (["--watch", "0"], "Invalid value for '--watch'"),
        (["--watch", "-1"], "Invalid value for '--watch'"),
        (["--watch", "--by", "tenat"], "--watch needs a terminal"),
    ):
        done = costs("query", *arguments, "--data-dir", str(data_dir), TERM="xterm")
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr


def test_a_dumb_terminal_and_a_wrong_question_end_at_once(
    data_dir: Path, terminals: list[Terminal]
) -> None:
    """Nothing is painted on what cannot be painted on; a mistake is told on the terminal's own screen."""
    named = ("--data-dir", str(data_dir))
    for arguments, term, said in (
        (("--watch",), "dumb", "--watch needs a terminal"),
        (("--watch", "--by", "tenat"), "xterm", "did you mean 'tenant'"),
    ):
        terminals.append(Terminal(*arguments, *named, TERM=term))
        code, left = terminals[-1].wait()
        assert code == 2
        assert left.startswith("error: ")
        assert said in left


@pytest.mark.parametrize("height", range(1, 14))
def test_of_a_low_terminal_the_total_is_kept_longest(height: int) -> None:
    """Notes go first, then rows; never are there more lines than the terminal has."""
    table = [
        "answered",
        "",
        "tenant",
        "───",
        "a",
        "b",
        "c",
        "───",
        "total",
        "",
        "note",
        "! warning",
    ]
    shown = _clipped(table, height)
    assert len(shown) <= height
    if height >= len(table):
        assert shown == table
    elif height >= 7:
        assert [it for it in ("tenant", "total") if it in shown] == ["tenant", "total"]
        assert shown[-1].startswith("more than fits here")
    assert _clipped(["a"] * 20, height) == ["a"] * height
