"""What the rules of billing take for granted about the price list, checked against all its rows."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from voice_prices.data import providers

from tests.consumer.pricing.asking import START, kmin, rated, seconds
from voicecosts.consumer.pricing import Price
from voicecosts.consumer.pricing import providers as labels
from voicecosts.consumer.pricing.billing import CONNECTED, INCREMENTS, WAYS, billed
from voicecosts.consumer.pricing.catalogue import Row
from voicecosts.producer.events import LARGE_REQUEST_TOKENS, SIZE_TIERS, Quantities

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


@pytest.mark.parametrize(
    ("us", "minutes"),
    [(1, 1), (seconds(59), 1), (seconds(60), 1), (seconds(60) + 1, 2), (seconds(3601), 61)],
)
@pytest.mark.parametrize(("label", "rate"), [("livekit", "10"), ("twilio", "8.5")])
def test_a_leg_is_billed_by_the_full_minute(label: str, rate: str, us: int, minutes: int) -> None:
    """LiveKit and Twilio round each call up."""
    leg = Quantities(session_us=us, requests=1)
    assert rated("telephony", label, "us-local-inbound", leg).cost == kmin(rate, minutes)


@pytest.mark.parametrize("modality", sorted(CONNECTED))
def test_whom_no_rule_is_known_of_bills_connected_time_exactly(modality: str) -> None:
    """What a provider rounds up to is never guessed, and no other modality is rounded up."""
    rates = {"session_us": Decimal(6)}
    for model, expected in (("acme/x", 1), ("livekit/x", 60_000_000), ("twilio/x", 60_000_000)):
        price = Price(source="s", version="1", model=model, rates=rates)
        assert billed(price, modality, Quantities(session_us=1)).parts == {"session_us": expected}
        assert billed(price, "realtime", Quantities(session_us=1)).parts == {"session_us": 1}
    assert set(INCREMENTS) == {"livekit", "twilio"}


@given(st.lists(st.integers(0, 10**10), min_size=2, max_size=2).map(sorted))
def test_a_leg_never_costs_less_as_it_goes_on(running: list[int]) -> None:
    """Readings book differences of the cost of totals, so it must not fall as they rise."""
    costs = [
        rated("telephony", "twilio", "us-local-inbound", Quantities(session_us=us)).cost
        for us in running
    ]
    assert None not in costs
    assert costs == sorted(costs, key=lambda cost: cost or Decimal(0))
