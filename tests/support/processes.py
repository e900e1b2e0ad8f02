"""`costs`, and the programs of this folder, as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from tests.support.waiting import wait_until

ROOT: Final = Path(__file__).parents[2]
READY: Final = "reading stream COSTS"


class CostsProcess:
    """`costs <arguments>` in the foreground of a process, with its output in files."""

    def __init__(
        self, arguments: Sequence[str], directory: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.arguments = list(arguments)
        self.directory = directory
        self.environ = {**_clean_environ(), **(environ or {})}
        self.within: Sequence[str] = ()
        """A command that runs it."""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self.process is not None
        return self.process.pid

    @property
    def output(self) -> str:
        """What the last run printed."""
        return (self.directory / "stdout").read_text()

    @property
    def log(self) -> str:
        """What the last run logged, and its error when it failed."""
        return (self.directory / "stderr").read_text()

    def start(self) -> Self:
        """Start it; it is not ready yet."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (
            (self.directory / "stdout").open("wb") as output,
            (self.directory / "stderr").open("wb") as log,
        ):
            self.process = subprocess.Popen(
                [*self.within, sys.executable, "-P", "-m", "voicecosts", *self.arguments],
                cwd=ROOT,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )
        return self

    def wait_ready(self, *, deadline_s: float = 60) -> Self:
        """Return when it reads the stream; fail when it ended instead."""
        wait_until(lambda: READY in self.log or self.ended(), deadline_s=deadline_s)
        assert not self.ended(), self.log
        return self

    def ended(self) -> bool:
        """Tell whether it has ended by itself."""
        return self.process is not None and self.process.poll() is not None

    def wait(self, *, deadline_s: float = 60) -> int:
        """Return its exit code when it has ended."""
        assert self.process is not None
        return self.process.wait(deadline_s)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, as Ctrl-C or a container does, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait()

    def kill(self) -> None:
        """End it at once, wherever it is."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if not self.ended():
            self.kill()


def costs(home: Path, *arguments: str) -> str:
    """Run a command on a data directory to its end, with success; return what it prints."""
    command = CostsProcess(arguments, home.parent / "run", {"COSTS_DATA_DIR": str(home)}).start()
    assert command.wait() == 0, command.log
    return command.output


def program(
    name: str, *arguments: object, within: Sequence[str] = (), **options: Any
) -> subprocess.Popen[str]:
    """Start the program `tests.support.<name>`; `within` is a command that runs it."""
    command = [*within, sys.executable, "-m", f"tests.support.{name}", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, text=True, **options)


def _clean_environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("COSTS_")}
