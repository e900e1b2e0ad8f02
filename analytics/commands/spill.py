"""Where an answer of a command puts what it does not hold in memory: its process uses a bounded amount."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def spilling() -> Iterator[Path | None]:
    """Yield a folder for what needs more memory than an answer may use; None where there can be none."""
    try:
        folder = TemporaryDirectory(prefix="costs-")
    except OSError:  # all is read-only, as in some containers: then memory is not bounded
        yield None
        return
    with folder:
        yield Path(folder.name)
