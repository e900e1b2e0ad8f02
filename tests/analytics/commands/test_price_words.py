"""How a price of the operator is written."""

from __future__ import annotations

import pytest

from voicecosts.analytics.commands.price_words import entry_words


@pytest.mark.parametrize(
    ("original", "unit", "said"),
    [
        ("0.30", "minute", "0.30 USD per minute"),
        ("discount 15 %", "", "discount 15 %"),
        ("input = 1, output = 0", "million tokens", "input = 1, output = 0 USD per million tokens"),
        (
            "input = 1, request = 0.01",
            "million tokens",
            "input = 1 USD per million tokens and 0.01 USD per request",
        ),
        ("request = 0.01", "million tokens", "0.01 USD per request"),
    ],
)
def test_a_price_for_each_request_is_not_per_million_tokens(
    original: str, unit: str, said: str
) -> None:
    """Each price stands with what it buys."""
    assert entry_words(original, "USD", unit) == said
