"""Closed months: in which month a row is dated, and which one it corrects."""

from __future__ import annotations

from datetime import date

import pytest

from voicecosts.consumer.booking.months import ALL_OPEN, Months, first_of, following


@pytest.mark.parametrize(
    ("day", "first", "next_one"),
    [
        (date(2026, 1, 31), date(2026, 1, 1), date(2026, 2, 1)),
        (date(2026, 12, 1), date(2026, 12, 1), date(2027, 1, 1)),
        (date(2028, 2, 29), date(2028, 2, 1), date(2028, 3, 1)),
    ],
)
def test_a_month_is_named_by_its_first_day(day: date, first: date, next_one: date) -> None:
    """And the next one follows it, whatever its length."""
    assert (first_of(day), following(day)) == (first, next_one)


def test_what_belongs_to_a_closed_month_is_dated_in_the_next_open_one() -> None:
    """It says which month it corrects; a month before a closed one counts as closed."""
    closed = frozenset({date(2026, 9, 1), date(2026, 10, 1)})
    months = Months(closed=closed, today=date(2026, 10, 20))
    assert months.dated(date(2026, 11, 3)) == (None, None)
    assert months.dated(date(2026, 9, 30)) == (date(2026, 11, 1), date(2026, 9, 1))
    assert months.dated(date(2026, 8, 5)) == (date(2026, 11, 1), date(2026, 8, 1))
    later = Months(closed=closed, today=date(2026, 12, 24))
    assert later.dated(date(2026, 10, 31)) == (date(2026, 12, 24), date(2026, 10, 1))
    assert ALL_OPEN.dated(date(2026, 9, 30)) == (None, None)
