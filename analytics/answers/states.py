"""Which sessions of a question are open, abandoned or short, and the line that says so.

A report is of bookings, and what was never booked leaves no row to see; so the sessions are asked
whether they are whole. The view `completeness` defines the states; here nothing is judged again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from voicecosts.analytics.answers.report import CURRENCY
from voicecosts.analytics.numbers import counted, money
from voicecosts.analytics.snapshot.connection import read

if TYPE_CHECKING:
    import duckdb

    from voicecosts.analytics.question.filters import Selection
    from voicecosts.analytics.snapshot.files import Snapshot

OPEN_FOR: Final = timedelta(hours=1)
"""A session without an end is open until it has not been seen for so long."""

FIRST_SCHEMA: Final = 2
"""Ledgers before it noted too little to say whether a session is whole."""

_BEFORE_ALL: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SCHEMA: Final = "SELECT max(version) FROM schema_migrations"

# A session belongs to a period when anything of it happened then, even if nothing was booked. What
# is known of it without a booking has no model, no provider and no modality.
_HAPPENED: Final = """
SELECT session_id FROM (
    SELECT
        session_id, occurred_at, day, project, agent_id, agent_label, tenant, modality, provider,
        model
    FROM usage
    UNION ALL
    SELECT
        session_id, started_at, started_at::DATE, project, agent_id, NULL, tenant, NULL, NULL, NULL
    FROM session_starts
    UNION ALL
    SELECT
        session_id, ended_at, ended_at::DATE, project, agent_id, NULL, tenant, NULL, NULL, NULL
    FROM session_ends
    UNION ALL
    SELECT
        session_id, occurred_at, occurred_at::DATE, NULL, NULL, NULL, NULL, NULL, NULL, NULL
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
FROM unsettled_sessions(?, ?)
"""


class Unsettled(Struct, frozen=True, kw_only=True):
    """How many sessions may still change or lack something, and how much the short ones may lack."""

    open: int
    abandoned: int
    short: int
    short_at_most: Decimal | None


def unsettled(
    connection: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    selection: Selection,
    moment: datetime | None,
) -> Unsettled | None:
    """Return the counts as of `moment`; None when the snapshot is too old to say."""
    [(schema,)] = read(connection, snapshot.path, _SCHEMA, row=tuple[int])
    if schema < FIRST_SCHEMA:
        return None
    condition, values = of_sessions(selection)
    [(opened, abandoned, short, at_most)] = read(
        connection,
        snapshot.path,
        _COUNT + condition,
        [*bounds(moment), *values],
        row=tuple[int, int, int, Decimal | None],
    )
    return Unsettled(open=opened, abandoned=abandoned, short=short, short_at_most=at_most)


def of_sessions(selection: Selection) -> tuple[str, list[object]]:
    """Return the WHERE that keeps the sessions of a selection, and its parameters."""
    if not selection.conditions:
        return "", []
    which = " AND ".join(selection.conditions)
    return f" WHERE session_id IN ({_HAPPENED} WHERE {which})", list(selection.parameters)


def bounds(moment: datetime | None, open_for: timedelta = OPEN_FOR) -> list[object]:
    """Return the parameters of `unsettled_sessions` and `completeness_at`."""
    return [(moment or _BEFORE_ALL).replace(tzinfo=None), open_for]


def say(found: Unsettled) -> tuple[str, ...]:
    """Return the warning of sessions that lack something, or may; none when there are only open ones."""
    said = []
    if found.short:
        lack = "nobody can say how much" if found.short_at_most is None else _up_to(found)
        said.append(f"{counted(found.short, 'call is', 'calls are')} short ({lack})")
    if found.abandoned:
        ended = counted(found.abandoned, "call was", "calls were")
        said.append(f"{ended} abandoned without an end")
    if not said:
        return ()
    said += [_running(found)] if found.open else []
    return (f"the numbers may lack something: {', '.join(said)}; `costs audit` names them",)


def mention(found: Unsettled) -> tuple[str, ...]:
    """Return the note that calls are still running, when nothing worse has to be said."""
    alone = found.open and not (found.short or found.abandoned)
    return (_running(found),) if alone else ()


def _running(found: Unsettled) -> str:
    return f"{counted(found.open, 'call is', 'calls are')} still running"


def _up_to(found: Unsettled) -> str:
    return f"at most {money(found.short_at_most or Decimal(0))} {CURRENCY} missing"
