"""Reading `--since`, `--until` and `--open-for`: the moments, in UTC, and spans a person types.

A period is half-open: it holds `since` and everything after it up to, but not with, `until`. So two
periods that touch share no row and leave none out. A day is a UTC day, and `7d` is 7 times 24 hours
before now.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from msgspec import Struct

from voicecosts.analytics.errors import BadQuestion, BadTime

_ABSOLUTE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_RELATIVE = re.compile(r"([0-9]{1,6})([dhm])")
_SPAN = re.compile(r"([0-9]{1,4})([dhm])")
_UNIT: Final = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}

Moment = str | date | datetime


class Period(Struct, frozen=True, kw_only=True):
    """From `since` (included) until `until` (excluded); an open end is None."""

    since: datetime | None = None
    until: datetime | None = None

    def sql(self) -> tuple[list[str], list[object]]:
        """Return the conditions on the view `usage` and their parameters."""
        # The ledger's TIMESTAMP is UTC without an offset; an aware parameter would be converted
        # to the time zone of this machine.
        ends = [("occurred_at >= ?", self.since), ("occurred_at < ?", self.until)]
        given = [(condition, end.replace(tzinfo=None)) for condition, end in ends if end]
        return [condition for condition, _ in given], [end for _, end in given]


def period(since: Moment | None, until: Moment | None, *, now: datetime) -> Period:
    """Return the period between two moments.

    Raises:
        BadTime: One cannot be read, or the period is empty because it ends before it begins.
    """
    start = None if since is None else moment(since, now=now)
    end = None if until is None else moment(until, now=now)
    if start is not None and end is not None and start >= end:
        raise BadTime(
            str(until), f"is not after the start {str(since)!r}: a period ends later than it starts"
        )
    return Period(since=start, until=end)


def moment(value: Moment, *, now: datetime) -> datetime:
    """Return `value` as an aware UTC time; what has no offset is UTC, a date is its first moment.

    Raises:
        BadTime: The text is none of the accepted forms, or no such time exists.
    """
    try:
        if isinstance(value, datetime):
            return _utc(value)
        if isinstance(value, date):
            return datetime.combine(value, time(), UTC)
        return _read(value.strip(), now=now)
    except (ValueError, OverflowError) as error:
        raise BadTime(str(value)) from error


def span(value: str | timedelta) -> timedelta:
    """Return a span of time such as `90m`, `1h` or `2d`; raises `BadQuestion`."""
    if isinstance(value, timedelta):
        return value
    found = _SPAN.fullmatch(value.strip())
    if found is None:
        raise BadQuestion(f"{value!r} cannot be read as a span of time: use 90m, 1h or 2d")
    return int(found[1]) * _UNIT[found[2]]


def _read(text: str, *, now: datetime) -> datetime:
    today = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    if text == "today":
        return today
    if text == "yesterday":
        return today - timedelta(days=1)
    if relative := _RELATIVE.fullmatch(text):
        return now.astimezone(UTC) - int(relative[1]) * _UNIT[relative[2]]
    if _ABSOLUTE.fullmatch(text):
        return _utc(datetime.fromisoformat(text))
    raise ValueError(text)


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
