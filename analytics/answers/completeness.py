"""What is missing from an answer, counted and in sentences: nothing missing may look like no cost.

What has no price and the states of sessions are those of the question. Everything else (events that
could not be booked, what producers lost, what still waits) belongs to no tenant yet and is of the
whole ledger.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from msgspec import structs

from voicecosts.analytics.answers.findings import find, say_open
from voicecosts.analytics.answers.layers import say_uncharged, uncharged
from voicecosts.analytics.answers.losses import count_gaps, count_losses
from voicecosts.analytics.answers.operations import newest, unfinished
from voicecosts.analytics.answers.prices import say_unbilled, say_unpriced, unbilled, unpriced
from voicecosts.analytics.answers.report import Completeness, Outbox, Source
from voicecosts.analytics.answers.states import BEFORE_ALL, StateCounts, count_states, schema_of
from voicecosts.analytics.answers.unseen import say_unseen
from voicecosts.analytics.numbers import clock
from voicecosts.analytics.question.relation import relation
from voicecosts.analytics.snapshot.connection import beside, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from voicecosts.analytics.question.filters import Selection
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

_AS_OF: Final = "SELECT as_of FROM ledger_state"

_EMPTY: Final = (
    "the ledger holds no usage yet: attach a CostObserver to your agents. To see a filled one, "
    "run `costs demo --keep DIR` and `costs query --data-dir DIR`"
)
_HELD: Final = "SELECT min(first_at), max(last_at) FROM {rows} WHERE operation IS NULL"


@contextmanager
def meanwhile(
    connection: Connection,
    snapshot: Snapshot,
    selection: Selection,
    *,
    moment: datetime | None,
    outbox: Outbox | None,
) -> Iterator[Callable[[], Completeness]]:
    """Find out what is missing from a selection while the body runs; what is yielded waits for it.

    What takes longest, the states of its sessions, is found out beside the rest.
    """

    def count(other: Connection) -> StateCounts:
        return count_states(other, snapshot, selection, moment)

    with (
        beside(connection, snapshot, count) as states,
        but_states(connection, snapshot, selection, outbox=outbox) as lacking,
    ):
        yield lambda: lacking(states())


@contextmanager
def but_states(
    connection: Connection, snapshot: Snapshot, selection: Selection, *, outbox: Outbox | None
) -> Iterator[Callable[[StateCounts], Completeness]]:
    """Find out the same, but for the states of its sessions, which are to be given."""
    status = snapshot.status

    def work(other: Connection) -> Completeness:
        return Completeness(
            unpriced=unpriced(other, snapshot, selection),
            unbilled=unbilled(other, snapshot, selection),
            uncharged=uncharged(other, snapshot, selection),
            waiting_in_stream=status.waiting if status else None,
            waiting_in_outbox=_waiting(outbox),
            running=status.running and not status.for_a_moment if status else None,
            answered_at=status.answered_at if status else None,
            gaps=count_gaps(other, snapshot),
            unfinished=unfinished(other, snapshot),
            newest_operation=newest(other, snapshot),
            **structs.asdict(count_losses(other, snapshot)),
            **structs.asdict(StateCounts()),
        )

    with beside(connection, snapshot, work) as found:
        yield lambda states: structs.replace(found(), **structs.asdict(states))


def as_of(connection: Connection, snapshot: Snapshot) -> datetime | None:
    """Return the moment the snapshot speaks of, or None when its ledger has received nothing.

    The ledger moves its status on while nothing happens, so the status wins while it speaks of this
    very snapshot; otherwise only what is in the file is certain.
    """
    moment = snapshot.as_of
    if moment is None:
        found = read(connection, snapshot.path, _AS_OF, row=tuple[datetime])
        moment = found[0][0].replace(tzinfo=UTC) if found else BEFORE_ALL
    return moment if moment > BEFORE_ALL else None


def nothing_found(
    connection: Connection, snapshot: Snapshot, selection: Selection
) -> tuple[str, bool]:
    """Return the sentence for a question without any row: what there is instead, what to do.

    And whether it is so because a name in a condition is one that nothing has.
    """
    held = _HELD.format(rows=relation(schema_of(connection, snapshot)))
    [(first, last)] = read(
        connection, snapshot.path, held, row=tuple[datetime | None, datetime | None]
    )
    if first is None or last is None:
        return _EMPTY, False
    unseen = next(say_unseen(connection, snapshot, selection.wanted), None)
    if unseen is not None:
        return f"no usage matches: {unseen}", True
    held = f"the ledger holds usage from {clock(first)} to {clock(last)}"
    return f"no usage matches: {held}; ask for another period, or leave out a condition", False


def tell(
    missing: Completeness,
    snapshot: Snapshot,
    outbox: Outbox | None,
    *,
    moment: datetime | None,
    now: datetime,
    with_prices: bool = False,
) -> Completeness:
    """Return what is missing as of `moment` with its findings; those of prices for money."""
    found = list(find(missing, snapshot, outbox, moment=moment, now=now))
    if with_prices and missing.unpriced:
        found.append(say_unpriced(missing.unpriced))
    if with_prices and missing.unbilled:
        found.append(say_unbilled(missing.unbilled))
    if with_prices:
        found += say_uncharged(missing.uncharged)
    order = [Source.OUTBOX, Source.SESSIONS, Source.PRICES, Source.CONNECTED_TIME]
    found.sort(key=lambda it: order.index(it.source) if it.source in order else len(order))
    return structs.replace(missing, findings=tuple(found))


def notes(missing: Completeness) -> tuple[str, ...]:
    """Return the sentence that calls are still running, when nothing worse has to be said of any."""
    if missing.open_sessions and not (missing.short_sessions or missing.abandoned_sessions):
        return (say_open(missing.open_sessions),)
    return ()


def _waiting(outbox: Outbox | None) -> int | None:
    if outbox is None:
        return None
    left = 0 if outbox.not_booked is None else outbox.not_booked.messages
    return None if left is None or outbox.unsent is None else left + outbox.unsent
