"""Where an answer of a command puts what it does not hold in memory: its process uses a bounded amount."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from voicecosts.analytics.commands.signals import stopping, undisturbed


@contextmanager
def spilling() -> Iterator[Path | None]:
    """Yield a folder for what needs more memory than an answer may use; None where there can be none.

    Ctrl-C, SIGTERM and SIGHUP end the block as `stopping` says, and leave nothing in it: it can be half of a disk.
    """
    try:
        folder = TemporaryDirectory(prefix="costs-")
    except OSError:  # all is read-only, as in some containers: then memory is not bounded
        yield None
        return
    with stopping():
        try:
            yield Path(folder.name)
        finally:
            with undisturbed():
                folder.cleanup()
