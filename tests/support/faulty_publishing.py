"""A ledger in a process that publishes, and kills itself at the n-th line that it comes to for it.

    python -m tests.support.faulty_publishing N DATA_DIR

It says how many readings are booked. Between two snapshots a day passes, so that old ones become new
ones, and a copy is kept apart each time.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from tests.support.events import message, reading
from tests.support.oracle import rate
from voicecosts.consumer.store import copying, files, snapshots
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger

BEFORE = 3
"""Snapshots before the deadly one: the next takes one of them."""


class Deadly:
    """Traces what publishing does, and ends the process at the n-th line that was never run before."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._seen: set[tuple[str, int]] = set()
        self._files = {module.__file__ for module in (copying, files, snapshots)}

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        """Return what traces the lines of a function."""
        if frame.f_code.co_filename not in self._files:
            return None
        if event == "line":
            self._seen.add((frame.f_code.co_filename, frame.f_lineno))
            if len(self._seen) == self._at:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def main(at: int, data_dir: Path) -> None:
    """Book and publish until this dies."""
    days = 0
    clock = Clock(now=lambda: datetime.now(UTC) + timedelta(days=days))
    with Ledger.open(data_dir, rate, clock=clock) as ledger:
        booked = ledger._connection.execute("SELECT count(*) FROM bookings").fetchall()[0][0]
        for _ in range(BEFORE):
            days += 1
            ledger.publish_snapshot()
        booked += 1
        ledger.apply([message(booked, reading(1, of=booked, input_tokens=booked))])
        sys.stdout.write(f"booked {booked}\n")
        sys.stdout.flush()
        days += 1
        sys.settrace(Deadly(at))
        ledger.publish_snapshot()
        sys.settrace(None)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
