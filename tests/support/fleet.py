"""Traffic of a small fleet, made from a seed, and what a ledger must hold after it.

The traffic is what a bad day delivers: readings twice, out of order, some lost, events that nobody
can read. What must come out does not know how booking works: it is the last reading of each meter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

import msgspec
from msgspec import Struct

from tests.support.events import ended, reading, started
from voicecosts.consumer.pricing import Rated
from voicecosts.producer.events import (
    Event,
    Meter,
    MeterReading,
    MeterTotals,
    Quantities,
    SessionEnded,
)

PRICES: Final = {
    "input_tokens": Decimal("0.0000001234"),
    "characters": Decimal("0.00000003051"),
    "audio_us": Decimal("0.0000000000717"),
}
"""Finer than a nano-dollar, so that money which depended on the split would show."""

UNPRICED: Final = ("output_tokens",)


class Priced(Rated, frozen=True):
    """What the fleet's price list says; the first fields go by position."""

    cost: Decimal | None
    unpriced: tuple[str, ...] = ()
    reason: str | None = None
    source: str | None = "test"
    version: str | None = "1"
    model: str | None = "listed"


def rate(meter: Meter, totals: Quantities, at: datetime, *, provider_raw: str = "") -> Priced:
    """Price totals: a model called `unknown` has no price at all, output tokens never have one."""
    if meter.model == "unknown":
        return Priced(None, reason="unknown_model", source=None, version=None, model=None)
    cost = sum((getattr(totals, name) * price for name, price in PRICES.items()), Decimal(0))
    missing = tuple(name for name in UNPRICED if getattr(totals, name))
    rounded = cost.quantize(Decimal("0.000000001"), ROUND_HALF_EVEN)
    return Priced(rounded, missing, "no_rate" if missing else None)


class Total(Struct, frozen=True):
    """What must stand in the ledger for one meter, however its readings came."""

    totals: Quantities
    cost: Decimal
    reported_cost: Decimal


def expected(events: Iterable[Event]) -> dict[Meter, Total]:
    """Return the last word on every meter, straight from the events: nothing is booked here."""
    last: dict[Meter, tuple[int, Quantities, str | None]] = {}
    for event in events:
        for meter, number, totals, reported in _said(event):
            if meter not in last or number > last[meter][0]:
                last[meter] = number, totals, reported
    at = datetime.fromtimestamp(0).astimezone()
    return {
        meter: Total(totals, rate(meter, totals, at).cost or Decimal(0), Decimal(reported or 0))
        for meter, (_, totals, reported) in last.items()
        if any(msgspec.structs.astuple(totals)) or Decimal(reported or 0)
    }


def _said(event: Event) -> list[tuple[Meter, int, Quantities, str | None]]:
    if isinstance(event, MeterReading):
        meters: Sequence[MeterReading | MeterTotals] = [event]
    elif isinstance(event, SessionEnded):
        meters = event.meters
    else:
        return []
    return [
        (
            Meter(
                event.session_id,
                event.agent_id,
                each.agent_label,
                each.modality,
                each.provider,
                each.model,
                each.estimated,
            ),
            event.number,
            each.totals,
            each.reported_cost,
        )
        for each in meters
    ]


MeterName = tuple[str, str, str, bool]
"""Agent label, modality, model, estimated."""


class Call:
    """One session that produces readings: it counts as a producer does."""

    def __init__(self, session: str, meters: Sequence[MeterName]) -> None:
        self.session = session
        self.meters = [
            MeterTotals(
                agent_label=label,
                modality=modality,
                provider="p",
                model=model,
                estimated=estimated,
                totals=Quantities(),
                reported_cost="0" if model == "reporting" else None,
            )
            for label, modality, model, estimated in meters
        ]
        self.number = 0
        self.events: list[Event] = []

    def start(self) -> None:
        """Say that the session started."""
        self.events.append(started(session_id=self.session))

    def use(self, place: int, added: dict[str, int], reported_nano: int = 0) -> None:
        """Move one meter and read it."""
        meter = self.meters[place]
        totals = {
            name: getattr(meter.totals, name) + added.get(name, 0)
            for name in Quantities.__struct_fields__
        }
        reported = meter.reported_cost
        if reported is not None:
            reported = f"{Decimal(reported) + Decimal(reported_nano).scaleb(-9):f}"
        meter = msgspec.structs.replace(meter, totals=Quantities(**totals), reported_cost=reported)
        self.meters[place] = meter
        self.number += 1
        self.events.append(
            reading(
                self.number,
                session_id=self.session,
                tenant=None,
                **{name: getattr(meter, name) for name in MeterTotals.__struct_fields__},
            )
        )

    def end(self) -> None:
        """Say that the session ended, with every meter's totals."""
        self.number += 1
        self.events.append(ended(self.number, *self.meters, session_id=self.session))

    def needed(self) -> set[int]:
        """Return the places of the events that must arrive: the last word on every meter."""
        last: dict[Meter, int] = {}
        for place, event in enumerate(self.events):
            for meter, *_ in _said(event):
                last[meter] = place
        return set(last.values())
