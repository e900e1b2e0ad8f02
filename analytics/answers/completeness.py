"""What is missing from an answer, counted and in sentences: nothing missing may look like no cost.

Unpriced rows and the states of sessions are those of the question. Everything else (events that
could not be booked, what producers lost, what still waits) belongs to no tenant yet and is of the
whole ledger.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from msgspec import structs

from voicecosts.analytics.answers.losses import count_losses, say_losses
from voicecosts.analytics.answers.report import CURRENCY, Completeness, NotBooked, Row, Unpriced
from voicecosts.analytics.answers.states import BEFORE_ALL, count_states
from voicecosts.analytics.numbers import age, clock, counted, money
from voicecosts.analytics.snapshot.connection import read

if TYPE_CHECKING:
    from voicecosts.analytics.question.filters import Selection
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

_NAMED: Final = 3
"""How many unpriced models a sentence names."""

_SILENT: Final = timedelta(minutes=1)
"""A running ledger writes its status every second, so this long without one is worth a look."""

_AS_OF: Final = "SELECT as_of FROM ledger_state"

_HELD: Final = "SELECT min(occurred_at), max(occurred_at) FROM usage"


def completeness(
    connection: Connection,
    snapshot: Snapshot,
    selection: Selection,
    *,
    moment: datetime | None,
    not_booked: NotBooked | None,
) -> Completeness:
    """Return what is missing from the numbers of a selection, as of `moment`."""
    status = snapshot.status
    return Completeness(
        unpriced=_unpriced(connection, snapshot, selection),
        waiting_in_stream=status.waiting if status else None,
        waiting_in_outbox=not_booked.messages if not_booked else 0,
        running=status.running if status else None,
        **structs.asdict(count_losses(connection, snapshot)),
        **structs.asdict(count_states(connection, snapshot, selection, moment)),
    )


def as_of(connection: Connection, snapshot: Snapshot) -> datetime | None:
    """Return the moment the snapshot speaks of, or None when its ledger has received nothing.

    The ledger moves its status on while nothing happens, so the status wins while it speaks of this
    very snapshot; otherwise only what is in the file is certain.
    """
    if snapshot.as_of is not None:
        return snapshot.as_of
    found = read(connection, snapshot.path, _AS_OF, row=tuple[datetime])
    moment = found[0][0].replace(tzinfo=UTC) if found else BEFORE_ALL
    return moment if moment > BEFORE_ALL else None


def nothing_found(connection: Connection, snapshot: Snapshot) -> str:
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
    missing: Completeness, total: Row, snapshot: Snapshot, *, now: datetime
) -> tuple[str, ...]:
    """Return one plain sentence for everything that is missing from the numbers of a question."""
    unpriced = [_say_unpriced(missing, total)] if total.unpriced_rows else []
    return (*_say_states(missing), *unpriced, *losses(missing, snapshot, now=now))


def notes(missing: Completeness) -> tuple[str, ...]:
    """Return the sentence that calls are still running, when nothing worse has to be said of any."""
    if missing.open_sessions and not (missing.short_sessions or missing.abandoned_sessions):
        return (_say_open(missing.open_sessions),)
    return ()


def say_not_booked(left: NotBooked | None) -> tuple[str, ...]:
    """Return the sentence about what waits in the outbox of this host, if anything does."""
    if left is None:
        return ()
    what = counted(left.messages, "message") if left.messages else "what waits"
    return (f"not in these numbers: {what} in the outbox of this host ({left.why})",)


def losses(missing: Completeness, snapshot: Snapshot, *, now: datetime) -> tuple[str, ...]:
    """Return the sentences that speak of the whole ledger."""
    said = say_losses(missing)
    if missing.waiting_in_stream:
        said.append(f"not booked yet: {counted(missing.waiting_in_stream, 'message')}")
    return (*said, *_say_stopped(snapshot, now))


def _unpriced(
    connection: Connection, snapshot: Snapshot, selection: Selection
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


def _say_unpriced(missing: Completeness, total: Row) -> str:
    named = [
        f"{it.provider}/{it.model} {it.modality} ({it.reason}, {counted(it.rows, 'booking')})"
        for it in missing.unpriced[:_NAMED]
    ]
    others = len(missing.unpriced) - len(named)
    if others:
        named.append(f"{others:,} more")
    return (
        f"{counted(total.unpriced_rows, 'booking has', 'bookings have')} no price for some or all "
        f"of the usage, so the costs are too low: {', '.join(named)}"
    )


def _say_states(missing: Completeness) -> list[str]:
    """Return the sentence about calls that lack something, or may; none when calls are only open."""
    said = []
    if missing.short_sessions:
        lack = "how much is unknown"
        if missing.short_at_most is not None:
            lack = f"at most {money(missing.short_at_most)} {CURRENCY} missing"
        said.append(f"{counted(missing.short_sessions, 'call is', 'calls are')} short ({lack})")
    if missing.abandoned_sessions:
        ended = counted(missing.abandoned_sessions, "call was", "calls were")
        said.append(f"{ended} abandoned without an end")
    if not said:
        return []
    said += [_say_open(missing.open_sessions)] if missing.open_sessions else []
    return [f"the numbers may lack something: {', '.join(said)}; `costs audit` names them"]


def _say_open(count: int) -> str:
    return f"{counted(count, 'call is', 'calls are')} still running"


def _say_stopped(snapshot: Snapshot, now: datetime) -> list[str]:
    """Return the sentence about a ledger that does not run, or that was killed and cannot say so."""
    status = snapshot.status
    if status is None:
        return []
    if not status.running:
        if status.embedded:
            return []
        return ["the ledger is not running and books nothing new: start it with `costs up`"]
    if status.heard_at is not None and now - status.heard_at > _SILENT:
        silence = age(now - status.heard_at)
        return [f"the ledger has not reported for {silence}: check whether it still runs"]
    return []
