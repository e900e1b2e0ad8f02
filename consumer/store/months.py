"""The sums of months: what `folded_usage` adds up to without its sessions and days, kept with it row by row.

Rows are added in the transaction that changes `folded_usage`, so the two agree after each of them. What is added
has the same keys again and again; a month with many such rows is added up anew, in a step of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from voicecosts.consumer.store import sql

if TYPE_CHECKING:
    from datetime import date

    import duckdb

LOOSE_ROWS: Final = 20_000
"""Rows of a month that were added since it was last added up, before that is worth it: an answer reads so many in
some milliseconds."""


def add(connection: duckdb.DuckDBPyConnection, after: int) -> None:
    """Add, in the open transaction, what was folded behind a place."""
    connection.execute(sql.ADD_FOLDED, {"after": after})


def add_all(connection: duckdb.DuckDBPyConnection) -> None:
    """Add all that is folded to a table without rows, in the open transaction."""
    connection.execute(sql.ADD_ALL_FOLDED)


def take_erased(connection: duckdb.DuckDBPyConnection, first_id: str, last_id: str) -> None:
    """Take away, in the open transaction, what the sessions in `erased_now` have in `folded_usage`.

    Where nothing is left, no row stays: an answer would name who was erased.
    """
    connection.execute(sql.TAKE_ERASED, {"first": first_id, "last": last_id})
    connection.execute(sql.REMOVE_TAKEN)


def to_add_up(connection: duckdb.DuckDBPyConnection) -> list[date | None]:
    """Return the months that are worth adding up anew, that with the most rows last.

    Half as many rows must have been added as it has: so no row is written more than three times, however large
    a month is.
    """
    found = connection.execute(sql.MONTHS_TO_ADD_UP, {"least": LOOSE_ROWS}).fetchall()
    return [month for (month,) in found]


def add_up(connection: duckdb.DuckDBPyConnection, month: date | None) -> None:
    """Have one row of each of the keys of a month, in a transaction of its own."""
    # 1. All of it or nothing: the sums are the same before and after.
    connection.begin()
    connection.execute(sql.ADD_UP_MONTH, {"month": month})
    connection.execute(sql.REMOVE_MONTH, {"month": month})
    connection.execute(sql.INSERT_MONTH)
    connection.execute(sql.DROP_MONTH)
    connection.commit()
