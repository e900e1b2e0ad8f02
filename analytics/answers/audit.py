"""The audit: a total of every state, and single sessions, of those that a question is about.

The states are those of the view `completeness`: a session that is called complete or repaired holds
what its end says, to the last unit. Money is Decimal. `cost` is None when nothing is priced,
`missing_at_most` when it is unknown; neither is ever zero because it is unknown.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from voicecosts.analytics.answers.completeness import as_of, but_states, tell
from voicecosts.analytics.answers.detail import check_turns
from voicecosts.analytics.answers.erased import say_erased
from voicecosts.analytics.answers.losses import count_gaps, lost_in
from voicecosts.analytics.answers.report import (
    CURRENCY,
    Completeness,
    Finding,
    Outbox,
    Source,
)
from voicecosts.analytics.answers.states import (
    BEFORE_ALL,
    FIRST_SCHEMA,
    StateCounts,
    look_at,
    schema_of,
)
from voicecosts.analytics.errors import BadQuestion, BadTop, NotALedger
from voicecosts.analytics.question.columns import State, states
from voicecosts.analytics.question.filters import Selection, Where, select
from voicecosts.analytics.question.relation import first_schema, relation
from voicecosts.analytics.question.times import Moment, Period, period, span
from voicecosts.analytics.snapshot.connection import closing, open_newest, read

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

_LONGEST_OPEN: Final = timedelta(days=31)
"""Then a ledger settles a call without an end (`consumer.store.folding`)."""

TOP: Final = 20
"""Sessions that are listed, unless more are asked for."""

NOT_WHOLE: Final = (State.SHORT, State.ABANDONED, State.OPEN)
"""The states whose sessions are listed, unless others are asked for."""

_TOO_OLD: Final = (
    "it was written by an older version, which noted too little for an audit; `costs up` brings "
    "it up to date"
)

# A call without usage costs nothing, and does not make zero of one whose cost nobody knows; one that used
# something free does: that is a cost.
_TOTALS: Final = """
SELECT
    state, count(*),
    sum(cost), count(cost) < count(*) AND sum(cost) = 0,
    CASE WHEN count(missing_at_most) = count(*) THEN sum(missing_at_most) END
"""

_FREE: Final = """
SELECT DISTINCT state
FROM ({of_them})
SEMI JOIN (
    SELECT project, session_id FROM {rows} GROUP BY ALL HAVING sum(priced_meters) > 0
) USING (project, session_id)
WHERE cost = 0
"""

_SESSIONS: Final = """
SELECT
    session_id, state, cause, project, tenant, agent_id, cost, missing_at_most, last_seen_at,
    readings_made, readings_arrived
"""

# Unknown comes first: it may be the most.
_ORDER: Final = """
ORDER BY
    array_position(['short', 'abandoned', 'open', 'repaired', 'complete'], state),
    missing_at_most DESC NULLS FIRST, cost DESC NULLS LAST, session_id
"""


class StateTotal(Struct, frozen=True, kw_only=True):
    """How many sessions are in a state. `missing_at_most` is None when it is unknown."""

    state: State
    sessions: int
    cost: Decimal | None
    missing_at_most: Decimal | None


class Audited(Struct, frozen=True, kw_only=True):
    """One session. `cause` says why it is short; `readings_made` is None without an end."""

    session: UUID
    state: State
    cause: str | None
    project: str | None
    tenant: str | None
    agent: str | None
    cost: Decimal | None
    missing_at_most: Decimal | None
    last_seen_at: datetime | None
    readings_made: int | None
    readings_arrived: int


class Audit(Struct, frozen=True, kw_only=True):
    """The answer: a total of every state, in the order of `State`, and the sessions asked for.

    `listed` counts the sessions that `sessions` would hold without a `top`. `lost` counts the events
    that the ledger was told of in the period, by its own clock, and that are in no
    session: usage that could not be attributed or measured, and dead letters. An event that could
    not be attributed, and of which only some amounts could be read, counts as both. Where a session
    that could not be measured runs across the start or the end of the period, `lost` may be too high,
    and is not too low. `completeness` is that of a query; `failures` are those of its findings that
    concern the period, and without one nothing is missing in it. `notes` say what of it was erased.
    """

    states: tuple[StateTotal, ...]
    sessions: tuple[Audited, ...]
    listed: int
    since: datetime | None
    until: datetime | None
    open_for: timedelta
    currency: str
    as_of: datetime | None
    lost: int
    completeness: Completeness
    failures: tuple[Finding, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Question(Struct, frozen=True, kw_only=True):
    """A checked question of the audit."""

    period: Period
    selection: Selection
    states: tuple[State, ...]
    top: int
    open_for: timedelta


def ask(
    *,
    since: Moment | None,
    until: Moment | None,
    where: Where,
    state: str | Iterable[str],
    top: int,
    open_for: str | timedelta,
    now: datetime,
) -> Question:
    """Return the question these words mean; raises `BadQuestion` before any ledger is opened."""
    if top < 1:
        raise BadTop(top)
    when = period(since, until, now=now)
    return Question(
        period=when,
        selection=select(when, where),
        states=states(state) or NOT_WHOLE,
        top=top,
        open_for=_open_for(open_for),
    )


def answer(
    question: Question,
    data_dir: str | Path | None,
    *,
    now: datetime,
    outbox: Outbox | None = None,
    spill: Path | None = None,
) -> Audit:
    """Return the answer of the newest snapshot of `data_dir`, which lacks what waits in `outbox`.

    With the folder `spill` it takes a bounded amount of memory.

    Raises:
        NoLedger: There is no snapshot there, or it is of a version that noted too little.
        LedgerNewer: The snapshot was written by a newer version.
    """
    connection, snapshot = open_newest(data_dir, spill=spill)
    with closing(connection):
        named = question.selection.named
        if schema_of(connection, snapshot) < max(FIRST_SCHEMA, first_schema(named)):
            raise NotALedger(snapshot.path, _TOO_OLD)
        check_turns(connection, snapshot, named)
        moment = as_of(connection, snapshot)
        with but_states(connection, snapshot, question.selection, outbox=outbox) as lacking:
            of_them, given = look_at(
                connection, snapshot, question.selection, moment, question.open_for
            )
            totals = _totals(connection, snapshot, of_them, given)
            listed = _listed(connection, snapshot, question, of_them, given)
            lost, dropped = lost_in(connection, snapshot, question.period)
            gaps = count_gaps(connection, snapshot, question.period.since or BEFORE_ALL)
            erased = tuple(say_erased(connection, snapshot, question.period))
            missing = lacking(_counts(totals))
        missing = tell(missing, snapshot, outbox, moment=moment, now=now)
    counts = {it.state: it.sessions for it in totals}
    return Audit(
        states=tuple(totals),
        sessions=tuple(listed),
        listed=sum(counts.get(state, 0) for state in question.states),
        since=question.period.since,
        until=question.period.until,
        open_for=question.open_for,
        currency=CURRENCY,
        as_of=moment,
        lost=lost,
        completeness=missing,
        failures=_failures(missing.findings, lost=lost, dropped=dropped, gaps=len(gaps or ())),
        warnings=tuple(it.text for it in missing.findings if it.source is not Source.SESSIONS),
        notes=erased,
    )


def _open_for(value: str | timedelta) -> timedelta:
    """Return how long a call without an end is open; raises `BadQuestion`."""
    found = span(value)
    if found > _LONGEST_OPEN:
        raise BadQuestion(
            f"a call without an end is settled after {_LONGEST_OPEN.days} days, and is open no more: give "
            f"at most {_LONGEST_OPEN.days}d"
        )
    return found


def _failures(
    findings: tuple[Finding, ...], *, lost: int, dropped: int, gaps: int
) -> tuple[Finding, ...]:
    """Return the findings that concern a period, of which so much became known in it."""
    known = {
        Source.DEAD_LETTERS: lost,
        Source.UNATTRIBUTED: lost,
        Source.UNMEASURED: lost,
        Source.DROPPED: dropped,
        Source.GAPS: gaps,
        Source.PRICES: 0,  # what was used is known, whatever it costs
        Source.OPERATIONS: 0,  # same
    }
    return tuple(it for it in findings if known.get(it.source, 1))


def _totals(
    connection: Connection, snapshot: Snapshot, of_them: str, given: list[object]
) -> list[StateTotal]:
    found = read(
        connection,
        snapshot.path,
        f"{_TOTALS} {of_them} GROUP BY state",
        given,
        row=tuple[State, int, Decimal | None, bool | None, Decimal | None],
    )
    free: set[State] = set()
    if any(is_uncertain for _, _, _, is_uncertain, _ in found):
        rows = relation(schema_of(connection, snapshot))
        statement = _FREE.format(of_them=of_them, rows=rows)
        free = {
            state
            for (state,) in read(connection, snapshot.path, statement, given, row=tuple[State])
        }
    totals = [
        StateTotal(
            state=state,
            sessions=sessions,
            cost=None if is_uncertain and state not in free else cost,
            missing_at_most=missing,
        )
        for state, sessions, cost, is_uncertain, missing in found
    ]
    return sorted(totals, key=lambda total: list(State).index(total.state))


def _counts(totals: list[StateTotal]) -> StateCounts:
    """Return what a query says of the states."""
    sessions = {it.state: it.sessions for it in totals}
    missing = {it.state: it.missing_at_most for it in totals}
    return StateCounts(
        open_sessions=sessions.get(State.OPEN, 0),
        abandoned_sessions=sessions.get(State.ABANDONED, 0),
        short_sessions=sessions.get(State.SHORT, 0),
        short_at_most=missing.get(State.SHORT, Decimal(0)),
    )


def _listed(
    connection: Connection,
    snapshot: Snapshot,
    question: Question,
    of_them: str,
    given: list[object],
) -> list[Audited]:
    places = ", ".join("?" for _ in question.states)
    found = read(
        connection,
        snapshot.path,
        f"FROM ({_SESSIONS} {of_them}) WHERE state IN ({places}) {_ORDER} LIMIT ?",
        [*given, *question.states, question.top],
        row=tuple[object, ...],
    )
    fields = Audited.__struct_fields__
    return [msgspec.convert(dict(zip(fields, _utc(row), strict=True)), Audited) for row in found]


def _utc(row: tuple[object, ...]) -> list[object]:
    """Return the values of a row, moments with the offset that the ledger leaves out."""
    return [it.replace(tzinfo=UTC) if isinstance(it, datetime) else it for it in row]
