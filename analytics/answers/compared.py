"""One question asked of two periods: each group of one beside the same group of the other, and what changed.

Both are asked of the same snapshot. A group that is in one period alone has nothing in the other, which is not zero:
there is no change to speak of. A change is exact; it is of a part where one side is, and unknown where one side is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing as ending
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from msgspec import Struct, structs

from voicecosts.analytics.answers import costs
from voicecosts.analytics.answers.report import (
    Completeness,
    Finding,
    Outbox,
    Row,
    Source,
    difference,
    percent,
)
from voicecosts.analytics.errors import BadQuestion, BadTop, UnknownColumn
from voicecosts.analytics.question.columns import IN_ZONE, Group, alias_of
from voicecosts.analytics.question.filters import Where, select
from voicecosts.analytics.question.times import Compare, Moment, Period, compared
from voicecosts.analytics.question.zones import UTC_NAME
from voicecosts.analytics.snapshot.connection import beside, closing, open_newest

if TYPE_CHECKING:
    from pathlib import Path

    from voicecosts.analytics.answers.report import Report
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

MOST_GROUPS: Final = 100_000
"""So many groups of both periods take 200 MB."""

CHANGE: Final = "change"
"""The order by how much something changed."""

_OF_ONE: Final = frozenset((*IN_ZONE, Group.SESSION, Group.TURN))
"""Each of these is in one period alone."""

_OF_THE_QUESTION: Final = frozenset((Source.SESSIONS, Source.PRICES, Source.CONNECTED_TIME))
"""What these say is of one period; the others speak of the whole ledger."""


class Presence(StrEnum):
    """In which of two periods a group is. The values are public."""

    BOTH = "both"
    NEW = "new"
    GONE = "gone"
    NEITHER = "neither"


class Pair(Struct, frozen=True, kw_only=True):
    """One group in two periods: `now` in the one that was asked for, `before` in the other; None where it is not in it."""

    group: dict[str, str | None] = {}
    now: Row | None
    before: Row | None

    @property
    def presence(self) -> Presence:
        """In which periods it is."""
        if self.now is None:
            return Presence.NEITHER if self.before is None else Presence.GONE
        return Presence.NEW if self.before is None else Presence.BOTH

    def change(self, name: str) -> Decimal | int | None:
        """Return by how much a metric changed; None where a side has nothing, or is not known.

        Of a ratio it is the difference of the two rounded ones.
        """
        now, before = _value(self.now, name), _value(self.before, name)
        return None if now is None or before is None else difference(now, before)

    def change_percent(self, name: str) -> Decimal | None:
        """Return the change in percent of what there was, rounded half to even to nine digits.

        None where there is no change to speak of, and where there was zero, or less.
        """
        before, change = _value(self.before, name), self.change(name)
        return None if before is None or change is None else percent(change, before)

    def is_part(self, name: str) -> bool:
        """Whether a metric of a side is of a part of it only, as something of the rest has no price, or no length."""
        return any(row.is_part(name) for row in (self.now, self.before) if row is not None)

    def record(self, metrics: Iterable[str]) -> dict[str, object]:
        """Return groups, and of each metric both sides and the change, as one flat mapping."""
        found: dict[str, object] = {**self.group, "presence": str(self.presence)}
        for name in metrics:
            found[name] = _value(self.now, name)
            found[f"{name}_before"] = _value(self.before, name)
            found[f"{name}_change"] = self.change(name)
            found[f"{name}_change_percent"] = self.change_percent(name)
            found[f"{name}_is_part"] = self.is_part(name)
        return found


class Comparison(Struct, frozen=True, kw_only=True):
    """The answer: the groups of two periods side by side, their total, and what is missing from each.

    `compare` is how the other period was named, from `since_before` until `until_before`; `completeness_before` is
    what is missing from it. `other` is all that is not in `rows` because only the top ones are. The rest is as in
    a report; `warnings` and `notes` name the period that they are about where it is not the one that was asked for.
    """

    by: tuple[str, ...]
    metrics: tuple[str, ...]
    compare: str
    rows: tuple[Pair, ...]
    total: Pair
    groups: int
    since: datetime
    until: datetime
    since_before: datetime
    until_before: datetime
    currency: str
    as_of: datetime | None
    completeness: Completeness
    completeness_before: Completeness
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    timezone: str = UTC_NAME
    other: Pair | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Why something may be missing, of both periods: each reason once."""
        return (
            *self.completeness.findings,
            *_of_other(self.completeness, self.completeness_before),
        )

    @property
    def whole(self) -> bool | None:
        """Whether nothing is missing from both periods, as every source says; None when one could not be asked."""
        sides = (self.completeness.whole, self.completeness_before.whole)
        if False in sides:
            return False
        return None if None in sides else True

    def records(self) -> list[dict[str, object]]:
        """Return the rows as flat mappings, for a table, a chart or a data frame."""
        return [pair.record(self.metrics) for pair in self.rows]


class Question(Struct, frozen=True, kw_only=True):
    """A checked question about two periods."""

    now: costs.Question
    before: costs.Question
    compare: str
    metrics: tuple[str, ...]
    by_change: bool
    direction: str
    top: int | None


def ask(
    by: str | Iterable[str],
    compare: Compare,
    *,
    since: Moment | None,
    until: Moment | None,
    where: Where,
    top: int | None,
    sort: str | None,
    now: datetime,
    metric: str | Iterable[str] = (),
    timezone: str = UTC_NAME,
) -> Question:
    """Return the question these words mean; raises `BadQuestion` before any ledger is opened.

    A period without an end ends now.
    """
    if top is not None and top < 1:
        raise BadTop(top)
    if since is None:
        raise BadQuestion(
            "comparing needs a period that begins somewhere: add --since, such as --since this-week or --since 7d"
        )
    name, _, direction = (sort or CHANGE).partition(":")
    by_change = name == CHANGE
    if by_change and direction not in ("", "asc", "desc"):
        raise BadQuestion(f"sort {sort!r} must end in :asc or :desc, or in neither")
    kept = where if isinstance(where, str) or hasattr(where, "items") else tuple(where)
    try:
        first = costs.ask(
            by,
            since=since,
            until=now if until is None else until,
            where=kept,
            top=None,
            sort=None if by_change else sort,
            now=now,
            metric=metric,
            timezone=timezone,
        )
    except UnknownColumn as error:
        if error.name == name:
            raise UnknownColumn(name, (*error.allowed, CHANGE), role="sort column") from None
        raise
    for it in first.by:
        if it in _OF_ONE:
            raise BadQuestion(
                f"there is nothing to compare by {it}: each {it} is in one of the two periods. Group by what may be in "
                "both, such as tenant, agent or model"
            )
    beside = compared(first.period, compare, now=now)
    _ends(beside)
    selection = select(beside, kept)
    second = structs.replace(first, period=beside, selection=selection)
    shown = compare if isinstance(compare, str) else "..".join(map(str, compare))
    return Question(
        now=first,
        before=second,
        compare=shown,
        metrics=first.metrics or ("cost",),
        by_change=by_change,
        direction=direction,
        top=top,
    )


def answer(
    question: Question,
    data_dir: str | Path | None,
    *,
    now: datetime,
    outbox: Outbox | None = None,
    spill: Path | None = None,
) -> Comparison:
    """Return the answer of the newest snapshot of `data_dir`, which lacks what waits in `outbox`.

    Raises:
        BadQuestion: There are more than `MOST_GROUPS` groups.
        NoLedger: There is no snapshot there.
        LedgerNewer: The snapshot was written by a newer version.
    """
    connection, snapshot = open_newest(data_dir, spill=spill)
    with closing(connection):

        def work(other: Connection) -> tuple[Report, list[Row]]:
            return _read(other, snapshot, question.before, now=now, outbox=outbox)

        with beside(connection, snapshot, work) as before:
            report, rows = _read(connection, snapshot, question.now, now=now, outbox=outbox)
            earlier, others = before()
        pairs = _ordered(_paired(rows, others), question)
        shown = pairs[: question.top]
        other = None
        if len(shown) < len(pairs):
            groups = [it.group for it in shown]
            sides = [
                costs.beyond(connection, snapshot, it, groups)
                for it in (question.now, question.before)
            ]
            other = _pair(*sides)
    since, until = _ends(question.now.period)
    since_before, until_before = _ends(question.before.period)
    return Comparison(
        by=report.by,
        metrics=question.metrics,
        compare=question.compare,
        rows=tuple(shown),
        total=_pair(report.total, earlier.total),
        other=other,
        groups=len(pairs),
        since=since,
        until=until,
        since_before=since_before,
        until_before=until_before,
        currency=report.currency,
        as_of=report.as_of,
        completeness=report.completeness,
        completeness_before=earlier.completeness,
        warnings=(*report.warnings, *_warnings(report, earlier)),
        notes=(*report.notes, *(f"before: {it}" for it in earlier.notes)),
        timezone=report.timezone,
    )


def _ends(span: Period) -> tuple[datetime, datetime]:
    """Return the ends of a period; raises `BadQuestion` where one is open."""
    if span.since is None or span.until is None:
        raise BadQuestion("comparing needs periods that begin and end somewhere: name both moments")
    return span.since, span.until


def _read(
    connection: Connection,
    snapshot: Snapshot,
    question: costs.Question,
    *,
    now: datetime,
    outbox: Outbox | None,
) -> tuple[Report, list[Row]]:
    """Return the answer of one period, and all of its rows; raises `BadQuestion` where there are too many."""
    report, rows = costs.reported(connection, snapshot, question, now=now, outbox=outbox)
    with ending(rows):
        if report.groups > MOST_GROUPS // 2:
            raise BadQuestion(
                f"{report.groups:,} rows are too many to compare, more than {MOST_GROUPS // 2:,}: group by less, or add "
                "--where"
            )
        return report, list(rows)


def _pair(now: Row, before: Row) -> Pair:
    """Return two sums side by side; where nothing was booked, there is nothing."""
    return Pair(now=now if now.rows else None, before=before if before.rows else None)


def _paired(rows: Iterable[Row], others: Iterable[Row]) -> Iterator[Pair]:
    """Yield each group that is in one of the periods, or in both."""
    before = {tuple(row.group.values()): row for row in others}
    for row in rows:
        yield Pair(group=row.group, now=row, before=before.pop(tuple(row.group.values()), None))
    for row in before.values():
        yield Pair(group=row.group, now=None, before=row)


def _ordered(pairs: Iterable[Pair], question: Question) -> list[Pair]:
    """Return pairs in the order that was asked for; of those that are alike in it, by their names."""
    found = sorted(pairs, key=lambda it: [_last(value) for value in it.group.values()])
    known: list[tuple[Decimal | int | str, Pair]] = []
    unknown = []
    for pair in found:
        value = _moved(pair, question) if question.by_change else _sorted_by(pair, question)
        if value is None:
            unknown.append(pair)
        else:
            known.append((value, pair))
    falling = (
        question.now.sort.descending if not question.by_change else question.direction != "asc"
    )
    ordered = sorted(known, key=lambda it: it[0], reverse=falling)
    return [*(pair for _, pair in ordered), *unknown]


def _last(value: str | None) -> tuple[bool, str]:
    """Return what orders names, and what has none behind them."""
    return value is None, value or ""


def _moved(pair: Pair, question: Question) -> Decimal | int | None:
    """Return by how much the first metric changed, up or down alike unless a direction is asked for.

    What is in one period alone changed by all that it has: so it is in the order, and nowhere else.
    """
    name = question.metrics[0]
    sides = [0 if row is None else row.metric(name) for row in (pair.now, pair.before)]
    if sides[0] is None or sides[1] is None:
        return None
    moved = difference(sides[0], sides[1])
    return -moved if moved < 0 and not question.direction else moved


def _sorted_by(pair: Pair, question: Question) -> Decimal | int | str | None:
    """Return the name, or the metric of the period that was asked for, by which rows are ordered."""
    sort = question.now.sort
    for column in question.now.by:
        if alias_of(column) == sort.name:
            return pair.group[column]
    return None if pair.now is None else pair.now.metric(sort.name)


def _value(row: Row | None, name: str) -> Decimal | int | None:
    return None if row is None else row.metric(name)


def _of_other(asked: Completeness, before: Completeness) -> Iterator[Finding]:
    """Yield what is missing from the other period: of the whole ledger, what was not said already."""
    for it in before.findings:
        if it.source in _OF_THE_QUESTION:
            yield structs.replace(it, text=f"before: {it.text}")
        elif it not in asked.findings:
            yield it


def _warnings(report: Report, earlier: Report) -> Iterator[str]:
    """Yield the warnings about the other period, without those about the whole ledger that were given already."""
    findings = {it.text for it in earlier.completeness.findings}
    yield from (it.text for it in _of_other(report.completeness, earlier.completeness))
    yield from (f"before: {it}" for it in earlier.warnings if it not in findings)
