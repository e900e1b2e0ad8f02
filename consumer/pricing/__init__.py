"""From the running totals of a meter to exact money, without any I/O.

Of other rooms it knows the event contract. No binary fraction touches an amount. What has no price
is unpriced with a reason; it is never zero and never a guess. Three files know the voice-prices
package: `catalogue`, `match` and `rates`.
"""

from voicecosts.consumer.pricing.list_prices import ListPrices
from voicecosts.consumer.pricing.price import Price, PriceBook, Unpriced
from voicecosts.consumer.pricing.rating import Rate, Rated, rate_by, rated_by, uncharged
from voicecosts.consumer.pricing.scope import Scope
from voicecosts.consumer.pricing.terms import OwnPrices, Terms
from voicecosts.consumer.pricing.unpriced import UnpricedUsage

__all__ = [
    "ListPrices",
    "OwnPrices",
    "Price",
    "PriceBook",
    "Rate",
    "Rated",
    "Scope",
    "Terms",
    "Unpriced",
    "UnpricedUsage",
    "rate_by",
    "rated_by",
    "uncharged",
]
