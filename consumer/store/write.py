"""What one transaction writes; the caller begins and commits it.

Rows go in as JSON lines in one text parameter: DuckDB takes one text of many lines three hundred
times faster than it takes rows one by one. Money is plain decimal text, times are whole
microseconds, bytes are base64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from voicecosts.consumer.booking.message import Reason
from voicecosts.consumer.booking.notes import CONTRADICTS_END
from voicecosts.consumer.store import sql

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import duckdb

    from voicecosts.consumer.booking.difference import Booking
    from voicecosts.consumer.booking.entries import Entries
    from voicecosts.consumer.booking.prices import PriceRow
    from voicecosts.consumer.store.places import Places

MAX_TEXT_BYTES: Final = 16_000_000
"""Bytes of one parameter, at most (a single longer row travels alone): it bounds the memory."""

_TAKEN_BACK: Final = "\n".join((*Reason, CONTRADICTS_END))

_encoder = msgspec.json.Encoder()


def write_entries(
    connection: duckdb.DuckDBPyConnection,
    entries: Entries,
    prices: Sequence[PriceRow],
    places: Places,
    now_us: int,
) -> dict[str, int]:
    """Insert the rows of `entries`, dead letters apart, and return how many of each kind were new.

    `prices` are those that they are the first to use.

    A session's identity comes with a row or a note of it, and is not counted.
    """
    reports = list(entries.reports.values())
    told = {"received_at": now_us}
    noted = sorted(note.session_id for note in entries.notes) or [""]
    spoken_of: dict[str, int | str] = {
        "first_id": noted[0],
        "last_id": noted[-1],
        "received_at": now_us,
    }
    _insert(connection, sql.INSERT_SESSION_IDENTITIES, entries.identities)
    _insert(connection, sql.INSERT_PRICES_USED, prices, {"booked_at": now_us})
    _take_back(connection, entries)
    return {
        "bookings": _book(connection, entries.bookings, places, now_us),
        "session_starts": _insert(connection, sql.INSERT_SESSION_STARTS, entries.starts, told),
        "session_ends": _insert(connection, sql.INSERT_SESSION_ENDS, entries.ends, told),
        # After the bookings: a note of a reading that is among them is left out.
        "session_notes": _insert(connection, sql.INSERT_SESSION_NOTES, entries.notes, spoken_of),
        "producer_reports": _insert(connection, sql.INSERT_PRODUCER_REPORTS, reports, told),
    }


def write_rows(
    connection: duckdb.DuckDBPyConnection,
    rows: Sequence[Booking],
    prices: Sequence[PriceRow],
    places: Places,
    now_us: int,
) -> int:
    """Insert the rows of an operation and the prices that they are the first to use; return how many."""
    _insert(connection, sql.INSERT_PRICES_USED, prices, {"booked_at": now_us})
    return _book(connection, rows, places, now_us)


def _book(
    connection: duckdb.DuckDBPyConnection, rows: Sequence[Booking], places: Places, now_us: int
) -> int:
    """Insert rows in their order, and return how many."""
    for lines in texts(rows):
        before = places.take(lines.count("\n") + 1)
        connection.execute(
            sql.INSERT_BOOKINGS, {"lines": lines, "booked_at": now_us, "booked_before": before}
        )
    return len(rows)


def _take_back(connection: duckdb.DuckDBPyConnection, entries: Entries) -> None:
    """Delete what was noted of readings and ends while they were refused; the letters tell of it."""
    ids = sorted(each.session_id for each in entries.answered)
    for lines in texts(entries.answered):
        connection.execute(
            sql.DELETE_SESSION_NOTES,
            {"lines": lines, "first_id": ids[0], "last_id": ids[-1], "reasons": _TAKEN_BACK},
        )


def write_state(
    connection: duckdb.DuckDBPyConnection, *, as_of_us: int, sequence: int, snapshot: int
) -> None:
    """Replace the one row of `ledger_state`.

    Not by UPDATE: DuckDB refuses a checkpoint after one for as long as a reader of the ledger is
    in the middle of a transaction, and with it every snapshot.
    """
    connection.execute(sql.CLEAR_STATE)
    connection.execute(
        sql.WRITE_STATE, {"as_of": as_of_us, "sequence": sequence, "snapshot": snapshot}
    )


def _insert(
    connection: duckdb.DuckDBPyConnection,
    statement: str,
    rows: Sequence[Struct],
    values: Mapping[str, int | str] | None = None,
) -> int:
    """Insert `rows` with `statement` and return how many it added."""
    added = 0
    for lines in texts(rows):
        counted = connection.execute(statement, {"lines": lines, **(values or {})}).fetchone()
        added += 0 if counted is None else int(counted[0])
    return added


def texts(rows: Sequence[object]) -> Iterator[str]:
    """Yield the rows as texts of bounded length, one JSON object a line."""
    lines: list[bytes] = []
    length = 0
    for row in rows:
        line = _encoder.encode(row)
        if lines and length + len(line) > MAX_TEXT_BYTES:
            yield b"\n".join(lines).decode()
            lines, length = [], 0
        lines.append(line)
        length += len(line) + 1
    if lines:
        yield b"\n".join(lines).decode()
