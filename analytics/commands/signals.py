"""Ending a command in order on Ctrl-C, SIGTERM, or SIGHUP, which comes when a terminal is closed.

By default SIGTERM and SIGHUP end Python at once, and its child processes and temporary folders stay.
Within `stopping` they do what Ctrl-C does: they raise `KeyboardInterrupt`, or cancel what asyncio
runs. A signal that the process was told to ignore (SIGHUP under `nohup`) is ignored here as well.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import typer

if TYPE_CHECKING:
    import asyncio

_T = TypeVar("_T")

_LIKE_CTRL_C: Final = (signal.SIGTERM, signal.SIGHUP)
_IN_ORDER_NS: Final = 10_000_000_000
_PATIENCE_S: Final = 3.0
_TRIES: Final = 5


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
    except (KeyboardInterrupt, RuntimeError) as error:
        if not came or not is_ctrl_c(error):
            raise
        raise typer.Exit(128 + came[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_in_order(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine as `asyncio.run` does; the first Ctrl-C cancels it, and later ones wait until it has ended.

    `asyncio.run` raises at the second one, in whatever runs then, and what is ended halfway says so on the
    screen. Ten seconds after the first, Ctrl-C ends it at once.

    Raises:
        KeyboardInterrupt: Ctrl-C came.
    """
    import asyncio  # noqa: PLC0415 - every command loads this module, and few need that one

    before = signal.getsignal(signal.SIGINT)
    if not callable(before):  # it is ignored
        return asyncio.run(main)
    first_ns: int | None = None

    def on_ctrl_c(number: int, frame: FrameType | None) -> None:
        nonlocal first_ns
        if first_ns is None:
            first_ns = time.monotonic_ns()
            task.get_loop().call_soon_threadsafe(task.cancel)
        elif time.monotonic_ns() - first_ns > _IN_ORDER_NS:
            before(number, frame)

    try:
        with asyncio.Runner() as runner:
            task = runner.get_loop().create_task(main)
            signal.signal(signal.SIGINT, on_ctrl_c)
            result = runner.run(_result(task))
    except asyncio.CancelledError:
        if first_ns is None:
            raise
    finally:
        signal.signal(signal.SIGINT, before)
    if first_ns is not None:
        raise KeyboardInterrupt
    return result


async def _result(task: asyncio.Task[_T]) -> _T:
    return await task


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
def leaving(folder: Path | None) -> Iterator[None]:
    """End this process a few seconds after Ctrl-C, SIGTERM or SIGHUP if the block has not ended by then.

    For what cannot be interrupted, as one long function of DuckDB, and changes nothing but a temporary
    folder, which is removed before. The exit code is that of the signal.
    """
    came: list[int] = []
    heard, ended = threading.Event(), threading.Event()

    def watch() -> None:
        heard.wait()
        if ended.wait(_PATIENCE_S):
            return
        for _ in range(_TRIES):  # what still runs may put files there meanwhile
            if folder is not None and folder.exists():
                shutil.rmtree(folder, ignore_errors=True)
        os._exit(128 + came[0])

    def hear(number: int, frame: FrameType | None) -> None:
        came.append(number)
        heard.set()
        before[signal.Signals(number)](number, frame)

    before = {
        number: handler
        for number in (signal.SIGINT, *_LIKE_CTRL_C)
        if callable(handler := signal.getsignal(number))
    }
    threading.Thread(target=watch, daemon=True).start()  # at a signal there may be no memory for it
    for number in before:
        signal.signal(number, hear)
    try:
        yield
    finally:
        ended.set()
        heard.set()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def undisturbed(on_first: Callable[[], None] | None = None) -> Iterator[None]:
    """Run a short block to its end, such as starting or ending a process; signals wait for it.

    `on_first` is called at once when the first one comes, and is to end a block that is not short.

    Raises:
        KeyboardInterrupt: After the block, when one of the three signals came in it.
    """
    came: list[tuple[int, FrameType | None]] = []
    before = {
        number: handler
        for number in (signal.SIGINT, *_LIKE_CTRL_C)
        if callable(handler := signal.getsignal(number))
    }

    def hear(number: int, frame: FrameType | None) -> None:
        came.append((number, frame))
        if on_first is not None and len(came) == 1:
            on_first()

    for number in before:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for first, frame in came[:1]:
            before[signal.Signals(first)](first, frame)
