"""What one transaction writes; the caller begins and commits it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voicecosts.consumer.store import statements
from voicecosts.consumer.store.rows import insert

if TYPE_CHECKING:
    import duckdb

    from voicecosts.consumer.booking.entries import Entries


def write_entries(
    connection: duckdb.DuckDBPyConnection, entries: Entries, now_us: int
) -> dict[str, int]:
    """Insert all rows of `entries` and return how many of each kind were new."""
    reports = list(entries.reports.values())
    letters = entries.dead_letters
    places = [letter.sequence for letter in letters] or [0]
    received = {
        "received_at": now_us,
        "first_sequence": min(places),
        "last_sequence": max(places),
    }
    booked = {"booked_at": now_us}
    noted = sorted(note.session_id for note in entries.notes) or [""]
    spoken_of = {"first_id": noted[0], "last_id": noted[-1]}
    return {
        "bookings": insert(connection, statements.INSERT_BOOKINGS, entries.bookings, booked),
        "session_starts": insert(connection, statements.INSERT_SESSION_STARTS, entries.starts),
        "session_ends": insert(connection, statements.INSERT_SESSION_ENDS, entries.ends),
        # After the bookings: a note of a reading that is among them is left out.
        "session_notes": insert(
            connection, statements.INSERT_SESSION_NOTES, entries.notes, spoken_of
        ),
        "producer_reports": insert(connection, statements.INSERT_PRODUCER_REPORTS, reports),
        "dead_letters": insert(connection, statements.INSERT_DEAD_LETTERS, letters, received),
    }


def write_state(
    connection: duckdb.DuckDBPyConnection, *, as_of_us: int, sequence: int, snapshot: int
) -> None:
    """Replace the one row of `ledger_state`.

    Not by UPDATE: DuckDB refuses a checkpoint after one for as long as a reader of the ledger is
    in the middle of a transaction, and with it every snapshot.
    """
    connection.execute(statements.CLEAR_STATE)
    connection.execute(
        statements.WRITE_STATE, {"as_of": as_of_us, "sequence": sequence, "snapshot": snapshot}
    )
