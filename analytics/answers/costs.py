"""Asking the ledger: cost and quantities by tenant, agent, model, session, day.

All statements of one question read the same snapshot, so rows, total and warnings fit together. The
SQL is made of constants of `columns` and of parameters; nothing that a user typed is part of it.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec
from msgspec import Struct, structs

from voicecosts.analytics.answers.completeness import (
    as_of,
    completeness,
    notes,
    nothing_found,
    tell,
)
from voicecosts.analytics.answers.detail import say_removed
from voicecosts.analytics.answers.erased import say_erased
from voicecosts.analytics.answers.layers import left_out, without_time
from voicecosts.analytics.answers.report import CURRENCY, Outbox, Report, Row
from voicecosts.analytics.answers.states import corrects_months, schema_of
from voicecosts.analytics.errors import BadTop
from voicecosts.analytics.numbers import counted, money
from voicecosts.analytics.question.columns import (
    APART,
    COLUMN,
    GROUPED,
    MEASURES,
    OF_GROUPS,
    SECONDS,
    VOIDED,
    WRITTEN,
    Group,
    Sort,
    groups,
    of_a_session,
    sessions,
)
from voicecosts.analytics.question.filters import Selection, Where, select
from voicecosts.analytics.question.relation import FIRST_FOLDED_SCHEMA, FIRST_LAYERS_SCHEMA
from voicecosts.analytics.question.times import Moment, Period, period
from voicecosts.analytics.snapshot.connection import closing, open_newest, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

_MICROS: Final = Decimal(1_000_000)
_EXACT: Final = Context(prec=50)

_SHARED: Final = (
    "min(project) OVER (PARTITION BY session_id) <> max(project) OVER (PARTITION BY session_id)"
)


_ANY_APART: Final = """
SELECT EXISTS (SELECT 1 FROM session_usage WHERE corrects IS NOT NULL AND operation IS NULL)
"""

_MEASURED: Final = """
WITH grouped AS MATERIALIZED (
    SELECT {keys}, {sessions} AS sessions, {added_up} {rows} GROUP BY {keys}
)

SELECT count(*) OVER () - 1, {is_shared}, {chosen}
FROM grouped
GROUP BY GROUPING SETS (({keys}), ())
ORDER BY grouping({first}) DESC, {order}
"""


class Question(Struct, frozen=True, kw_only=True):
    """A checked question: what to group by, which rows, in which order, how many."""

    by: tuple[Group, ...]
    period: Period
    selection: Selection
    sort: Sort
    top: int | None

    @property
    def names_project(self) -> bool:
        """Whether a row has its project beside what was asked for: an id is one only within it."""
        return Group.SESSION in self.by and Group.PROJECT not in self.by


def ask(
    by: str | Iterable[str],
    *,
    since: Moment | None,
    until: Moment | None,
    where: Where,
    top: int | None,
    sort: str | None,
    now: datetime,
) -> Question:
    """Return the question these words mean; raises `BadQuestion` before any ledger is opened."""
    named = groups(by)
    if top is not None and top < 1:
        raise BadTop(top)
    span = period(since, until, now=now)
    return Question(
        by=named, period=span, selection=select(span, where), sort=Sort(sort, named), top=top
    )


def answer(
    question: Question,
    data_dir: str | Path | None,
    *,
    now: datetime,
    outbox: Outbox | None = None,
) -> Report:
    """Return the answer of the newest snapshot of `data_dir`, which lacks what waits in `outbox`.

    Raises:
        NoLedger: There is no snapshot there.
        LedgerNewer: The snapshot was written by a newer version.
    """
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        total, rows, in_all, is_shared = _measure(connection, snapshot, question)
        moment = as_of(connection, snapshot)
        missing = completeness(
            connection, snapshot, question.selection, moment=moment, outbox=outbox
        )
        missing = tell(missing, snapshot, outbox, moment=moment, now=now, with_prices=True)
        corrected = tuple(_corrections(connection, snapshot, question.selection))
        parts = tuple(left_out(connection, snapshot, question.selection, total))
        gone = (
            *say_erased(connection, snapshot, question.period),
            *say_removed(connection, snapshot, question.period),
        )
        untimed = tuple(without_time(connection, snapshot, question.selection))
        empty = () if total.rows else (nothing_found(connection, snapshot),)
    return Report(
        by=tuple(map(str, question.by)),
        rows=tuple(rows),
        total=total,
        groups=in_all,
        is_shared=is_shared,
        since=question.period.since,
        until=question.period.until,
        currency=CURRENCY,
        as_of=moment,
        completeness=missing,
        warnings=(*empty, *(finding.text for finding in missing.findings), *untimed),
        notes=(*notes(missing), *parts, *corrected, *gone),
    )


def _measure(
    connection: Connection, snapshot: Snapshot, question: Question
) -> tuple[Row, list[Row], int, bool]:
    """Return the total, the rows in their order, how many there would be without `top`, and one thing more.

    That is whether the session of a row is also the id of another project's session.

    The groups are measured in one pass over the rows, and the total over the groups; a session that falls
    into two groups counts once there.
    """
    columns = [COLUMN[group] for group in question.by]
    # A session is one of its project: the same id in two projects is two sessions.
    apart = [COLUMN[Group.PROJECT]] if question.names_project else []
    keys = ", ".join([*columns, *apart])
    schema = schema_of(connection, snapshot)
    rows = question.selection.of_rows(schema)
    voided = _uncounted(connection, snapshot, schema)
    apart_days = _are_apart(connection, snapshot, schema)
    corrects = corrects_months(connection, snapshot, schema)
    by_day = not APART.isdisjoint(question.by)
    chosen_by = (*question.by, *rows.named)
    counted = [sessions(by, apart=apart_days) for by in (chosen_by, rows.named)]
    of_group, of_all = (sql if voided else sql.replace(VOIDED, "") for sql in counted)
    told = _told(voided) if voided else []
    chosen = [f'{WRITTEN[group]} AS "{group}"' for group in question.by]
    chosen += [f'{column} AS "{column}"' for column in apart]
    chosen += [f'{sql} AS "{name}"' for name, sql in OF_GROUPS.items()]
    statement = _MEASURED.format(
        keys=keys,
        sessions=of_group,
        added_up=GROUPED,
        rows=rows.standing(schema=schema, by_day=by_day) if corrects else rows.sql(schema=schema),
        is_shared=_SHARED if apart else "FALSE",
        chosen=", ".join(chosen),
        first=columns[0],
        order=", ".join([question.sort.sql(), *apart]),
    )
    parameters = [*told, *rows.parameters]
    if question.top is not None:
        statement += " LIMIT ?"
        parameters = [*parameters, question.top + 1]
    found = read(connection, snapshot.path, statement, parameters, row=tuple[object, ...])
    headed = [*map(str, question.by), *apart]
    width = len(headed) + 2
    total, *measured = (
        row_of(values[width:], dict(zip(headed, values[2:width], strict=True))) for values in found
    )
    if corrects and by_day:  # a correction of one day takes back what another one lacks
        undivided = structs.replace(
            question, by=(Group.PROJECT,), sort=Sort(None, (Group.PROJECT,)), top=1
        )
        total, *_ = _measure(connection, snapshot, undivided)
    if apart_days or not of_a_session(chosen_by):  # a session may be in several groups
        in_all = f"SELECT {of_all} {rows.sql(schema=schema)}"
        [(count,)] = read(
            connection, snapshot.path, in_all, [*told, *rows.parameters], row=tuple[int]
        )
        total = structs.replace(total, sessions=count)
    is_shared = any(values[1] for values in found[1:])
    return structs.replace(total, group={}), measured, int(str(found[0][0])), is_shared


def _are_apart(connection: Connection, snapshot: Snapshot, schema: int) -> bool:
    """Return whether rows of a session may be of several days: some correct a month that was closed."""
    if schema < FIRST_FOLDED_SCHEMA:
        return True
    return read(connection, snapshot.path, _ANY_APART, row=tuple[bool]) == [(True,)]


def _uncounted(connection: Connection, snapshot: Snapshot, schema: int) -> list[tuple[str, UUID]]:
    """Return the sessions that were voided and count no more."""
    if schema < FIRST_LAYERS_SCHEMA:
        return []
    statement = "SELECT project, session_id FROM voided WHERE uncounted"
    return read(connection, snapshot.path, statement, row=tuple[str, UUID])


def _told(voided: list[tuple[str, UUID]]) -> list[object]:
    """Return the parameters of `VOIDED`."""
    return [[each for _, each in voided], [f"{project} {each}" for project, each in voided]]


def _corrections(connection: Connection, snapshot: Snapshot, selection: Selection) -> Iterator[str]:
    """Yield how much of an answer corrects a month that is closed, and what of it is dated later."""
    schema = schema_of(connection, snapshot)
    if not corrects_months(connection, snapshot, schema):
        return
    for month, count, amount, also in by_corrected(
        connection, snapshot, selection.of_rows(schema), schema
    ):
        yield f"{amount} of it{also} in {count} corrects {month}, which is closed"
    if not APART.isdisjoint(selection.named):
        return
    for month, count, amount, also in by_corrected(
        connection, snapshot, selection.of_later_corrections(), schema
    ):
        yield (
            f"not in it, and dated later: {amount}{also} in {count} corrects {month}, which is closed; `costs "
            f"query --where corrects={month}` has it"
        )


def by_corrected(
    connection: Connection, snapshot: Snapshot, rows: Selection, schema: int
) -> Iterator[tuple[str, str, str, str]]:
    """Yield of each corrected month how many rows, what they cost, and what is billed, in words."""
    statement = (
        f"SELECT corrects, sum(rows)::BIGINT, sum(cost), sum(billed) {rows.sql('corrects IS NOT NULL', schema=schema)} "
        "GROUP BY corrects ORDER BY corrects"
    )
    for month, count, cost, billed in read(
        connection,
        snapshot.path,
        statement,
        rows.parameters,
        row=tuple[date, int, Decimal | None, Decimal | None],
    ):
        amount = "no cost" if cost is None else f"{money(cost)} {CURRENCY}"
        also = f", and billed {money(billed)} {CURRENCY}," if billed else ""
        yield f"{month:%Y-%m}", counted(count, "row"), amount, also


def row_of(values: Sequence[object], group: dict[str, object]) -> Row:
    """Return the row of one group; the values are those of `MEASURES`, in that order."""
    measures = dict(zip(MEASURES, values, strict=True))
    for name in SECONDS:
        measures[name] = _EXACT.divide(Decimal(str(measures[name])), _MICROS)
    return msgspec.convert({**measures, "group": group}, Row)
