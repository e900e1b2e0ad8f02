"""A ledger of today taken back to an older schema, as its tables were then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import duckdb

_OF_MONEY: Final = ("list_cost", "billed", "unbilled_reason", "price_id", "operation", "corrects")
_TABLES_OF_MONEY: Final = ("prices_used", "operation_records", "month_closings", "void_marks")
_OF_FOLDING: Final = ("place", "opens")
_OF_COUNTING: Final = ("meters", "priced_meters", "listed_meters", "billed_meters")
_BEFORE_COUNTING: Final = ("priced_rows", "listed_rows", "billed_rows")
_OF_OUTCOMES: Final = ("outcome", "tags", "tags_cut", "user_turns", "preempted")
_TABLES_SINCE: Final = (
    "folded_usage",
    "fold_state",
    "session_readings",
    "settled_sessions",
    "pending_sessions",
    "sealed_files",
    "removed_detail",
    "removed_files",
    "erasures",
    "erased_days",
    "folded_months",
)


def before_money(connection: duckdb.DuckDBPyConnection) -> None:
    """Take a ledger back to schema 7: one amount, and no prices that are kept."""
    _drop_views(connection)
    for column in (*_OF_MONEY, *_OF_FOLDING, *_OF_COUNTING):
        connection.execute(f"ALTER TABLE bookings DROP COLUMN {column}")
    _before_outcomes(connection)
    for table in (*_TABLES_OF_MONEY, *_TABLES_SINCE):
        connection.execute(f"DROP TABLE {table}")
    connection.execute("DELETE FROM schema_migrations WHERE version >= 8")


def before_counting(connection: duckdb.DuckDBPyConnection) -> None:
    """Take a ledger back to schema 10: no row says what its meter has."""
    _drop_views(connection)
    for column in _OF_COUNTING:
        connection.execute(f"ALTER TABLE bookings DROP COLUMN {column}")
        connection.execute(f"ALTER TABLE folded_usage DROP COLUMN {column}")
    _before_outcomes(connection)
    for column in _BEFORE_COUNTING:
        connection.execute(f"ALTER TABLE folded_usage ADD COLUMN {column} BIGINT DEFAULT 0")
    for table in _TABLES_SINCE[_TABLES_SINCE.index("sealed_files") :]:
        connection.execute(f"DROP TABLE {table}")
    connection.execute("DELETE FROM schema_migrations WHERE version >= 11")


def _before_outcomes(connection: duckdb.DuckDBPyConnection) -> None:
    for table in ("session_ends", "settled_sessions"):
        for column in _OF_OUTCOMES:
            connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")


def _drop_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop what the ledger writes anew when it is opened."""
    views = connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    for (view,) in views:
        connection.execute(f'DROP VIEW "{view}"')
