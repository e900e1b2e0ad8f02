"""What is done to the books on purpose: recorded, done in slices, and taken up again after a death.

An operation has a row in `operation_records`, and its number is on every row that it books. What concerns one
session or none is done in the transaction that records it. What concerns many is recorded first, and
done some sessions at a time in the order of their ids: which ones are done, its own rows say. One long
operation is under way at a time; a person may stop it, and have it go on. Between two of its slices
adjustments and voids are done.
"""

from __future__ import annotations

import time
from collections import deque
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from voicecosts.consumer.booking.difference import Booking, Refusal, money_text, session_time
from voicecosts.consumer.booking.erased import Erased, Erasure, digest
from voicecosts.consumer.booking.months import Months, first_of, not_ended
from voicecosts.consumer.booking.operations import (
    Acknowledge,
    Adjust,
    Close,
    Erase,
    Operation,
    Redacted,
    Rerate,
    Retain,
    Revert,
    Void,
    Work,
    in_force,
    origin_of,
    say_numbers,
    undone_by,
    work_of,
)
from voicecosts.consumer.booking.repricing import repriced
from voicecosts.consumer.booking.rerating import COLUMNS, rerated, scope_of
from voicecosts.consumer.booking.rerating import origin_of as origin_of_row
from voicecosts.consumer.booking.sessions import SessionKey
from voicecosts.consumer.booking.standing import books_of, standing
from voicecosts.consumer.booking.whole_calls import charges, is_charged, time_first
from voicecosts.consumer.pricing import Terms
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.folding import unsettle
from voicecosts.consumer.store.load import load_reported, load_repriced, load_sessions
from voicecosts.consumer.store.write import write_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import duckdb

    from voicecosts.consumer.booking.prices import PricesUsed
    from voicecosts.consumer.booking.sessions import SessionState
    from voicecosts.consumer.pricing import Rate, Scope
    from voicecosts.consumer.store.places import Places
    from voicecosts.producer.events import Meter

SLICE_SESSIONS: Final = 100
"""Sessions of the first transaction. The next ones are larger, up to `MOST_SESSIONS`, while one takes
less than half of `SLICE_S`."""

MOST_SESSIONS: Final = 2_000

SLICE_S: Final = 0.25
"""How long a transaction ought to take: the messages, and whoever asks for something, wait no longer."""

_FIRST_ID: Final = "00000000-0000-0000-0000-000000000000"
_LAST_ID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"
_LIMIT: Final = Decimal(1_000_000_000)
_NANO: Final = Decimal("0.000000001")


class Now(Struct, frozen=True):
    """When an operation works, and by which prices."""

    us: int
    today: date
    rate: Rate


class Progress(Struct, frozen=True):
    """How far a long operation is: sessions done and in all since this ledger took it up, and seconds left."""

    done: int
    of: int
    left_s: int | None


class Slice(Struct, frozen=True):
    """What one transaction did: the sessions whose meters changed, and how many meters could not be.

    One that wrote no row has left nothing in the files.
    """

    operation: int
    touched: Sequence[SessionKey] = ()
    left: int = 0
    left_why: str = ""
    has_written: bool = True


class Booked(Struct, frozen=True):
    """What was written of some rows: any at all, how many meters could not be booked, and why, of one."""

    has_written: bool
    left: int
    left_why: str


class Operations:
    """The operations of one ledger. Every method that writes is a transaction of its own."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        prices: PricesUsed,
        places: Places,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._prices = prices
        self._places = places
        self._clock_s = clock_s
        rows = connection.execute(sql.LOAD_OPERATIONS).fetchall()
        self._known = {row[0]: _operation(*row) for row in rows}
        self.erased = self._erasures()
        self.closed = frozenset(row[0] for row in connection.execute(sql.LOAD_CLOSED).fetchall())
        self._waiting: deque[SessionKey] | None = None
        self._of = self._size = 0  # sessions of what is under way: in all, and of the next slice
        self._began = clock_s()
        self.lost = 0  # the highest number of an operation that a restored ledger lacks
        self.is_lost_told = True  # whether an answer could say so

    def __repr__(self) -> str:
        return f"<Operations: {len(self._known)}, under way: {self.pending}>"

    @property
    def last(self) -> int:
        """The number of the newest operation, 0 without any."""
        return max(self._known, default=0)

    @property
    def pending(self) -> Operation | None:
        """The operation that is under way."""
        return next((each for each in self._known.values() if each.is_under_way), None)

    @property
    def acknowledged(self) -> int:
        """Up to which number operations that a restored ledger lacks are given up or done again."""
        works = (self._known[number].work for number in in_force(self._known))
        return max((it.upto for it in works if isinstance(it, Acknowledge)), default=0)

    @property
    def retain(self) -> Retain:
        """How long detail is kept: as the newest operation in force says that says so."""
        works = [self._known[number].work for number in sorted(in_force(self._known))]
        return next((it for it in reversed(works) if isinstance(it, Retain)), Retain())

    @property
    def progress(self) -> Progress | None:
        """How far the operation that is under way is; None before its first slice."""
        if self._waiting is None:
            return None
        done = self._of - len(self._waiting)
        took = self._clock_s() - self._began
        left_s = round(took / done * len(self._waiting)) if done else None
        return Progress(done, self._of, left_s)

    @property
    def all(self) -> list[Operation]:
        """Every operation, the oldest first."""
        return [self._known[number] for number in sorted(self._known)]

    def rewrite(self, operations: Sequence[Operation], *, is_begun: bool = False) -> None:
        """Replace what is recorded of some operations, in the transaction that was begun or in one of its own."""
        if not is_begun:
            self._connection.begin()
        for operation in operations:
            self._replace(operation)
        self._connection.commit()
        self._known |= {operation.number: operation for operation in operations}

    def _erasures(self) -> Erased:
        """Return the erasures that are in force."""
        rows = self._connection.execute(sql.LOAD_ERASURES).fetchall()
        numbers = in_force(self._known)
        return Erased(Erasure(*row) for row in rows if row[0] in numbers)

    def get(self, number: int) -> Operation | None:
        """Return an operation by its number."""
        return self._known.get(number)

    def made_by(self, asked: str) -> Operation | None:
        """Return the operation that a request made; one without an id made none."""
        return next((it for it in self._known.values() if asked and it.asked == asked), None)

    def problem(self, work: Work, today: date) -> str | None:
        """Return why something cannot be done now; None if it can."""
        pending = self.pending
        if pending is not None and self._waits(work):
            is_stoppable = not isinstance(pending.work, Erase)
            stop = f", or stop it: `costs operations stop {pending.number}`" if is_stoppable else ""
            return f"{self._say(pending)}. Try again then{stop}"
        return self.obstacle(work, today)

    def obstacle(self, work: Work, today: date) -> str | None:
        """Return why something cannot be done, whatever else is under way; None if it can."""
        problem: str | None = None
        match work:
            case Revert():
                problem = self._problem_of_revert(work, today)
            case Close():
                problem = self._problem_of_close(work.month, today)
            case Void():
                problem = self._problem_of_void(work)
            case Adjust():
                problem = _problem_of_amount(work.amount) or self._problem_of_name(work)
            case Erase():
                problem = self._problem_of_erasure()
            case Rerate():
                problem = _problem_of_columns(work)
            case Acknowledge() if not self.is_lost_told:
                problem = (
                    f"it was found just now that these books lack operations up to {self.lost}: `costs "
                    "operations list` shows those that are there. Do again what is needed, then acknowledge"
                )
            case Acknowledge() if self.lost <= self.acknowledged:
                problem = "these books lack no operation that is not acknowledged"
        return problem

    def _waits(self, work: Work) -> bool:
        """Return whether something cannot be done between two slices of what is under way.

        A second long operation would do the same sessions; and a month is not closed while its figures
        are partly those before and partly those after.
        """
        if self.pending is not None and isinstance(self.pending.work, Erase):
            return True
        if isinstance(work, Revert):
            if work.operation not in self._known:
                return False
            if work.operation == getattr(self.pending, "number", None):
                return True
            work = origin_of(self._known, work.operation).work
        return isinstance(work, Rerate | Close | Erase)

    def _say(self, pending: Operation) -> str:
        said = f"operation {pending.number} ({pending.work.kind}) is under way"
        progress = self.progress
        if progress is None:
            return said
        said += f": {progress.done:,} of {progress.of:,} calls are done"
        return (
            said
            if progress.left_s is None
            else f"{said}, the rest takes some {progress.left_s:,} s"
        )

    def _say_erasing(self, operation: Operation) -> str:
        """Say of an erasure that has not ended why it is not stopped."""
        number = operation.number
        if operation.is_under_way:
            return (
                f"operation {number} is an erasure, and is not stopped: what it took out does not come back, and `costs "
                f"operations resume {number}`, or a ledger that runs, goes on with it"
            )
        return (
            f"operation {number} is an erasure, and stopped already: `costs operations resume {number}` goes on with it, "
            "and what it took out does not come back"
        )

    def halt(self, number: int, now: Now, *, goes_on: bool) -> str | None:
        """Stop a long operation, or have it go on; return why that cannot be done, None where it is.

        What was done of it stays booked, and in force.
        """
        operation = self._known.get(number)
        if operation is None:
            return self._problem_of_number(number)
        if operation.ended_us is not None:
            undoes = (
                "ends its refusal of what comes later, and brings nothing back"
                if isinstance(operation.work, Erase)
                else "undoes it"
            )
            return f"operation {number} has ended: `costs operations revert {number} --reason …` {undoes}"
        if isinstance(operation.work, Erase) and not goes_on:
            return self._say_erasing(operation)
        if goes_on and (pending := self.pending) is not None:
            return f"{self._say(pending)}. Try again then"
        halted = replace(operation, stopped_us=None if goes_on else now.us)
        self._connection.begin()
        self._replace(halted)
        # 1. It is on disk whether the next ledger goes on with it.
        self._connection.commit()
        self._known[number] = halted
        self._waiting = None
        return None

    def begin(
        self,
        work: Work,
        *,
        reason: str,
        source: str,
        now: Now,
        prices: str | None = None,
        asked: str = "",
    ) -> Slice:
        """Record an operation, and do it where it is small; else `step` does it.

        `prices` is the text of the own prices that a re-rating works by, and `asked` the id of the request.
        """
        if isinstance(work, Acknowledge):
            work = Acknowledge(upto=self.lost)
        number = max(self.last, self.lost) + 1
        operation = Operation(
            number=number,
            work=work,
            started_us=now.us,
            ended_us=None,
            reason=reason,
            source=source,
            prices=prices if isinstance(work, Rerate) else None,
            asked=asked,
        )
        known = {**self._known, number: operation}
        origin = origin_of(known, number)
        if isinstance(origin.work, Rerate) or isinstance(work, Erase):
            # 1. Recorded. If we die after this, the next ledger does it.
            self._connection.begin()
            self._write(operation)
            known |= self._given_up(work, now)
            if isinstance(work, Erase):
                _note_erasure(self._connection, number, work)
            self._connection.commit()
            self._known = known
            self.erased = self._erasures()
            return Slice(number)
        is_on = origin.number in in_force(known)
        closed = self.closed
        touched: tuple[SessionKey, ...] = ()
        booked = Booked(has_written=True, left=0, left_why="")
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
                unsettle(self._connection, touched)
                booked = self._restate(touched, operation, {**known, number: ended}, now)
                ended = replace(ended, left=booked.left, left_why=booked.left_why)
        self._write(ended)
        self._connection.commit()
        # 2. Memory takes over what is on disk.
        self._known = {**known, number: ended}
        self.closed = closed
        self.erased = self._erasures()
        return Slice(number, touched, booked.left, booked.left_why)

    def step(self, now: Now) -> Slice | None:
        """Do some more of what is under way, in one transaction; None where nothing is."""
        operation = self.pending
        if operation is None:
            return None
        began = self._clock_s()
        if self._waiting is None:
            self._waiting = deque(self._sessions(operation))
            self._of, self._size, self._began = len(self._waiting), SLICE_SESSIONS, began
        keys = [self._waiting.popleft() for _ in range(min(self._size, len(self._waiting)))]
        # Sessions of one id stay together: the rows say up to which id it is done.
        while self._waiting and keys and self._waiting[0].session_id == keys[-1].session_id:
            keys.append(self._waiting.popleft())
        self._connection.begin()
        if keys:
            unsettle(self._connection, keys)
        if isinstance(operation.work, Rerate):
            booked = self._rerate(operation.work, keys, operation, now)
        else:
            booked = self._restate(keys, operation, self._known, now)
        is_done = not self._waiting
        if is_done or booked.left:
            operation = replace(
                operation,
                ended_us=now.us if is_done else None,
                left=operation.left + booked.left,
                left_why=operation.left_why or booked.left_why,
            )
            self._replace(operation)
        # 1. Some sessions whole. If we die, the next ledger goes on behind the last one with a row.
        self._connection.commit()
        self._known[operation.number] = operation
        if is_done:
            self._waiting = None
        took = self._clock_s() - began
        if 2 * took < SLICE_S:
            self._size = min(self._size * 2, MOST_SESSIONS)
        elif took > SLICE_S:
            self._size = max(self._size // 2, 1)
        has_written = booked.has_written or is_done or bool(booked.left)
        return Slice(operation.number, keys, booked.left, booked.left_why, has_written)

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
    ) -> Booked:
        sessions = load_sessions(self._connection, keys, self._prices)
        found = rerated(
            work,
            sessions,
            now.rate,
            operation=operation.number,
            now_us=now.us,
            prices=self._prices,
            months=Months(self.closed, now.today),
            decided=load_repriced(self._connection, keys) if self._has_decided(operation) else (),
        )
        return self._book([each.row for each in found], now)

    def _restate(
        self,
        keys: Sequence[SessionKey],
        operation: Operation,
        known: dict[int, Operation],
        now: Now,
    ) -> Booked:
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
            scope = scope_of(session.identity, session)
            has_time = False
            books = books_of(reported[key], rerates=rerates, prices=self._prices)
            for meter in time_first(session.meters):
                stands = standing(
                    meter,
                    reported[key][meter],
                    rerates=rerates,
                    is_voided=bool(session.voided),
                    prices=self._prices,
                    is_charged=has_time,
                    books=books,
                    bills=partial(_bills, now.rate, session, meter, scope),
                )
                found = repriced(
                    meter,
                    session.meters[meter],
                    stands.rated,
                    origin=origin,
                    prices=self._prices,
                    months=months,
                    totals=stands.totals,
                    reported_cost=stands.reported_cost,
                )
                rows.append(found[0] if isinstance(found, tuple) else found)
                if isinstance(found, Refusal):  # it stays as it is
                    has_time |= is_charged({meter: session.meters[meter]})
                else:
                    has_amount = stands.rated.billed is not None
                    has_time |= charges(meter, stands.rated.terms, has_amount=has_amount)
        return self._book(rows, now)

    def _book(self, rows: Sequence[Booking | Refusal | None], now: Now) -> Booked:
        """Insert the rows that can be booked."""
        good = [row for row in rows if isinstance(row, Booking)]
        prices = self._prices.take_new()
        write_rows(self._connection, good, prices, self._places, now.us)
        refused = [row.detail for row in rows if isinstance(row, Refusal)]
        return Booked(bool(good or prices), len(refused), refused[0] if refused else "")

    def _given_up(self, work: Work, now: Now) -> dict[int, Operation]:
        """End what was stopped and is reverted now: the rest of it is never done."""
        stopped = self._known.get(work.operation) if isinstance(work, Revert) else None
        if stopped is None or stopped.ended_us is not None:
            return {}
        ended = replace(stopped, ended_us=now.us)
        self._replace(ended)
        return {ended.number: ended}

    def _has_decided(self, operation: Operation) -> bool:
        """Return whether another operation can have decided the price of a meter."""
        return any(
            isinstance(it.work, Rerate | Void) for it in self._known.values() if it is not operation
        )

    def _adjust(self, work: Adjust, number: int, now: Now, *, is_on: bool) -> None:
        amount = money_text(work.amount if is_on else -work.amount)
        one = 1 if is_on else -1
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
                "cost": amount if work.layer == "cost" else "0",
                "list_cost": amount if work.layer == "list" else None,
                "billed": amount if work.layer == "billed" else None,
                # It counts as one meter does in the layer that it is of.
                "priced": one if work.layer == "cost" else 0,
                "listed": one if work.layer == "list" else 0,
                "of_billed": one if work.layer == "billed" else 0,
                "day": day or work.day,
                "corrects": corrects,
                "number": number,
                "place": self._places.take(1) + 1,
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

    def _replace(self, operation: Operation) -> None:
        self._connection.execute(sql.REMOVE_OPERATION, {"number": operation.number})
        self._write(operation)

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
                "asked": operation.asked or None,
                "stopped": operation.stopped_us,
                "left": operation.left,
                "left_why": operation.left_why or None,
            },
        )

    def _problem_of_revert(self, work: Revert, today: date) -> str | None:
        if work.operation not in self._known:
            return self._problem_of_number(work.operation)
        other = undone_by(self._known, work.operation)
        if other is not None:
            return (
                f"operation {work.operation} was reverted by operation {other}: revert {other} to do "
                "it again"
            )
        origin = origin_of(self._known, work.operation)
        if isinstance(origin.work, Redacted):
            return (
                f"operation {origin.number} was of a tenant that operation {origin.work.by} erased"
            )
        if isinstance(origin.work, Erase) and work.operation != origin.number:
            return "what may come again is not erased again: `costs erase`"
        if not isinstance(origin.work, Close):
            return None
        return self._problem_of_opening(origin.work.month, today)

    def _problem_of_name(self, work: Adjust) -> str | None:
        erasure = self.erased.by(work.project, work.tenant)
        if erasure is None:
            return None
        return f"that tenant was erased by operation {erasure}: adjust without a tenant"

    def _problem_of_erasure(self) -> str | None:
        stopped = next((it.number for it in self._known.values() if it.ended_us is None), None)
        if stopped is None:
            return None
        return f"operation {stopped} was stopped: first go on with it (`costs operations resume {stopped}`), or revert it"

    def _problem_of_number(self, number: int) -> str:
        return f"no operation has the number {number}: {say_numbers(self._known)}"

    def _problem_of_opening(self, month: date, today: date) -> str | None:
        if month not in self.closed:  # a revert of a close is undone: it is closed again
            return self._problem_of_close(month, today)
        if any(each > month for each in self.closed):
            return f"a month after {month:%Y-%m} is closed: months are opened from the last one"
        row = self._connection.execute(sql.IS_CORRECTED, {"month": month}).fetchone()
        if row is not None and row[0]:
            return (
                f"corrections of {month:%Y-%m} are booked in a later month: it stays closed, also where those are "
                "undone. What is wrong in it is corrected by `costs adjust`"
            )
        return None

    def _problem_of_close(self, month: date, today: date) -> str | None:
        if month != first_of(month):
            return f"{month} is not the first day of a month"
        if month in self.closed:
            return f"{month:%Y-%m} is closed already"
        if (problem := not_ended(month, today)) is not None:
            return problem
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


def _bills(rate: Rate, session: SessionState, meter: Meter, scope: Scope, book: str) -> Terms:
    """Return what bills a meter by the operator's prices of a name."""
    state, at = session.meters[meter], session_time(meter.session_id)
    found = rate(meter, state.totals, at, provider_raw=state.provider_raw, scope=scope, book=book)
    return found.terms or Terms(book=book)


def _note_erasure(connection: duckdb.DuckDBPyConnection, number: int, work: Erase) -> None:
    """Record in the open transaction by what a tenant is known from now on, and how much of it there is."""
    salt = uuid4().hex
    connection.execute(
        sql.NOTE_ERASURE,
        {
            "number": number,
            "project": work.project,
            "salt": salt,
            "digest": digest(salt, work.tenant),
        },
    )
    connection.execute(
        sql.NOTE_ERASED_DAYS, {"number": number, "tenant": work.tenant, "project": work.project}
    )


def _operation(  # noqa: PLR0917 - the columns of `operation_records`
    number: int,
    request: str,
    started_us: int,
    ended_us: int | None,
    reason: str,
    source: str,
    prices: str | None,
    asked: str,
    stopped_us: int | None,
    left: int,
    left_why: str,
) -> Operation:
    return Operation(
        number=number,
        work=work_of(request),
        started_us=started_us,
        ended_us=ended_us,
        reason=reason,
        source=source,
        prices=prices,
        asked=asked,
        stopped_us=stopped_us,
        left=left,
        left_why=left_why,
    )


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
        return f"an amount has nine digits after the point at most, and {amount} has more"
    if not amount:
        return "an amount of zero adjusts nothing"
    return None
