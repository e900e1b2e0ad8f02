"""The rows of a question that whole months answer: sums of months, and of the rest of its period single calls.

A ledger keeps what costs add up to by month (`monthly_usage`), without its calls and days. A question that
names neither is answered from there, so it takes as long after years as after weeks.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from voicecosts.analytics.question.columns import Group

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voicecosts.analytics.question.filters import Selection
    from voicecosts.analytics.question.times import Period

_ROWS: Final = "SELECT * EXCLUDE (month), month AS day FROM monthly_usage"
_CALLS: Final = "SELECT * FROM session_usage"

_COUNTED: Final = frozenset((Group.TENANT, Group.AGENT, Group.PROJECT, Group.MONTH))
"""By these every session is of one group, with the row that opens it."""


def may_answer(named: Iterable[Group], span: Period) -> bool:
    """Return whether sums of months have the rows of some columns in a period, or a part of them."""
    if (
        span.since is not None and span.since.year == date.max.year
    ):  # the next month may have no date
        return False
    return _COUNTED.issuperset(named) and (span.since is span.until is None or _whole(span) != [])


def rows_of(
    selection: Selection, taken_back: str | None, told: list[object]
) -> tuple[str, list[object]]:
    """Return the FROM and WHERE of rows that a selection chooses, and the parameters.

    The rows of the statement `taken_back`, whose parameters are `told`, are among them.
    """
    span = selection.when
    conditions, given = span.sql_of_rows()
    parts, parameters = [_ROWS], list[object]()
    if span.since or span.until:
        months = _whole(span)
        parts[0] += f" WHERE {' AND '.join(f'month {sign} ?' for sign, _ in months)}"
        parameters += [day for _, day in months]
        for rest in _rest(span):
            which, moments = rest.sql_of_rows()
            parts.append(f"{_CALLS} WHERE {' AND '.join(which)}")
            parameters += moments
    if taken_back is not None:
        within = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        parts.append(f"SELECT * FROM ({taken_back}){within}")  # noqa: S608 - our own names
        parameters += [*told, *given]
    others = selection.conditions[len(conditions) :]
    where = f" WHERE {' AND '.join(others)}" if others else ""
    text = f"FROM ({' UNION ALL BY NAME '.join(parts)}){where}"
    return text, [*parameters, *selection.parameters[len(given) :]]


def _whole(span: Period) -> list[tuple[str, date]]:
    """Return the signs and days between which the whole months of a period are; none if it has no whole one."""
    first = None if span.since is None else _month_from(span.since)
    end = None if span.until is None else span.until.date().replace(day=1)
    if first is not None and end is not None and first >= end:
        return []
    return [(sign, day) for sign, day in ((">=", first), ("<", end)) if day is not None]


def _rest(span: Period) -> list[Period]:
    """Return what of a period is before its whole months, and what is after them."""
    rest = []
    if span.since is not None:
        first = _midnight(_month_from(span.since))
        if span.since < first:
            rest.append(replace(span, until=first))
    if span.until is not None:
        end = _midnight(span.until.date().replace(day=1))
        if end < span.until:
            rest.append(replace(span, since=end))
    return rest


def _month_from(moment: datetime) -> date:
    """Return the first day of the first month that begins at a moment or after it."""
    first = moment.date().replace(day=1)
    if _midnight(first) == moment:
        return first
    return date(first.year + first.month // 12, first.month % 12 + 1, 1)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
