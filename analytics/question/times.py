"""Reading `--since`, `--until` and `--open-for`: the moments, in UTC, and spans a person types.

A period is half-open: it holds the calls that started at `since` or after it, up to, but not at,
`until`. So two periods that touch share no call and leave none out, and no order of arrival changes
a sum. A day is one of a time zone, UTC as a rule, and `7d` is 7 times 24 hours
before now. Whatever is longer than a moment means its first one: `2026-11` and `this-month` begin with
the month, and weeks on Monday. So `--since last-month --until this-month` is the last month.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from uuid import UUID

from msgspec import Struct

from voicecosts.analytics.errors import BadQuestion, BadTime
from voicecosts.analytics.question.zones import UTC_NAME, midnight, utc, zone

_ABSOLUTE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")
_WEEK = re.compile(r"[0-9]{4}-W[0-9]{2}")
_RELATIVE = re.compile(r"([0-9]{1,6})([wdhm])")
_SPAN = re.compile(r"([0-9]{1,4})([dhm])")
_UNIT: Final = {
    "w": timedelta(days=7),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
}

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS: Final = 2**48 - 1

Moment = str | date | datetime

Compare = str | tuple[Moment, Moment]
"""Another period: `previous`, `last-week`, `last-month`, a word or a text that means a period, or its two ends."""

PREVIOUS: Final = "previous"
LAST_WEEK: Final = "last-week"
LAST_MONTH: Final = "last-month"


class Period(Struct, frozen=True, kw_only=True):
    """From `since` (included) until `until` (excluded); an open end is None. Days are those of `zone`."""

    since: datetime | None = None
    until: datetime | None = None
    zone: str = UTC_NAME

    def sql(self) -> tuple[list[str], list[object]]:
        """Return the conditions on the view `usage` and their parameters.

        The start of a session is in its id, a UUIDv7, and ids are in the order of time: a range of
        ids is quick on any ledger. An id knows milliseconds: a session belongs to the one it began in.
        """
        ends = [("session_id >= ?", self.since), ("session_id < ?", self.until)]
        given = [(condition, _first_id(end)) for condition, end in ends if end]
        return [condition for condition, _ in given], [end for _, end in given]

    def ids(self) -> list[object]:
        """Return the first and the last id that a session of the period may have, to look at no others."""
        first = _first_id(self.since) if self.since else UUID(int=0)
        last = _first_id(self.until) if self.until else UUID(int=2**128 - 1)
        return [first, last]

    def sql_of_rows(self) -> tuple[list[str], list[object]]:
        """Return the same for rows, of which some are of no session, or correct a closed month.

        These are on the day on which they are dated, from its first moment on, in whichever zone. The days come
        first: they skip most of the table.
        """
        conditions: list[str] = []
        given: list[object] = []
        if self.since:
            conditions += ["day >= ?", _DATED.format(sign=">=")]
            first = self._next_midnight(self.since)
            given += [min(self.since.date(), first), _first_id(self.since), first]
        if self.until:
            conditions += ["day <= ?", _DATED.format(sign="<")]
            end = self._next_midnight(self.until)
            last = max(self.until.date(), end - timedelta(days=1))
            given += [last, _first_id(self.until), end]
        return conditions, given

    def sql_of_corrections(self) -> list[str]:
        """Return the conditions on corrections in the period whose session started before it.

        Where the period has no start, there are none.
        """
        if not self.since:
            return []
        conditions = [
            f"session_id < '{_first_id(self.since)}'::UUID",
            f"day >= DATE '{self._next_midnight(self.since)}'",
        ]
        if self.until:
            conditions.append(f"day < DATE '{self._next_midnight(self.until)}'")
        return conditions

    def sql_of_later_corrections(self) -> tuple[list[str], list[object]]:
        """Return the conditions on corrections of calls and months of the period that are dated after it.

        Where the period has no end, there are none.
        """
        if not self.until:
            return ["FALSE"], []
        conditions = ["corrects IS NOT NULL", "day >= ?", _BELONGS.format(sign="<")]
        given: list[object] = [
            self._next_midnight(self.until),
            _first_id(self.until),
            self._local(self.until).date(),
        ]
        if self.since:
            conditions.append(_BELONGS.format(sign=">="))
            given += [_first_id(self.since), self._local(self.since).date().replace(day=1)]
        return conditions, given

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(zone(self.zone))

    def _next_midnight(self, moment: datetime) -> date:
        """Return the first day that begins at a moment or after it."""
        day = self._local(moment).date()
        return day if midnight(day, self.zone) >= moment else day + timedelta(days=1)


_BELONGS: Final = "(session_id {sign} ? OR session_id IS NULL AND corrects {sign} ?)"
_DATED: Final = (
    "(session_id IS NOT NULL AND corrects IS NULL AND session_id {sign} ? "
    "OR (session_id IS NULL OR corrects IS NOT NULL) AND day {sign} ?)"
)


def _first_id(moment: datetime) -> UUID:
    """Return the lowest id that a session which starts at a moment or after it may have."""
    milliseconds = -((_EPOCH - moment) // timedelta(milliseconds=1))
    return UUID(int=min(max(milliseconds, 0), _LAST_MS) << 80)


def period(
    since: Moment | None, until: Moment | None, *, now: datetime, timezone: str = UTC_NAME
) -> Period:
    """Return the period between two moments.

    Raises:
        BadTime: One cannot be read, or the period is empty because it ends before it begins.
        BadQuestion: There is no such time zone.
    """
    zone(timezone)
    start = None if since is None else moment(since, now=now, timezone=timezone)
    end = None if until is None else moment(until, now=now, timezone=timezone)
    if start is not None and end is not None and start >= end:
        raise BadTime(
            str(until), f"is not after the start {str(since)!r}: a period ends later than it starts"
        )
    return Period(since=start, until=end, zone=timezone)


def compared(asked: Period, how: Compare, *, now: datetime) -> Period:
    """Return the period that one with both ends is compared with.

    `previous` is as long and ends where that begins: as many days of the zone where both ends are at the same time of day,
    else as much time. `last-week` is seven days of the zone earlier, and `last-month` the same days of the month before;
    a day that this does not have is its end. All else is a period as `stretch` reads it.

    Raises:
        BadTime: It cannot be read, or holds no moment.
    """
    if not isinstance(how, str):
        return period(*how, now=now, timezone=asked.zone)
    if asked.since is None or asked.until is None:
        raise BadQuestion(f"what begins or ends nowhere cannot be compared with {how!r}")
    ends = [
        end.astimezone(zone(asked.zone)).replace(tzinfo=None) for end in (asked.since, asked.until)
    ]
    try:
        if how == PREVIOUS and ends[0].time() == ends[1].time():
            found = [utc(ends[0] - (ends[1] - ends[0]), asked.zone), asked.since]
        elif how == PREVIOUS:
            found = [asked.since - (asked.until - asked.since), asked.since]
        elif how == LAST_WEEK:
            found = [utc(end - timedelta(days=7), asked.zone) for end in ends]
        elif how == LAST_MONTH:
            found = [utc(_a_month_earlier(end), asked.zone) for end in ends]
        else:
            return stretch(how, now=now, timezone=asked.zone)
    except (ValueError, OverflowError) as error:
        raise BadTime(how, "is before all time: compare a later period") from error
    if found[0] >= found[1]:
        raise BadTime(
            how, "has none of these days: name the period, as in --compare 2026-02-01..2026-03-01"
        )
    return Period(since=found[0], until=found[1], zone=asked.zone)


def stretch(text: str, *, now: datetime, timezone: str = UTC_NAME) -> Period:
    """Return the period that a text means: `2026-10`, `2026-W47`, `2026-11-21`, `this-month`, or two moments as `A..B`.

    Raises:
        BadTime: It means none, or one that holds no moment.
    """
    since, dots, until = text.strip().partition("..")
    if dots and since and until:
        return period(since.strip(), until.strip(), now=now, timezone=timezone)
    try:
        days = None if dots else _days_of(since, now.astimezone(zone(timezone)).date())
        if days is not None:
            first, end = (midnight(day, timezone) for day in days)
            return Period(since=first, until=end, zone=timezone)
    except (ValueError, OverflowError) as error:
        raise BadTime(text, _NO_PERIOD) from error
    raise BadTime(text, _NO_PERIOD)


_NO_PERIOD: Final = (
    "is no period: use previous, last-week, last-month, this-month, this-week, yesterday, today, 2026-10, 2026-W47, "
    "2026-11-21, or two moments such as 2026-10-01..2026-10-15"
)


def _days_of(text: str, today: date) -> tuple[date, date] | None:
    """Return the first day of a period that a word or a date means, and the day after it; None for another text."""
    day = _of_word(text, today) or first_day(text)
    if day is None:
        return (
            (date.fromisoformat(text), _next(date.fromisoformat(text)))
            if _DAY.fullmatch(text)
            else None
        )
    if text.endswith("week") or _WEEK.fullmatch(text):
        return day, day + timedelta(days=7)
    if text.endswith("month") or _MONTH.fullmatch(text):
        return day, date(day.year + day.month // 12, day.month % 12 + 1, 1)
    return day, _next(day)


def _next(day: date) -> date:
    return day + timedelta(days=1)


def _a_month_earlier(moment: datetime) -> datetime:
    """Return the same day and time of the month before; the end of that where it has no such day."""
    first = moment.replace(day=1)
    before = first - timedelta(days=1)
    if moment.day > before.day:
        return datetime.combine(first, time())
    return before.replace(day=moment.day)


def moment(value: Moment, *, now: datetime, timezone: str = UTC_NAME) -> datetime:
    """Return `value` as an aware UTC time; what has no offset is of the zone, a date is its first moment.

    Raises:
        BadTime: The text is none of the accepted forms, or no such time exists.
    """
    try:
        if isinstance(value, datetime):
            found = _utc(value, timezone)
        elif isinstance(value, date):
            found = midnight(value, timezone)
        else:
            found = _read(value.strip(), now=now, timezone=timezone)
        found.astimezone(zone(timezone))  # which the first and the last ones may not have
    except (ValueError, OverflowError) as error:
        raise BadTime(str(value)) from error
    return found


def span(value: str | timedelta) -> timedelta:
    """Return a span of time such as `90m`, `1h` or `2d`; raises `BadQuestion`."""
    if isinstance(value, timedelta):
        return value
    found = _SPAN.fullmatch(value.strip())
    if found is None:
        raise BadQuestion(f"{value!r} cannot be read as a span of time: use 90m, 1h or 2d")
    return int(found[1]) * _UNIT[found[2]]


def first_day(text: str) -> date | None:
    """Return the first day of a month such as 2026-11, or of a week such as 2026-W47; None for another text.

    Raises:
        ValueError: There is no such month or week.
    """
    if _MONTH.fullmatch(text):
        return date.fromisoformat(f"{text}-01")
    if _WEEK.fullmatch(text):
        return date.fromisoformat(f"{text}-1")
    return None


def _of_word(text: str, today: date) -> date | None:
    """Return the first day of what a word means; None for another text."""
    monday, month = today - timedelta(days=today.weekday()), today.replace(day=1)
    return {
        "today": today,
        "yesterday": today - timedelta(days=1),
        "this-week": monday,
        "last-week": monday - timedelta(days=7),
        "this-month": month,
        "last-month": (month - timedelta(days=1)).replace(day=1),
    }.get(text)


def _read(text: str, *, now: datetime, timezone: str) -> datetime:
    day = _of_word(text, now.astimezone(zone(timezone)).date()) or first_day(text)
    if day is not None:
        return midnight(day, timezone)
    if relative := _RELATIVE.fullmatch(text):
        return now.astimezone(UTC) - int(relative[1]) * _UNIT[relative[2]]
    if _ABSOLUTE.fullmatch(text):
        return _utc(datetime.fromisoformat(text), timezone)
    raise ValueError(text)


def _utc(value: datetime, timezone: str) -> datetime:
    return utc(value, timezone) if value.tzinfo is None else value.astimezone(UTC)
