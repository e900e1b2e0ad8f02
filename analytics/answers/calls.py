"""Single calls, the newest or the dearest first: whose each was, how long, what it cost, whether it is whole.

A call is all of its rows, on whatever days they are dated, as `costs query --by session` without a period
has it; so its cost does not depend on which calls were asked for. What is asked of all calls is only what
chooses them. The rest is read of those that were chosen.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct, structs

from voicecosts.analytics.answers.completeness import (
    as_of,
    but_states,
    notes,
    nothing_found,
    tell,
)
from voicecosts.analytics.answers.costs import TOO_OLD, by_corrected, row_of
from voicecosts.analytics.answers.detail import check_turns
from voicecosts.analytics.answers.layers import left_out
from voicecosts.analytics.answers.report import CURRENCY, Completeness, Outbox, Row
from voicecosts.analytics.answers.states import (
    StateCounts,
    bounds,
    corrects_months,
    each_session,
    schema_of,
)
from voicecosts.analytics.errors import BadQuestion, BadTop, NotALedger, UnknownColumn
from voicecosts.analytics.question.columns import MEASURES, Group, State
from voicecosts.analytics.question.filters import Selection, Where, select
from voicecosts.analytics.question.relation import (
    FIRST_COUNTED_SCHEMA,
    FIRST_OUTCOME_SCHEMA,
    first_schema,
)
from voicecosts.analytics.question.times import Moment, Period, period
from voicecosts.analytics.snapshot.connection import beside, closing, open_newest, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from voicecosts.analytics.question.columns import Column
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

TOP: Final = 20
"""Calls that are listed, unless more are asked for."""

VOIDED: Final = "voided"
"""The state of a call that was taken out of every sum."""

RESTORED: Final = "restored"
"""The state of one that was brought back after its month was closed with it: that month stays without it, and what it
cost is dated later."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROS: Final = Decimal(1_000_000)
_MINUTE_US: Final = Decimal(60_000_000)
_NANO: Final = Decimal("0.000000001")
_EXACT: Final = Context(prec=50, rounding=ROUND_HALF_EVEN)

_MEASURED: Final = {**MEASURES, "sessions": "1"}
"""What a call used, by the names of a query; it is one session, also where it was voided."""

_BY_USAGE: Final = f"""
LEFT JOIN (
    SELECT project, session_id, {MEASURES["cost"]} AS cost, {MEASURES["billed"]} AS billed
    FROM session_usage
    SEMI JOIN known USING (project, session_id)
    GROUP BY project, session_id
) AS used USING (project, session_id)
"""  # noqa: S608 - our own names
_BY_FACTS: Final = "LEFT JOIN sessions AS facts USING (project, session_id)\n"
_BY_STATE: Final = """
LEFT JOIN completeness_at(?, ?) AS whole
    ON coalesce(whole.project, '') = known.project AND whole.session_id = known.session_id
"""
_OWN_COST: Final = "CASE WHEN used.session_id IS NULL THEN 0 ELSE used.cost END::DECIMAL(38, 9)"
_PER_MINUTE: Final = f"""
CASE WHEN facts.duration_us > 0
    THEN replace(({_OWN_COST})::VARCHAR, '.', '')::HUGEINT * 60000000 // facts.duration_us
END
"""  # a whole number of billionths of a dollar: exact, and in the order of what it is rounded from

_SORTS: Final[dict[str, tuple[str, str, bool]]] = {
    "started": ("", "known.session_id", True),
    "length": (_BY_FACTS, "CASE WHEN facts.duration_us >= 0 THEN facts.duration_us END", True),
    "cost": (_BY_USAGE, _OWN_COST, True),
    "cost_per_minute": (_BY_USAGE + _BY_FACTS, _PER_MINUTE, True),
    "billed": (_BY_USAGE, "used.billed", True),
    "agent": (_BY_FACTS, "facts.agent_id", False),
    "tenant": (_BY_FACTS, "facts.tenant", False),
    "room": (_BY_FACTS, "nullif(facts.room_name, '')", False),
    "state": (_BY_STATE, f"array_position({[str(it) for it in State]}, whole.state)", False),
}
"""What is joined for an order, by what it goes, and whether it usually begins with the largest."""

_CHOSEN: Final = """
WITH known AS MATERIALIZED ({known})
SELECT (SELECT count(*) FROM known), known.project, known.session_id
FROM known
{joined}
ORDER BY {order} NULLS LAST, known.session_id DESC, known.project
LIMIT ?
"""

_THESE: Final = (
    "session_id BETWEEN ? AND ?",
    """(coalesce(project, ''), session_id) IN (
        SELECT (unnest(from_json(?, '["VARCHAR"]')), unnest(from_json(?, '["UUID"]')))
    )""",
)
_FACTS: Final = """
SELECT project, session_id, agent_id, tenant, started_at, ended_at, duration_us, room_name, job_id{more}
FROM facts_of_pending(?, ?)
WHERE {{which}}
"""
_OUTCOME: Final = """, outcome, from_json(tags, '["VARCHAR"]'), user_turns"""
_NO_OUTCOME: Final = ", NULL, NULL, NULL"
_USED: Final = f"""
SELECT project, session_id, {", ".join(_MEASURED.values())}
FROM session_usage
WHERE {{which}}
GROUP BY project, session_id
"""  # noqa: S608 - our own names
_STATES: Final = """
SELECT coalesce(project, ''), session_id, state, cause, missing_at_most
FROM completeness_of_pending(?, ?, ?, ?)
WHERE {which}
"""
_SETTLED: Final = """
SELECT
    project, session_id, agent_id, tenant, started_at, ended_at, epoch_us(ended_at) - epoch_us(started_at),
    room_name, job_id{more}, is_identified, state, cause, missing_at_most
FROM settled_sessions
WHERE {{which}}
"""
_VOIDED: Final = "SELECT project, session_id, operation IS NOT NULL FROM voided WHERE {which}"

_APART: Final = "`costs call ID` takes one of them apart"

Key = tuple[str, UUID]
"""A call: its project, empty where it is not known, and the id of its session."""

T = TypeVar("T")

_SHORTEST: Final = 13
"""As much of an id says in which millisecond the call began."""


class Call(Struct, frozen=True, kw_only=True):
    """One call: whose it was, how long, what it used and cost, and whether the ledger has all of it.

    `started_at` is when it was attached, or the time in its id where its start has not come. `ended_at` and
    `length_seconds` are None while it has no end; the length too where it is not known. `used` is what
    `costs query --by session` says of it. `cost_per_minute` is what has a cost by the length from start to end,
    in US dollars, rounded half to even to nine digits behind the point; None where the length is not known or
    zero, and of a call without an end, which may go on. `state` is that of the view `completeness`, `voided` or `restored`;
    `missing_at_most` is None when it is unknown. `outcome`, `tags` and `user_turns` are those of the view `sessions`:
    None where nobody said or knows them.
    """

    session: UUID
    project: str | None
    started_at: datetime
    ended_at: datetime | None
    length_seconds: Decimal | None
    agent: str | None
    tenant: str | None
    room: str | None
    job: str | None
    state: str
    cause: str | None
    missing_at_most: Decimal | None
    cost_per_minute: Decimal | None
    outcome: str | None
    tags: tuple[str, ...] | None
    user_turns: int | None
    used: Row


class Calls(Struct, frozen=True, kw_only=True):
    """The answer: the calls that were asked for, in their order.

    `found` counts all that match; `calls` may hold only the first ones. `is_shared` says that the id of one
    is also that of a call of another project. `completeness`, `warnings` and `notes` are those of a query,
    about the calls that are listed.
    """

    calls: tuple[Call, ...]
    found: int
    since: datetime | None
    until: datetime | None
    currency: str
    as_of: datetime | None
    completeness: Completeness
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_shared(self) -> bool:
        """Whether two of the calls have the same id, in two projects."""
        return len({it.session for it in self.calls}) < len(self.calls)


class _Facts(Struct, frozen=True, array_like=True):
    """What the view `sessions` says of a call; of one of which only the id is known, nothing."""

    project: str
    session: UUID
    agent: str | None = None
    tenant: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    length_us: int | None = None
    room: str | None = None
    job: str | None = None
    outcome: str | None = None
    tags: tuple[str, ...] | None = None
    user_turns: int | None = None


class _Stated(Struct, frozen=True, array_like=True):
    """What the view `completeness` says of a call."""

    project: str
    session: UUID
    state: str = State.SHORT
    cause: str | None = None
    missing_at_most: Decimal | None = None


class _Settled(Struct, frozen=True, array_like=True):
    """What the ledger keeps of a call of which nothing has come for a while: the same, and whether it is identified."""

    project: str
    session: UUID
    agent: str | None
    tenant: str | None
    started_at: datetime | None
    ended_at: datetime | None
    length_us: int | None
    room: str | None
    job: str | None
    outcome: str | None
    tags: tuple[str, ...] | None
    user_turns: int | None
    is_identified: bool
    state: str | None
    cause: str | None
    missing_at_most: Decimal | None


class Said(Struct, frozen=True):
    """What the views `sessions` and `completeness` say of some calls, as of a moment."""

    facts: dict[Key, _Facts]
    states: dict[Key, _Stated]

    @property
    def counts(self) -> StateCounts:
        """How many of them are in which state."""
        count = Counter(it.state for it in self.states.values())
        missing = [it.missing_at_most for it in self.states.values() if it.state == State.SHORT]
        known = [it for it in missing if it is not None]
        return StateCounts(
            open_sessions=count[State.OPEN],
            abandoned_sessions=count[State.ABANDONED],
            short_sessions=count[State.SHORT],
            short_at_most=sum(known, Decimal(0)) if len(known) == len(missing) else None,
        )


_NO_MONEY: Final = {
    "cost": Decimal(0),
    "list_cost": Decimal(0),
    "estimated_cost": None,
    "billed": None,
}
_NOTHING: Final = row_of([_NO_MONEY.get(it, 0) for it in MEASURES], {})
"""What a call used of which nothing was booked: it costs nothing."""


class Question(Struct, frozen=True, kw_only=True):
    """A checked question about calls."""

    period: Period
    selection: Selection
    sort: str
    descending: bool
    top: int


def ask(
    *,
    since: Moment | None,
    until: Moment | None,
    where: Where,
    sort: str | None,
    top: int,
    now: datetime,
) -> Question:
    """Return the question these words mean; raises `BadQuestion` before any ledger is opened."""
    if top < 1:
        raise BadTop(top)
    name, _, direction = (sort or "started").partition(":")
    if name not in _SORTS:
        raise UnknownColumn(name, list(_SORTS), role="sort column")
    if direction not in ("", "asc", "desc"):
        raise BadQuestion(f"sort {sort!r} must end in :asc or :desc, or in neither")
    when = period(since, until, now=now)
    return Question(
        period=when,
        selection=select(when, where),
        sort=name,
        descending=direction == "desc" or (not direction and _SORTS[name][2]),
        top=top,
    )


def answer(
    question: Question,
    data_dir: str | Path | None,
    *,
    now: datetime,
    outbox: Outbox | None = None,
    spill: Path | None = None,
) -> Calls:
    """Return the answer of the newest snapshot of `data_dir`, which lacks what waits in `outbox`.

    With the folder `spill` it takes a bounded amount of memory.

    Raises:
        NoLedger: There is no snapshot there, or it is of a version that noted too little.
        LedgerNewer: The snapshot was written by a newer version.
    """
    connection, snapshot = open_newest(data_dir, spill=spill)
    with closing(connection):
        schema = check(connection, snapshot, question.selection.named)
        check_turns(connection, snapshot, question.selection.named)
        moment = as_of(connection, snapshot)
        found, keys = _choose(connection, snapshot, question, schema, moment)
        these = of_calls(keys)
        with reading(connection, snapshot, keys, moment=moment, outbox=outbox) as (
            read_all,
            lacking,
        ):
            corrected = tuple(say_corrected(connection, snapshot, these, schema))
            calls = read_all()
            parts = tuple(left_out(connection, snapshot, these, _together(calls)))
            empty = () if calls else nothing_found(connection, snapshot, question.selection)[:1]
            missing = tell(lacking(), snapshot, outbox, moment=moment, now=now, with_prices=True)
    return Calls(
        calls=tuple(calls),
        found=found,
        since=question.period.since,
        until=question.period.until,
        currency=CURRENCY,
        as_of=moment,
        completeness=missing,
        warnings=(*empty, *(finding.text for finding in missing.findings)),
        notes=(*([_APART] if calls else []), *notes(missing), *parts, *corrected),
    )


def _together(calls: Sequence[Call]) -> Row:
    """Return what calls cost and are billed together; of their list prices nothing is listed."""
    costs, bills = ([getattr(it.used, name) for it in calls] for name in ("cost", "billed"))
    return structs.replace(_NOTHING, cost=_sum(costs), list_cost=None, billed=_sum(bills))


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """Return the sum of those that are known; None where none is."""
    known = [it for it in amounts if it is not None]
    return sum(known, Decimal(0)) if known else None


def check(connection: Connection, snapshot: Snapshot, named: Iterable[Column] = ()) -> int:
    """Return the schema of a snapshot; raises `NotALedger` where it is too old to say this of calls, by some columns."""
    schema = schema_of(connection, snapshot)
    if schema < max(FIRST_COUNTED_SCHEMA, first_schema(named)):
        raise NotALedger(snapshot.path, TOO_OLD)
    return schema


def of_calls(keys: Sequence[Key]) -> Selection:
    """Return the rows of some calls, which are two values however many they are: DuckDB takes long for each."""
    projects, ids = [project for project, _ in keys], [each for _, each in keys]
    texts = [msgspec.json.encode(it).decode() for it in (projects, ids)]
    return Selection(
        conditions=list(_THESE),
        parameters=[min(ids, default=None), max(ids, default=None), *texts],
        named=(Group.SESSION,),
    )


@contextmanager
def reading(
    connection: Connection,
    snapshot: Snapshot,
    keys: Sequence[Key],
    *,
    moment: datetime | None,
    outbox: Outbox | None,
) -> Iterator[tuple[Callable[[], list[Call]], Callable[[], Completeness]]]:
    """Read some calls, and what is missing from them, while the body runs; what is yielded waits for each."""
    these = of_calls(keys)

    def work(other: Connection) -> Said:
        return say(other, snapshot, keys, moment)

    with (
        beside(connection, snapshot, work) as said,
        but_states(connection, snapshot, these, outbox=outbox) as lacking,
    ):
        yield (
            lambda: read_calls(connection, snapshot, keys, said),
            lambda: lacking(said().counts),
        )


def say(
    connection: Connection, snapshot: Snapshot, keys: Sequence[Key], moment: datetime | None
) -> Said:
    """Return what is said of some calls as of `moment`. What is settled is read as it is, the rest is worked out."""
    has_outcome = schema_of(connection, snapshot) >= FIRST_OUTCOME_SCHEMA
    more = _OUTCOME if has_outcome else _NO_OUTCOME
    statement = _SETTLED.format(more=more)
    settled = _of(connection, snapshot, keys, statement, row=_Settled)
    facts = {
        (it.project, it.session): _Facts(*(getattr(it, name) for name in _Facts.__struct_fields__))
        for it in settled
        if it.is_identified
    }
    states = {
        (it.project, it.session): _Stated(
            it.project, it.session, it.state, it.cause, it.missing_at_most
        )
        for it in settled
        if it.state is not None
    }
    if pending := sorted(set(keys).difference((it.project, it.session) for it in settled)):
        ids = [each for _, each in pending]
        span = min(ids), max(ids)
        statement = _FACTS.format(more=more)
        found = _of(connection, snapshot, pending, statement, *span, row=_Facts)
        facts |= {(it.project, it.session): it for it in found}
        given = *bounds(moment), *span
        stated = _of(connection, snapshot, pending, _STATES, *given, row=_Stated)
        states |= {(it.project, it.session): it for it in stated}
    return Said(facts, states)


def read_calls(
    connection: Connection, snapshot: Snapshot, keys: Sequence[Key], say_of: Callable[[], Said]
) -> list[Call]:
    """Return some calls in the order of their keys, of which `say_of` returns what is said."""
    used = {
        (str(row[0]), UUID(str(row[1]))): row_of(row[2:], {})
        for row in _of(connection, snapshot, keys, _USED, row=tuple[object, ...])
    }
    marks = _of(connection, snapshot, keys, _VOIDED, row=tuple[str, UUID, bool])
    voided = {(project, each): is_voided for project, each, is_voided in marks}
    said = say_of()
    return [
        _call(
            key,
            said.facts.get(key) or _Facts(*key),
            used.get(key, _NOTHING),
            _stated(key, said, voided),
        )
        for key in keys
    ]


def _stated(key: Key, said: Said, voided: Mapping[Key, bool]) -> _Stated:
    """Return the state of a call, where `voided` are those that were voided, and whether they still are."""
    if voided.get(key):
        return _Stated(*key, VOIDED)
    if key in voided and key not in said.states:
        return _Stated(*key, RESTORED)
    return said.states.get(key) or _Stated(*key)


def _of(
    connection: Connection,
    snapshot: Snapshot,
    keys: Sequence[Key],
    statement: str,
    *before: object,
    row: type[T],
) -> list[T]:
    """Return the rows of a statement of some calls, whose other parameters are `before`."""
    these = of_calls(keys)
    sql = statement.format(which=" AND ".join(these.conditions))
    return read(connection, snapshot.path, sql, [*before, *these.parameters], row=row)


def say_corrected(
    connection: Connection, snapshot: Snapshot, these: Selection, schema: int
) -> Iterator[str]:
    """Yield how much of some calls is dated in a later month than theirs, which was closed."""
    if not corrects_months(connection, snapshot, schema):
        return
    for month, count, amount, also in by_corrected(connection, snapshot, these, schema):
        yield (
            f"{amount} of it{also} in {count} corrects {month}, which is closed, and is dated later: `costs query "
            f"--where corrects={month}` has it"
        )


def as_short(ids: Sequence[str]) -> list[str]:
    """Return as much of each id as tells all of them apart."""
    shortest = next(
        size
        for size in range(_SHORTEST, len(ids[0]) + 1 if ids else _SHORTEST + 1)
        if len({it[:size] for it in ids}) == len(set(ids))
    )
    return [it[:shortest].rstrip("-") for it in ids]


def per_minute(cost: Decimal | None, length_us: int | None) -> Decimal | None:
    """Return what a minute of so many microseconds cost, rounded half to even to nine digits."""
    if cost is None or length_us is None or length_us <= 0:
        return None
    return _EXACT.quantize(
        _EXACT.divide(_EXACT.multiply(cost, _MINUTE_US), Decimal(length_us)), _NANO
    )


def _choose(
    connection: Connection,
    snapshot: Snapshot,
    question: Question,
    schema: int,
    moment: datetime | None,
) -> tuple[int, list[Key]]:
    """Return how many calls match, and the first ones in the order that was asked for."""
    joined, order, _ = _SORTS[question.sort]
    statement = _CHOSEN.format(
        known=each_session(question.selection, schema),
        joined=joined,
        order=f"{order} {'DESC' if question.descending else 'ASC'}",
    )
    parameters = [
        *question.selection.parameters,
        *(bounds(moment) if joined is _BY_STATE else ()),
        question.top,
    ]
    rows = read(connection, snapshot.path, statement, parameters, row=tuple[int, str, UUID])
    return (rows[0][0] if rows else 0), [(project, each) for _, project, each in rows]


def _call(key: Key, facts: _Facts, used: Row, stated: _Stated) -> Call:
    project, session = key
    length = facts.length_us if facts.length_us is not None and facts.length_us >= 0 else None
    return Call(
        session=session,
        project=project or None,
        started_at=_utc(facts.started_at) or _began(session),
        ended_at=_utc(facts.ended_at),
        length_seconds=None if length is None else _EXACT.divide(Decimal(length), _MICROS),
        agent=facts.agent,
        tenant=facts.tenant,
        room=facts.room or None,
        job=facts.job or None,
        state=stated.state,
        cause=stated.cause,
        missing_at_most=stated.missing_at_most,
        cost_per_minute=per_minute(used.cost, length),
        outcome=facts.outcome,
        tags=facts.tags,
        user_turns=facts.user_turns,
        used=used,
    )


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _began(session: UUID) -> datetime:
    """Return the moment that is in the id of a session."""
    return _EPOCH + timedelta(milliseconds=session.int >> 80)
