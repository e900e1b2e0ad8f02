"""Closed months: a row that belongs to one of them is dated in an open month, and says so.

What was closed never changes: a figure that was sent to somebody stays what it was. Pure.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

from msgspec import Struct


class Months(Struct, frozen=True):
    """The months that are closed, each by its first day, and today (UTC)."""

    closed: frozenset[date] = frozenset()
    today: date = date.min

    def dated(self, day: date) -> tuple[date | None, date | None]:
        """Return the day of a row of a session that started on `day`, and the month that it corrects.

        Both are `None` where the month is open: then it is the session's own day. A correction is
        dated today, or on the first day of the next open month where this one is closed as well. A month
        before a closed one had no rows when that was closed, and gets none any more.
        """
        if not self.closed or (month := first_of(day)) > max(self.closed):
            return None, None
        today = max(self.today, day)
        while first_of(today) in self.closed:
            today = following(today)
        return today, month


ALL_OPEN: Final = Months()


def first_of(day: date) -> date:
    """Return the first day of a month."""
    return day.replace(day=1)


def not_ended(month: date, today: date) -> str | None:
    """Return why a month cannot be closed on a day (UTC), `None` where it has ended."""
    if month > today:
        return f"{month:%Y-%m} has not begun"
    if today < following(month):
        return f"{month:%Y-%m} has not ended (UTC): it can be closed from {following(month)} on"
    return None


def following(day: date) -> date:
    """Return the first day of the next month."""
    return first_of(first_of(day) + timedelta(days=31))
