"""Packages that a command does without, although DuckDB would load them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_pandas() -> Iterator[None]:
    """Have imports of pandas fail at once in the block.

    For every value of a statement DuckDB tries two of them, which takes 0.1 ms where there is none, and far longer
    once, and 50 MB, where there is; and what Ctrl-C raises in them is lost. It is not for the dashboard: marimo looks
    for pandas in its own way.
    """
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = None  # type: ignore[assignment]  # what Python means by "is not there"
    try:
        yield
    finally:
        sys.modules.pop("pandas", None)
