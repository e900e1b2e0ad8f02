"""Asking the price list as the ledger does, and writing expected money as sums of legs."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from voicecosts.consumer.pricing import ListPrices, Rated, Scope, rate_by
from voicecosts.producer.events import Meter, Quantities
from voicecosts.producer.providers import normalise_provider

if TYPE_CHECKING:
    from voicecosts.consumer.pricing import PriceBook

START: Final = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
BOOK: Final = ListPrices()
ANYBODY: Final = Scope(project="shop", agent_id="dental")


def rated(
    modality: str,
    label: str,
    model: str,
    totals: Quantities,
    *,
    at: datetime = START,
    book: PriceBook = BOOK,
    size_tier: int = 0,
    service_tier: str = "",
) -> Rated:
    """Rate totals under a provider label as the producer sends it."""
    meter = Meter(
        session_id="",
        agent_label="",
        modality=modality,
        provider=normalise_provider(label),
        model=model,
        estimated=False,
        size_tier=size_tier,
        service_tier=service_tier,
    )
    return rate_by(book)(meter, totals, at, provider_raw=label, scope=ANYBODY)


def mtok(dollars: str, tokens: int) -> Decimal:
    """One leg: dollars per million tokens."""
    return Decimal(dollars) * tokens / Decimal(1_000_000)


def kchar(dollars: str, characters: int) -> Decimal:
    """One leg: dollars per thousand characters."""
    return Decimal(dollars) * characters / Decimal(1_000)


def ksec(dollars: str, seconds: int) -> Decimal:
    """One leg: dollars per thousand seconds."""
    return Decimal(dollars) * seconds / Decimal(1_000)


def kmin(dollars: str, minutes: int) -> Decimal:
    """One leg: dollars per thousand minutes."""
    return Decimal(dollars) * minutes / Decimal(1_000)


def krequest(dollars: str, requests: int) -> Decimal:
    """One leg: dollars per thousand requests."""
    return Decimal(dollars) * requests / Decimal(1_000)


def seconds(count: int) -> int:
    """Return seconds as the contract's microseconds."""
    return count * 1_000_000
