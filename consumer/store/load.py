"""Derive the state of some sessions from their rows.

There is no index: session ids are UUIDv7 and rows arrive in order of time, so a range of ids skips
nearly all of the table. One very late session would stretch a single range over the whole table, so
ids that lie far apart are loaded by several ranges.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from voicecosts.consumer.booking.difference import MeterState
from voicecosts.consumer.booking.sessions import SessionState
from voicecosts.consumer.store import sql
from voicecosts.producer.events import QUANTITIES, Meter, Quantities

if TYPE_CHECKING:
    from collections.abc import Iterable

    import duckdb

MAX_RANGES: Final = 32
"""Ranges of one load, at most: each is one query."""

MIN_GAP_MS: Final = 3_600_000


def load_sessions(
    connection: duckdb.DuckDBPyConnection, session_ids: Iterable[str]
) -> dict[str, SessionState]:
    """Return the state of every one of `session_ids`; an unknown session has an empty one."""
    loaded = {session_id: SessionState() for session_id in session_ids}
    for ids in ranges(loaded):
        values = {"first_id": ids[0], "last_id": ids[-1], "ids": "\n".join(ids)}
        for row in connection.execute(sql.LOAD_METERS, values).fetchall():
            meter = Meter(*row[:9])
            number, cost, reported_cost = row[9:12]
            totals = Quantities(**dict(zip(QUANTITIES, row[12:], strict=True)))
            loaded[meter.session_id].meters[meter] = MeterState(number, totals, cost, reported_cost)
        for session_id, started, ended in connection.execute(sql.LOAD_SESSIONS, values).fetchall():
            session = loaded[session_id]
            session.started = session.started or started
            session.ended = max(session.ended, ended)
    return loaded


def ranges(session_ids: Iterable[str]) -> list[list[str]]:
    """Split sorted session ids at their widest gaps: those of over an hour, `MAX_RANGES` - 1 at most."""
    ids = sorted(session_ids)
    if not ids:
        return []
    times = [int(each[:8] + each[9:13], 16) for each in ids]
    gaps = [(later - earlier, place) for place, (earlier, later) in enumerate(pairwise(times), 1)]
    wide = sorted((gap for gap in gaps if gap[0] > MIN_GAP_MS), reverse=True)
    cuts = [0, *sorted(place for _, place in wide[: MAX_RANGES - 1]), len(ids)]
    return [ids[start:end] for start, end in pairwise(cuts)]
