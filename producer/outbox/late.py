"""When a server last accepted what had waited on this host: a mark in the folder of the outboxes.

An answer may be of a moment before that, and find nothing waiting although it lacks those messages.
The mark is set before they leave the disk, so whoever finds them gone finds the mark.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

ON_ITS_WAY_US: Final = 10_000_000
"""What waits for no longer than this is on its way: a worker sends every tenth of a second."""

NAME: Final = "sent-late"


def mark(folder: Path, now_us: int) -> None:
    """Note that a server has accepted, until now, messages that had waited."""
    with contextlib.suppress(OSError):  # the disk is full or read-only: nothing left it either
        path = folder / NAME
        path.touch(0o600)
        os.utime(path, ns=(now_us * 1000, now_us * 1000))


def last(folder: Path) -> int | None:
    """Return when that was last, in microseconds since 1970; None: never."""
    try:
        return (folder / NAME).stat().st_mtime_ns // 1000
    except OSError:
        return None
