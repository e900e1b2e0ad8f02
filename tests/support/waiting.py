"""Waiting on a condition with a deadline: the only way a test waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], bool], *, deadline_s: float = 60.0) -> None:
    """Return when `condition` holds; fail after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {condition}")
        await asyncio.sleep(0.01)


def wait_until(condition: Callable[[], bool], *, deadline_s: float = 60.0) -> None:
    """As `until`, where no event loop runs."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {condition}")
        time.sleep(0.02)
