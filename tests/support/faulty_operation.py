"""A re-rating in a process that kills itself at one line of it, at the n-th time.

    python -m tests.support.faulty_operation LINE N DATA_DIR

A slice has two sessions, so that a few of them are many slices; nothing else is changed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import voicecosts.consumer.store.operations
from tests.support.price_books import mini
from voicecosts.consumer.booking.operations import Rerate, Work
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.operations import Operations

FIGURE: Final = "5"
"""What a million tokens cost by the prices of today."""

_module: Any = voicecosts.consumer.store.operations


class Trap:
    """Ends the process when a line is reached for the n-th time."""

    def __init__(self, at: int) -> None:
        self.left = at

    def after(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and may be the last that is done."""

        def deadly(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return deadly


def recorded(trap: Trap) -> None:
    """The operation is recorded, and nothing of it is done."""
    Operations.begin = trap.after(Operations.begin)  # type: ignore[method-assign]  # the accident under test


def before_commit(trap: Trap) -> None:
    """The rows of a slice are written, and its transaction is open."""
    _module.write_rows = trap.after(_module.write_rows)


def after_commit(trap: Trap) -> None:
    """A slice is on disk."""
    Operations.step = trap.after(Operations.step)  # type: ignore[method-assign]  # same


LINES: Final = {line.__name__: line for line in (recorded, before_commit, after_commit)}


def main(line: str, at: int, data_dir: Path) -> None:
    """Do what is under way, or begin a re-rating, until this dies."""
    _module.SLICE_SESSIONS = 2
    LINES[line](Trap(at))
    with Ledger.open(data_dir, mini(FIGURE)) as ledger:
        work: Work = Rerate()
        if not ledger.work():
            ledger.operate(work, reason="because")
        while ledger.work():
            pass


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
