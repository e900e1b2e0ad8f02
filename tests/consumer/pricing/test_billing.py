"""What the rules of billing take for granted about the price list, checked against all its rows."""

from __future__ import annotations

from voice_prices.data import providers

from tests.consumer.pricing.asking import START
from voicecosts.consumer.pricing import Price
from voicecosts.consumer.pricing import providers as labels
from voicecosts.consumer.pricing.billing import WAYS
from voicecosts.consumer.pricing.catalogue import Row
from voicecosts.producer.events import LARGE_REQUEST_TOKENS

REACHED = [
    (f"{owner.id}/{row.id}", modality, price)
    for owner in providers
    if owner.id in labels._NAMES.values()
    for row in owner.models
    for modality in WAYS
    if isinstance(price := Row(owner.id, row, modality).at(START), Price)
]


def test_no_row_can_be_billed_in_two_ways() -> None:
    """With two billed measures of one usage, the choice between them would have to be made."""
    doubtful = [
        (name, modality)
        for name, modality, price in REACHED
        if sum(not price.rates.keys().isdisjoint(way) for way in WAYS[modality]) > 1
    ]
    assert doubtful == []


def test_every_tier_starts_where_large_requests_are_counted() -> None:
    """Workers count requests above one size; a lower tier would leave its model unpriced."""
    low = [
        name
        for name, _, price in REACHED
        if price.tier_start is not None and price.tier_start < LARGE_REQUEST_TOKENS
    ]
    assert low == []


def test_the_rows_were_really_looked_at() -> None:
    """The list of rows that these tests speak of is not empty."""
    assert len({name for name, *_ in REACHED}) > 400
