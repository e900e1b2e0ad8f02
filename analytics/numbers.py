"""Numbers as people read them: money, amounts, shares and times. Nothing is rounded to zero or to all.

Money is shown with every digit it has and at least six, so that the lines of a table add up to its
total to the last digit.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime, timedelta

_MIN_DIGITS: Final = 6
_SMALLEST: Final = Decimal("0.000001")
_TENTH: Final = Decimal("0.1")
_EXACT: Final = Context(prec=50)
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86400


def money_digits(amounts: Iterable[Decimal | None]) -> int:
    """Return how many digits behind the point show all of `amounts` exactly, six at the least."""
    needed = _MIN_DIGITS
    for amount in amounts:
        if amount:
            exponent = amount.normalize().as_tuple().exponent
            needed = max(needed, -int(exponent))
    return needed


def money(amount: Decimal, digits: int = _MIN_DIGITS) -> str:
    """Return an amount in plain notation with so many digits behind the point."""
    return f"{amount:,.{max(digits, money_digits([amount]))}f}"


def rounded(amount: Decimal, digits: int) -> str:
    """Return an amount rounded half to even to so many digits; a smaller one is never shown as none."""
    least = Decimal(1).scaleb(-digits)
    if 0 < abs(amount) < least:
        return f"<{least:f}" if amount > 0 else f">-{least:f}"
    return f"{amount:,.{digits}f}"


def signed(show: Callable[[Decimal | int], str], amount: Decimal | int) -> str:
    """Return a change as `show` writes it, with a sign before what grew as well."""
    text = show(-amount if amount < 0 else amount)
    if amount == 0:
        return text
    sign = "+" if amount > 0 else "-"
    if text.startswith("<"):  # too small for the digits that are shown
        return f"<{sign}{text[1:]}" if amount > 0 else f">{sign}{text[1:]}"
    return f"{sign}{text}"


def percent_change(amount: Decimal) -> str:
    """Return a change in percent to a tenth, with its sign; a smaller one is never shown as none."""

    def show(it: Decimal | int) -> str:
        return "<0.1" if 0 < it < _TENTH else f"{it:,.1f}"

    return f"{signed(show, amount)} %"


def money_column(amounts: Iterable[Decimal | None], unknown: str) -> list[str]:
    """Return amounts with the same number of digits, enough for each; None is the word `unknown`."""
    found = list(amounts)
    digits = money_digits(found)
    return [unknown if amount is None else money(amount, digits) for amount in found]


def seconds(amount: Decimal) -> str:
    """Return a duration in seconds to a tenth; a shorter one is never shown as none."""
    if 0 < amount < Decimal("0.1"):
        return "<0.1"
    return f"{amount:,.1f}"


def place(amount: Decimal) -> str:
    """Return where in a call something was, in whole seconds that are over: `0:42`, `12:03`, `1:02:03`."""
    minutes, rest = divmod(int(amount), _MINUTE_S)
    hours, minutes = divmod(minutes, _MINUTE_S)
    return f"{hours:,}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def length(amount: Decimal) -> str:
    """Return how long a call was, in what is over of it: `12:03`, `1:02:03`; below a minute in tenths, `0:02.8`.

    A price per minute of a short call can be checked by whoever divides.
    """
    if 0 < amount < _TENTH:
        return "<0:00.1"
    if amount < _MINUTE_S:
        tenths = int(amount * 10)
        return f"0:{tenths // 10:02}.{tenths % 10}"
    return place(amount)


def rate(amount: Decimal) -> str:
    """Return money for a unit, with six digits behind the point; a smaller one is never shown as none."""
    if 0 < abs(amount) < _SMALLEST:
        return f"<{_SMALLEST}" if amount > 0 else f">-{_SMALLEST}"
    return f"{amount:,.{_MIN_DIGITS}f}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: `1 row`, `2 rows`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def share(part: Decimal | int, whole: Decimal | int) -> str:
    """Return a part in percent; a small part is never `0.0 %`, a large one never `100.0 %`."""
    if part == whole:
        return "100 %"
    percent = _EXACT.divide(Decimal(100) * part, whole)
    if 0 < percent < Decimal("0.1"):
        return "under 0.1 %"
    if percent > Decimal("99.9"):
        return "over 99.9 %"
    return f"{percent:.1f} %"


def age(span: timedelta) -> str:
    """Return a span in its largest sensible unit: `2 s`, `5 min`, `3 h`, `12 days`."""
    past = max(0, int(span.total_seconds()))
    if past < 2 * _MINUTE_S:
        return f"{past} s"
    if past < 2 * _HOUR_S:
        return f"{past // _MINUTE_S} min"
    if past < 2 * _DAY_S:
        return f"{past // _HOUR_S} h"
    return f"{past // _DAY_S:,} days"


def clock(moment: datetime) -> str:
    """Return a UTC moment for people: `2026-11-21 14:03:12Z`."""
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"


def minute(moment: datetime) -> str:
    """Return the minute of a UTC moment for people: `2026-11-21 14:03Z`."""
    return f"{moment:%Y-%m-%d %H:%M}Z"


def ago(moment: datetime, now: datetime) -> str:
    """Return a UTC moment and its distance: `14:03:12Z, 2 s ago`, with its date unless today."""
    shown = f"{moment:%H:%M:%S}Z" if moment.date() == now.date() else clock(moment)
    return f"{shown}, {age(now - moment)} ago"


def fresh(as_of: datetime | None, now: datetime) -> str:
    """Return how fresh an answer is, for its last line."""
    return f"as of {ago(as_of, now)}" if as_of else "the ledger has received nothing yet"


def period(since: datetime | None, until: datetime | None, zone: str = "UTC") -> str:
    """Return the period between two UTC moments, either of which may be open, in the time of a zone."""

    def shown(moment: datetime) -> str:
        return (
            clock(moment)
            if zone == "UTC"
            else moment.astimezone(ZoneInfo(zone)).isoformat(" ", "seconds")
        )

    start = shown(since) if since else "the beginning"
    end = f"{shown(until)} (not included)" if until else "now"
    return f"period: from {start} to {end}"


def stamp(moment: datetime) -> str:
    """Return a UTC moment for programs: `2026-11-21T14:03:12Z`."""
    return moment.replace(tzinfo=None).isoformat() + "Z"
