"""Tests of reading the moments that a person types."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from uuid import UUID

import pytest

from voicecosts.analytics.errors import BadTime
from voicecosts.analytics.question.times import Period, moment, period

NOW = datetime(2026, 11, 21, 14, 3, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T09:30", datetime(2026, 11, 20, 9, 30, tzinfo=UTC)),
        ("2026-11-20 09:30:15", datetime(2026, 11, 20, 9, 30, 15, tzinfo=UTC)),
        ("2026-11-20T09:30:15.25", datetime(2026, 11, 20, 9, 30, 15, 250_000, tzinfo=UTC)),
        ("2026-11-20T09:30:15Z", datetime(2026, 11, 20, 9, 30, 15, tzinfo=UTC)),
        ("2026-11-20T09:30+05:30", datetime(2026, 11, 20, 4, tzinfo=UTC)),
        ("2026-11-20T20:00-0800", datetime(2026, 11, 21, 4, tzinfo=UTC)),
        ("7d", datetime(2026, 11, 14, 14, 3, 12, tzinfo=UTC)),
        ("24h", datetime(2026, 11, 20, 14, 3, 12, tzinfo=UTC)),
        ("30m", datetime(2026, 11, 21, 13, 33, 12, tzinfo=UTC)),
        ("0d", NOW),
        ("today", datetime(2026, 11, 21, tzinfo=UTC)),
        ("yesterday", datetime(2026, 11, 20, tzinfo=UTC)),
        (" today ", datetime(2026, 11, 21, tzinfo=UTC)),
        ("1w", datetime(2026, 11, 14, 14, 3, 12, tzinfo=UTC)),
        ("2026-11", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-W47", datetime(2026, 11, 16, tzinfo=UTC)),
        ("2026-W01", datetime(2025, 12, 29, tzinfo=UTC)),
        ("this-week", datetime(2026, 11, 16, tzinfo=UTC)),
        ("last-week", datetime(2026, 11, 9, tzinfo=UTC)),
        ("this-month", datetime(2026, 11, 1, tzinfo=UTC)),
        ("last-month", datetime(2026, 10, 1, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_as_utc(text: str, meant: datetime) -> None:
    """A date, a month and a week are their first moment, an offset is converted, and what has none is UTC."""
    assert moment(text, now=NOW) == meant
    assert moment(text, now=NOW).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2026",
        "20261120",
        "2026-11-31",
        "2026-13-01",
        "2026-11-20T25:00",
        "2026-11-20x09:30",
        "2026-W47-1",
        "2026-W54",
        "2026-W00",
        "2026-00",
        "next-month",
        "31x",
        "-7d",
        "7 d",
        "1.5h",
        "\u0667d",
        "999999d",
        "0001-01-01T00:00+05:00",
        "2026-11-20T09:30+99:00",
        "now(); DROP TABLE usage",
    ],
)
def test_what_is_no_moment_is_named_with_the_forms_that_are(text: str) -> None:
    """The message repeats the value and lists what can be typed instead."""
    with pytest.raises(BadTime) as caught:
        moment(text, now=NOW)
    assert repr(text.strip()) in str(caught.value) or repr(text) in str(caught.value)
    for form in (
        "2026-11-21",
        "2026-11",
        "2026-W47",
        "1w",
        "7d",
        "24h",
        "30m",
        "today",
        "this-month",
    ):
        assert form in str(caught.value)


def test_moments_of_python_are_taken_as_they_are() -> None:
    """A notebook may pass dates and datetimes; a naive one is UTC, an aware one is converted."""
    india = timezone(timedelta(hours=5, minutes=30))
    assert moment(date(2026, 11, 20), now=NOW) == datetime(2026, 11, 20, tzinfo=UTC)
    assert moment(datetime(2026, 11, 20, 4), now=NOW) == datetime(2026, 11, 20, 4, tzinfo=UTC)  # noqa: DTZ001 - the case
    aware = datetime(2026, 11, 20, 9, 30, tzinfo=india)
    assert moment(aware, now=NOW) == datetime(2026, 11, 20, 4, tzinfo=UTC)


def test_today_is_the_utc_day_wherever_the_clock_stands() -> None:
    """A clock with an offset does not move the day."""
    samoa = timezone(timedelta(hours=13))
    local = datetime(2026, 11, 22, 3, tzinfo=samoa)
    assert moment("today", now=local) == datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "until"),
    [("today", "yesterday"), ("2026-11-20", "2026-11-20"), ("1h", "2h")],
)
def test_a_period_that_holds_no_moment_is_refused(since: str, until: str) -> None:
    """An empty period is a mistake of the one who asks, not an answer of nothing."""
    with pytest.raises(BadTime, match="is not after the start"):
        period(since, until, now=NOW)


def test_an_open_period_has_no_condition() -> None:
    """Without an end there is nothing to compare with."""
    assert period(None, None, now=NOW) == Period()
    assert Period().sql() == ([], [])


def test_a_period_is_a_range_of_session_ids() -> None:
    """A call belongs to the period in which it started, which its id says to the millisecond."""
    conditions, parameters = period("2026-11-20T09:30+05:30", "today", now=NOW).sql()
    assert conditions == ["session_id >= ?", "session_id < ?"]
    assert parameters == [
        UUID("01a1f71c-7600-0000-0000-000000000000"),
        UUID("01a1fb67-1800-0000-0000-000000000000"),
    ]


def test_a_row_of_no_session_and_a_correction_are_at_the_first_moment_of_their_day() -> None:
    """Two periods that touch share no such row and leave none out, also in the middle of a day."""
    conditions, parameters = period("2026-11-20T09:30+05:30", "today", now=NOW).sql_of_rows()
    assert [condition.count("?") for condition in conditions] == [1, 2, 1, 2]
    assert parameters == [
        date(2026, 11, 20),
        UUID("01a1f71c-7600-0000-0000-000000000000"),
        date(2026, 11, 21),
        date(2026, 11, 21),
        UUID("01a1fb67-1800-0000-0000-000000000000"),
        date(2026, 11, 21),
    ]
    assert Period().sql_of_rows() == ([], [])
