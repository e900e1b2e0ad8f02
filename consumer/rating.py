"""Rating for the booking: a meter's totals at the prices of a book."""

from __future__ import annotations

from datetime import datetime

from voicecosts.consumer import pricing
from voicecosts.consumer.booking.difference import Rate, Rated
from voicecosts.consumer.pricing import PriceBook
from voicecosts.producer.events import Meter, Quantities


def rate_by(book: PriceBook) -> Rate:
    """Return how bookings are rated by `book`."""

    def rate(meter: Meter, totals: Quantities, at: datetime, *, provider_raw: str) -> Rated:
        return pricing.rate(
            book,
            modality=meter.modality,
            provider=meter.provider,
            provider_raw=provider_raw,
            model=meter.model,
            totals=totals,
            at=at,
        )

    return rate
