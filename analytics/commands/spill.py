"""Where an answer of a command puts what it does not hold in memory: its process uses a bounded amount."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from voicecosts.analytics.commands.signals import stopping, undisturbed
from voicecosts.analytics.snapshot.connection import load


@contextmanager
def without_pandas() -> Iterator[None]:
    """Have imports of pandas fail at once in the block.

    For every value of a statement DuckDB tries two of them, which takes 0.1 ms where there is none, and far longer
    once where there is; and what Ctrl-C raises in them is lost.
    """
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = None  # type: ignore[assignment]  # what Python means by "is not there"
    try:
        yield
    finally:
        sys.modules.pop("pandas", None)


@contextmanager
def spilling() -> Iterator[Path | None]:
    """Yield a folder for what needs more memory than an answer may use; None where there can be none.

    Ctrl-C, SIGTERM and SIGHUP end the block as `stopping` says, and leave nothing in it: it can be half of a disk. They
    wait until DuckDB is loaded, which says something else or ends the process when it is disturbed.
    """
    with stopping(), without_pandas():
        folder: TemporaryDirectory[str] | None = None
        try:
            with undisturbed():
                # all is read-only, as in some containers: then memory is not bounded
                with suppress(OSError):
                    folder = TemporaryDirectory(prefix="costs-")
                load()
            yield None if folder is None else Path(folder.name)
        finally:
            if folder is not None:
                with undisturbed():
                    folder.cleanup()
