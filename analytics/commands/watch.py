"""Asking the same question again and again, in place, on a terminal: `costs query --watch`.

The answer is painted on the terminal's other screen, so that nothing on its own one is lost, and the last one is left on
that at the end. It is asked for anew when the ledger has published a snapshot, when something waits on this host, and
once a minute, as a period may move with the clock. What goes wrong meanwhile is said, and does not end it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final

import typer

from voicecosts.analytics.commands.local_outbox import has_waiting
from voicecosts.analytics.commands.output import ink
from voicecosts.analytics.commands.signals import is_ctrl_c, stopping
from voicecosts.analytics.config import has_screen
from voicecosts.analytics.errors import AnalyticsError, BadQuestion, LedgerNewer, MissingExtra
from voicecosts.analytics.snapshot.files import locate
from voicecosts.analytics.text.advice import at_ledger
from voicecosts.analytics.text.grid import wrapped

_MINUTE_S: Final = 60.0
_STEP_S: Final = 0.1
_PAINT_S: Final = 1.0
"""How often the age of an answer is told."""

_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""The other screen, no cursor, and what is too wide for a line is cut."""
_LEAVE: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_FIRST: Final = "\x1b[H"
_REST_OF_LINE: Final = "\x1b[K"
_REST: Final = "\x1b[J"

Show = Callable[[datetime, int], str]
"""An answer as text, at a moment, for a width."""


def check() -> None:
    """Raise `BadQuestion` where there is no terminal to paint on."""
    if not (sys.stdout.isatty() and has_screen()):
        raise BadQuestion(
            "--watch needs a terminal to show answers on: leave it out where the output goes into a file or a pipe"
        )


def watch(ask: Callable[[], Show], data_dir: Path | None, *, every_s: float) -> None:
    """Ask and paint until Ctrl-C, and leave the last answer on the screen.

    Raises:
        AnalyticsError: What will not be otherwise by waiting: a wrong question, a newer ledger.
    """
    watched = _Watched(ask, data_dir, every_s)
    try:
        with stopping(), _other_screen(watched.paint_anew):
            watched.run()
    except KeyboardInterrupt:
        pass
    finally:
        typer.echo(watched.last(), nl=False)


class _Watched:
    """What is on the screen: the last answer, and what went wrong since."""

    def __init__(self, ask: Callable[[], Show], data_dir: Path | None, every_s: float) -> None:
        self._ask = ask
        self._data_dir = data_dir
        self._every_s = every_s
        self._show: Show | None = None
        self._answered_at: datetime | None = None
        self._trouble = ""
        self._newest: object = None
        self._asked = self._painted = -_MINUTE_S
        self._size = (0, 0)

    def run(self) -> None:
        """Look, ask and paint; ends by an exception."""
        looked = -self._every_s
        while True:
            now = time.monotonic()
            if now - looked >= self._every_s:
                looked = now
                self._look(now)
            size = shutil.get_terminal_size()
            if size != self._size or now - self._painted >= _PAINT_S:
                self._size, self._painted = size, now
                _paint(_clipped(self._lines(size.columns), size.lines))
            time.sleep(_STEP_S)

    def paint_anew(self) -> None:
        """Have all of it painted at the next step."""
        self._painted = -_MINUTE_S

    def last(self) -> str:
        """Return the last answer, and what went wrong since, for the terminal's own screen."""
        columns = shutil.get_terminal_size().columns
        found = self._show(datetime.now(UTC), columns) if self._show else ""
        said = [f"{line}\n" for line in wrapped(self._trouble, columns) if self._trouble]
        return "".join([found, *said])

    def _look(self, now_s: float) -> None:
        """Ask where there may be another answer."""
        newest = _newest(self._data_dir)
        is_new = self._show is None or newest != self._newest or bool(self._trouble)
        if not is_new and now_s - self._asked < _MINUTE_S and not has_waiting(self._data_dir):
            return
        self._newest, self._asked = newest, now_s
        self.paint_anew()
        try:
            self._show = self._ask()
        except (BadQuestion, LedgerNewer, MissingExtra):
            raise
        except RuntimeError as error:
            if is_ctrl_c(error):
                raise KeyboardInterrupt from error
            raise
        except AnalyticsError as error:
            self._trouble = f"! {at_ledger(str(error), self._data_dir)}"
        else:
            self._answered_at, self._trouble = datetime.now(UTC), ""

    def _lines(self, columns: int) -> list[str]:
        """Return what is to be seen: when it was answered, the answer, and before it what went wrong."""
        at = (
            "waiting for a ledger"
            if self._answered_at is None
            else f"answered {self._answered_at:%H:%M:%S}Z"
        )
        looks = f"looks every {self._every_s:g} s"
        found = [*ink().lines(ink().note, wrapped(f"{at}, {looks}, Ctrl-C ends", columns)), ""]
        if self._trouble:
            found += [*ink().lines(ink().warning, wrapped(self._trouble, columns)), ""]
        if self._show is not None:
            found += self._show(datetime.now(UTC), columns).splitlines()
        return found


def _newest(data_dir: Path | None) -> object:
    """Return what is another one when there is a newer snapshot; None where there is none."""
    try:
        path = locate(data_dir).path
        return path, path.stat().st_mtime_ns
    except (AnalyticsError, OSError):
        return None


def _clipped(lines: list[str], height: int) -> list[str]:
    """Return as many lines as a terminal has: notes go first, and rows before the total and the head."""
    if len(lines) <= height:
        return lines
    rules = [at for at, line in enumerate(lines) if line.startswith("─")]
    if not rules:
        return lines[:height]
    end = next((at for at in range(rules[-1], len(lines)) if not lines[at]), len(lines))
    left = height - 1
    if end > left and len(rules) > 1:  # rows are more than what fits
        kept = max(rules[0] + 1, rules[-1] - (end - left))
        lines = [*lines[:kept], *lines[rules[-1] :]]
    cut = "more than fits here: --top shows fewer rows, a higher terminal more"
    return [*lines[:left], cut]


def _paint(lines: list[str]) -> None:
    """Write lines from the first one of the screen on, over what was there."""
    text = "\n".join(f"{line}{_REST_OF_LINE}" for line in lines)
    sys.stdout.write(f"{_FIRST}{text}{_REST}")
    sys.stdout.flush()


@contextlib.contextmanager
def _other_screen(on_return: Callable[[], None]) -> Iterator[None]:
    """Show the terminal's other screen meanwhile, and its own one while Ctrl-Z has suspended the process."""
    terminal = sys.stdout.fileno()

    def suspend(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the shape of a handler
        os.write(terminal, _LEAVE.encode())  # not by `sys.stdout`, which may be writing just now
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        while _is_in_background(terminal):  # after `bg`, where it must not paint
            os.kill(os.getpid(), signal.SIGSTOP)
        signal.signal(signal.SIGTSTP, suspend)
        os.write(terminal, _ENTER.encode())
        on_return()

    before = signal.getsignal(signal.SIGTSTP)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGTSTP, suspend)
    sys.stdout.write(_ENTER)
    sys.stdout.flush()
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


def _is_in_background(terminal: int) -> bool:
    """Return whether another group of processes has the terminal."""
    try:
        return os.tcgetpgrp(terminal) != os.getpgrp()
    except OSError:  # it is not the one that controls this process
        return False
