"""What was done to the books on purpose, as the newest snapshot has it."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from voicecosts.analytics.answers.losses import count_gaps
from voicecosts.analytics.answers.report import Unfinished
from voicecosts.analytics.answers.states import schema_of
from voicecosts.analytics.question.columns import MEASURES
from voicecosts.analytics.question.relation import (
    FIRST_LAYERS_SCHEMA,
    FIRST_STOPPING_SCHEMA,
    relation,
)
from voicecosts.analytics.snapshot.connection import closing, open_newest, read

if TYPE_CHECKING:
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

_LISTED: Final = """
SELECT
    operation, kind, started_at, ended_at, request::VARCHAR, reason, source, reverts, rows, sessions,
    list_cost, cost, billed, {}
FROM operations
ORDER BY operation
"""
_STOPPING: Final = "stopped_at, left_meters, left_why"
_NO_STOPPING: Final = "NULL, 0, NULL"  # of an older version
_UNFINISHED: Final = """
SELECT operation, kind, {} IS NOT NULL
FROM operations AS o
WHERE ended_at IS NULL
ORDER BY operation
"""
_NEWEST: Final = "SELECT coalesce(max(operation), 0) FROM operations"
_BY_TENANT: Final = """
SELECT tenant, sum(rows)::BIGINT, sum(list_cost), sum(cost), sum(billed)
FROM {rows}
WHERE operation = ?
GROUP BY tenant
ORDER BY abs(sum(cost)) DESC NULLS LAST, tenant
"""
_SESSIONS: Final = f"""
SELECT
    project, session_id::VARCHAR, agent_id, tenant,
    (SELECT {MEASURES["cost"]} FROM {{rows}} AS b WHERE b.project = s.project AND b.session_id = s.session_id)
FROM sessions AS s
WHERE starts_with(session_id::VARCHAR, ?) AND (project = ? OR ? = '')
ORDER BY session_id, project
LIMIT 10
"""  # noqa: S608 - our own names


_CORRECTED: Final = """
SELECT corrects, day, coalesce(sum(cost), 0), coalesce(sum(billed), 0)
FROM {rows}
WHERE operation = ? AND corrects IS NOT NULL
GROUP BY corrects, day
ORDER BY corrects, day
"""
_ENTERED: Final = "SELECT day, corrects FROM {rows} WHERE operation = ? LIMIT 1"
_KNOWN: Final = """
SELECT
    coalesce(list(DISTINCT project), []), coalesce(list(DISTINCT tenant) FILTER (tenant IS NOT NULL), []),
    coalesce(list(DISTINCT agent_id), []), coalesce(list(DISTINCT provider), []),
    coalesce(list(DISTINCT model), []), coalesce(list(DISTINCT modality), []),
    min(day) FILTER (operation IS NULL)
FROM {rows}
"""


class Done(Struct, frozen=True):
    """One operation and what it booked; without an end it is under way, or was stopped."""

    operation: int
    kind: str
    started_at: datetime
    ended_at: datetime | None
    request: str
    reason: str
    source: str
    reverts: int | None
    rows: int
    sessions: int
    list_cost: Decimal | None
    cost: Decimal | None
    billed: Decimal | None
    stopped_at: datetime | None = None
    left_meters: int = 0
    left_why: str | None = None


class OfTenant(Struct, frozen=True):
    """What an operation booked of one tenant."""

    tenant: str | None
    rows: int
    list_cost: Decimal | None
    cost: Decimal | None
    billed: Decimal | None


class Entered(Struct, frozen=True):
    """The day of the row of an adjustment, and the closed month that it corrects, if it does."""

    day: date
    corrects: date | None


class Corrected(Struct, frozen=True):
    """What an operation booked of a closed month, and the day in an open one on which it is dated."""

    month: date
    day: date
    cost: Decimal
    billed: Decimal


class Known(Struct, frozen=True):
    """The names that rows have, and the first day of them; None while there is no row."""

    project: list[str]
    tenant: list[str]
    agent: list[str]
    provider: list[str]
    model: list[str]
    modality: list[str]
    first: date | None


class Session(Struct, frozen=True):
    """A session that was asked for, and what all of its rows cost, whenever they came."""

    project: str
    session_id: str
    agent_id: str
    tenant: str | None
    cost: Decimal | None


def listed(data_dir: str | Path | None) -> list[Done]:
    """Return every operation, the oldest first."""
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        return _listed(connection, snapshot)


def by_tenant(data_dir: str | Path | None, operation: int) -> list[OfTenant]:
    """Return what an operation booked, by tenant."""
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        found = read(
            connection,
            snapshot.path,
            _BY_TENANT.format(rows=relation(schema_of(connection, snapshot))),
            [operation],
            row=tuple[str | None, int, Decimal | None, Decimal | None, Decimal | None],
        )
    return [OfTenant(*row) for row in found]


def after_snapshot(data_dir: str | Path | None) -> str | None:
    """Return the sentence about operations that the newest snapshot does not have yet, if there are any."""
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        lost = [
            gap.last or 0
            for gap in count_gaps(connection, snapshot) or ()
            if gap.why == "operations_lost"
        ]
        numbers = not_published(snapshot, max([newest(connection, snapshot), *lost]))
    return say_not_published(numbers, snapshot) if numbers else None


def corrected(data_dir: str | Path | None, operation: int) -> list[Corrected]:
    """Return what an operation booked of closed months, by month."""
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        statement = _CORRECTED.format(rows=relation(schema_of(connection, snapshot)))
        found = read(
            connection,
            snapshot.path,
            statement,
            [operation],
            row=tuple[date, date, Decimal, Decimal],
        )
    return [Corrected(*row) for row in found]


def entered(data_dir: str | Path | None, operation: int) -> Entered | None:
    """Return where an adjustment was booked; None while no snapshot has it."""
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        statement = _ENTERED.format(rows=relation(schema_of(connection, snapshot)))
        found = read(
            connection, snapshot.path, statement, [operation], row=tuple[date, date | None]
        )
    return Entered(*found[0]) if found else None


def known(data_dir: str | Path | None) -> Known:
    """Return the names that rows of the newest snapshot have."""
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        schema = schema_of(connection, snapshot)
        if schema < FIRST_LAYERS_SCHEMA:
            return Known([], [], [], [], [], [], None)
        [row] = read(
            connection,
            snapshot.path,
            _KNOWN.format(rows=relation(schema)),
            row=tuple[
                list[str], list[str], list[str], list[str], list[str], list[str], date | None
            ],
        )
    return Known(*row)


def sessions(data_dir: str | Path | None, begins: str, project: str) -> list[Session]:
    """Return the sessions whose id begins so, ten at most; of one project, if that is named."""
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        found = read(
            connection,
            snapshot.path,
            _SESSIONS.format(rows=relation(schema_of(connection, snapshot))),
            [begins.lower(), project, project],
            row=tuple[str, str, str, str | None, Decimal | None],
        )
    return [Session(*row) for row in found]


def unfinished(connection: Connection, snapshot: Snapshot) -> tuple[Unfinished, ...]:
    """Return the operations without an end."""
    if schema_of(connection, snapshot) < FIRST_LAYERS_SCHEMA:
        return ()
    known = schema_of(connection, snapshot) >= FIRST_STOPPING_SCHEMA
    statement = _UNFINISHED.format("stopped_at" if known else "NULL")
    found = read(connection, snapshot.path, statement, row=tuple[int, str, bool])
    return tuple(
        Unfinished(operation=number, kind=kind, is_stopped=is_stopped)
        for number, kind, is_stopped in found
    )


def newest(connection: Connection, snapshot: Snapshot) -> int:
    """Return the highest number of an operation, 0 without any."""
    if schema_of(connection, snapshot) < FIRST_LAYERS_SCHEMA:
        return 0
    [(number,)] = read(connection, snapshot.path, _NEWEST, row=tuple[int])
    return number


def not_published(snapshot: Snapshot, newest_one: int) -> range:
    """Return the numbers of operations that the ledger has recorded since it published a snapshot."""
    recorded = snapshot.status.operations if snapshot.status else 0
    return range(newest_one + 1, recorded + 1)


def say_not_published(numbers: range, snapshot: Snapshot) -> str:
    """Return the sentence about them: what is to be done where no ledger runs that will publish them."""
    runs = snapshot.status is not None and snapshot.status.running
    if len(numbers) == 1:
        said = f"operation {numbers[0]} was recorded after this snapshot, and is not in it"
    else:
        said = f"operations {numbers[0]} to {numbers[-1]} were recorded after this snapshot, and are not in it"
    cure = (
        "ask again" if runs else f"`costs operations resume {numbers[-1]}` goes on, and publishes"
    )
    return f"{said}: {cure}"


def _listed(connection: Connection, snapshot: Snapshot) -> list[Done]:
    if schema_of(connection, snapshot) < FIRST_LAYERS_SCHEMA:
        return []
    known = schema_of(connection, snapshot) >= FIRST_STOPPING_SCHEMA
    statement = _LISTED.format(_STOPPING if known else _NO_STOPPING)
    found = read(connection, snapshot.path, statement, row=tuple[object, ...])
    names = Done.__struct_fields__
    return [msgspec.convert(dict(zip(names, row, strict=True)), Done) for row in found]
