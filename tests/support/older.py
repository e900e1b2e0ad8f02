"""A ledger of today taken back to an older schema, as its tables were then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import duckdb

_OF_MONEY: Final = ("list_cost", "billed", "unbilled_reason", "price_id", "operation", "corrects")
_TABLES_OF_MONEY: Final = ("prices_used", "operation_records", "month_closings", "void_marks")
_OF_FOLDING: Final = ("place", "opens")
_TABLES_OF_FOLDING: Final = (
    "folded_usage",
    "fold_state",
    "session_readings",
    "settled_sessions",
    "pending_sessions",
)


def before_money(connection: duckdb.DuckDBPyConnection) -> None:
    """Take a ledger back to schema 7: one amount, and no prices that are kept."""
    views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    for (view,) in views:  # the ledger writes them anew when it is opened
        connection.execute(f'DROP VIEW "{view}"')
    for column in (*_OF_MONEY, *_OF_FOLDING):
        connection.execute(f"ALTER TABLE bookings DROP COLUMN {column}")
    for table in (*_TABLES_OF_MONEY, *_TABLES_OF_FOLDING):
        connection.execute(f"DROP TABLE {table}")
    connection.execute("DELETE FROM schema_migrations WHERE version >= 8")
