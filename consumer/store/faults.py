"""The border to DuckDB and the disk: their errors are translated here and nowhere else."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

from voicecosts.consumer.errors import (
    LedgerDamaged,
    LedgerDiskFull,
    LedgerError,
    LedgerInUse,
    LedgerNewer,
    LedgerOutOfMemory,
    LedgerWriteFailed,
    SnapshotFailed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HOLDER = re.compile(r"\(PID (\d+)\)")
_NEWER = "created with a newer version of DuckDB"
_DAMAGED = (
    "Corrupt",
    "not a valid DuckDB database",
    "Could not read enough bytes",
    "Failure while replaying WAL",
)
_NO_MEMORY = "Could not allocate"
"""What DuckDB's Python package says where Python has no memory for a row of an answer, as a RuntimeError."""
_FULL = ("No space left", "Disk quota exceeded", "File too large")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise an error of DuckDB or the disk about the ledger at `path` as one of ours."""
    try:
        yield
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        problem = _first_line(str(error)) or "no more can be allocated"
        raise LedgerOutOfMemory(path, problem) from error
    except RuntimeError as error:
        if _NO_MEMORY not in str(error):
            raise
        raise LedgerOutOfMemory(path, _first_line(str(error))) from error
    except (duckdb.Error, OSError) as error:
        raise _translate(path, str(error)) from error


def is_damage(text: str) -> bool:
    """Return whether the text of an error says that a file is not what was written."""
    return any(words in text for words in _DAMAGED)


def is_full(text: str) -> bool:
    """Return whether the text of an error says that there is no room."""
    return any(words in text for words in _FULL)


def _translate(path: Path, text: str) -> LedgerError:
    problem = _first_line(text)
    if "Could not set lock" in text:
        holder = _HOLDER.search(text)
        return LedgerInUse(path, int(holder[1]) if holder else None)
    if "Cannot CHECKPOINT" in text:
        return SnapshotFailed(path.parent, problem)
    if _NEWER in text:
        return LedgerNewer(
            path, "the format of a newer DuckDB", f"that of DuckDB {duckdb.__version__}"
        )
    if is_damage(text):
        return LedgerDamaged(path, problem)
    if is_full(text):
        return LedgerDiskFull(path, problem)
    return LedgerWriteFailed(path, problem)


def _first_line(text: str) -> str:
    return text.partition("\n")[0].rstrip(".")
