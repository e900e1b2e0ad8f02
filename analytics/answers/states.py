"""The states of a question's sessions: how many are open, abandoned or short, and which SQL asks it.

A report is of bookings, and what was never booked leaves no row to see; so the sessions are asked for
their state. The view `completeness` defines the states; here nothing is judged again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from voicecosts.analytics.question.columns import Group, of_a_session
from voicecosts.analytics.question.relation import (
    FIRST_COUNTED_SCHEMA,
    FIRST_FOLDED_SCHEMA,
    FIRST_UNPRICED_SCHEMA,
)
from voicecosts.analytics.snapshot.connection import read

if TYPE_CHECKING:
    from voicecosts.analytics.question.filters import Selection
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

OPEN_FOR: Final = timedelta(hours=1)
"""A session without an end is open until it has not been seen for so long."""

FIRST_SCHEMA: Final = 2
"""Ledgers before it noted too little to say the state of a session."""

BEFORE_ALL: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SCHEMA: Final = "SELECT max(version) FROM schema_migrations"
_CORRECTS: Final = "SELECT EXISTS (SELECT 1 FROM session_usage WHERE corrects IS NOT NULL)"

# A session belongs to a period and to a day by its own start, which is in its id, even if nothing of it
# was booked. What is known of it without a booking has no model, no provider, no modality and no service
# tier.
_KNOWN: Final = "SELECT coalesce(project, '') AS project, session_id FROM ({known}) WHERE {which}"
_ALL: Final = """
SELECT project, session_id
FROM (
    SELECT project, session_id FROM settled_sessions
    UNION ALL
    SELECT project, session_id FROM pending_sessions
)
WHERE {which}
"""
_UNUSED: Final = """
SELECT count(*)
FROM (
    SELECT project, session_id FROM settled_sessions WHERE coalesce(rows, 0) = 0
    UNION ALL
    SELECT project, session_id FROM pending_sessions
)
SEMI JOIN ({known}) USING (project, session_id)
ANTI JOIN session_usage USING (project, session_id)  -- also what corrects a closed month
ANTI JOIN voided USING (project, session_id)
"""
_OF_USAGE: Final = """
SELECT session_id, day, project, agent_id, agent_label, tenant, modality, provider, model, service_tier,
    corrects, {turn} AS turn
FROM {rows}
UNION ALL
"""
_OF_SESSIONS: Final = """
SELECT
    session_id, day, project, agent_id, NULL AS agent_label, tenant, NULL AS modality,
    NULL AS provider, NULL AS model, NULL AS service_tier, NULL AS corrects, NULL AS turn
FROM session_identities
UNION ALL
SELECT
    session_id, make_timestamp(epoch_us(uuid_extract_timestamp(session_id)))::DATE,
    nullif(project, ''), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM session_notes
ANTI JOIN session_identities USING (project, session_id)  -- that says the tenant
"""

_KNOWN_OF_OLDER: Final = """
SELECT session_id FROM (
    SELECT
        session_id, occurred_at, day, project, agent_id, agent_label, tenant, modality, provider,
        model, '' AS service_tier, NULL::DATE AS corrects
    FROM usage
    UNION ALL
    SELECT
        session_id, started_at, started_at::DATE, project, agent_id, NULL, tenant, NULL, NULL, NULL,
        NULL, NULL
    FROM session_starts
    UNION ALL
    SELECT
        session_id, ended_at, ended_at::DATE, project, agent_id, NULL, tenant, NULL, NULL, NULL,
        NULL, NULL
    FROM session_ends
    UNION ALL
    SELECT
        session_id, occurred_at, occurred_at::DATE, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        NULL
    FROM session_notes
)
"""

_COUNT: Final = """
SELECT
    count(*) FILTER (state = 'open'),
    count(*) FILTER (state = 'abandoned'),
    count(*) FILTER (state = 'short'),
    CASE
        WHEN count(*) FILTER (state = 'short' AND missing_at_most IS NULL) = 0
            THEN coalesce(sum(missing_at_most) FILTER (state = 'short'), 0)
    END
FROM {}
"""
_UNSETTLED_OF_OLDER: Final = "unsettled_sessions(?, ?)"
_UNSETTLED: Final = """(
    SELECT session_id, state, cause, missing_at_most, nullif(project, '') AS project
    FROM settled_sessions
    WHERE state IN ('short', 'abandoned')
    UNION ALL
    SELECT * FROM unsettled_of_pending(?, ?, ?, ?)
)"""

_SEEN: Final = """
    session_id, project, agent_id, tenant,
    coalesce(day, make_timestamp(epoch_us(uuid_extract_timestamp(session_id)))::DATE) AS day,
    state, cause, last_seen_at, readings_made, readings_arrived, cost, missing_at_most
"""
_LOOK_AT_ALL: Final = f"CREATE TEMP TABLE audited AS SELECT {_SEEN} FROM completeness_at(?, ?)"  # noqa: S608 - our own names
_LOOK_AT_PENDING: Final = f"""
CREATE TEMP TABLE audited AS SELECT {_SEEN} FROM completeness_of_pending(?, ?, ?, ?)
"""  # noqa: S608 - our own names
_WITH_SETTLED: Final = f"""(
    FROM audited
    UNION ALL
    SELECT {_SEEN}
    FROM (SELECT * REPLACE (nullif(project, '') AS project, own_cost AS cost) FROM settled_sessions)
    WHERE state IS NOT NULL
)"""  # noqa: S608 - our own names


class StateCounts(Struct, frozen=True, kw_only=True):
    """How many sessions may still change or lack something, and how much the short ones may lack.

    All are None when the snapshot is too old to say.
    """

    open_sessions: int | None = None
    abandoned_sessions: int | None = None
    short_sessions: int | None = None
    short_at_most: Decimal | None = None


def count_states(
    connection: Connection,
    snapshot: Snapshot,
    selection: Selection,
    moment: datetime | None,
    open_for: timedelta = OPEN_FOR,
) -> StateCounts:
    """Return how many sessions of a selection are in which state as of `moment`."""
    schema = schema_of(connection, snapshot)
    if schema < FIRST_SCHEMA:
        return StateCounts()
    condition, values = of_sessions(selection, schema)
    given = bounds(moment, open_for)
    is_older = schema < FIRST_COUNTED_SCHEMA
    if not is_older:
        given += selection.when.ids()
    [(opened, abandoned, short, at_most)] = read(
        connection,
        snapshot.path,
        _COUNT.format(_UNSETTLED_OF_OLDER if is_older else _UNSETTLED) + condition,
        [*given, *values],
        row=tuple[int, int, int, Decimal | None],
    )
    return StateCounts(
        open_sessions=opened,
        abandoned_sessions=abandoned,
        short_sessions=short,
        short_at_most=at_most,
    )


def look_at(
    connection: Connection,
    snapshot: Snapshot,
    selection: Selection,
    moment: datetime | None,
    open_for: timedelta,
) -> tuple[str, list[object]]:
    """Find out the state of each session of a selection; return the FROM and WHERE that has it, and parameters.

    What is settled is read as it is; what is not has to be worked out, once for all that is asked of it. The
    columns are those of the view `completeness`.
    """
    schema = schema_of(connection, snapshot)
    given = bounds(moment, open_for)
    if schema < FIRST_COUNTED_SCHEMA:
        read(connection, snapshot.path, _LOOK_AT_ALL, given, row=tuple[int])
        condition, values = of_sessions(selection, schema)
        return f"FROM audited{condition}", values
    pending = [*given, *selection.when.ids()]
    read(connection, snapshot.path, _LOOK_AT_PENDING, pending, row=tuple[int])
    condition, values = of_sessions(selection, schema)
    if of_a_session(selection.named) and selection.conditions:
        condition, values = f" WHERE {' AND '.join(selection.conditions)}", selection.parameters
    return f"FROM {_WITH_SETTLED}{condition}", list(values)


def schema_of(connection: Connection, snapshot: Snapshot) -> int:
    """Return the version of the schema that a snapshot was written with."""
    if snapshot.schema is not None:
        return snapshot.schema
    [(schema,)] = read(connection, snapshot.path, _SCHEMA, row=tuple[int])
    return schema


def corrects_months(connection: Connection, snapshot: Snapshot, schema: int) -> bool:
    """Return whether any row of a ledger corrects a month that was closed."""
    if schema < FIRST_COUNTED_SCHEMA:
        return False
    if _CORRECTS not in snapshot.known:
        [(corrects,)] = read(connection, snapshot.path, _CORRECTS, row=tuple[bool])
        snapshot.known[_CORRECTS] = corrects
    return snapshot.known[_CORRECTS]


def of_sessions(selection: Selection, schema: int) -> tuple[str, list[object]]:
    """Return the WHERE that keeps the sessions of a selection, and its parameters."""
    if not selection.conditions:
        return "", []
    if not selection.named:  # of a period: that is in its id
        return f" WHERE {' AND '.join(selection.conditions)}", list(selection.parameters)
    if schema >= FIRST_UNPRICED_SCHEMA:
        known = f"(coalesce(project, ''), session_id) IN ({known_sessions(selection, schema)})"
    else:
        which = " AND ".join(selection.conditions)
        known = f"session_id IN ({_KNOWN_OF_OLDER} WHERE {which})"
    return f" WHERE {known}", list(selection.parameters)


def known_sessions(selection: Selection, schema: int) -> str:
    """Return the SELECT of project (empty: unknown) and id of the sessions of a selection.

    One may be in it several times; a row of no session has no id. Its parameters are the selection's. A ledger
    before schema 5 cannot be asked so.
    """
    is_of_sessions = schema >= FIRST_FOLDED_SCHEMA and of_a_session(selection.named)
    turn = "turn" if Group.TURN in selection.named else "NULL"
    usage = _OF_USAGE.format(rows=selection.relation(schema), turn=turn)
    usage = "" if is_of_sessions else usage
    which = " AND ".join(selection.conditions) or "TRUE"
    return _KNOWN.format(known=usage + _OF_SESSIONS, which=which)


def each_session(selection: Selection, schema: int) -> str:
    """Return the SELECT of the same, each once: those of a period, or all, are settled or pending.

    A ledger before schema 11 cannot be asked so.
    """
    if not selection.named:
        return _ALL.format(which=" AND ".join(selection.conditions) or "TRUE")
    known = known_sessions(selection, schema)
    return f"SELECT DISTINCT project, session_id FROM ({known}) WHERE session_id IS NOT NULL"  # noqa: S608 - our own names


def count_unused(connection: Connection, snapshot: Snapshot, selection: Selection) -> int:
    """Return of how many sessions of a selection nothing was booked, by columns that sessions have."""
    schema = schema_of(connection, snapshot)
    if schema < FIRST_COUNTED_SCHEMA or not of_a_session(selection.named):
        return 0
    statement = _UNUSED.format(known=known_sessions(selection, schema))
    [(count,)] = read(connection, snapshot.path, statement, selection.parameters, row=tuple[int])
    return count


def bounds(moment: datetime | None, open_for: timedelta = OPEN_FOR) -> list[object]:
    """Return the parameters of `unsettled_sessions` and `completeness_at`."""
    return [(moment or BEFORE_ALL).replace(tzinfo=None), open_for]
