"""Ledgers of three sizes, each made once in a run of tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from benchmarks.large_ledgers import make
from tests.support.sample_ledger import write_ledger, write_status

LARGE_ROWS: Final = 2_000_000


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


_made: Final[dict[str, Path]] = {}


def ledger_of(kind: str, factory: pytest.TempPathFactory) -> Path:
    """Return the data directory of a ledger of a size."""
    if kind not in _made:
        directory = factory.mktemp(kind)
        LEDGERS[kind](directory)
        _made[kind] = directory
    return _made[kind]
