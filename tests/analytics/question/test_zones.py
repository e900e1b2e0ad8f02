"""Tests of time zones: SQL and Python have the same local time, at every change of an offset too."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pytest

from voicecosts.analytics.errors import BadQuestion, BadTime
from voicecosts.analytics.question.times import moment, period
from voicecosts.analytics.question.zones import (
    changes,
    first_moment,
    midnight,
    shifted,
    suffix,
    utc,
)

ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize("name", ZONES)
def test_a_local_time_is_the_same_in_sql_and_in_python(name: str) -> None:
    """At the last microsecond before each change and the first one of it, and in between."""
    rng = random.Random(name)  # noqa: S311 - the same moments every time
    edges = [second * 1_000_000 + off for second, _ in changes(name) for off in (-1, 0)]
    moments = [it for it in edges if it >= 0] + [rng.randrange(4 * 10**15) for _ in range(500)]
    sql = f"SELECT {shifted('us', name)}, {suffix('us', name)} FROM (SELECT unnest(?::BIGINT[]) AS us)"  # noqa: S608
    with duckdb.connect() as connection:
        found = connection.execute(sql, [moments]).fetchall()
    for us, (local, offset) in zip(moments, found, strict=True):
        there = (EPOCH + timedelta(microseconds=us)).astimezone(ZoneInfo(name))
        naive = there.replace(tzinfo=None) - datetime(1970, 1, 1)  # noqa: DTZ001 - both are local
        assert local == naive // timedelta(microseconds=1)
        assert there.isoformat(timespec="minutes")[-6:] == offset


@pytest.mark.parametrize("name", ZONES)
def test_days_touch(name: str) -> None:
    """Each begins where the one before ends, at the first moment of which the clocks there show it."""
    info, day = ZoneInfo(name), date(2010, 12, 28)
    while day < date(2027, 1, 1):
        begins = midnight(day, name)
        before = begins - timedelta(microseconds=1)
        assert before.astimezone(info).date() < day <= begins.astimezone(info).date(), day
        day += timedelta(days=1)


@pytest.mark.parametrize(
    "name",
    [
        *ZONES,
        *("Australia/Sydney", "Pacific/Auckland", "America/Havana"),
        *("Asia/Beirut", "America/Asuncion", "Africa/Cairo"),  # which skip midnight
    ],
)
def test_the_first_moment_of_a_day_is_the_same_in_sql_and_in_python(name: str) -> None:
    """Also of days on which the clocks change before noon, or at midnight."""
    local, offset = first_moment("day", name)
    sql = (
        f"SELECT day, {local}, {offset} FROM ("  # noqa: S608 - our own text
        "SELECT unnest(range(DATE '1972-01-02', DATE '2044-01-01', INTERVAL 1 DAY))::DATE AS day)"
    )
    with duckdb.connect() as connection:
        found = connection.execute(sql).fetchall()
    for day, us, offset in found:
        begins = midnight(day, name).astimezone(ZoneInfo(name))
        assert EPOCH + timedelta(microseconds=us) == begins.replace(tzinfo=UTC), day
        assert begins.isoformat(timespec="minutes")[-6:] == offset, day


def test_a_time_that_is_there_twice_is_the_first_and_one_that_is_skipped_is_after_the_change() -> (
    None
):
    """An offset says which is meant."""
    berlin = "Europe/Berlin"
    assert moment("2026-10-25T02:30", now=NOW, timezone=berlin) == NOW
    assert moment("2026-10-25T02:30+01:00", now=NOW, timezone=berlin) == NOW + timedelta(hours=1)
    gap = datetime(2026, 3, 29, 2, 30)  # noqa: DTZ001 - a time of the zone
    assert utc(gap, berlin) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-10-25", datetime(2026, 10, 24, 22, tzinfo=UTC)),
        ("2026-10-26", datetime(2026, 10, 25, 23, tzinfo=UTC)),
        ("2026-11", datetime(2026, 10, 31, 23, tzinfo=UTC)),
        ("this-month", datetime(2026, 9, 30, 22, tzinfo=UTC)),
        ("last-week", datetime(2026, 10, 11, 22, tzinfo=UTC)),
        ("today", datetime(2026, 10, 24, 22, tzinfo=UTC)),
        ("1d", NOW - timedelta(days=1)),
    ],
)
def test_words_are_those_of_the_zone(text: str, meant: datetime) -> None:
    """A day with a change has 23 or 25 hours, and `1d` is 24 of them."""
    assert moment(text, now=NOW, timezone="Europe/Berlin") == meant


def test_a_zone_that_is_none_is_named() -> None:
    """With one that may have been meant; a moment that has no date there is no moment."""
    with pytest.raises(BadQuestion, match="did you mean 'Europe/Berlin'"):
        period(None, None, now=NOW, timezone="Europe/Berln")
    for name in ("", "../etc/passwd", "+01:00", "\x00"):
        with pytest.raises(BadQuestion, match="unknown time zone"):
            period(None, None, now=NOW, timezone=name)
    with pytest.raises(BadTime):
        moment("0001-01-01T00:00Z", now=NOW, timezone="America/New_York")
