"""Tests of numbers as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from voicecosts.analytics.numbers import (
    age,
    ago,
    counted,
    length,
    money,
    money_digits,
    place,
    seconds,
    share,
    stamp,
)


@pytest.mark.parametrize(
    ("amounts", "digits"),
    [
        (["1", None], 6),
        (["0.000000000"], 6),
        (["1.234500000", "2"], 6),
        (["1.234567800"], 7),
        (["1.234567891", "2"], 9),
        (["1E+3"], 6),
    ],
)
def test_money_has_as_many_digits_as_it_needs_and_six_at_least(
    amounts: list[str | None], digits: int
) -> None:
    """Trailing zeros are not digits, an unknown amount asks for none."""
    assert money_digits([None if it is None else Decimal(it) for it in amounts]) == digits


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("1234567.5", "1,234,567.500000"),
        ("1.2E-7", "0.00000012"),
        ("0.000000001", "0.000000001"),
        ("0", "0.000000"),
    ],
)
def test_money_is_written_out_exactly(amount: str, shown: str) -> None:
    """No exponent, no rounding, thousands apart."""
    assert money(Decimal(amount)) == shown


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 5, "0.0 %"),
        (1, 3, "33.3 %"),
        (1, 100_000, "under 0.1 %"),
        (99_999, 100_000, "over 99.9 %"),
        (7, 7, "100 %"),
    ],
)
def test_a_share_is_never_rounded_to_none_or_all(part: int, whole: int, shown: str) -> None:
    """What exists is not 0 %, and what is missing is not hidden in 100 %."""
    assert share(part, whole) == shown


@pytest.mark.parametrize(
    ("amount", "shown"), [("0", "0.0"), ("0.04", "<0.1"), ("12.5", "12.5"), ("4000.25", "4,000.2")]
)
def test_a_short_duration_is_not_none(amount: str, shown: str) -> None:
    """Seconds are shown to a tenth, and a shorter time as being shorter."""
    assert seconds(Decimal(amount)) == shown


@pytest.mark.parametrize(
    ("span", "shown"),
    [
        (timedelta(seconds=-3), "0 s"),
        (timedelta(seconds=119), "119 s"),
        (timedelta(minutes=5), "5 min"),
        (timedelta(hours=30), "30 h"),
        (timedelta(days=12), "12 days"),
    ],
)
def test_an_age_has_its_largest_sensible_unit(span: timedelta, shown: str) -> None:
    """A clock that runs behind the ledger's gives no negative age."""
    assert age(span) == shown


def test_a_moment_of_another_day_is_shown_with_its_date() -> None:
    """Today needs no date, any other day does."""
    now = datetime(2026, 11, 21, 14, 3, 14, tzinfo=UTC)
    assert ago(now - timedelta(seconds=2), now) == "14:03:12Z, 2 s ago"
    assert ago(now - timedelta(days=3), now) == "2026-11-18 14:03:14Z, 3 days ago"


def test_counts_and_stamps() -> None:
    """One thing is singular, and a program's stamp keeps what precision there is."""
    assert (counted(1, "row"), counted(1200, "row")) == ("1 row", "1,200 rows")
    assert stamp(datetime(2026, 11, 21, 14, 3, 12, tzinfo=UTC)) == "2026-11-21T14:03:12Z"
    assert stamp(datetime(2026, 11, 21, 0, 0, 0, 5, tzinfo=UTC)) == "2026-11-21T00:00:00.000005Z"


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "0:00.0"),
        ("0.04", "<0:00.1"),
        ("2.807", "0:02.8"),
        ("59.999", "0:59.9"),
        ("60", "1:00"),
        ("723.9", "12:03"),
        ("3723", "1:02:03"),
    ],
)
def test_the_length_of_a_short_call_has_tenths(amount: str, shown: str) -> None:
    """So what a minute of it costs can be checked; no call is shown longer than it was."""
    assert length(Decimal(amount)) == shown
    assert place(Decimal("2.807")) == "0:02"
