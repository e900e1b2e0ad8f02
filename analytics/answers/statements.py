"""A tenant's month: what is billed, line by line, whether that may still change, and what it may lack.

Its total is that of `costs query` for the tenant and the days of the month, to the last digit, and its lines add
up to it. What corrects a month that was closed before stands apart, and so do credits and charges. Whatever else
was done to the books before the month was closed is in the lines of the usage: a re-rating is its price, and a
voided call was none.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import TYPE_CHECKING, Final
from uuid import UUID

from msgspec import Struct

from voicecosts.analytics.answers import costs
from voicecosts.analytics.answers.calls import check
from voicecosts.analytics.answers.charges import NotCharged, not_charged
from voicecosts.analytics.answers.completeness import as_of, meanwhile, notes, tell
from voicecosts.analytics.answers.costs import row_of
from voicecosts.analytics.answers.erased import say_erased
from voicecosts.analytics.answers.layers import left_out
from voicecosts.analytics.answers.report import CURRENCY, Completeness, Outbox, Row, Source
from voicecosts.analytics.answers.states import count_unused
from voicecosts.analytics.errors import BadTime, UnknownTenant
from voicecosts.analytics.numbers import counted
from voicecosts.analytics.question.columns import MEASURES, VOIDED, Group
from voicecosts.analytics.question.filters import named
from voicecosts.analytics.question.relation import of_voided
from voicecosts.analytics.snapshot.connection import closing, open_newest, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from voicecosts.analytics.answers.costs import Question
    from voicecosts.analytics.question.filters import Selection
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

LAST: Final = "last-month"
THIS: Final = "this-month"

USAGE: Final = "usage"
LATE: Final = "late"
"""Usage of a closed month that was reported after its close."""
ADJUST: Final = "adjust"

_MONTH: Final = re.compile(r"[0-9]{4}-[0-9]{2}")
_CENT: Final = Decimal("0.01")
_EXACT: Final = Context(prec=50, rounding=ROUND_HALF_UP)
_NAMED: Final = 3
_OPEN: Final = "open_calls"
_ERASED: Final = "erased"

_CLOSED: Final = "SELECT min_by(closed_at, month) FROM closed_months WHERE month >= ?"
_OPERATIONS: Final = "SELECT operation, kind, reason, source, reverts FROM operations"
_UNCOUNTED: Final = "SELECT project, session_id FROM voided WHERE uncounted"
_LINES: Final = """
SELECT
    agent_id, modality, corrects,
    CASE WHEN corrects IS NOT NULL OR list_contains(?::BIGINT[], operation) THEN operation END AS entered,
    coalesce(bool_or(unbilled_reason IS NOT NULL), FALSE),
    {measures}
FROM session_usage
WHERE {which}
GROUP BY agent_id, modality, corrects, entered
ORDER BY corrects IS NOT NULL OR entered IS NOT NULL, corrects NULLS LAST, entered NULLS FIRST, agent_id, modality
"""
_CALLS: Final = f"""
WITH used AS (
    SELECT DISTINCT project, session_id, agent_id
    FROM session_usage
    WHERE {{which}} AND corrects IS NULL AND operation IS NULL{VOIDED}
)

SELECT
    used.agent_id,
    count(*),
    count(*) FILTER (duration_us >= 0),
    coalesce(sum(duration_us) FILTER (duration_us >= 0), 0)::BIGINT
FROM used
LEFT JOIN (SELECT project, session_id, duration_us FROM sessions WHERE {{of_sessions}}) AS s
    USING (project, session_id)
GROUP BY used.agent_id
ORDER BY used.agent_id
"""  # noqa: S608 - our own names
_LATER: Final = """
SELECT date_trunc('month', day)::DATE AS dated, sum(billed), sum(cost), sum(rows)::BIGINT
FROM session_usage
WHERE {which}
GROUP BY dated
ORDER BY dated
"""
_VOIDED_HERE: Final = """
SELECT count(DISTINCT (project, session_id))
FROM session_usage
SEMI JOIN (SELECT project, session_id FROM voided WHERE uncounted) USING (project, session_id)
WHERE {which}
"""
_IS_KNOWN: Final = """
SELECT EXISTS (SELECT 1 FROM session_usage WHERE {which}) OR EXISTS (SELECT 1 FROM session_identities WHERE {which})
"""
_NEAREST: Final = """
SELECT tenant
FROM (
    SELECT DISTINCT tenant FROM session_usage
    UNION
    SELECT DISTINCT tenant FROM session_identities
)
WHERE tenant IS NOT NULL
ORDER BY jaro_winkler_similarity(lower(tenant), lower(?)) DESC, tenant
LIMIT ?
"""


class Line(Struct, frozen=True, kw_only=True):
    """What one agent used of one modality, or what one correction is about.

    `kind` is `usage`, `late` (usage of a closed month that was reported after its close), or the kind of the
    operation: `rerate`, `void` or `adjust`, with `is_undone` where it takes such an operation back. `corrects` is
    the closed month that it belongs to. Where it has no billed amount, `is_unknown` says that a price applies which
    lacks something.
    """

    kind: str
    agent: str
    modality: str
    used: Row
    corrects: date | None = None
    operation: int | None = None
    is_undone: bool = False
    is_unknown: bool = False


class OfAgent(Struct, frozen=True, kw_only=True):
    """The calls of one agent that began in the month and used anything.

    `length_seconds` is from start to end, of those `timed` of them whose end is known.
    """

    agent: str
    calls: int
    timed: int
    length_seconds: Decimal


class Later(Struct, frozen=True, kw_only=True):
    """What corrects the month and is dated in a later one, on whose statement it is."""

    month: date
    billed: Decimal | None
    cost: Decimal | None


class Operation(Struct, frozen=True, kw_only=True):
    """An operation of which the statement has lines, and why it was done, in the operator's words."""

    operation: int
    kind: str
    reason: str
    source: str


class Lack(Struct, frozen=True, kw_only=True):
    """Why the figures may not be all, in a sentence that the tenant may read.

    `is_known` is false where it is not known whether anything is missing.
    """

    source: str
    text: str
    is_known: bool = True


class Statement(Struct, frozen=True, kw_only=True):
    """A tenant's month, as of a moment. Money is Decimal; None is not known, or without a rule, and never zero.

    `month` is its first day, and a call is in the month of the UTC day on which it began. `is_closed` says that
    its figures stay as they are. `total` is of all lines; `rounded` is what is billed, rounded to the cent once,
    half away from zero. `voided` calls are in no line. `not_charged` says of how many calls no price charges what
    they used. `lacks` is what the tenant may be told, while `warnings`, `notes` and `completeness` are for the
    operator, whose costs they may name.
    """

    tenant: str | None
    project: str | None
    month: date
    since: datetime
    until: datetime
    has_begun: bool
    is_over: bool
    is_closed: bool
    closed_at: datetime | None
    currency: str
    agents: tuple[OfAgent, ...]
    lines: tuple[Line, ...]
    total: Row
    later: tuple[Later, ...]
    voided: int
    operations: tuple[Operation, ...]
    as_of: datetime | None
    completeness: Completeness
    lacks: tuple[Lack, ...]
    not_charged: NotCharged = NotCharged()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rounded(self) -> Decimal | None:
        """What is billed, in whole cents."""
        if self.total.billed is None:
            return None
        return _EXACT.quantize(self.total.billed, _CENT)

    @property
    def whole(self) -> bool | None:
        """Whether nothing that was used is missing from the bill; None where that is not known."""
        found = [it.is_known for it in self.lacks if it.source not in (_OPEN, _ERASED)]
        return False if any(found) else None if found else True

    @property
    def usage(self) -> tuple[Line, ...]:
        """What was used in the month, by agent and modality."""
        return tuple(it for it in self.lines if it.kind == USAGE)

    @property
    def corrections(self) -> tuple[Line, ...]:
        """What stands apart: credits and charges, and what corrects an earlier month."""
        return tuple(it for it in self.lines if it.kind != USAGE)


def margin(row: Row, total: Row) -> Decimal | None:
    """Return what is billed of a row of a statement above all of its cost, so that rows add up to their total.

    It is None where its cost is not known, or nothing of the total is billed.
    """
    if row.cost is None or total.billed is None:
        return None
    return _EXACT.subtract(row.billed or Decimal(0), row.cost)


class Asked(Struct, frozen=True, kw_only=True):
    """A checked question for a statement."""

    tenant: str | None
    project: str | None
    month: date
    question: Question


def ask(tenant: str | None, month: str | date, *, project: str | None, now: datetime) -> Asked:
    """Return the question; raises `BadQuestion` before any ledger is opened.

    A tenant is named as in a condition of `costs query`, but for a star, which is one: `(none)`, or None, is without.
    """
    first = _first_of(month, now)
    whose = None if tenant is None else named(Group.TENANT, tenant)
    where = {"tenant": whose} if project is None else {"tenant": whose, "project": project}
    question = costs.ask(
        Group.PROJECT, since=first, until=_after(first), where=where, top=None, sort=None, now=now
    )
    return Asked(
        tenant=None if whose is None else str(whose),
        project=project,
        month=first,
        question=question,
    )


def _first_of(month: str | date, now: datetime) -> date:
    this = now.astimezone(UTC).date().replace(day=1)
    if month == THIS:
        return this
    if month == LAST:
        return (this - timedelta(days=1)).replace(day=1)
    text = f"{month:%Y-%m}" if isinstance(month, date) else month
    try:
        first = date.fromisoformat(f"{text}-01" if _MONTH.fullmatch(text) else "")
        _after(first)
    except (ValueError, OverflowError):
        problem = f"cannot be read as a month: use 2026-11, {THIS} or {LAST}"
        raise BadTime(text, problem) from None
    return first


def _after(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def answer(
    asked: Asked,
    data_dir: str | Path | None,
    *,
    now: datetime,
    outbox: Outbox | None = None,
    spill: Path | None = None,
) -> Statement:
    """Return the statement by the newest snapshot of `data_dir`, which lacks what waits in `outbox`.

    With the folder `spill` it takes a bounded amount of memory.

    Raises:
        UnknownTenant: Nothing of this tenant is in the ledger.
        NoLedger: There is no snapshot there, or it is of a version that noted too little.
        LedgerNewer: The snapshot was written by a newer version.
    """
    connection, snapshot = open_newest(data_dir, spill=spill)
    with closing(connection):
        schema = check(connection, snapshot)
        _check_tenant(connection, snapshot, asked)
        question = asked.question
        selection = question.selection
        rows = selection.of_rows(schema)
        moment = as_of(connection, snapshot)
        with meanwhile(connection, snapshot, selection, moment=moment, outbox=outbox) as lacking:
            total, _ = costs.add_up(connection, snapshot, question)
            operations = _operations(connection, snapshot)
            lines = tuple(_lines(connection, snapshot, rows, operations))
            free = not_charged(connection, snapshot, selection, schema=schema)
            agents = tuple(_agents(connection, snapshot, selection, rows))
            later = tuple(_later(connection, snapshot, selection))
            voided = _voided(connection, snapshot, rows)
            closed_at = _closed_at(connection, snapshot, asked.month)
            not_in_it = tuple(left_out(connection, snapshot, selection, total))
            unused = tuple(_say_unused(count_unused(connection, snapshot, selection)))
            erased = tuple(say_erased(connection, snapshot, question.period))
            missing = tell(lacking(), snapshot, outbox, moment=moment, now=now, with_prices=True)
        since, until = (
            datetime.combine(it, time(), UTC) for it in (asked.month, _after(asked.month))
        )
        return Statement(
            tenant=asked.tenant,
            project=asked.project,
            month=asked.month,
            since=since,
            until=until,
            has_begun=since <= now,
            is_over=until <= now,
            is_closed=closed_at is not None,
            closed_at=closed_at,
            currency=CURRENCY,
            agents=agents,
            lines=lines,
            total=total,
            later=later,
            voided=voided,
            operations=tuple(
                Operation(operation=it.operation, kind=it.kind, reason=it.reason, source=it.source)
                for number, it in sorted(operations.items())
                if any(line.operation == number for line in lines)
            ),
            as_of=moment,
            completeness=missing,
            lacks=tuple(_lacks(missing, free, erased=bool(erased))),
            not_charged=free,
            warnings=tuple(finding.text for finding in missing.findings),
            notes=(*notes(missing), *not_in_it, *unused, *erased),
        )


def _say_unused(count: int) -> Iterator[str]:
    """Yield how many calls are on no line because nothing was booked of them but a start or an end."""
    if count:
        yield f"{counted(count, 'call')} that used nothing {'is' if count == 1 else 'are'} on no line"


def _closed_at(connection: Connection, snapshot: Snapshot, month: date) -> datetime | None:
    """Return when a month was closed: by itself, or with a later one, where it had no rows."""
    [(at,)] = read(connection, snapshot.path, _CLOSED, [month], row=tuple[datetime | None])
    return None if at is None else at.replace(tzinfo=UTC)


def _voided(connection: Connection, snapshot: Snapshot, rows: Selection) -> int:
    statement = _VOIDED_HERE.format(which=" AND ".join(rows.conditions))
    [(count,)] = read(connection, snapshot.path, statement, rows.parameters, row=tuple[int])
    return count


class _Done(Struct, frozen=True, array_like=True):
    """An operation: its own kind, and the one that it is about where it reverts others."""

    operation: int
    kind: str
    reason: str
    source: str
    reverts: int | None


def _operations(connection: Connection, snapshot: Snapshot) -> dict[int, _Done]:
    return {it.operation: it for it in read(connection, snapshot.path, _OPERATIONS, row=_Done)}


def _about(number: int, operations: dict[int, _Done]) -> tuple[str, bool]:
    """Return what kind of operation this is about, and whether it takes that back."""
    is_undone = False
    while (done := operations[number]).reverts is not None and done.reverts in operations:
        number = done.reverts
        is_undone = not is_undone
    return done.kind, is_undone


def _lines(
    connection: Connection,
    snapshot: Snapshot,
    rows: Selection,
    operations: dict[int, _Done],
) -> Iterator[Line]:
    entered = [number for number in operations if _about(number, operations)[0] == ADJUST]
    voided = _uncounted(connection, snapshot)
    measures = ", ".join(MEASURES.values())
    statement = _LINES.format(
        measures=measures if voided else measures.replace(VOIDED, ""),
        which=" AND ".join(rows.conditions),
    )
    parameters = [entered, *voided, *rows.parameters]
    for agent, modality, corrects, number, has_rule, *amounts in read(
        connection, snapshot.path, statement, parameters, row=tuple[object, ...]
    ):
        kind, is_undone = USAGE if corrects is None else LATE, False
        if isinstance(number, int):
            kind, is_undone = _about(number, operations)
        yield Line(
            kind=kind,
            agent=str(agent),
            modality=str(modality),
            used=row_of(amounts, {}),
            is_unknown=has_rule is True,
            corrects=corrects if isinstance(corrects, date) else None,
            operation=number if isinstance(number, int) else None,
            is_undone=is_undone,
        )


def _uncounted(connection: Connection, snapshot: Snapshot) -> Sequence[object]:
    """Return the parameters by which calls that were voided are not counted; none where there is none."""
    found = read(connection, snapshot.path, _UNCOUNTED, row=tuple[str, UUID])
    return of_voided(found) if found else []


def _agents(
    connection: Connection, snapshot: Snapshot, selection: Selection, rows: Selection
) -> Iterator[OfAgent]:
    voided = _uncounted(connection, snapshot)
    statement = _CALLS.format(
        which=" AND ".join(rows.conditions), of_sessions=" AND ".join(selection.conditions)
    )
    parameters = [*rows.parameters, *voided, *selection.parameters]
    for agent, calls, timed, length_us in read(
        connection,
        snapshot.path,
        statement if voided else statement.replace(VOIDED, ""),
        parameters,
        row=tuple[str, int, int, int],
    ):
        length = Decimal(length_us).scaleb(-6, _EXACT)
        yield OfAgent(agent=agent, calls=calls, timed=timed, length_seconds=length)


def _later(connection: Connection, snapshot: Snapshot, selection: Selection) -> Iterator[Later]:
    rows = selection.of_later_corrections()
    statement = _LATER.format(which=" AND ".join(rows.conditions))
    for month, billed, cost, _ in read(
        connection,
        snapshot.path,
        statement,
        rows.parameters,
        row=tuple[date, Decimal | None, Decimal | None, int],
    ):
        yield Later(month=month, billed=billed, cost=cost)


def _check_tenant(connection: Connection, snapshot: Snapshot, asked: Asked) -> None:
    """Raise `UnknownTenant` where nothing is known of the tenant, or nothing in the project."""
    if asked.tenant is None:
        return
    which, given = "tenant = ?", [asked.tenant]
    if asked.project is not None:
        which, given = f"{which} AND project = ?", [asked.tenant, asked.project]
    statement = _IS_KNOWN.format(which=which)
    if read(connection, snapshot.path, statement, [*given, *given], row=tuple[bool]) == [(True,)]:
        return
    near = read(connection, snapshot.path, _NEAREST, [asked.tenant, _NAMED], row=tuple[str])
    raise UnknownTenant(asked.tenant, [name for (name,) in near], project=asked.project)


_SAID: Final[dict[Source, tuple[str, str]]] = {
    Source.OUTBOX: (
        "Some usage, of whichever tenant, has not reached the books yet.",
        "It is not known whether all usage has reached the books yet.",
    ),
    Source.STREAM: (
        "Some usage, of whichever tenant, is not booked yet.",
        "It is not known whether all usage is booked yet.",
    ),
    Source.LEDGER: ("", "It is not known whether all usage is booked yet."),
    Source.GAPS: ("Some usage, of whichever tenant and month, never reached the books.", ""),
    Source.DEAD_LETTERS: ("Some usage, of whichever tenant and month, could not be booked.", ""),
    Source.DROPPED: ("", "Some usage, of whichever tenant and month, may have been lost."),
    Source.UNATTRIBUTED: (
        "Some usage, of whichever tenant and month, could not be attributed to a call.",
        "",
    ),
    Source.UNMEASURED: (
        "Some usage, of whichever tenant and month, could not be measured.",
        "It is not known whether there was usage that could not be measured.",
    ),
    Source.SESSIONS: (
        "Some calls of this month are not complete in the books.",
        "It is not known whether all calls of this month are complete in the books.",
    ),
    Source.PRICES: (
        "How much some of the usage is charged is not known yet: it is not, or not all, in what is charged.",
        "The newest prices are not in force yet.",
    ),
    Source.CONNECTED_TIME: (
        "Some calls are charged as a whole, and how much is not known: they are not in what is charged.",
        "",
    ),
    Source.OPERATIONS: ("", "A correction of the books is under way."),
}
"""What a tenant is told of a source that lacks something, and of one that may: no cost, and nothing of others."""


def _lacks(missing: Completeness, free: NotCharged, *, erased: bool) -> Iterator[Lack]:
    """Yield what a tenant may be told of what the figures lack."""
    told = dict.fromkeys((it.source, it.is_known) for it in missing.findings)
    if not missing.unbilled:  # what has no price lacks a cost, and the bill lacks nothing
        told.pop((Source.PRICES, True), None)
    for source, is_known in told:
        text = _SAID[source][not is_known] or "It is not known whether anything is missing."
        yield Lack(source=source.value, text=text, is_known=is_known)
    if missing.open_sessions:
        yield Lack(source=_OPEN, text="Some calls of this month are still running.")
    if free:
        yield Lack(source="no_rule", text=free.said)
    if erased:
        yield Lack(
            source=_ERASED,
            text="Calls of this month, of whichever tenant, were erased from the books: no figure has them.",
            is_known=False,
        )
