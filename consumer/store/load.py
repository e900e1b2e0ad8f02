"""Find the state of some sessions: as it was kept when they were settled, or from their rows.

What is kept is one short row a session, so that five hundred sessions of anywhere in years take a look
at nothing but ids. The rows have dozens of columns, and are read for the few that are not settled.

There is no index: session ids are UUIDv7 and rows arrive in order of time, so a range of ids skips
nearly all of the table. One very late session would stretch a single range over the whole table, so of
many ids those that lie far apart are loaded by several ranges.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from voicecosts.consumer.booking.counted import Counted
from voicecosts.consumer.booking.difference import MeterState
from voicecosts.consumer.booking.packing import unpack
from voicecosts.consumer.booking.sessions import Identity, SessionKey, SessionState
from voicecosts.consumer.booking.standing import Decision, Reported
from voicecosts.consumer.pricing.unpriced import UNPRICED, UnpricedUsage
from voicecosts.consumer.store import sql
from voicecosts.producer.events import QUANTITIES, Meter, Quantities

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import duckdb

    from voicecosts.consumer.booking.prices import PricesUsed

MAX_RANGES: Final = 8
"""Ranges of one load, at most: each is one query."""

MIN_GAP_MS: Final = 6 * 3_600_000
"""What lies closer is read in one go: a query takes as long as the rows of some hours."""

FEW: Final = 50
"""So many ids DuckDB compares one by one with the lowest and highest of each group of rows (its setting
`dynamic_or_filter_threshold`), so one range of them skips what several would, and is planned once."""

_AT_ONCE: Final = 2_000

_labels: Final = msgspec.json.Decoder(dict[str, str])


def load_sessions(
    connection: duckdb.DuckDBPyConnection, keys: Iterable[SessionKey], prices: PricesUsed
) -> dict[SessionKey, SessionState]:
    """Return the state of every one of `keys`; an unknown session has an empty one."""
    loaded = {key: SessionState() for key in keys}
    for ids in ranges({key.session_id for key in loaded}):
        for project, session_id, *row in connection.execute(
            sql.LOAD_SESSIONS, _values(ids)
        ).fetchall():
            session = loaded.get(SessionKey(project, session_id))
            if session is None:  # another project's, under the same id
                continue
            agent_id, tenant, producer_id, started, ended, labels, voided = row
            if agent_id is not None:
                session.identity = Identity(project, session_id, agent_id, tenant, producer_id)
            session.started = session.started or started
            session.ended = max(session.ended, ended)
            session.voided = session.voided or voided
            if labels is not None:
                session.labels = _labels.decode(labels)
    # No row of a session is booked before it has an identity: a new one has nothing to be added up.
    known = {key.session_id for key, session in loaded.items() if session.identity is not None}
    for ids in ranges(known):
        for project, *row in _each(connection.execute(sql.LOAD_METERS, _values(ids))):
            meter = Meter(*row[:8])
            session = loaded.get(SessionKey(project, meter.session_id))
            if session is not None:
                session.meters[meter] = _meter_state(row[8:], prices)
                session.counted = True
    return loaded


def load_sizes(
    connection: duckdb.DuckDBPyConnection, keys: Iterable[SessionKey]
) -> dict[SessionKey, int]:
    """Return how many rows are to be added up for those of `keys` that have any: at least one for each meter."""
    loaded: dict[SessionKey, int] = {}
    for ids in ranges({key.session_id for key in keys}):
        for project, session_id, rows in connection.execute(
            sql.LOAD_SIZES, _values(ids)
        ).fetchall():
            loaded[SessionKey(project, session_id)] = rows
    return loaded


def load_settled(
    connection: duckdb.DuckDBPyConnection,
    keys: Iterable[SessionKey],
    prices: PricesUsed,
    *,
    began_before_us: int,
) -> dict[SessionKey, SessionState]:
    """Return the state of those of `keys` that are settled, as it was kept. None began later."""
    loaded: dict[SessionKey, SessionState] = {}
    wanted = {key for key in keys if _began_ms(key.session_id) * 1000 <= began_before_us}
    ids = sorted({key.session_id for key in wanted})
    if not ids:
        return loaded
    for project, session_id, kept in connection.execute(sql.LOAD_SETTLED, _values(ids)).fetchall():
        key = SessionKey(project, session_id)
        session = unpack(key, kept, prices) if key in wanted else None
        if session is not None:
            session.pending = False
            loaded[key] = session
    return loaded


def load_reported(
    connection: duckdb.DuckDBPyConnection, keys: Iterable[SessionKey]
) -> dict[SessionKey, dict[Meter, Reported]]:
    """Return what the readings of each meter of `keys` add up to, and how its price was decided."""
    loaded: dict[SessionKey, dict[Meter, Reported]] = {key: {} for key in keys}
    for ids in ranges({key.session_id for key in loaded}):
        for project, *row in connection.execute(sql.LOAD_REPORTED, _values(ids)).fetchall():
            meter = Meter(*row[:8])
            meters = loaded.get(SessionKey(project, meter.session_id))
            if meters is not None:
                reported_cost, cost, list_cost, decisions, *sums = row[8:]
                meters[meter] = Reported(
                    Quantities(**dict(zip(QUANTITIES, sums, strict=True))),
                    reported_cost,
                    cost,
                    list_cost,
                    tuple(_decision(*each) for each in decisions),
                )
    return loaded


def load_repriced(
    connection: duckdb.DuckDBPyConnection, keys: Iterable[SessionKey]
) -> frozenset[tuple[str, Meter]]:
    """Return the meters of `keys` whose price an operation decided, each after its project."""
    found: set[tuple[str, Meter]] = set()
    for ids in ranges({key.session_id for key in keys}):
        rows = connection.execute(sql.LOAD_REPRICED, _values(ids)).fetchall()
        found.update((project, Meter(*row)) for project, *row in rows)
    return frozenset(found)


def _decision(
    operation: str | None, price_id: str | None, reason: str | None, has: str, began: str
) -> Decision:
    return Decision(
        None if operation is None else int(operation),
        None if price_id is None else int(price_id),
        reason,
        has == "true",
        int(began),
    )


def _meter_state(row: list[Any], prices: PricesUsed) -> MeterState:
    """Return the state of a meter from the sums of its rows, in the order of `load_meters.sql`."""
    number, cost, reported_cost, list_cost, billed, price_id, provider_raw, *counts = row[:11]
    counted, sums = Counted(*counts), row[11:]
    terms = prices.terms(price_id)
    if terms is not None and counted.meters:  # what was voided keeps its prices
        has_billed = counted.billed_meters > 0 or terms.is_included
        terms = terms.kept(has_cost=counted.priced_meters > 0, has_billed=has_billed)
    return MeterState(
        number,
        Quantities(**dict(zip(QUANTITIES, sums[: len(QUANTITIES)], strict=True))),
        cost,
        reported_cost,
        UnpricedUsage(**dict(zip(UNPRICED, sums[len(QUANTITIES) :], strict=True))),
        list_cost,
        billed,
        terms,
        provider_raw,
        counted,
    )


def ranges(session_ids: Iterable[str]) -> list[list[str]]:
    """Split sorted session ids at their widest gaps: over `MIN_GAP_MS`, `MAX_RANGES` - 1 at most; `FEW` are one range."""
    ids = sorted(session_ids)
    if len(ids) <= FEW:
        return [ids] if ids else []
    times = [_began_ms(each) for each in ids]
    gaps = [(later - earlier, place) for place, (earlier, later) in enumerate(pairwise(times), 1)]
    wide = sorted((gap for gap in gaps if gap[0] > MIN_GAP_MS), reverse=True)
    cuts = [0, *sorted(place for _, place in wide[: MAX_RANGES - 1]), len(ids)]
    return [ids[start:end] for start, end in pairwise(cuts)]


def _each(found: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of an answer, some at a time: as values of Python they take ten times the memory."""
    while rows := found.fetchmany(_AT_ONCE):
        yield from rows


def _values(ids: list[str]) -> dict[str, str]:
    """Return what a statement about sessions of a range of ids takes."""
    return {"first_id": ids[0], "last_id": ids[-1], "ids": "\n".join(ids)}


def _began_ms(session_id: str) -> int:
    return int(session_id[:8] + session_id[9:13], 16)
