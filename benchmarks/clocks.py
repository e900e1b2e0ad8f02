"""Clocks around metering's own code in a process, and what of its memory is metering's.

Installed before the first session is attached. A clock reads the CPU of the calling thread twice,
which costs about a microsecond of its own. The garbage collector is weighed apart.
"""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from voicecosts.producer import CostObserver
from voicecosts.producer.capture import attachment, tap


class Clocks:
    """CPU inside metering's own code on the voice loop: what was called, how often, for how long."""

    def __init__(self) -> None:
        self.spent: dict[str, list[int]] = {}
        self.collecting_ns = 0
        self._collecting_since = 0
        gc.callbacks.append(self._collector)

    def install(self) -> None:
        """Put clocks around the listeners and around `attach`; before any session is attached."""
        original = tap.listener

        def listener(function: Callable[[Any], None]) -> Callable[[Any], None]:
            timed = self._timed(_name(function), original(function))
            timed.__signature__ = tap._SIGNATURE  # type: ignore[attr-defined]  # as the original has
            return timed

        tap.listener = attachment.listener = listener  # type: ignore[attr-defined]  # weighed here only
        CostObserver._attach = self._timed("attach", CostObserver._attach)  # type: ignore[method-assign]  # same
        attachment.Attachment.detach = self._timed("detach", attachment.Attachment.detach)  # type: ignore[method-assign]  # same

    def _collector(self, phase: str, _facts: dict[str, int]) -> None:
        """Weigh the garbage collector apart: whom it hits is chance, and it visits everybody's."""
        if phase == "start":
            self._collecting_since = time.thread_time_ns()
        else:
            self.collecting_ns += time.thread_time_ns() - self._collecting_since

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        clock = time.thread_time_ns
        spent = self.spent.setdefault(name, [0, 0])

        def timed(*arguments: Any, **named: Any) -> Any:
            before = clock() - self.collecting_ns
            try:
                return function(*arguments, **named)
            finally:
                spent[0] += 1
                spent[1] += clock() - self.collecting_ns - before

        return timed


def _name(function: Any) -> str:
    """Return what a listener is for, as its function is called."""
    named = function.func if isinstance(function, partial) else function
    return str(named.__name__).strip("_").replace("<lambda>", "conversation_item")


def held_kb() -> float:
    """Return what metering's code has allocated and not freed, where that is traced."""
    if not tracemalloc.is_tracing():
        return 0.0
    ours = {str(path) for path in Path(tap.__file__).parent.glob("*.py")}
    raw: list[tuple[int, int, tuple[tuple[str, int], ...], int]]
    raw = tracemalloc.take_snapshot().traces._traces  # type: ignore[attr-defined]  # a thousandfold faster than a Filter
    return sum(size for _, size, frames, _ in raw if any(f in ours for f, _ in frames)) / 1024
