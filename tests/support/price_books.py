"""Price books whose every price is one figure for a million tokens, so that a test can tell the money."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final

from msgspec import UnsetType

from voicecosts.consumer.pricing import Price, Rate, Scope, Unpriced, rate_by
from voicecosts.consumer.pricing.charge import Charge
from voicecosts.producer.events import Meter

MODEL: Final = "gpt-4.1-mini"
BILLED: Final = Charge(entry="billed", share=Decimal("1.25"), of="cost")


class Figures:
    """List prices in US dollars for a million input tokens, by model; other models have none."""

    def __init__(self, figures: Mapping[str, str]) -> None:
        self._prices = {
            model: Price(
                source="test", version="1", model=model, rates={"input_tokens": Decimal(it)}
            )
            for model, it in figures.items()
        }

    def find(
        self, *, modality: str, provider: str, provider_raw: str, model: str, at: datetime
    ) -> Price | Unpriced:
        """Return the price of a model."""
        return self._prices.get(model) or Unpriced("no figure")


class Markup:
    """Every tenant but none is charged a quarter more than the cost."""

    digest = "markup"

    def find(self, meter: Meter, scope: Scope, at: datetime) -> tuple[Charge | None, Charge | None]:
        """Return what is billed."""
        return None, BILLED if scope.tenant is not None else None

    def billed_by(
        self, digest: str, meter: Meter, scope: Scope, at: datetime
    ) -> Charge | UnsetType | None:
        """Return what was billed; without a name it was nothing."""
        return self.find(meter, scope, at)[1] if digest else None


def no_price(*, billed: bool = False) -> Rate:
    """Return how meters are rated where nothing has a price."""
    return rate_by(Figures({}), Markup() if billed else None)


def mini(figure: str, *, billed: bool = False) -> Rate:
    """Return how meters are rated where only the model of `reading` has a price."""
    return rate_by(Figures({MODEL: figure}), Markup() if billed else None)
