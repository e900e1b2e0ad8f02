"""The prices that have rated a row: each has one number, whatever it came from."""

from __future__ import annotations

from datetime import UTC, datetime

from voicecosts.consumer.booking.prices import PricesUsed
from voicecosts.consumer.pricing import Terms
from voicecosts.consumer.pricing.list_prices import ListPrices
from voicecosts.consumer.pricing.price import Price


def test_a_price_of_the_list_is_kept_and_found_again() -> None:
    """As the list gives it, which lets nobody change its rates, and as the ledger reads it back."""
    listed = ListPrices().find(
        modality="llm",
        provider="openai",
        provider_raw="",
        model="gpt-4.1-mini",
        at=datetime(2026, 11, 1, tzinfo=UTC),
    )
    assert isinstance(listed, Price)
    used = PricesUsed()
    assert used.number_of(Terms(listed=listed)) == 1
    rows = [(row.price_id, row.terms) for row in used.take_new()]
    assert len(rows) == 1
    again = PricesUsed(rows)
    assert again.number_of(Terms(listed=listed)) == 1
    assert again.take_new() == []
    kept = again.terms(1)
    assert kept is not None
    assert kept.listed == listed
