"""Read back what a ledger holds, in words of its views and tables, to compare it with what must be."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import duckdb

from tests.support.fleet import Total
from voicecosts.producer.events import QUANTITIES, Meter, Quantities

_SUMS = f"""
SELECT
    session_id::VARCHAR, agent_id, agent_label, modality, provider, model, estimated,
    sum(cost), sum(reported_cost), {", ".join(f"sum({name})" for name in QUANTITIES)}
FROM usage
GROUP BY ALL
"""  # noqa: S608 - names of our own contract

TABLES = (
    "bookings",
    "session_starts",
    "session_ends",
    "session_notes",
    "producer_reports",
    "dead_letters",
    "ledger_state",
    "schema_migrations",
)


def booked(path: Path) -> dict[Meter, Total]:
    """Return the sums of every meter in a snapshot."""
    with duckdb.connect(path, read_only=True) as connection:
        rows = connection.execute(_SUMS).fetchall()
    return {
        Meter(*row[:7]): Total(
            Quantities(**dict(zip(QUANTITIES, row[9:], strict=True))),
            row[7] or Decimal(0),
            row[8] or Decimal(0),
        )
        for row in rows
    }


def contents(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table of a snapshot, without the moments of publishing."""
    with duckdb.connect(path, read_only=True) as connection:
        found = {name: connection.table(name).fetchall() for name in TABLES}
    found["ledger_state"] = [row[1:2] for row in found["ledger_state"]]
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


def count(path: Path, table: str) -> int:
    """Return how many rows a table of a snapshot has."""
    with duckdb.connect(path, read_only=True) as connection:
        return len(connection.table(table))
