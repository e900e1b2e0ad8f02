"""The audit: every session of a question and whether it is whole, by state and one by one.

The states are those of the view `completeness`: a session that is called complete or repaired holds
what its end says, to the last unit. What nobody can bound is said to be unknown, never guessed.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from voicecosts.analytics.answers.audited import UNSETTLED, Audit, Audited, State, StateTotal
from voicecosts.analytics.answers.completeness import as_of, completeness, losses
from voicecosts.analytics.answers.report import CURRENCY
from voicecosts.analytics.answers.states import OPEN_FOR, bounds, of_sessions, unsettled
from voicecosts.analytics.errors import BadQuestion, BadTop, NotALedger, UnknownColumn
from voicecosts.analytics.question.filters import Selection, select
from voicecosts.analytics.question.times import Moment, Period, period
from voicecosts.analytics.snapshot.connection import open_newest, read, require

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import duckdb

    from voicecosts.analytics.snapshot.files import Snapshot

TOP: Final = 20
"""Sessions that are listed, unless more are asked for."""

_SPAN: Final = re.compile(r"([0-9]{1,4})([dhm])")
_UNIT: Final = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}


_TOO_OLD: Final = (
    "it was written by a version that noted too little to be audited, and `costs up` brings it up "
    "to date"
)

_TOTALS: Final = """
SELECT
    state, count(*), sum(cost), CASE WHEN count(missing_at_most) = count(*) THEN sum(missing_at_most) END
FROM completeness_at(?, ?)
"""

_SESSIONS: Final = """
SELECT
    session_id, state, cause, project, tenant, agent_id, cost, missing_at_most, last_seen_at,
    readings_made, readings_arrived
FROM completeness_at(?, ?)
"""

# What nobody can bound may be the most.
_ORDER: Final = """
ORDER BY
    array_position(['short', 'abandoned', 'open', 'repaired', 'complete'], state),
    missing_at_most DESC NULLS FIRST, cost DESC NULLS LAST, session_id
"""


class Inquiry(Struct, frozen=True, kw_only=True):
    """A checked question of the audit."""

    period: Period
    selection: Selection
    states: tuple[State, ...]
    top: int
    open_for: timedelta


def audit(
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    where: str | Iterable[str] = (),
    state: str | Iterable[str] = (),
    top: int = TOP,
    open_for: str | timedelta = OPEN_FOR,
    data_dir: str | Path | None = None,
    now: datetime | None = None,
) -> Audit:
    """Return which sessions are whole. Period and conditions are those of `query`.

    A session counts when anything of it happened in the period. The totals are of all states;
    `state` chooses what is listed, else whatever is neither complete nor repaired. A session that
    has no end is open until it was last seen longer than `open_for` ago, as of the snapshot.

    Raises:
        BadQuestion: A state, moment, span or condition cannot be read.
        NoLedger: There is no snapshot at `data_dir`, or it is of a version that noted too little.
        LedgerNewer: The snapshot was written by a newer version.
        MissingExtra: duckdb is not installed.
    """
    moment = now or datetime.now(UTC)
    asked = inquire(since, until, where, state=state, top=top, open_for=open_for, now=moment)
    require("duckdb", needed_by="voicecosts.analytics.answers.audit")
    return answer(asked, data_dir, now=moment)


def inquire(
    since: Moment | None,
    until: Moment | None,
    where: str | Iterable[str],
    *,
    state: str | Iterable[str],
    top: int,
    open_for: str | timedelta,
    now: datetime,
) -> Inquiry:
    """Return the question these words mean; raises `BadQuestion` before any ledger is opened."""
    if top < 1:
        raise BadTop(top)
    asked = period(since, until, now=now)
    return Inquiry(
        period=asked,
        selection=select(asked, where),
        states=states(state) or UNSETTLED,
        top=top,
        open_for=span(open_for),
    )


def states(names: str | Iterable[str]) -> tuple[State, ...]:
    """Return the states that were named, each once; a name may hold several with commas.

    Raises:
        UnknownColumn: A name is no state.
    """
    given = [names] if isinstance(names, str) else list(names)
    found = []
    for name in (name.strip() for part in given for name in part.split(",")):
        if name not in tuple(State):
            raise UnknownColumn(name, list(State), role="state")
        found.append(State(name))
    return tuple(dict.fromkeys(found))


def span(value: str | timedelta) -> timedelta:
    """Return a span of time such as `90m`, `1h` or `2d`; raises `BadQuestion`."""
    if isinstance(value, timedelta):
        return value
    found = _SPAN.fullmatch(value.strip())
    if found is None:
        raise BadQuestion(f"{value!r} cannot be read as a span of time: use 90m, 1h or 2d")
    return int(found[1]) * _UNIT[found[2]]


def answer(asked: Inquiry, data_dir: str | Path | None, *, now: datetime) -> Audit:
    """Return the answer of the newest snapshot of `data_dir`."""
    connection, snapshot = open_newest(data_dir)
    with connection:
        moment = as_of(connection, snapshot)
        found = unsettled(connection, snapshot, asked.selection, moment)
        if found is None:
            raise NotALedger(snapshot.path, _TOO_OLD)
        missing = completeness(connection, snapshot, asked.selection, found)
        totals = _totals(connection, snapshot, asked, moment)
        listed = _listed(connection, snapshot, asked, moment)
    counts = {it.state: it.sessions for it in totals}
    return Audit(
        states=tuple(totals),
        sessions=tuple(listed),
        listed=sum(counts.get(state, 0) for state in asked.states),
        since=asked.period.since,
        until=asked.period.until,
        open_for=asked.open_for,
        currency=CURRENCY,
        as_of=moment,
        warnings=losses(missing, snapshot, now=now),
    )


def _totals(
    connection: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    asked: Inquiry,
    moment: datetime | None,
) -> list[StateTotal]:
    condition, values = of_sessions(asked.selection)
    found = read(
        connection,
        snapshot.path,
        f"{_TOTALS} {condition} GROUP BY state",
        [*bounds(moment, asked.open_for), *values],
        row=tuple[State, int, Decimal | None, Decimal | None],
    )
    totals = [
        StateTotal(state=state, sessions=sessions, cost=cost, missing_at_most=missing)
        for state, sessions, cost, missing in found
    ]
    return sorted(totals, key=lambda total: list(State).index(total.state))


def _listed(
    connection: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    asked: Inquiry,
    moment: datetime | None,
) -> list[Audited]:
    condition, values = of_sessions(asked.selection)
    places = ", ".join("?" for _ in asked.states)
    found = read(
        connection,
        snapshot.path,
        f"FROM ({_SESSIONS} {condition}) WHERE state IN ({places}) {_ORDER} LIMIT ?",
        [*bounds(moment, asked.open_for), *values, *asked.states, asked.top],
        row=tuple[object, ...],
    )
    fields = Audited.__struct_fields__
    return [msgspec.convert(dict(zip(fields, _utc(row), strict=True)), Audited) for row in found]


def _utc(row: tuple[object, ...]) -> list[object]:
    """Return the values of a row, moments with the offset that the ledger leaves out."""
    return [it.replace(tzinfo=UTC) if isinstance(it, datetime) else it for it in row]
