"""Waiting on a condition with a deadline: the only way a test waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator


async def until(condition: Callable[[], bool], *, deadline_s: float = 60.0) -> None:
    """Return when `condition` holds; fail after the deadline."""
    for pause_s in _looks(condition, deadline_s):
        await asyncio.sleep(pause_s)


def wait_until(condition: Callable[[], bool], *, deadline_s: float = 60.0) -> None:
    """As `until`, where no event loop runs."""
    for pause_s in _looks(condition, deadline_s):
        time.sleep(pause_s)


def _looks(condition: Callable[[], bool], deadline_s: float) -> Iterator[float]:
    """Look until the condition holds; yield how long to pause, so that most of the time is the others'."""
    end = time.monotonic() + deadline_s
    while True:
        began = time.monotonic()
        if condition():
            return
        now = time.monotonic()
        if now > end:
            raise AssertionError(f"not within {deadline_s} s: {condition}")
        yield max(0.01, 2 * (now - began))
