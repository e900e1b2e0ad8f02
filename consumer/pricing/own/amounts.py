"""Amounts as a person writes them: money, percentages, durations and counts, each as an exact value.

Every function raises `Mistake` with a sentence that says what is wrong and what to write instead. The
bounds on digits keep every later product exact (`charge`).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from voicecosts.consumer.pricing.own.reading import Mistake, Point
from voicecosts.consumer.pricing.own.units import SECOND_US, Kind

_MONEY: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,12})?")
_RATE: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,12})?")
_PERCENT: Final = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,6})?) ?%")
_QUANTITY: Final = re.compile(r"([0-9]{1,9}) ?([a-z]+)")
_MARKS: Final = {"€": "EUR", "£": "GBP", "¥": "JPY"}
_AROUND: Final = re.compile(r"^(?:[A-Za-z]{3}|[$€£¥])?\s*|\s*(?:[A-Za-z]{3}|[$€£¥])?$")
_DIGITS: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")

_SECONDS: Final = {
    "s": 1, "second": 1, "seconds": 1,
    "min": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hour": 3600, "hours": 3600,
}  # fmt: skip
_COUNTS: Final = {
    "tokens": ("token", "tokens"),
    "characters": ("character", "characters"),
    "requests": ("request", "requests"),
}
_MOST_SECONDS: Final = 86_400


def money(key: str, value: object) -> Decimal:
    """Return an amount of money; it stands in quotes, so that no computer rounds it."""
    return _decimal(key, value, _MONEY, "below 1000000 with at most 12 digits behind the point")


def rate(key: str, value: object) -> Decimal:
    """Return an exchange rate, which is above zero."""
    found = _decimal(key, value, _RATE, "below 1000 with at most 12 digits behind the point")
    if found == 0:
        raise Mistake(
            f"{key} is zero, which would make everything free: write what one unit is worth"
        )
    return found


def _decimal(key: str, value: object, form: re.Pattern[str], bounds: str) -> Decimal:
    if isinstance(value, Point) or (isinstance(value, int) and not isinstance(value, bool)):
        text = str(value)
        if form.fullmatch(text):
            raise Mistake(
                f'{key} = {text} lacks its quotes, and money must not be rounded: write "{text}"'
            )
        raise Mistake(f"{key} = {text} is no amount: write it in quotes, {bounds}")
    if not isinstance(value, str):
        raise Mistake(f'{key} is not an amount: write it in quotes, such as {key} = "0.0043"')
    if form.fullmatch(value):
        return Decimal(value)
    if _DIGITS.fullmatch(value):
        raise Mistake(f"{key} = {value!r} is out of range: an amount is {bounds}. Check the unit")
    if value.startswith("-"):
        raise Mistake(f"{key} = {value!r} is negative: an amount is zero or more")
    cure = 'digits with a point and nothing else, such as "0.0043"'
    if (meant := _meant(value)) is not None and form.fullmatch(meant):
        cure = f'{key} = "{meant}"'
    sign = next((code for mark, code in _MARKS.items() if mark in value), None)
    own = f'currency = "{sign}"' if sign else "the currency has a key of its own"
    raise Mistake(f"{key} = {value!r} is no amount: write {cure} ({own})")


def _meant(value: str) -> str | None:
    """Return the digits that a person meant: with a sign or code of money, a comma, or no zero before."""
    bare = _AROUND.sub("", value)
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+\.\d+", bare):
        bare = bare.replace(",", "")
    elif re.fullmatch(r"\d*,\d+", bare) and (not re.fullmatch(r"[1-9]\d{0,2},\d{3}", bare)):
        bare = bare.replace(",", ".")  # 1,234 is a thousand to some, and one and a bit to others
    if bare.startswith("."):
        bare = f"0{bare}"
    return bare if _DIGITS.fullmatch(bare) else None


def share(key: str, value: object) -> Decimal:
    """Return what is left after a discount ("15 %" is 0.85), or due after a mark-up ("20 %", 1.20)."""
    example = f'{key} = "15 %"'
    if not isinstance(value, str) or isinstance(value, Point):
        if isinstance(value, (Point, int)) and _PERCENT.fullmatch(f"{value}%"):
            example = f'{key} = "{value} %"'
        raise Mistake(f"{key} is not a percentage in quotes: write it as in {example}")
    if _PERCENT.fullmatch(f"{value}%"):
        if 0 < Decimal(value) < 1:
            meant = f"{(Decimal(value) * 100).normalize():f}"
            raise Mistake(
                f'{key} = {value!r} lacks its sign: write {key} = "{meant} %", or "{value} %" if it is meant '
                "to be less than one percent"
            )
        raise Mistake(f'{key} = {value!r} lacks its sign: write it as in {key} = "{value} %"')
    if (found := _PERCENT.fullmatch(value)) is None:
        raise Mistake(
            f"{key} = {value!r} is no percentage between 0 and 9999 %: write it as in {example}"
        )
    part = Decimal(found[1]).scaleb(-2)
    if key == "markup":
        return 1 + part
    if part > 1:
        raise Mistake(f"{key} = {value!r} is more than everything: write 100 % or less")
    return 1 - part


def check_quantity(key: str, value: object) -> None:
    """Raise `Mistake` where a minimum or increment is none, whatever the unit of its price is."""
    if not isinstance(value, str) or isinstance(value, Point) or not _QUANTITY.fullmatch(value):
        shown = f" = {value!r}" if isinstance(value, str) else ""
        raise Mistake(
            f'{key}{shown} is no whole amount with a unit in quotes: write it as in {key} = "10 s"'
        )


def quantity(key: str, value: object, kind: Kind, unit: str) -> int:
    """Return a minimum or increment in microseconds of time, tokens, characters or requests."""
    if kind == "calls":
        raise Mistake(f'{key} does not go with unit = "call": leave it out')
    counts = _COUNTS.get(kind)
    example = f'{key} = "10 s"' if counts is None else f'{key} = "100 {counts[1]}"'
    if not isinstance(value, str) or isinstance(value, Point):
        raise Mistake(f"{key} is not an amount with its unit in quotes: write it as in {example}")
    if (found := _QUANTITY.fullmatch(value)) is None:
        raise Mistake(f"{key} = {value!r} is no whole amount with a unit: write it as in {example}")
    amount, name = int(found[1]), found[2]
    if counts is None and name in _SECONDS:
        seconds = amount * _SECONDS[name]
        if not 0 < seconds <= _MOST_SECONDS:
            raise Mistake(f"{key} = {value!r} is not above zero and up to 24 hours: correct it")
        return seconds * SECOND_US
    if counts is not None and name in counts:
        if not amount:
            raise Mistake(f"{key} = {value!r} is zero: correct it, or leave it out")
        return amount
    if counts is None and name == "m":
        raise Mistake(f'{key} = {value!r} is not clear: write minutes as "{amount} min"')
    raise Mistake(
        f"{key} = {value!r} does not fit a price for one {unit}: write it as in {example}"
    )
