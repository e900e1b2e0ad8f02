"""How quantities, rates and exact amounts of a price are written, for `costs prices`.

Base units become those that people pay for: microseconds are written as seconds, exactly.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from voicecosts.analytics.text.plain import plain_money
from voicecosts.consumer.pricing.units import PER, word

if TYPE_CHECKING:
    from voicecosts.consumer.pricing.charge import Charge
    from voicecosts.consumer.pricing.price import Price

_SECOND_US: Final = 1_000_000
_PER_TIME: Final = {
    _SECOND_US: "second",
    60 * _SECOND_US: "minute",
    3600 * _SECOND_US: "hour",
    1000 * _SECOND_US: "thousand seconds",
    60_000 * _SECOND_US: "thousand minutes",
}
_PER: Final = {1: "each", 1_000: "per thousand", 1_000_000: "per million"}
_SHOWN_DIGITS: Final = 24
_EACH: Final = "request = "


def amount_text(part: str, amount: int) -> str:
    """Return an amount of a part with its unit."""
    if not part.endswith("_us"):
        return f"{amount:,}"
    seconds = Decimal(amount).scaleb(-6).normalize()
    return f"{seconds:,f} s"


def part_amount(part: str, amount: int) -> str:
    """Return an amount with what it is of: `1 request`, `60 s of connected time`."""
    if part.endswith("_us"):
        return f"{amount_text(part, amount)} of {word(part)}"
    name = word(part)
    return f"{amount:,} {name.removesuffix('s') if amount == 1 else name}"


def per_text(part: str, per: int) -> str:
    """Return what a rate buys: `per million`, `per minute`."""
    if part.endswith("_us"):
        return f"per {_PER_TIME.get(per, f'{amount_text(part, per)}')}"
    return _PER.get(per, f"per {per:,}")


def rate_text(part: str, price: Decimal, per: int) -> str:
    """Return a rate in the unit of a bill: what a list has per thousand seconds is per minute there."""
    if part.endswith("_us") and per == 1000 * _SECOND_US:
        return f"{_short(price * Decimal('0.06'))} per minute"
    return f"{price:f} {per_text(part, per)}"


def _short(price: Decimal) -> str:
    text = f"{price:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def exact_text(exact: Fraction) -> str:
    """Return an exact amount in digits; dots say that it never ends, and has been cut."""
    digits = _decimals(exact)
    if digits is not None:
        return f"{Decimal(int(exact * 10**digits)).scaleb(-digits):f}"
    cut = int(exact * 10**_SHOWN_DIGITS)
    return f"{Decimal(cut).scaleb(-_SHOWN_DIGITS):.{_SHOWN_DIGITS}f}…"


def exact_plain(exact: Fraction | None) -> str | None:
    """Return an exact amount for programs: decimal digits, or `n/d` where they never end."""
    if exact is None:
        return None
    return str(exact) if _decimals(exact) is None else exact_text(exact)


def _decimals(exact: Fraction) -> int | None:
    """Return how many digits behind the point an amount has, `None` where they never end."""
    rest, twos, fives = exact.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    return max(twos, fives) if rest == 1 else None


def list_record(price: Price | None) -> dict[str, Any] | None:
    """Return a list price for programs."""
    if price is None:
        return None
    return {
        "source": price.source,
        "version": price.version,
        "model": price.model,
        "free": price.free,
        "rates": [
            {"part": part, "price": f"{rate:f}", "per": PER[part]}
            for part, rate in price.rates.items()
        ],
        "tiers": [
            {
                "above_input_tokens": tier.start,
                "rates": {k: f"{v:f}" for k, v in tier.rates.items()},
            }
            for tier in price.tiers
        ],
    }


def charge_record(charge: Charge | None) -> dict[str, Any] | None:
    """Return a price of the operator for programs."""
    if charge is None:
        return None
    return {
        "entry": charge.entry,
        "source": charge.source,
        "original_price": charge.original_price,
        "unit": charge.unit,
        "currency": charge.currency,
        "exchange_rate": _text(charge.exchange_rate),
        "valid_from": None if charge.valid_from is None else charge.valid_from.isoformat(),
        "valid_to": None if charge.valid_to is None else charge.valid_to.isoformat(),
        "share": _text(charge.share),
        "of": charge.of if charge.share is not None else None,
        "minimum": charge.minimum,
        "increment": charge.increment,
        "at_least": plain_money(charge.at_least),
        "included": charge.included,
        "rates": [
            {"part": rate.part, "price": f"{rate.price:f}", "per": rate.per}
            for rate in charge.parts
        ],
    }


def list_words(price: Price | None) -> list[str]:
    """Return a list price as sentences: its rates, and where it comes from."""
    if price is None:
        return []
    origin = f"{price.source} {price.version}, {price.model}"
    if price.free:
        return ["free", f"from {origin}"]
    rates = [
        f"{word(part)}: {rate_text(part, rate, PER[part])}" for part, rate in price.rates.items()
    ]
    tiers = [
        f"above {tier.start:,} input tokens: "
        + ", ".join(f"{word(part)} {rate:f}" for part, rate in tier.rates.items())
        for tier in price.tiers
    ]
    return [*rates, *tiers, f"from {origin}"]


def charge_words(charge: Charge) -> list[str]:
    """Return a price of the operator as sentences: its rates, and where it comes from."""
    said = [
        f"{word(rate.part)}: {rate.price:f} {per_text(rate.part, rate.per)}"
        for rate in charge.parts
    ]
    if charge.share is not None:
        said.append(f"{charge.share:f} of {charge.of}")
    if charge.included:
        said.append("included: another price bills the whole call")
    part = charge.parts[0].part if charge.parts else ""
    if charge.minimum:
        said.append(f"at least {amount_text(part, charge.minimum)} are counted")
    if charge.increment > 1:
        said.append(f"rounded up to full {amount_text(part, charge.increment)}")
    if charge.at_least is not None:
        said.append(f"at least {charge.at_least:f} for a meter")
    return [*said, origin_of(charge)]


def counting_words(charge: Charge) -> str:
    """Return how a price counts what was used, where it counts more: its minimum and its round-up."""
    part = charge.parts[0].part if charge.parts else ""
    said = [f"at least {amount_text(part, charge.minimum)}"] if charge.minimum else []
    said += (
        [f"rounded up to full {amount_text(part, charge.increment)}"]
        if charge.increment > 1
        else []
    )
    return f"counted: {', '.join(said)}" if said else ""


def origin_of(charge: Charge) -> str:
    """Return where a price of the operator comes from, in one sentence."""
    if charge.included:
        return f"included in the price for the whole call, {charge.entry}: " + _stands(charge)
    said = [f"from {charge.entry}: {_stands(charge)}"]
    if charge.exchange_rate is not None:
        said.append(f"one {charge.currency} was {charge.exchange_rate:f} USD")
    if charge.valid_from is not None or charge.valid_to is not None:
        first = f"from {charge.valid_from}" if charge.valid_from else ""
        end = f"until {charge.valid_to}" if charge.valid_to else ""
        said.append(f"valid {f'{first} {end}'.strip()}")
    if charge.source:
        said.append(f"source: {charge.source}")
    return "; ".join(said)


def entry_words(original: str, currency: str, unit: str) -> str:
    """Return a price as the file has it, with what it is for: a price for each request is beside those of tokens."""
    if not unit:
        return original
    parts = original.split(", ")
    each = [it.removeprefix(_EACH) for it in parts if it.startswith(_EACH)]
    said = ", ".join(it for it in parts if not it.startswith(_EACH))
    prices = [f"{said} {currency} per {unit}"] if said else []
    return " and ".join([*prices, *(f"{it} {currency} per request" for it in each)])


def _stands(charge: Charge) -> str:
    return entry_words(charge.original_price, charge.currency, charge.unit)


def _text(number: Decimal | None) -> str | None:
    return None if number is None else f"{number:f}"
