"""More than a call can use is not believed, whatever it costs."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.consumer.pricing.asking import ANYBODY, BOOK, START
from voicecosts.consumer.config import MAX_READING
from voicecosts.consumer.pricing import rate_by
from voicecosts.consumer.pricing.ceiling import MAX_AMOUNT, excess
from voicecosts.producer.events import QUANTITIES, Meter, Quantities

METER = Meter("", "", "llm", "openai", "gpt-4o", estimated=False)


def said(totals: Quantities, most: str = "10000") -> str | None:
    """Return why totals of gpt-4o are not believed."""
    rate = rate_by(BOOK, max_reading=Decimal(most))
    return rate(METER, totals, START, provider_raw="", scope=ANYBODY).excess


@pytest.mark.parametrize("name", QUANTITIES)
def test_each_amount_has_a_bound_whether_it_has_a_price_or_not(name: str) -> None:
    """10,000,000,000 tokens, characters or requests, and a year of time, are the most of a meter."""
    most = 366 * 24 * 60 * 60 * 1_000_000 if name.endswith("_us") else 10_000_000_000
    assert excess(Quantities(**{name: most}), None, MAX_READING) is None
    found = excess(Quantities(**{name: most + 1}), None, MAX_READING)
    assert found == f"{name} is {most + 1}, above the fixed limit of {most}"


def test_a_cost_above_the_limit_names_figure_limit_and_setting() -> None:
    """2.50 dollars a million tokens: 400,000,000 of them are 1,000 dollars."""
    assert said(Quantities(input_tokens=400_000_000), "1000") is None
    assert said(Quantities(input_tokens=400_000_001), "1000") == (
        "it costs 1000.000002500 US dollars, above the limit of 1000 "
        "(COSTS_MAX_READING, --max-reading-cost)"
    )


@given(st.integers(0, MAX_AMOUNT), st.integers(0, MAX_AMOUNT))
def test_what_is_refused_does_not_depend_on_how_it_was_read(first: int, more: int) -> None:
    """The limit is on a meter's totals: more of it is never believed again where less was not."""
    total = min(first + more, MAX_AMOUNT)
    before = said(Quantities(input_tokens=first))
    after = said(Quantities(input_tokens=total))
    assert before is None or after is not None
