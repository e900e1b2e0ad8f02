"""A meter whose prices changed: the difference is booked, and nothing where there is none."""

from __future__ import annotations

from decimal import Decimal

from tests.support.events import reading
from voicecosts.consumer.booking.counted import Counted
from voicecosts.consumer.booking.difference import MeterState
from voicecosts.consumer.booking.months import ALL_OPEN
from voicecosts.consumer.booking.prices import PricesUsed
from voicecosts.consumer.booking.repricing import Origin, repriced
from voicecosts.consumer.pricing import Rated
from voicecosts.producer.events import Quantities, meter_of

METER = meter_of(reading(1))
BOOKED = MeterState(
    number=1,
    totals=Quantities(requests=1),
    cost=Decimal("0.5"),
    list_cost=Decimal("0.5"),
    counted=Counted(meters=1, priced_meters=1, listed_meters=1),
)


def test_only_what_is_booked_otherwise_has_a_row() -> None:
    """At the same money there is none, unless it is asked for; else the row holds the difference."""
    for cost, confirms, said in (
        ("0.5", False, None),
        ("0.5", True, "0.000000000"),
        ("0.75", False, "0.250000000"),
        ("0.25", True, "-0.250000000"),
    ):
        found = repriced(
            METER,
            BOOKED,
            Rated(cost=Decimal(cost), list_cost=Decimal(cost)),
            origin=Origin("shop", "dental", None, 1, operation=1),
            prices=PricesUsed(),
            months=ALL_OPEN,
            confirms=confirms,
        )
        assert (found is None) == (said is None)
        if isinstance(found, tuple):
            row, after = found
            assert (row.cost, row.list_cost, row.added) == (said, said, Quantities())
            assert (after.cost, after.totals) == (Decimal(cost), BOOKED.totals)
