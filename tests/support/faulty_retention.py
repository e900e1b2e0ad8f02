"""A ledger that removes the detail of its old days, and kills itself after the n-th statement of that.

    python -m tests.support.faulty_retention N DATA_DIR

It goes on with what is left. Without a number it comes to an end.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import voicecosts.consumer.store.retention
from tests.support.faulty_folding import Deadly
from tests.support.history import Told, often
from voicecosts.consumer.booking.operations import Retain
from voicecosts.consumer.store import removal

_retention: Any = voicecosts.consumer.store.retention


def little(patch: pytest.MonkeyPatch) -> None:
    """Remove little at a time."""
    often(patch)
    patch.setattr(_retention, "SLICE_FILES", 2)
    patch.setattr(_retention, "SLICE_ROWS", 5)


def remove(made: Told, at: int = 0) -> None:
    """Remove all detail but that of the last day, and die at a statement of it."""
    ledger: Any = made.ledger
    if at:
        deadly: Any = Deadly(ledger._connection, at)
        for each in (ledger._retention, ledger._removal):
            each._connection = deadly
    if ledger._operations.retain == Retain():
        ledger.operate(Retain(days=1), reason="the law")
    for _ in range(3):
        while ledger.work():
            pass
        ledger.publish_snapshot()
        made.now += timedelta(seconds=removal.GRACE_US / 1e6)


if __name__ == "__main__":
    from tests.support.erasures import NOW

    little(pytest.MonkeyPatch())
    told = Told(Path(sys.argv[2]), NOW[0])
    remove(told, int(sys.argv[1]))
    told.close()
