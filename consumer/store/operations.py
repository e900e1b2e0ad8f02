"""What is done to the books on purpose: recorded, done in slices, and taken up again after a death.

An operation has a row in `operation_records`, and its number is on every row that it books. What concerns one
session or none is done in the transaction that records it. What concerns many is recorded first, and
done some sessions at a time in the order of their ids: which ones are done, its own rows say. One
operation is under way at a time.
"""

from __future__ import annotations

from collections import deque
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from voicecosts.consumer.booking.difference import Booking, Refusal, money_text, session_time
from voicecosts.consumer.booking.months import Months, first_of, following
from voicecosts.consumer.booking.operations import (
    Adjust,
    Close,
    Operation,
    Rerate,
    Revert,
    Void,
    Work,
    in_force,
    origin_of,
    undone_by,
    work_of,
)
from voicecosts.consumer.booking.repricing import repriced
from voicecosts.consumer.booking.rerating import COLUMNS, rerated
from voicecosts.consumer.booking.rerating import origin_of as origin_of_row
from voicecosts.consumer.booking.sessions import SessionKey
from voicecosts.consumer.booking.standing import standing
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.load import load_reported, load_repriced, load_sessions
from voicecosts.consumer.store.write import write_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from voicecosts.consumer.booking.prices import PricesUsed
    from voicecosts.consumer.pricing import Rate

SLICE_SESSIONS: Final = 100
"""Sessions of one transaction: tens of milliseconds, so that the stream waits no longer than that."""

_FIRST_ID: Final = "00000000-0000-0000-0000-000000000000"
_LAST_ID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"
_LIMIT: Final = Decimal(1_000_000_000)
_NANO: Final = Decimal("0.000000001")


class Now(Struct, frozen=True):
    """When an operation works, and by which prices."""

    us: int
    today: date
    rate: Rate


class Slice(Struct, frozen=True):
    """What one transaction did: the sessions whose meters changed, and how many meters could not be.

    One that wrote no row has left nothing in the files.
    """

    operation: int
    touched: Sequence[SessionKey] = ()
    left: int = 0
    has_written: bool = True


class Operations:
    """The operations of one ledger. Every method that writes is a transaction of its own."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, prices: PricesUsed) -> None:
        self._connection = connection
        self._prices = prices
        self._known = {
            number: Operation(
                number=number,
                work=work_of(request),
                started_us=started,
                ended_us=ended,
                reason=reason,
                source=source,
                prices=prices,
            )
            for number, request, started, ended, reason, source, prices in connection.execute(
                sql.LOAD_OPERATIONS
            ).fetchall()
        }
        self.closed = frozenset(row[0] for row in connection.execute(sql.LOAD_CLOSED).fetchall())
        self._waiting: deque[SessionKey] | None = None
        self.lost = 0  # the highest number of an operation that a restored ledger lacks

    def __repr__(self) -> str:
        return f"<Operations: {len(self._known)}, under way: {self.pending}>"

    @property
    def last(self) -> int:
        """The number of the newest operation, 0 without any."""
        return max(self._known, default=0)

    @property
    def pending(self) -> Operation | None:
        """The operation that is under way."""
        return next((each for each in self._known.values() if each.ended_us is None), None)

    def get(self, number: int) -> Operation | None:
        """Return an operation by its number."""
        return self._known.get(number)

    def problem(self, work: Work, today: date) -> str | None:
        """Return why something cannot be done now; None if it can."""
        if (pending := self.pending) is not None:
            return f"operation {pending.number} ({pending.work.kind}) is under way: try again when it has ended"
        match work:
            case Revert():
                return self._problem_of_revert(work, today)
            case Close():
                return self._problem_of_close(work.month, today)
            case Void():
                return self._problem_of_void(work)
            case Adjust():
                return _problem_of_amount(work.amount)
            case Rerate():
                return _problem_of_columns(work)

    def begin(
        self, work: Work, *, reason: str, source: str, now: Now, prices: str | None = None
    ) -> Slice:
        """Record an operation, and do it where it is small; else `step` does it.

        `prices` is the text of the own prices that a re-rating works by.
        """
        number = max(self.last, self.lost) + 1
        operation = Operation(
            number=number,
            work=work,
            started_us=now.us,
            ended_us=None,
            reason=reason,
            source=source,
            prices=prices if isinstance(work, Rerate) else None,
        )
        known = {**self._known, number: operation}
        origin = origin_of(known, number)
        if isinstance(origin.work, Rerate):
            # 1. Recorded. If we die after this, the next ledger does it.
            self._connection.begin()
            self._write(operation)
            self._connection.commit()
            self._known = known
            return Slice(number)
        is_on = origin.number in in_force(known)
        closed = self.closed
        touched: tuple[SessionKey, ...] = ()
        left = 0
        ended = replace(operation, ended_us=now.us)
        # 1. All of it in one transaction. If we die, nothing was done, and nothing is recorded.
        self._connection.begin()
        match origin.work:
            case Adjust():
                self._adjust(origin.work, number, now, is_on=is_on)
            case Close():
                closed = self._close(origin.work.month, origin.number, is_on=is_on)
            case Void():
                touched = (SessionKey(origin.work.project, origin.work.session_id),)
                self._mark_voided(touched[0], origin.number, now.today, is_on=is_on)
                _, left = self._restate(touched, operation, {**known, number: ended}, now)
        self._write(ended)
        self._connection.commit()
        # 2. Memory takes over what is on disk.
        self._known = {**known, number: ended}
        self.closed = closed
        return Slice(number, touched, left)

    def step(self, now: Now) -> Slice | None:
        """Do some more of what is under way, in one transaction; None where nothing is."""
        operation = self.pending
        if operation is None:
            return None
        if self._waiting is None:
            self._waiting = deque(self._sessions(operation))
        keys = [self._waiting.popleft() for _ in range(min(SLICE_SESSIONS, len(self._waiting)))]
        # Sessions of one id stay together: the rows say up to which id it is done.
        while self._waiting and keys and self._waiting[0].session_id == keys[-1].session_id:
            keys.append(self._waiting.popleft())
        self._connection.begin()
        if isinstance(operation.work, Rerate):
            has_written, left = self._rerate(operation.work, keys, operation, now)
        else:
            has_written, left = self._restate(keys, operation, self._known, now)
        if not self._waiting:
            has_written = True
            operation = replace(operation, ended_us=now.us)
            self._connection.execute(sql.REMOVE_OPERATION, {"number": operation.number})
            self._write(operation)
        # 1. Some sessions whole. If we die, the next ledger goes on behind the last one with a row.
        self._connection.commit()
        self._known[operation.number] = operation
        if operation.ended_us is not None:
            self._waiting = None
        return Slice(operation.number, keys, left, has_written)

    def _sessions(self, operation: Operation) -> list[SessionKey]:
        """Return the sessions that are left to do, in the order of their ids."""
        row = self._connection.execute(
            sql.LAST_OF_OPERATION, {"number": operation.number}
        ).fetchone()
        after = (row[0] if row else None) or _FIRST_ID
        if isinstance(operation.work, Rerate):
            found = self._connection.execute(
                sql.FIND_RERATED, rerated_values(operation.work, after)
            )
        else:
            origin = origin_of(self._known, operation.number).number
            found = self._connection.execute(
                sql.SESSIONS_OF_OPERATION, {"origin": origin, "after": after}
            )
        return [SessionKey(*each) for each in found.fetchall()]

    def _rerate(
        self, work: Rerate, keys: Sequence[SessionKey], operation: Operation, now: Now
    ) -> tuple[bool, int]:
        sessions = load_sessions(self._connection, keys, self._prices)
        found = rerated(
            work,
            sessions,
            now.rate,
            operation=operation.number,
            now_us=now.us,
            prices=self._prices,
            months=Months(self.closed, now.today),
            decided=load_repriced(self._connection, keys),
        )
        return self._book([each.row for each in found], now)

    def _restate(
        self,
        keys: Sequence[SessionKey],
        operation: Operation,
        known: dict[int, Operation],
        now: Now,
    ) -> tuple[bool, int]:
        """Book of sessions what the operations in force say."""
        numbers = in_force(known)
        rerates = {number for number in numbers if isinstance(known[number].work, Rerate)}
        sessions = load_sessions(self._connection, keys, self._prices)
        reported = load_reported(self._connection, keys)
        months = Months(self.closed, now.today)
        rows: list[Booking | Refusal | None] = []
        for key, session in sessions.items():
            if session.identity is None:
                continue
            origin = origin_of_row(session.identity, operation.number, now.us)
            for meter, state in session.meters.items():
                stands = standing(
                    meter,
                    state,
                    reported[key][meter],
                    rerates=rerates,
                    is_voided=bool(session.voided),
                    prices=self._prices,
                )
                found = repriced(
                    meter,
                    state,
                    stands.rated,
                    origin=origin,
                    prices=self._prices,
                    months=months,
                    totals=stands.totals,
                    reported_cost=stands.reported_cost,
                )
                rows.append(found[0] if isinstance(found, tuple) else found)
        return self._book(rows, now)

    def _book(self, rows: Sequence[Booking | Refusal | None], now: Now) -> tuple[bool, int]:
        """Insert rows; return whether there are any, and how many meters have none that can be booked."""
        good = [row for row in rows if isinstance(row, Booking)]
        prices = self._prices.take_new()
        write_rows(self._connection, good, prices, now.us)
        return bool(good or prices), sum(isinstance(row, Refusal) for row in rows)

    def _adjust(self, work: Adjust, number: int, now: Now, *, is_on: bool) -> None:
        amount = money_text(work.amount if is_on else -work.amount)
        day, corrects = Months(self.closed, now.today).dated(work.day)
        self._connection.execute(
            sql.ADJUST,
            {
                "now": now.us,
                "project": work.project,
                "agent": work.agent,
                "tenant": work.tenant,
                "modality": work.modality,
                "provider": work.provider,
                "model": work.model,
                "cost": amount if work.layer == "cost" else None,
                "list_cost": amount if work.layer == "list" else None,
                "billed": amount if work.layer == "billed" else None,
                "day": day or work.day,
                "corrects": corrects,
                "number": number,
            },
        )

    def _close(self, month: date, number: int, *, is_on: bool) -> frozenset[date]:
        if is_on:
            self._connection.execute(sql.CLOSE_MONTH, {"month": month, "number": number})
            return self.closed | {month}
        self._connection.execute(sql.OPEN_MONTH, {"month": month})
        return self.closed - {month}

    def _mark_voided(self, key: SessionKey, number: int, today: date, *, is_on: bool) -> None:
        """Note that a session is voided, or that it is not any more.

        In a month that is closed a session stays counted or not counted, as it was.
        """
        named = {"project": key.project, "session_id": key.session_id}
        found = self._connection.execute(sql.LOAD_VOIDED).fetchall()
        was = any(row[3] for row in found if (row[0], row[1]) == tuple(key))
        months = Months(self.closed, today)
        is_open = months.dated(session_time(key.session_id).date())[1] is None
        self._connection.execute(sql.UNVOID_SESSION, named)
        uncounted = is_on if is_open else was
        if is_on or uncounted:
            self._connection.execute(
                sql.VOID_SESSION,
                {**named, "number": number if is_on else None, "uncounted": uncounted},
            )

    def _write(self, operation: Operation) -> None:
        self._connection.execute(
            sql.INSERT_OPERATION,
            {
                "number": operation.number,
                "kind": operation.work.kind,
                "started": operation.started_us,
                "ended": operation.ended_us,
                "request": msgspec.json.encode(operation.work).decode(),
                "reason": operation.reason,
                "source": operation.source,
                "reverts": operation.reverts,
                "prices": operation.prices,
            },
        )

    def _problem_of_revert(self, work: Revert, today: date) -> str | None:
        if work.operation not in self._known:
            there_are = f"they are 1 to {max(self._known)}" if self._known else "there is none"
            return f"no operation has the number {work.operation}: {there_are}"
        other = undone_by(self._known, work.operation)
        if other is not None:
            return (
                f"operation {work.operation} was reverted by operation {other}: revert {other} to do "
                "it again"
            )
        origin = origin_of(self._known, work.operation)
        if not isinstance(origin.work, Close):
            return None
        return self._problem_of_opening(origin.work.month, today)

    def _problem_of_opening(self, month: date, today: date) -> str | None:
        if month not in self.closed:  # a revert of a close is undone: it is closed again
            return self._problem_of_close(month, today)
        if any(each > month for each in self.closed):
            return f"a month after {month:%Y-%m} is closed: months are opened from the last one"
        row = self._connection.execute(sql.IS_CORRECTED, {"month": month}).fetchone()
        if row is not None and row[0]:
            return f"corrections of {month:%Y-%m} are booked in a later month: it stays closed"
        return None

    def _problem_of_close(self, month: date, today: date) -> str | None:
        if month != first_of(month):
            return f"{month} is not the first day of a month"
        if month in self.closed:
            return f"{month:%Y-%m} is closed already"
        if month > today:
            return f"{month:%Y-%m} has not begun"
        if today < following(month):
            return f"{month:%Y-%m} has not ended (UTC): it can be closed from {following(month)} on"
        found = self._connection.execute(sql.MONTHS_BEFORE, {"month": month}).fetchall()
        still_open = [row[0] for row in found if row[0] not in self.closed]
        if still_open:
            return (
                f"{still_open[0]:%Y-%m} is open and has rows: months are closed from the first one"
            )
        return None

    def _problem_of_void(self, work: Void) -> str | None:
        known = self._connection.execute(
            sql.FIND_SESSION, {"project": work.project, "session_id": work.session_id}
        ).fetchone()
        if known is None:
            return f"no session {work.session_id} of project {work.project!r} is booked"
        for project, session_id, operation, _ in self._connection.execute(
            sql.LOAD_VOIDED
        ).fetchall():
            if (project, session_id) == (work.project, work.session_id) and operation:
                return f"session {session_id} was voided by operation {operation}"
        return None


def _problem_of_columns(work: Rerate) -> str | None:
    unknown = sorted(work.where.keys() - set(COLUMNS))
    if not unknown:
        return None
    return f"a re-rating knows no column {', '.join(map(repr, unknown))}: use {', '.join(COLUMNS)}"


def rerated_values(work: Rerate, after: str = _FIRST_ID) -> dict[str, object]:
    """Return the values of `find_rerated.sql`: the sessions after an id that a re-rating is about."""
    where = {name: list(values) for name, values in work.where.items()}
    return {
        "after": after,
        "first": _FIRST_ID if work.since is None else _first_id(work.since),
        "until": _LAST_ID if work.until is None else _first_id(work.until),
        "projects": where.get("project", []),
        "agents": where.get("agent", []),
        "modalities": where.get("modality", []),
        "providers": where.get("provider", []),
        "models": where.get("model", []),
        "unpriced": work.unpriced,
    }


def _first_id(day: date) -> str:
    """Return the lowest id that a session of a day may have: a UUIDv7 begins with milliseconds."""
    milliseconds = (datetime.combine(day, datetime.min.time()) - datetime(1970, 1, 1)) // timedelta(  # noqa: DTZ001 - UTC
        milliseconds=1
    )
    text = f"{milliseconds:012x}"
    return f"{text[:8]}-{text[8:]}-0000-0000-000000000000"


def _problem_of_amount(amount: Decimal) -> str | None:
    if not amount.is_finite() or not abs(amount) < _LIMIT:
        return f"an amount of {amount} US dollars does not fit a row (below {_LIMIT})"
    if amount != amount.quantize(_NANO):
        return f"an amount has nine digits after the point at most, and {amount:f} has more"
    if not amount:
        return "an amount of zero adjusts nothing"
    return None
