"""Where an answer of a command puts what it does not hold in memory: its process uses a bounded amount."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from voicecosts.analytics.commands.imports import without_pandas
from voicecosts.analytics.commands.signals import stopping, undisturbed
from voicecosts.analytics.snapshot.connection import load


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
