"""What a ledger must hold, worked out from the events alone, and what readers of it see.

The oracle takes the last word on every meter and prices it with decimals. It knows nothing of how
readings are kept, sent, booked or rated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from pathlib import Path
from typing import Final

import duckdb
from msgspec import Struct
from msgspec.structs import astuple

from voicecosts.consumer.pricing import Rated
from voicecosts.consumer.pricing.unpriced import UNPRICED as AMOUNTS
from voicecosts.consumer.pricing.unpriced import UnpricedUsage
from voicecosts.producer.events import (
    QUANTITIES,
    Event,
    Meter,
    MeterReading,
    Quantities,
    SessionEnded,
)

FINE_PRICES: Final = {
    "input_tokens": Decimal("0.0000001234"),
    "characters": Decimal("0.00000003051"),
    "audio_us": Decimal("0.0000000000717"),
}
"""Finer than a nano-dollar, so that money which depended on the split would show."""

LIST_PRICES: Final = {
    "gpt-4.1-mini": {
        "input_tokens": Decimal("0.40") / 10**6,
        "output_tokens": Decimal("1.60") / 10**6,
    },
    # 0.08 nano-dollars a microsecond: money that depended on the split would show.
    "nova-3": {"audio_us": Decimal("0.0048") / 60 / 10**6},
}
"""What the providers ask for the models that tests use, as of the price list in use."""

_SUMS: Final = f"""
SELECT
    session_id::VARCHAR, agent_label, modality, provider, model, estimated,
    size_tier, service_tier, sum(cost), sum(reported_cost), {", ".join(f"sum({name})" for name in QUANTITIES)}
FROM usage
GROUP BY ALL
"""  # noqa: S608 - names of our own contract

_TABLES: Final = (
    "bookings",
    "session_identities",
    "session_starts",
    "session_ends",
    "session_notes",
    "producer_reports",
    "dead_letters",
    "ledger_state",
    "schema_migrations",
)


class Priced(Rated, frozen=True):
    """What the finer price list says; the first fields go by position."""

    cost: Decimal | None
    reason: str | None = None
    source: str | None = "test"
    version: str | None = "1"
    model: str | None = "listed"


class Total(Struct, frozen=True):
    """What must stand in the ledger for one meter, however its readings came; no price is no money."""

    totals: Quantities
    cost: Decimal
    reported_cost: Decimal


def rate(meter: Meter, totals: Quantities, at: datetime, **_asked: object) -> Priced:
    """Price totals finely: a model called `unknown` has no price, output tokens never have one."""
    if meter.model == "unknown":
        everything = UnpricedUsage(**{name: getattr(totals, name) for name in AMOUNTS})
        return Priced(None, "unknown_model", None, None, None, unpriced_usage=everything)
    cost = _sum(totals, FINE_PRICES)
    if not totals.output_tokens:
        return Priced(cost)
    some = UnpricedUsage(requests=totals.requests, output_tokens=totals.output_tokens)
    return Priced(cost, "no_rate", unpriced_usage=some)


def fine_cost(meter: Meter, totals: Quantities) -> Decimal | None:
    """Return what `rate` asks."""
    return None if meter.model == "unknown" else _sum(totals, FINE_PRICES)


def list_cost(meter: Meter, totals: Quantities) -> Decimal | None:
    """Return what the providers ask; nothing is known of a model without a list price."""
    prices = LIST_PRICES.get(meter.model)
    return None if prices is None else _sum(totals, prices)


def expected(
    events: Iterable[Event],
    cost: Callable[[Meter, Quantities], Decimal | None] = fine_cost,
) -> dict[Meter, Total]:
    """Return what must be booked of every meter that has moved."""
    return {
        meter: Total(totals, cost(meter, totals) or Decimal(0), Decimal(reported or 0))
        for meter, (_, totals, reported) in newest_readings(events).items()
        if any(astuple(totals)) or Decimal(reported or 0)
    }


def newest_readings(events: Iterable[Event]) -> dict[Meter, tuple[int, Quantities, str | None]]:
    """Return of every meter the highest number, and the totals and reported cost under it."""
    last: dict[Meter, tuple[int, Quantities, str | None]] = {}
    for event in events:
        if not isinstance(event, (MeterReading, SessionEnded)):
            continue
        for each in event.meters if isinstance(event, SessionEnded) else [event]:
            meter = Meter(
                event.session_id,
                each.agent_label,
                each.modality,
                each.provider,
                each.model,
                each.estimated,
                each.size_tier,
                each.service_tier,
            )
            if meter not in last or event.number > last[meter][0]:
                last[meter] = event.number, each.totals, each.reported_cost
    return last


def newest(events: Iterable[Event]) -> dict[Meter, int]:
    """Return the highest number among the readings of each meter."""
    readings = [event for event in events if isinstance(event, MeterReading)]
    return {meter: number for meter, (number, *_) in newest_readings(readings).items()}


def booked(path: Path) -> dict[Meter, Total]:
    """Return the sums of every meter in a snapshot, or in the newest one of a data directory."""
    return _booked((path / "costs.duckdb" if path.is_dir() else path).resolve())


def contents(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table of a snapshot, without the moments of publishing."""
    with duckdb.connect(path, read_only=True, config={"threads": 1}) as connection:
        found = {name: connection.table(name).fetchall() for name in _TABLES}
    found["ledger_state"] = [row[1:2] for row in found["ledger_state"]]
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


def count(path: Path, table: str) -> int:
    """Return how many rows a table of a snapshot has."""
    with duckdb.connect(path, read_only=True, config={"threads": 1}) as connection:
        return len(connection.table(table))


@cache  # a snapshot never changes once it is published
def _booked(snapshot: Path) -> dict[Meter, Total]:
    with duckdb.connect(snapshot, read_only=True, config={"threads": 1}) as connection:
        rows = connection.execute(_SUMS).fetchall()
    return {
        Meter(*row[:8]): Total(
            Quantities(**dict(zip(QUANTITIES, row[10:], strict=True))),
            row[8] or Decimal(0),
            row[9] or Decimal(0),
        )
        for row in rows
    }


def _sum(totals: Quantities, prices: dict[str, Decimal]) -> Decimal:
    cost = sum((getattr(totals, name) * price for name, price in prices.items()), Decimal(0))
    return cost.quantize(Decimal("1e-9"), ROUND_HALF_EVEN)
