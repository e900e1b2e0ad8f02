"""A price for the whole call: what it includes is zero when it charges the call, and unknown until then.

It charges the call's connected time, which is a meter of its own and is mostly counted when the call ends. So what
other meters are billed depends on whether that one has an amount, and on nothing else of it: in whatever order
readings come, the same is booked in the end. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from voicecosts.consumer.pricing import uncharged
from voicecosts.consumer.pricing.billing import CALL_TIME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from voicecosts.consumer.booking.difference import MeterState
    from voicecosts.consumer.pricing import Rate, Rated, Scope, Terms
    from voicecosts.producer.events import Meter, Quantities


def rate_beside(rate: Rate, meters: Mapping[Meter, MeterState]) -> Rate:
    """Return how a meter is rated beside the other meters of its session, as they are then."""

    def rated(
        meter: Meter,
        totals: Quantities,
        at: datetime,
        *,
        provider_raw: str,
        scope: Scope,
        terms: Terms | None = None,
        relabelled: bool = False,
    ) -> Rated:
        found = rate(
            meter,
            totals,
            at,
            provider_raw=provider_raw,
            scope=scope,
            terms=terms,
            relabelled=relabelled,
        )
        if found.terms is None or not found.terms.is_included or is_charged(meters):
            return found
        return uncharged(found)

    return rated


def is_charged(meters: Mapping[Meter, MeterState]) -> bool:
    """Return whether the connected time of a call has a billed amount."""
    for meter, state in meters.items():
        if meter.modality == CALL_TIME and state.counted.billed_meters:
            return True
    return False


def included_unknown(meters: Mapping[Meter, MeterState]) -> list[Meter]:
    """Return the meters that such a price includes, and that were booked before it charged the call."""
    return [
        meter
        for meter, state in meters.items()
        if state.counted.meters
        and not state.counted.billed_meters
        and state.terms is not None
        and state.terms.is_included
    ]


def time_first(meters: Iterable[Meter]) -> list[Meter]:
    """Return meters in an order in which each is known when it is asked for: connected time, then the others."""
    return sorted(meters, key=lambda meter: meter.modality != CALL_TIME)
