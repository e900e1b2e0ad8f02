"""Ledgers of three sizes, each made once in a run of tests, whichever of its processes needs it first."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from benchmarks.large_ledgers import make
from tests.support.sample_ledger import write_ledger, write_status

LARGE_ROWS: Final = 2_000_000
MAKING_S: Final = 1_800
"""How long a test may take that may have to make the large one, which takes 72 s of CPU."""


def _small(directory: Path) -> None:
    write_ledger(directory)
    write_status(directory)


def _empty(directory: Path) -> None:
    write_ledger(directory, [])
    write_status(directory)


def _large(directory: Path) -> None:
    make(directory, LARGE_ROWS)


LEDGERS: Final[dict[str, Callable[[Path], None]]] = {
    "empty": _empty,
    "small": _small,
    "large": _large,
}


def ledger_of(kind: str, factory: pytest.TempPathFactory, worker: str) -> Path:
    """Return the data directory of a ledger of a size; `worker` is the process of the run, by its name."""
    base = factory.getbasetemp()
    root = base if worker == "master" else base.parent
    directory, made = root / f"ledger-{kind}", root / f"ledger-{kind}.made"
    with (root / f"ledger-{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(directory, ignore_errors=True)
            LEDGERS[kind](directory)
            made.touch()
    return directory
