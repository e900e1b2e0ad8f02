"""Running totals in, exact money out: unit prices (`PriceBook`) and their application (`rate`).

Nothing here reads a file, a socket or a clock, and no binary fraction touches an amount. What has
no price is unpriced with a reason; it is never zero and never a guess.
"""

from voicecosts.consumer.pricing.list_prices import ListPrices
from voicecosts.consumer.pricing.price import Price, PriceBook, Unpriced
from voicecosts.consumer.pricing.rating import Rated, rate

__all__ = ["ListPrices", "Price", "PriceBook", "Rated", "Unpriced", "rate"]
