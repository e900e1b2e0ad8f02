"""Reading the ledger: `connect` for SQL of one's own, `query` for cost by tenant, agent, model, day.

Nothing here writes, and nothing here can hold the ledger up: both read a published snapshot. Importing
this package loads neither duckdb nor rich; the first use does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analytics.ledger import connect
    from analytics.usage import query

__all__ = ["connect", "query"]

_HOMES = {"connect": "analytics.ledger", "query": "analytics.usage"}


def __getattr__(name: str) -> object:
    """Load a public name from its home on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
