"""What the rules of billing take for granted about the price list, checked against all its rows."""

from __future__ import annotations

from voice_prices.data import providers

from tests.consumer.pricing.asking import START
from voicecosts.consumer.pricing import Price
from voicecosts.consumer.pricing import providers as labels
from voicecosts.consumer.pricing.billing import WAYS
from voicecosts.consumer.pricing.catalogue import Row
from voicecosts.producer.events import LARGE_REQUEST_TOKENS, SIZE_TIERS

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


def test_every_tier_starts_at_a_size_that_workers_tell_apart() -> None:
    """A tier in between would leave the requests around it unpriced: add its start to the sizes."""
    between = [
        (name, tier.start)
        for name, _, price in REACHED
        for tier in price.tiers
        if tier.start not in SIZE_TIERS
    ]
    assert between == []


def test_no_tier_starts_below_what_an_older_worker_counts() -> None:
    """It tells requests above 128,000 tokens alone; below, it is priced as if there were no tier."""
    low = [
        name
        for name, _, price in REACHED
        for tier in price.tiers
        if tier.start < LARGE_REQUEST_TOKENS
    ]
    assert low == []


def test_the_rows_were_really_looked_at() -> None:
    """The list of rows that these tests speak of is not empty."""
    assert len({name for name, *_ in REACHED}) > 400
