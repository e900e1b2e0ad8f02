"""A ledger in a process that folds and settles, and kills itself at the n-th thing that it does for it.

    python -m tests.support.faulty_folding N DATA_DIR

A slice has four rows or two sessions, so that a few calls are many slices, and a month is added up anew after each.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.oracle import rate
from voicecosts.consumer.store import folding, months
from voicecosts.consumer.store.ledger import Ledger


class Deadly:
    """A connection on which the n-th statement, or commit, is the last thing that is done."""

    def __init__(self, connection: Any, at: int) -> None:
        self._connection = connection
        self._left = at

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a method of the connection that may be the last."""

        def deadly(*args: Any, **kwargs: Any) -> Any:
            result = getattr(self._connection, name)(*args, **kwargs)
            self._left -= name in ("execute", "commit")
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return deadly


def in_small_slices() -> None:
    """Fold and settle at every chance, a few at a time, and add up every month anew that has more rows."""
    modules: Any = folding
    months.LOOSE_ROWS = 1  # type: ignore[misc]  # smaller than it ever is
    modules.FOLD_ROWS, modules.SLICE_ROWS, modules.SLICE_SESSIONS = 1, 4, 2
    modules.SETTLE_AFTER_US = 0


def main(at: int, data_dir: Path) -> None:
    """Fold and settle what is left, until this dies."""
    in_small_slices()
    with Ledger.open(data_dir, rate) as ledger:
        connection: Any = Deadly(ledger._connection, at)
        ledger._folding._connection = connection
        while ledger.work():
            pass


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
