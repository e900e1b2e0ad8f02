"""Asking a price book as the ledger does."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import pytest

from voicecosts.consumer.errors import InvalidPrices
from voicecosts.consumer.pricing.charge import Charge, Charged, charged
from voicecosts.consumer.pricing.own import OwnBook, read
from voicecosts.consumer.pricing.scope import Scope
from voicecosts.producer.events import Meter, Quantities

START: Final = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


def meter(modality: str, provider: str, model: str, service_tier: str = "") -> Meter:
    """Return a meter by what a price depends on."""
    return Meter("", "", modality, provider, model, estimated=False, service_tier=service_tier)


def scope(tenant: str | None = None, **more: object) -> Scope:
    """Return a scope of the project `prod` and the agent `dental`."""
    fields = {"project": "prod", "agent_id": "dental", "tenant": tenant, **more}
    labels = fields.pop("labels", {})
    assert isinstance(labels, dict)
    return Scope(**{key: value for key, value in fields.items() if value}, labels=labels)  # type: ignore[arg-type]


def found(
    text: str, of: Meter, who: Scope | None = None, *, at: datetime = START, region: str = ""
) -> tuple[Charge | None, Charge | None]:
    """Return what a book in a text says of a meter: cost and billed."""
    return read(text).find(of, who or scope(), at, region)


def line_of(charge: Charge | None) -> int | None:
    """Return on which line the entry stands that was found."""
    return None if charge is None else int(charge.entry.rpartition(" ")[2])


def cost(book: OwnBook, of: Meter, totals: Quantities, *, base: str | None = None) -> Charged:
    """Return what totals cost by the operator's own price, which must be there."""
    charge, _ = book.find(of, scope(), START)
    assert charge is not None
    return charged(charge, of, totals, None if base is None else Decimal(base))


def mistakes(text: str) -> list[str]:
    """Return the mistakes in a text: `line: sentence`."""
    with pytest.raises(InvalidPrices) as caught:
        read(text)
    return [problem.removeprefix("prices.toml:") for problem in caught.value.problems]
