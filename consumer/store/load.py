"""Derive the state of some sessions from their rows.

There is no index: session ids are UUIDv7 and rows arrive in order of time, so a range of ids skips
nearly all of the table. One very late session would stretch a single range over the whole table, so
ids that lie far apart are loaded by several ranges.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from voicecosts.consumer.booking.counted import Counted
from voicecosts.consumer.booking.difference import MeterState
from voicecosts.consumer.booking.sessions import Identity, SessionKey, SessionState
from voicecosts.consumer.booking.standing import Decision, Reported
from voicecosts.consumer.pricing.unpriced import UNPRICED, UnpricedUsage
from voicecosts.consumer.store import sql
from voicecosts.producer.events import QUANTITIES, Meter, Quantities

if TYPE_CHECKING:
    from collections.abc import Iterable

    import duckdb

    from voicecosts.consumer.booking.prices import PricesUsed

MAX_RANGES: Final = 32
"""Ranges of one load, at most: each is one query."""

MIN_GAP_MS: Final = 3_600_000

_labels: Final = msgspec.json.Decoder(dict[str, str])


def load_sessions(
    connection: duckdb.DuckDBPyConnection, keys: Iterable[SessionKey], prices: PricesUsed
) -> dict[SessionKey, SessionState]:
    """Return the state of every one of `keys`; an unknown session has an empty one."""
    loaded = {key: SessionState() for key in keys}
    for ids in ranges({key.session_id for key in loaded}):
        values = {"first_id": ids[0], "last_id": ids[-1], "ids": "\n".join(ids)}
        for project, *row in connection.execute(sql.LOAD_METERS, values).fetchall():
            meter = Meter(*row[:8])
            session = loaded.get(SessionKey(project, meter.session_id))
            if session is not None:  # else another project's, under the same id
                session.meters[meter] = _meter_state(row[8:], prices)
                session.counted = True
        for project, session_id, *row in connection.execute(sql.LOAD_SESSIONS, values).fetchall():
            session = loaded.get(SessionKey(project, session_id))
            if session is None:
                continue
            agent_id, tenant, producer_id, started, ended, labels, voided = row
            if agent_id is not None:
                session.identity = Identity(project, session_id, agent_id, tenant, producer_id)
            session.started = session.started or started
            session.ended = max(session.ended, ended)
            session.voided = session.voided or voided
            if labels is not None:
                session.labels = _labels.decode(labels)
    return loaded


def load_reported(
    connection: duckdb.DuckDBPyConnection, keys: Iterable[SessionKey]
) -> dict[SessionKey, dict[Meter, Reported]]:
    """Return what the readings of each meter of `keys` add up to, and how its price was decided."""
    loaded: dict[SessionKey, dict[Meter, Reported]] = {key: {} for key in keys}
    for ids in ranges({key.session_id for key in loaded}):
        values = {"first_id": ids[0], "last_id": ids[-1], "ids": "\n".join(ids)}
        for project, *row in connection.execute(sql.LOAD_REPORTED, values).fetchall():
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
        values = {"first_id": ids[0], "last_id": ids[-1], "ids": "\n".join(ids)}
        rows = connection.execute(sql.LOAD_REPRICED, values).fetchall()
        found.update((project, Meter(*row)) for project, *row in rows)
    return frozenset(found)


def _decision(
    operation: str | None, price_id: str | None, reason: str | None, has: str
) -> Decision:
    return Decision(
        None if operation is None else int(operation),
        None if price_id is None else int(price_id),
        reason,
        has == "true",
    )


def _meter_state(row: list[Any], prices: PricesUsed) -> MeterState:
    """Return the state of a meter from the sums of its rows, in the order of `load_meters.sql`."""
    number, cost, reported_cost, list_cost, billed, price_id, provider_raw, *counts = row[:11]
    counted, sums = Counted(*counts), row[11:]
    terms = prices.terms(price_id)
    if terms is not None and counted.meters:  # what was voided keeps its prices
        terms = terms.kept(has_cost=counted.priced_meters > 0, has_billed=counted.billed_meters > 0)
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
    """Split sorted session ids at their widest gaps: those of over an hour, `MAX_RANGES` - 1 at most."""
    ids = sorted(session_ids)
    if not ids:
        return []
    times = [int(each[:8] + each[9:13], 16) for each in ids]
    gaps = [(later - earlier, place) for place, (earlier, later) in enumerate(pairwise(times), 1)]
    wide = sorted((gap for gap in gaps if gap[0] > MIN_GAP_MS), reverse=True)
    cuts = [0, *sorted(place for _, place in wide[: MAX_RANGES - 1]), len(ids)]
    return [ids[start:end] for start, end in pairwise(cuts)]
