"""Number the rows of the ledger in the order in which they are booked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voicecosts.consumer.store import sql

if TYPE_CHECKING:
    import duckdb


class Places:
    """The place of the last row in `bookings`: rows are numbered in the order in which they are booked.

    A number that a failed transaction took is not used again, which does no harm.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        row = connection.execute(sql.LAST_PLACE).fetchone()
        self.last = 0 if row is None else int(row[0])

    def take(self, rows: int) -> int:
        """Take the next places for some rows, and return the one before them."""
        before, self.last = self.last, self.last + rows
        return before
