"""What the newest snapshot holds of a tenant that is to be erased, and what was erased of a period."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from voicecosts.analytics.answers.states import schema_of
from voicecosts.analytics.numbers import counted
from voicecosts.analytics.question.relation import (
    FIRST_FORGETTING_SCHEMA,
    FIRST_LAYERS_SCHEMA,
    relation,
)
from voicecosts.analytics.snapshot.connection import closing, open_newest, read

if TYPE_CHECKING:
    from voicecosts.analytics.question.times import Period
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

_HELD: Final = """
SELECT
    count(DISTINCT (project, session_id)) FILTER (session_id IS NOT NULL),
    coalesce(sum(rows), 0)::BIGINT,
    count(DISTINCT day),
    min(day),
    max(day)
FROM {rows}
WHERE tenant = ? AND (project = ? OR ?)
"""
_CLOSED: Final = """
SELECT DISTINCT strftime(month, '%Y-%m')
FROM closed_months
SEMI JOIN {rows} AS r ON date_trunc('month', r.day)::DATE = month
    AND r.tenant = ? AND (r.project = ? OR ?)
ORDER BY ALL
"""
_PROJECTS: Final = "SELECT DISTINCT project FROM {rows} WHERE tenant = ? ORDER BY project"
_SEALED: Final = "SELECT file FROM sealed_files"
_ERASED: Final = "SELECT operation, day, sessions, rows, is_closed FROM erased ORDER BY day"

_NAMED: Final = 5
"""Operations that an answer names by their numbers; more are counted."""


class Held(Struct, frozen=True):
    """Calls, rows and days of a tenant, the closed months among them, and all projects that have the tenant.

    `lacking` files of sealed days, of whomever, are not where they should be.
    """

    sessions: int
    rows: int
    days: int
    first: date | None
    last: date | None
    closed: tuple[str, ...]
    projects: tuple[str, ...]
    lacking: int


def held(data_dir: str | Path | None, tenant: str, project: str | None) -> Held:
    """Return what there is of a tenant."""
    asked = [tenant, project, project is None]
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        schema = schema_of(connection, snapshot)
        rows = relation(schema)
        [row] = read(
            connection,
            snapshot.path,
            _HELD.format(rows=rows),
            asked,
            row=tuple[int, int, int, date | None, date | None],
        )
        closed = (
            read(connection, snapshot.path, _CLOSED.format(rows=rows), asked, row=tuple[str])
            if schema >= FIRST_LAYERS_SCHEMA
            else []
        )
        statement = _PROJECTS.format(rows=rows)
        projects = read(connection, snapshot.path, statement, [tenant], row=tuple[str])
        files = (
            read(connection, snapshot.path, _SEALED, row=tuple[str])
            if schema >= FIRST_FORGETTING_SCHEMA
            else []
        )
    lacking = sum(not snapshot.path.parent.joinpath(file).exists() for (file,) in files)
    return Held(*row, tuple(it for (it,) in closed), tuple(it for (it,) in projects), lacking)


def say_erased(connection: Connection, snapshot: Snapshot, period: Period) -> Iterator[str]:
    """Yield what of a period was erased: no sum has it."""
    if schema_of(connection, snapshot) < FIRST_FORGETTING_SCHEMA:
        return
    found = [
        row
        for row in read(connection, snapshot.path, _ERASED, row=tuple[int, date, int, int, bool])
        if (period.since is None or row[1] >= period.since.date())
        and (period.until is None or datetime.combine(row[1], time(), UTC) < period.until)
    ]
    if not found:
        return
    numbers = sorted({row[0] for row in found})
    by = (
        f"operation{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"
        if len(numbers) <= _NAMED
        else f"{len(numbers)} operations (`costs operations`)"
    )
    calls, rows = sum(row[2] for row in found), sum(row[3] for row in found)
    closed = sorted({f"{row[1]:%Y-%m}" for row in found if row[4]})
    lacks = f"; {', '.join(closed)}, which is closed, lacks them" if closed else ""
    yield (
        f"in no sum: {counted(calls, 'call')} with {counted(rows, 'row')} of this time, of all tenants and agents, "
        f"erased by {by}{lacks}"
    )
