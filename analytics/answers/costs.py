"""Asking the ledger: cost and quantities by tenant, agent, model, session, day.

All statements of one question read the same snapshot, so rows, total and warnings fit together. The
SQL is made of constants of `columns` and of parameters; nothing that a user typed is part of it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing as ending
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from msgspec import Struct, structs

from voicecosts.analytics.answers.completeness import (
    as_of,
    meanwhile,
    notes,
    nothing_found,
    tell,
)
from voicecosts.analytics.answers.detail import check_turns, say_removed
from voicecosts.analytics.answers.erased import say_erased
from voicecosts.analytics.answers.layers import left_out
from voicecosts.analytics.answers.report import (
    CURRENCY,
    Finding,
    Length,
    Outbox,
    Outcomes,
    Report,
    Row,
    Source,
)
from voicecosts.analytics.answers.states import corrects_months, count_unused, schema_of
from voicecosts.analytics.answers.unseen import say_unseen_labels
from voicecosts.analytics.errors import BadTop, NotALedger
from voicecosts.analytics.numbers import counted, money
from voicecosts.analytics.question.columns import (
    APART,
    GROUPED,
    MEASURES,
    OF_GROUPS,
    OF_LENGTHS,
    OF_OUTCOMES,
    OPENED,
    SECONDS,
    VOIDED,
    Column,
    Group,
    Sort,
    alias_of,
    column_of,
    groups,
    metrics,
    of_a_session,
    sessions,
    written,
)
from voicecosts.analytics.question.filters import Selection, Where, select
from voicecosts.analytics.question.months import may_answer, rows_of
from voicecosts.analytics.question.relation import (
    FIRST_COUNTED_SCHEMA,
    FIRST_FOLDED_SCHEMA,
    FIRST_LAYERS_SCHEMA,
    FIRST_OUTCOME_SCHEMA,
    TAKEN_BACK,
    first_schema,
    of_voided,
)
from voicecosts.analytics.question.times import Moment, Period, period
from voicecosts.analytics.question.turns import NOT_KNOWN
from voicecosts.analytics.question.zones import UTC_NAME
from voicecosts.analytics.snapshot.connection import closing, open_newest, read, stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

FEW_GROUPS: Final = 20_000
"""So many groups take 50 MB twice."""

_EXACT: Final = Context(prec=50)

TOO_OLD: Final = "it was written by an older version, which noted too little of single calls; `costs up` brings it up to date"

_ANY_APART: Final = """
SELECT EXISTS (SELECT 1 FROM session_usage WHERE corrects IS NOT NULL AND operation IS NULL)
"""

# Groups in one pass over the rows, and the total of the groups.
_FEW: Final = """
WITH grouped AS MATERIALIZED (
    SELECT {named}, {sessions} AS sessions, {added_up} {rows} GROUP BY {keys}
)

SELECT {chosen}
FROM grouped
GROUP BY GROUPING SETS (({names}), ())
ORDER BY grouping({first}) DESC, {order}
"""

# A call is in several groups, and once in each, with what it costs there.
_OF_CALLS: Final = """
WITH known AS ({known}),
calls AS (
    SELECT {keys}project, session_id, {cost} AS cost, {billed} AS billed
    {rows}
    GROUP BY {grouped}project, session_id
    HAVING count(*) FILTER ({counts}) > 0
)

SELECT {grouped}{sums}
FROM calls
LEFT JOIN known USING (project, session_id)
GROUP BY {grouped}()
"""

# Many groups are held once, and not each of them twice.
_MANY: Final = "SELECT * FROM (SELECT {chosen} {rows} GROUP BY {keys}) ORDER BY {order}"
_HOW_MANY: Final = "SELECT count(*) FROM (SELECT 1 {rows} GROUP BY {keys})"

_SHARED: Final = (
    "SELECT EXISTS (SELECT 1 {rows} GROUP BY session_id HAVING min(project) <> max(project))"
)


class _OfCalls(Struct, frozen=True):
    """Something of whole calls that is added up beside the rows: where a row has it, for which metrics, and its SQL."""

    field: str
    metrics: tuple[str, ...]
    kind: type[Length | Outcomes]
    known: str
    sums: str
    first_schema: int


_LENGTHS: Final = _OfCalls(
    "length",
    OF_LENGTHS,
    Length,
    "SELECT project, session_id, duration_us AS us FROM sessions WHERE duration_us >= 0",
    "coalesce(sum(us), 0)::BIGINT, count(us), "
    "sum(cost) FILTER (us IS NOT NULL), coalesce(sum(us) FILTER (cost IS NOT NULL), 0)::BIGINT, "
    "sum(billed) FILTER (us IS NOT NULL), coalesce(sum(us) FILTER (billed IS NOT NULL), 0)::BIGINT",
    FIRST_COUNTED_SCHEMA,
)
_OUTCOMES: Final = _OfCalls(
    "outcomes",
    OF_OUTCOMES,
    Outcomes,
    "SELECT project, session_id, outcome FROM sessions WHERE outcome IS NOT NULL",
    "count(*) FILTER (outcome = 'success'), count(outcome)",
    FIRST_OUTCOME_SCHEMA,
)


class Question(Struct, frozen=True, kw_only=True):
    """A checked question: what to group by, which rows, in which order, how many."""

    by: tuple[Column, ...]
    period: Period
    selection: Selection
    sort: Sort
    top: int | None
    metrics: tuple[str, ...] = ()

    @property
    def of_calls(self) -> list[_OfCalls]:
        """What of whole calls is asked for, or needed for the order."""
        asked = {self.sort.name, *self.metrics}
        return [it for it in (_LENGTHS, _OUTCOMES) if not asked.isdisjoint(it.metrics)]

    @property
    def may_be_apart(self) -> bool:
        """Whether rows of a session may be in it, or in a group, and others not, where they are of several days."""
        chosen = APART.isdisjoint((*self.by, *self.selection.named))
        return not chosen or self.period != Period()

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
    metric: str | Iterable[str] = (),
    timezone: str = UTC_NAME,
) -> Question:
    """Return the question these words mean; raises `BadQuestion` before any ledger is opened."""
    named = groups(by)
    if top is not None and top < 1:
        raise BadTop(top)
    span = period(since, until, now=now, timezone=timezone)
    return Question(
        by=named,
        period=span,
        selection=select(span, where),
        sort=Sort(sort, named),
        top=top,
        metrics=metrics(metric),
    )


def answer(
    question: Question,
    data_dir: str | Path | None,
    *,
    now: datetime,
    outbox: Outbox | None = None,
) -> Report:
    """Return the answer with all of its rows; see `answering`."""
    with answering(question, data_dir, now=now, outbox=outbox) as (report, rows):
        return structs.replace(report, rows=tuple(rows))


@contextmanager
def answering(
    question: Question,
    data_dir: str | Path | None,
    *,
    now: datetime,
    outbox: Outbox | None = None,
    spill: Path | None = None,
) -> Iterator[tuple[Report, Iterator[Row]]]:
    """Yield the answer of the newest snapshot of `data_dir` without its rows, and its rows one after another.

    It lacks what waits in `outbox`. With the folder `spill` memory is bounded, however many rows there are.

    Raises:
        NoLedger: There is no snapshot there.
        SealedDamaged: It is about turns, and a file with rows of them is not what the ledger wrote.
        LedgerNewer: The snapshot was written by a newer version.
    """
    connection, snapshot = open_newest(data_dir, spill=spill)
    with closing(connection):
        report, rows = reported(connection, snapshot, question, now=now, outbox=outbox)
        with ending(rows):
            yield report, rows


def reported(
    connection: Connection,
    snapshot: Snapshot,
    question: Question,
    *,
    now: datetime,
    outbox: Outbox | None,
) -> tuple[Report, Generator[Row]]:
    """Return the answer of a snapshot without its rows, and its rows, which are to be closed."""
    moment = as_of(connection, snapshot)
    columns = (*question.by, *question.selection.named)
    is_of_turns = check_turns(connection, snapshot, columns)
    with meanwhile(connection, snapshot, question.selection, moment=moment, outbox=outbox) as found:
        measured = _with_rest(connection, snapshot, question)
        total = measured.total
        corrected = tuple(_corrections(connection, snapshot, question.selection))
        parts = tuple(left_out(connection, snapshot, question.selection, total))
        removed = tuple(say_removed(connection, snapshot, question.period))
        if is_of_turns:
            removed = tuple(f"{it}; {NOT_KNOWN}" for it in removed)
        gone = (*say_erased(connection, snapshot, question.period), *removed)
        empty = tuple(say_unseen_labels(connection, snapshot, question.by))
        unused = tuple(_say_unused(connection, snapshot, question))
        missing = tell(found(), snapshot, outbox, moment=moment, now=now, with_prices=True)
        if not total.rows:
            said, is_unseen = nothing_found(connection, snapshot, question.selection)
            if is_unseen:  # what was asked is in no answer
                asked = Finding(source=Source.QUESTION, text=said)
                missing = structs.replace(missing, findings=(asked, *missing.findings))
            else:
                empty = (said, *empty)
    report = Report(
        by=tuple(map(str, question.by)),
        rows=(),
        total=total,
        groups=measured.groups,
        is_shared=measured.is_shared,
        since=question.period.since,
        until=question.period.until,
        currency=CURRENCY,
        as_of=moment,
        completeness=missing,
        warnings=(*empty, *(finding.text for finding in missing.findings)),
        notes=(*notes(missing), *parts, *_say_metrics(question, total), *unused, *corrected, *gone),
        metrics=question.metrics,
        timezone=question.period.zone,
        other=measured.other,
    )
    return report, measured.rows


class _Measured(Struct, frozen=True):
    """The total, the rows in their order, and how many there would be without `top`, and what these are together.

    `is_shared` says whether the id of a session among them is also one of another project.
    """

    total: Row
    rows: Generator[Row]
    groups: int
    is_shared: bool = False
    other: Row | None = None


class _Rows(Struct, frozen=True):
    """The rows of a question in a ledger, and what has to be known of that ledger to add them up."""

    selection: Selection
    schema: int
    corrects: bool
    apart: bool
    voided: list[tuple[str, UUID]]

    def counted(
        self, by: Iterable[Column], *, of_one: bool = False, by_day: bool = False
    ) -> tuple[_Sql, _Sql]:
        """Return the SQL that counts the sessions of groups, and the FROM and WHERE for it."""
        named = tuple(by)
        count = sessions(named, apart=self.apart, of_one=of_one)
        if may_answer(
            self.selection, named, schema=self.schema, corrects=self.corrects, counts=True
        ):
            return _Sql(count), self._of_months()
        more: tuple[str, ...] = ()
        told = of_voided(self.voided) if self.voided else []
        if not self.voided:
            count = count.replace(VOIDED, "")
        elif count == OPENED:
            more = (TAKEN_BACK,)
            told = told[2:]
        source = self.selection.sql(schema=self.schema, more=more)
        if self.corrects:
            source = self.selection.standing(schema=self.schema, by_day=by_day, more=more)
        given = self.selection.parameters
        if more:
            return _Sql(count), _Sql(source, [*told, *given])
        return _Sql(count, told), _Sql(source, given)

    def _of_months(self) -> _Sql:
        """Return the same from sums of months."""
        told = of_voided(self.voided)[2:] if self.voided else []
        taken_back = TAKEN_BACK if self.voided else None
        return _Sql(*rows_of(self.selection, taken_back=taken_back, told=told))


class _Sql(Struct, frozen=True):
    """A part of a statement, and its parameters."""

    text: str
    parameters: list[object] = []


def add_up(connection: Connection, snapshot: Snapshot, question: Question) -> tuple[Row, list[Row]]:
    """Return the total of a question, and its rows in their order."""
    measured = _measure(connection, snapshot, question)
    with ending(measured.rows):
        return measured.total, list(measured.rows)


def _with_rest(connection: Connection, snapshot: Snapshot, question: Question) -> _Measured:
    """Return what the rows of a question add up to, with what is needed of whole calls."""
    if not question.of_calls:
        return _with_other(connection, snapshot, question, _measure(connection, snapshot, question))
    every = structs.replace(question, top=None) if question.sort.by_call else question
    measured = _measure(connection, snapshot, every)
    total, rows = measured.total, measured.rows
    for it in question.of_calls:
        total = _with_whole(connection, snapshot, question, total, it)
        rows = _each_with(rows, it, _of_calls(connection, snapshot, question, it))
    if question.sort.by_call:
        rows = (row for row in _sorted(rows, question.sort)[: question.top])
    measured = _Measured(total, rows, measured.groups, measured.is_shared)
    return _with_other(connection, snapshot, question, measured)


def _with_whole(
    connection: Connection, snapshot: Snapshot, question: Question, total: Row, it: _OfCalls
) -> Row:
    """Return a row of all rows of a question, with something of all of its calls."""
    [(_, found)] = _of_calls(connection, snapshot, question, it, by=()).items()
    return structs.replace(total, **{it.field: found})


def _each_with(
    rows: Iterable[Row], it: _OfCalls, found: dict[tuple[str | None, ...], Length | Outcomes]
) -> Generator[Row]:
    """Yield rows with something of their calls; a row without any has nothing of it."""
    for row in rows:
        of_row = found.get(tuple(row.group.values()), it.kind())
        yield structs.replace(row, **{it.field: of_row})


def _with_other(
    connection: Connection, snapshot: Snapshot, question: Question, measured: _Measured
) -> _Measured:
    """Return the same with what is beyond the top rows, which are read now."""
    if question.top is None or measured.groups <= question.top:
        return measured
    with ending(measured.rows):
        rows = list(measured.rows)
    other = beyond(connection, snapshot, question, [row.group for row in rows])
    return structs.replace(measured, rows=(row for row in rows), other=other)


def beyond(
    connection: Connection,
    snapshot: Snapshot,
    question: Question,
    groups: Iterable[Mapping[str, str | None]],
) -> Row:
    """Return what all groups but some are together."""
    zone = question.period.zone
    parts = [written(group, column_of(group, zone), zone) for group in question.by]
    if question.names_project:
        parts.append(column_of(Group.PROJECT))
    # the length of each name stands before it, so that no two rows are written alike
    key = " || ".join(f"coalesce(length({it}) || ':' || {it}, '-')" for it in parts)
    shown = ["".join(map(_keyed, group.values())) for group in groups]
    selection = question.selection
    left = structs.replace(
        selection,
        conditions=[*selection.conditions, f"({key}) NOT IN (SELECT unnest(?::VARCHAR[]))"],
        parameters=[*selection.parameters, shown],
        named=tuple(dict.fromkeys((*selection.named, *question.by))),
        by=question.by,
    )
    rest = structs.replace(question, selection=left)
    other = _undivided(connection, snapshot, rest)
    for it in question.of_calls:
        other = _with_whole(connection, snapshot, rest, other, it)
    return other


def _keyed(value: str | None) -> str:
    return "-" if value is None else f"{len(value)}:{value}"


def _of_calls(
    connection: Connection,
    snapshot: Snapshot,
    question: Question,
    it: _OfCalls,
    *,
    by: tuple[Column, ...] | None = None,
) -> dict[tuple[str | None, ...], Length | Outcomes]:
    """Return something of the calls of each group, of each call once; of all without a group."""
    rows = _rows(connection, snapshot, question)
    zone = question.period.zone
    columns = question.by if by is None else by
    by_day = not APART.isdisjoint(columns)
    keys = [written(column, column_of(column, zone), zone) for column in columns]
    if by is None and question.names_project:
        keys.append(column_of(Group.PROJECT))
    source = rows.selection.sql(schema=rows.schema)
    if rows.corrects:
        source = rows.selection.standing(schema=rows.schema, by_day=by_day)
    statement = _OF_CALLS.format(
        known=it.known,
        sums=it.sums,
        keys="".join(f"{key} AS key_{at}, " for at, key in enumerate(keys)),
        cost=MEASURES["cost"],
        billed=MEASURES["billed"],
        rows=source,
        grouped="".join(f"key_{at}, " for at, _ in enumerate(keys)),
        counts=f"operation IS NULL{VOIDED if rows.voided else ''}",
    )
    told = of_voided(rows.voided) if rows.voided else []
    given = [*rows.selection.parameters, *told]
    found = stream(connection, snapshot.path, statement, given)
    width = len(keys)
    return {row[:width]: it.kind(*row[width:]) for row in found}  # type: ignore[arg-type,misc]  # sums, after texts


def _sorted(rows: Iterable[Row], sort: Sort) -> list[Row]:
    """Return rows in an order that SQL does not have; ties as they came, and last what is not known."""
    known: list[tuple[Decimal | int, Row]] = []
    unknown = []
    for row in rows:
        value = row.metric(sort.name)
        if value is None:
            unknown.append(row)
        else:
            known.append((-value if sort.descending else value, row))
    return [*(row for _, row in sorted(known, key=lambda it: it[0])), *unknown]


def _say_metrics(question: Question, total: Row) -> Iterator[str]:
    """Yield what a margin leaves out of nothing, and of how many calls minutes are, where they are not of all."""
    if "margin" in question.metrics:
        yield "margin is what is billed less all of the cost, that of what is unbilled too"
    if total.length is not None and total.length.calls < total.sessions:
        yield (
            f"minutes, and what one costs, are those of {total.length.calls:,} of {counted(total.sessions, 'call')}: the "
            "others have not ended, or their start or end is not known"
        )
    if total.outcomes is not None and total.outcomes.calls < total.sessions:
        yield (
            f"what came of them is known of {total.outcomes.calls:,} of {counted(total.sessions, 'call')} "
            "(ctx.tagger.success() or .fail() says it): the others are not counted as successful"
        )


def _say_unused(connection: Connection, snapshot: Snapshot, question: Question) -> Iterator[str]:
    """Yield how many calls are in no figure by calls because nothing was booked of them but a start or an end."""
    if _BY_CALLS.isdisjoint(question.metrics):
        return
    if count := count_unused(connection, snapshot, question.selection):
        those = "is" if count == 1 else "are"
        yield (
            f"{counted(count, 'call')} that used nothing {those} in none of these figures: `costs calls --sort cost:asc` "
            "lists them"
        )


_BY_CALLS: Final = frozenset(
    ("calls", "cost_per_call", "billed_per_call", *OF_LENGTHS, *OF_OUTCOMES),
)
"""What is of calls, or by them."""


def _measure(
    connection: Connection, snapshot: Snapshot, question: Question, *, for_total: bool = False
) -> _Measured:
    """Return what the rows of a question add up to."""
    rows = _rows(connection, snapshot, question)
    by_day = not APART.isdisjoint(question.by)
    of_one = Group.SESSION in question.by
    zone = question.period.zone
    columns = [column_of(group, zone) for group in question.by]
    names = [alias_of(group) for group in question.by]
    # A session is one of its project: the same id in two projects is two sessions.
    beside = [column_of(Group.PROJECT)] if question.names_project else []
    keys = ", ".join([*columns, *beside])
    count, source = rows.counted(
        (*question.by, *rows.selection.named), of_one=of_one, by_day=by_day
    )
    how_many = _HOW_MANY.format(rows=source.text, keys=keys)
    [(groups,)] = read(connection, snapshot.path, how_many, source.parameters, row=tuple[int])
    many = of_one or (groups > FEW_GROUPS and not for_total)
    sums = {**MEASURES, "sessions": count.text} if many else OF_GROUPS
    ordered = {name: f'"{name}"' for name in MEASURES} if many else OF_GROUPS
    chosen = [
        f'{written(group, column, zone)} AS "{alias_of(group)}"'
        for group, column in zip(question.by, columns if many else names, strict=True)
    ]
    chosen += [f'{column} AS "{column}"' for column in beside]
    chosen += [f'{sql} AS "{name}"' for name, sql in sums.items()]
    statement = (_MANY if many else _FEW).format(
        keys=keys,
        names=", ".join([*names, *beside]),
        named=", ".join(
            [*(f"{it} AS {name}" for it, name in zip(columns, names, strict=True)), *beside]
        ),
        sessions=count.text,
        added_up=GROUPED,
        rows=source.text,
        chosen=", ".join(chosen),
        first=names[0],
        order=", ".join([question.sort.sql(ordered, zone), *beside]),
    )
    parameters = [*count.parameters, *source.parameters]
    if question.top is not None:
        statement += " LIMIT ?"
        parameters.append(question.top + (not many))
    headed = [*map(str, question.by), *beside]
    found = _each(stream(connection, snapshot.path, statement, parameters), headed)
    if many:
        total = _undivided(connection, snapshot, question)
        is_shared = bool(beside) and _is_shared(connection, snapshot, rows)
        return _Measured(total, found, groups, is_shared)
    total = structs.replace(next(found), group={})
    if rows.corrects and by_day:  # a correction of one day takes back what another one lacks
        total = _undivided(connection, snapshot, question)
    elif rows.apart or not of_a_session((*question.by, *rows.selection.named)):
        # a session may be in several groups
        count, source = rows.counted(rows.selection.named)
        [(sessions_of_all,)] = read(
            connection,
            snapshot.path,
            f"SELECT {count.text} {source.text}",
            [*count.parameters, *source.parameters],
            row=tuple[int],
        )
        total = structs.replace(total, sessions=sessions_of_all)
    return _Measured(total, found, groups)


def _rows(connection: Connection, snapshot: Snapshot, question: Question) -> _Rows:
    schema = schema_of(connection, snapshot)
    asked = (*question.by, *question.selection.named)
    least = max(first_schema(asked), *(it.first_schema for it in question.of_calls), 0)
    if schema < least:
        raise NotALedger(snapshot.path, TOO_OLD)
    return _Rows(
        selection=structs.replace(
            question.selection.of_rows(schema),
            by=tuple(dict.fromkeys((*question.selection.by, *question.by))),
        ),
        schema=schema,
        corrects=corrects_months(connection, snapshot, schema),
        apart=schema < FIRST_FOLDED_SCHEMA
        or (question.may_be_apart and _are_apart(connection, snapshot)),
        voided=_uncounted(connection, snapshot, schema),
    )


def _undivided(connection: Connection, snapshot: Snapshot, question: Question) -> Row:
    """Return the total alone."""
    undivided = structs.replace(
        question, by=(Group.PROJECT,), sort=Sort(None, (Group.PROJECT,)), top=1
    )
    measured = _measure(connection, snapshot, undivided, for_total=True)
    measured.rows.close()
    return measured.total


def _are_apart(connection: Connection, snapshot: Snapshot) -> bool:
    """Return whether rows of a session are of several days: some correct a month that was closed."""
    return read(connection, snapshot.path, _ANY_APART, row=tuple[bool]) == [(True,)]


def _is_shared(connection: Connection, snapshot: Snapshot, rows: _Rows) -> bool:
    """Return whether the id of a session of the rows is also one of another project."""
    statement = _SHARED.format(rows=rows.selection.sql(schema=rows.schema))
    parameters = rows.selection.parameters
    return read(connection, snapshot.path, statement, parameters, row=tuple[bool]) == [(True,)]


def _uncounted(connection: Connection, snapshot: Snapshot, schema: int) -> list[tuple[str, UUID]]:
    """Return the sessions that were voided and count no more."""
    if schema < FIRST_LAYERS_SCHEMA:
        return []
    statement = "SELECT project, session_id FROM voided WHERE uncounted"
    return read(connection, snapshot.path, statement, row=tuple[str, UUID])


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


def _each(found: Iterable[Sequence[object]], headed: list[str]) -> Generator[Row]:
    """Yield rows of groups, which come first in what was found, under these names."""
    width = len(headed)
    for values in found:
        group = dict(zip(headed, values[:width], strict=True))
        yield row_of(values[width:], group)


def row_of(values: Sequence[Any], group: dict[str, Any]) -> Row:
    """Return the row of one group; the values are those of `MEASURES`, in that order."""
    measures = dict(zip(MEASURES, values, strict=True))
    for name in SECONDS:
        measures[name] = Decimal(measures[name]).scaleb(-6, _EXACT)
    return Row(group=group, **measures)
