"""How much memory the process of an answer may have: what needs more is told so, and takes none from others."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from voicecosts.analytics.errors import TooMuchMemory

_MORE: Final = 800 * 2**20
"""Enough for DuckDB's 300 MB, what it does not count in them, and the rows that are written at once."""
_PAGES: Final = Path("/proc/self/statm")
_DATA: Final = 5


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Within the block this process may have 800 MB more than before it, where the system is Linux.

    DuckDB's own limit does not count the cells of an answer. Reserved and mapped memory does not count here.

    Raises:
        TooMuchMemory: It needs more.
    """
    before = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        pages = int(_PAGES.read_text("ascii").split()[_DATA])
    except OSError:
        limit = before[0]
    else:
        known = [it for it in before if it != resource.RLIM_INFINITY]
        limit = min([pages * resource.getpagesize() + _MORE, *known])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    except MemoryError as error:
        raise TooMuchMemory from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
