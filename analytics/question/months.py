"""The rows of a question that whole months answer: sums of months, and of the rest of its period single calls.

A ledger keeps what costs add up to by month (`monthly_usage`), without its calls and days. A question that
names neither is answered from there, so it takes as long after years as after weeks.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from voicecosts.analytics.question.columns import APART, Column, Group
from voicecosts.analytics.question.relation import FIRST_MONTHS_SCHEMA
from voicecosts.analytics.question.times import Period
from voicecosts.analytics.question.zones import UTC_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voicecosts.analytics.question.filters import Selection

LACKS: Final = "(cost IS NOT NULL AND {0} IS NULL OR priced_meters <> {1})"
"""A row has a cost, and lacks another amount, which another row of its meter may have."""

_COUNTED_ROW: Final = (
    "coalesce((operation IS NULL OR session_id IS NOT NULL) AND {}, FALSE)::BIGINT"
)
_MONTHS: Final = (
    "SELECT * EXCLUDE (month), month AS day, unpriced_place AS last_place FROM monthly_usage"
)
_CALLS: Final = f"""
SELECT
    *,
    {_COUNTED_ROW.format(LACKS.format("list_cost", "listed_meters"))} AS unlisted_rows,
    {_COUNTED_ROW.format(LACKS.format("billed", "billed_meters"))} AS unbilled_rows
FROM session_usage
"""  # noqa: S608 - our own names

_COUNTED: Final = frozenset((Group.TENANT, Group.AGENT, Group.PROJECT, Group.MONTH))
"""By these every session is of one group, with the row that opens it."""

_ADDED_UP: Final = _COUNTED | {
    *(Group.AGENT_LABEL, Group.MODALITY, Group.PROVIDER, Group.MODEL, Group.SERVICE_TIER),
}
"""By these rows add up."""


def may_answer(
    selection: Selection,
    named: Iterable[Column],
    *,
    schema: int,
    corrects: bool,
    counts: bool = False,
) -> bool:
    """Return whether sums of months have the rows of a selection, or a part of them, by some columns.

    With `counts`, sessions are counted as well. Where closed months were corrected (`corrects`), sums of months are
    asked where a row counts whenever it is dated.
    """
    columns, span = frozenset(named), selection.when
    if schema < FIRST_MONTHS_SCHEMA or not columns <= (_COUNTED if counts else _ADDED_UP):
        return False
    if span.zone != UTC_NAME:  # their months are those of UTC
        return False
    if span == Period():
        return not corrects or APART.isdisjoint(columns)
    if span.since is not None and span.since.year == date.max.year:
        return False  # the next month may have no date
    return not corrects and _whole(span) != []


def rows_of(
    selection: Selection,
    *also: str,
    taken_back: str | None = None,
    told: Iterable[object] = (),
) -> tuple[str, list[object]]:
    """Return the FROM and WHERE of rows that a selection chooses, with constant conditions added, and the parameters.

    The rows of the statement `taken_back`, whose parameters are `told`, are among them. Rows of months have no
    session, and the columns that `monthly_usage` has.
    """
    span = selection.when
    conditions, given = span.sql_of_rows()
    parts, parameters = [_MONTHS], list[object]()
    if span != Period():
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
    others = [*selection.conditions[len(conditions) :], *also]
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
