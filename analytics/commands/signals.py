"""Ending a command in order on Ctrl-C, SIGTERM, or SIGHUP, which comes when a terminal is closed.

By default SIGTERM and SIGHUP end Python at once, and its child processes and temporary folders stay.
Within `stopping` they do what Ctrl-C does: they raise `KeyboardInterrupt`, or cancel what asyncio
runs. A signal that the process was told to ignore (SIGHUP under `nohup`) is ignored here as well.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final

import typer

_LIKE_CTRL_C: Final = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """End the block on SIGTERM and SIGHUP as on Ctrl-C, with the exit code that shells use.

    Raises:
        typer.Exit: With 128 and the number of the signal, after the block has cleaned up.
    """
    came: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        came.append(number)
        on_ctrl_c = signal.getsignal(signal.SIGINT)  # asyncio has one of its own while it runs
        if callable(on_ctrl_c):
            on_ctrl_c(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt

    heard = [number for number in _LIKE_CTRL_C if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, forward) for number in heard}
    try:
        yield
    except KeyboardInterrupt:
        if not came:
            raise
        raise typer.Exit(128 + came[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class NothingChanged(KeyboardInterrupt):
    """Ctrl-C before anything was changed, which was said."""


_INTERRUPTED_QUERY: Final = "Query interrupted"
"""DuckDB's own error for Ctrl-C while a statement runs."""


def is_ctrl_c(error: BaseException) -> bool:
    """Return whether an error is Ctrl-C, as Python or DuckDB raises it."""
    if isinstance(error, RuntimeError):
        return str(error) == _INTERRUPTED_QUERY
    return isinstance(error, KeyboardInterrupt)


@contextlib.contextmanager
def changing_nothing() -> Iterator[None]:
    """Say so where Ctrl-C ends a block that comes before any change.

    Raises:
        NothingChanged: In place of Ctrl-C.
    """
    try:
        yield
    except (KeyboardInterrupt, RuntimeError) as error:
        if not is_ctrl_c(error):
            raise
        typer.echo("nothing was changed", err=True)
        raise NothingChanged from None


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Run a short block to its end, such as starting or ending a process; signals wait for it.

    Raises:
        KeyboardInterrupt: After the block, when one of the three signals came in it.
    """
    came: list[tuple[int, FrameType | None]] = []
    before = {
        number: handler
        for number in (signal.SIGINT, *_LIKE_CTRL_C)
        if callable(handler := signal.getsignal(number))
    }
    for number in before:
        signal.signal(number, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for first, frame in came[:1]:
            before[signal.Signals(first)](first, frame)
