"""`costs demo` that is ended before it is done: by a signal, or by a terminal that is closed."""

from __future__ import annotations

import os
import pty
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]  # it has no stubs
import pytest

from tests.support.processes import ROOT
from tests.support.waiting import wait_until

SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
LASTS_S: Final = 9.0
"""About how long a demo takes, with the imports before it."""


class Demo:
    """A demo in a process of its own, on a terminal of its own, with its files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.started = time.monotonic()
        self._terminal, self._theirs = pty.openpty()
        self._shown = ""
        os.set_blocking(self._terminal, False)
        # The first terminal that the leader of a new session opens becomes its own.
        on_terminal = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(self._theirs)]
        self.process = subprocess.Popen(
            [*on_terminal, sys.executable, "-P", "-m", "voicecosts", "demo", "--calls", "12"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder), "COSTS_DATA_DIR": str(folder / "data")},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def shown(self) -> str:
        """Return what it has written so far."""
        if self._terminal >= 0:
            try:
                while part := os.read(self._terminal, 65536):
                    self._shown += part.decode()
            except OSError:  # nothing more for now, or the other side is closed
                pass
        return self._shown

    def end(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ctrl_c_until_it_ends(self) -> None:
        """Press Ctrl-C again and again."""
        while self.process.poll() is None:
            os.write(self._terminal, b"\x03")
            self.shown()
            time.sleep(0.02)

    def close_terminal(self) -> None:
        """Close its terminal, as the window does."""
        self.shown()
        os.close(self._terminal)
        self._terminal = -1

    def wait(self) -> int:
        """Return its exit code."""
        wait_until(lambda: self.shown() is not None and self.process.poll() is not None)
        if self._terminal >= 0:
            self.close_terminal()
        os.close(self._theirs)
        return self.process.wait()

    def processes(self) -> list[str]:
        """Return the commands of it that still run."""
        marker = str(self.folder)
        return [
            " ".join(process.info["cmdline"])
            for process in psutil.process_iter(["cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
            and any(marker in part for part in process.info["cmdline"] or ())
        ]

    def left(self) -> list[str]:
        """Return the processes and files of it that are still there."""
        return self.processes() + [str(path) for path in self.folder.rglob("*")]


def starting(demo: Demo) -> bool:
    """The ledger's process is there, or nearly."""
    return (demo.folder / "data" / "demo" / "demo.log").exists()


def in_calls(demo: Demo) -> bool:
    """Some calls are over, the others run."""
    return " calls, " in demo.shown()


Ending = tuple[Callable[[Demo], bool], Callable[[Demo], None], signal.Signals]
ENDINGS: Final[dict[str, Ending]] = {
    "SIGTERM at the start": (starting, lambda demo: demo.end(signal.SIGTERM), signal.SIGTERM),
    "SIGTERM in the calls": (in_calls, lambda demo: demo.end(signal.SIGTERM), signal.SIGTERM),
    "terminal closed in the calls": (in_calls, Demo.close_terminal, signal.SIGHUP),
    "Ctrl-C again and again": (in_calls, Demo.ctrl_c_until_it_ends, signal.SIGINT),
}


@pytest.mark.slow
def test_a_demo_that_is_ended_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    """By a terminal that is closed: all is ended in order and removed."""
    end_all(tmp_path, "terminal closed in the calls")


@pytest.mark.slow
def test_a_demo_that_is_ended_by_a_signal_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    """The same at the start, in the middle of calls, and by a user who presses Ctrl-C until it ends."""
    end_all(tmp_path, "SIGTERM at the start", "SIGTERM in the calls", "Ctrl-C again and again")


def end_all(folder: Path, *names: str) -> None:
    """End a demo in each of these ways, all at once, and look for what is left."""
    demos = {name: Demo(folder / name) for name in names}
    for name, demo in demos.items():
        moment, end, _ = ENDINGS[name]
        wait_until(lambda demo=demo, moment=moment: moment(demo))
        end(demo)
    for name, demo in demos.items():
        number = ENDINGS[name][2]
        # A shell shows both alike: ended with this code, or by the signal when all was done.
        assert demo.wait() in (128 + number, -number), (name, demo.shown())
        assert demo.left() == [], name
        assert "rror" not in demo.shown(), name


@pytest.mark.faults
def test_a_demo_whose_reader_goes_away_leaves_nothing(tmp_path: Path) -> None:
    """`costs demo | head -1`: the shell's code for it, no message, no file."""
    command = f"{sys.executable} -P -m voicecosts demo --calls 4 | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), "COSTS_DATA_DIR": str(tmp_path / "data")},
        timeout=100,
    )
    assert done.stdout.splitlines()[1:] == ["141"]
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_demo_that_is_ended_at_a_random_moment_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    """From its first line of Python to its last; one that had its answer by then may keep its data.

    `VOICECOSTS_TRIAL_MOMENTS=10` tries ten moments of each signal.
    """
    moments = int(os.environ.get("VOICECOSTS_TRIAL_MOMENTS", "3"))
    chosen = random.Random(number)  # noqa: S311 - moments of a test
    for at in sorted(chosen.uniform(0.0, LASTS_S) for _ in range(moments)):
        demo = Demo(tmp_path / f"{at:.3f}")
        wait_until(lambda demo=demo, at=at: time.monotonic() - demo.started >= at)
        demo.shown()
        demo.end(number)
        ended, shown = demo.wait(), demo.shown()
        if "agrees with the providers" not in shown:
            assert ended != 0, (at, shown)
            assert demo.left() == [], (at, shown)
        assert demo.processes() == [], (at, shown)
        assert ("Ask this ledger" not in shown) or (demo.folder / "data" / "demo").exists()
