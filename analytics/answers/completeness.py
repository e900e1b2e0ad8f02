"""What a report leaves out, and how to say so: nothing missing may look like nothing spent.

Unpriced rows are counted among the rows that were asked for, sessions that are not whole among their
sessions. Everything else (events that could not be booked, what producers lost, what still waits)
belongs to no tenant yet and is told of the whole ledger.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from msgspec import structs

from voicecosts.analytics.answers.report import Completeness, Row, Unpriced
from voicecosts.analytics.numbers import age, clock, counted
from voicecosts.analytics.snapshot.connection import read

if TYPE_CHECKING:
    import duckdb

    from voicecosts.analytics.answers.states import Unsettled
    from voicecosts.analytics.question.filters import Selection
    from voicecosts.analytics.snapshot.files import Snapshot

_NAMED: Final = 3
"""How many unpriced models a sentence names."""

_SILENT: Final = timedelta(minutes=1)
"""A running ledger writes its status every second, even when nothing happens."""

_BEFORE_ALL: Final = datetime(1970, 1, 1, tzinfo=UTC)

_DEAD_LETTERS: Final = "SELECT count(*) FROM dead_letters"

# Not the view `losses`: older snapshots do not have it.
# Reports are running totals of one process each, so the last and largest one of each counts.
_LOST: Final = """
SELECT coalesce(sum(dropped), 0), coalesce(sum(unattributed), 0)
FROM (
    SELECT max(dropped) AS dropped, max(unattributed) AS unattributed
    FROM producer_reports
    GROUP BY producer_id
)
"""

_AS_OF: Final = "SELECT as_of FROM ledger_state"

_HELD: Final = "SELECT min(occurred_at), max(occurred_at) FROM usage"


def completeness(
    connection: duckdb.DuckDBPyConnection,
    snapshot: Snapshot,
    selection: Selection,
    found: Unsettled | None,
) -> Completeness:
    """Return what is missing from the numbers of a selection, whose sessions are `found`."""
    [(dead,)] = read(connection, snapshot.path, _DEAD_LETTERS, row=tuple[int])
    [(dropped, unattributed)] = read(connection, snapshot.path, _LOST, row=tuple[int, int])
    status = snapshot.status
    sessions = Completeness()
    if found is not None:
        sessions = Completeness(
            open_sessions=found.open,
            abandoned_sessions=found.abandoned,
            short_sessions=found.short,
            short_at_most=found.short_at_most,
        )
    return structs.replace(
        sessions,
        unpriced=_unpriced(connection, snapshot, selection),
        dead_letters=dead,
        dropped=dropped,
        unattributed=unattributed,
        waiting=status.waiting if status else None,
        running=status.running if status else None,
    )


def as_of(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> datetime | None:
    """Return the moment the snapshot speaks of, or None when its ledger has received nothing.

    The ledger moves its status on while nothing happens, so the status wins while it speaks of this
    very snapshot; otherwise only what is in the file is certain.
    """
    if snapshot.as_of is not None:
        return snapshot.as_of
    found = read(connection, snapshot.path, _AS_OF, row=tuple[datetime])
    moment = found[0][0].replace(tzinfo=UTC) if found else _BEFORE_ALL
    return moment if moment > _BEFORE_ALL else None


def nothing_found(connection: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> str:
    """Return the sentence for a question without any row: what there is instead, what to do."""
    [(first, last)] = read(
        connection, snapshot.path, _HELD, row=tuple[datetime | None, datetime | None]
    )
    if first is None or last is None:
        return (
            "the ledger holds no usage yet: attach a CostObserver to your agents, "
            "or run `costs demo` to see it filled"
        )
    return f"no usage matches: the ledger holds usage from {clock(first)} to {clock(last)}"


def warnings(
    report: Completeness, total: Row, snapshot: Snapshot, *, now: datetime
) -> tuple[str, ...]:
    """Return one plain sentence for everything that is missing from the numbers."""
    said = [_say_unpriced(report, total)] if total.unpriced_rows else []
    return (*said, *losses(report, snapshot, now=now))


def losses(report: Completeness, snapshot: Snapshot, *, now: datetime) -> tuple[str, ...]:
    """Return the sentences that speak of the whole ledger."""
    said = []
    if report.dead_letters:
        said.append(
            f"in no row: {counted(report.dead_letters, 'event')} that could not be booked, "
            "the table dead_letters says why"
        )
    if report.unattributed:
        said.append(
            f"in no row: {counted(report.unattributed, 'usage event')} of shared providers that "
            "no session could claim"
        )
    if report.dropped:
        said.append(
            f"dropped by full buffers: {counted(report.dropped, 'reading')}, "
            "made up for by later readings of the same sessions"
        )
    if report.waiting:
        said.append(f"waiting to be booked: {counted(report.waiting, 'message')}")
    return (*said, *_say_stopped(snapshot, now))


def _unpriced(
    connection: duckdb.DuckDBPyConnection, snapshot: Snapshot, selection: Selection
) -> tuple[Unpriced, ...]:
    columns = "modality, provider, model, unpriced_reason"
    statement = (
        f"SELECT {columns}, count(*) AS n {selection.sql('unpriced_reason IS NOT NULL')} "
        f"GROUP BY {columns} ORDER BY n DESC, {columns}"
    )
    found = read(
        connection,
        snapshot.path,
        statement,
        selection.parameters,
        row=tuple[str, str, str, str, int],
    )
    return tuple(
        Unpriced(modality=modality, provider=provider, model=model, reason=reason, rows=rows)
        for modality, provider, model, reason, rows in found
    )


def _say_unpriced(report: Completeness, total: Row) -> str:
    named = [
        f"{it.provider}/{it.model} {it.modality} ({it.reason}, {counted(it.rows, 'row')})"
        for it in report.unpriced[:_NAMED]
    ]
    others = len(report.unpriced) - len(named)
    if others:
        named.append(f"{others:,} more")
    return (
        f"{counted(total.unpriced_rows, 'booking is', 'bookings are')} not priced, or not all of it, "
        f"and the costs lack that: {', '.join(named)}"
    )


def _say_stopped(snapshot: Snapshot, now: datetime) -> list[str]:
    """Return what is wrong with a ledger that does not run, or that was killed and cannot say so."""
    status = snapshot.status
    if status is None:
        return []
    if not status.running:
        if status.embedded:
            return []
        return ["the ledger is not running, nothing new is booked: start it with `costs up`"]
    if status.heard_at is not None and now - status.heard_at > _SILENT:
        silence = age(now - status.heard_at)
        return [f"the ledger has said nothing for {silence}: see whether it still runs"]
    return []
