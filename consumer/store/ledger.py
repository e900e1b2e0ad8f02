"""The ledger: it books messages in transactions and publishes snapshots of what is booked.

What was applied is on disk when `apply` returns, and applying it again changes nothing; so a
message is acked after `apply` and never before. One process writes, from one thread at a time.
"""

from __future__ import annotations

import contextlib
import logging
from contextlib import nullcontext
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import duckdb
from msgspec.structs import replace

from voicecosts.consumer.booking.active import CACHED_SESSIONS, PACKED_BYTES, ActiveSessions
from voicecosts.consumer.booking.decode import read, reader, set_aside
from voicecosts.consumer.booking.entries import MAX_METERS, Entries
from voicecosts.consumer.booking.letters import READ_AGAIN
from voicecosts.consumer.booking.message import WHOLE_MESSAGE, Applied, Reason
from voicecosts.consumer.booking.months import Months
from voicecosts.consumer.booking.operations import Erase
from voicecosts.consumer.booking.packing import pack
from voicecosts.consumer.booking.pieces import MAX_WEIGHT, Piece, divided, pieces, sessions_of
from voicecosts.consumer.booking.prices import PricesUsed
from voicecosts.consumer.booking.progress import Gap, Mark, Why, news, runs
from voicecosts.consumer.booking.sessions import SessionKey
from voicecosts.consumer.errors import (
    AnotherStream,
    LedgerClosed,
    LedgerMoved,
    OperationRefused,
    SnapshotFailed,
)
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.clock import Clock, Pacing, micros
from voicecosts.consumer.store.database import close, open_database, rewrite_open
from voicecosts.consumer.store.erasing import Erasing, SealedUnreadable
from voicecosts.consumer.store.faults import is_damage, translated
from voicecosts.consumer.store.folding import (
    LOG_BYTES,
    SETTLE_AFTER_US,
    Done,
    Folding,
    unsettle,
    unsettle_of,
)
from voicecosts.consumer.store.heartbeat import Heartbeat, RunBy, read_heartbeat
from voicecosts.consumer.store.lacking import Told
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.letters import (
    PURGED,
    REQUEUED,
    batches,
    find_open,
    look,
    mark,
    mark_unused_files,
    move_old,
    open_payloads,
    write_letters,
)
from voicecosts.consumer.store.load import load_sessions, load_settled, load_sizes
from voicecosts.consumer.store.older_copy import lacking_of_copy
from voicecosts.consumer.store.opening import (
    last_at_work_us,
    load_state,
    publish_first,
    take_lock,
)
from voicecosts.consumer.store.operations import Now, Operations, Slice
from voicecosts.consumer.store.overlap import Beside, Worked, Written
from voicecosts.consumer.store.payloads import MAX_BYTES
from voicecosts.consumer.store.places import Places
from voicecosts.consumer.store.removal import Removal
from voicecosts.consumer.store.requests import (
    Action,
    Check,
    Halt,
    Operate,
    Outcome,
    Request,
    Watch,
    answer_requests,
)
from voicecosts.consumer.store.retention import Retention
from voicecosts.consumer.store.sealing import Sealing, remove_unrecorded
from voicecosts.consumer.store.snapshots import PART_S, Snapshots
from voicecosts.consumer.store.streams import Noted, load_streams, write_streams
from voicecosts.consumer.store.write import write_entries, write_state

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from voicecosts.consumer.booking.message import Message
    from voicecosts.consumer.booking.operations import Operation, Work
    from voicecosts.consumer.booking.pieces import Read
    from voicecosts.consumer.booking.progress import Progress, Room, Seen
    from voicecosts.consumer.booking.sessions import SessionState
    from voicecosts.consumer.pricing import Rate
    from voicecosts.consumer.store.files import WriterLock
    from voicecosts.consumer.store.letters import Open
    from voicecosts.consumer.store.payloads import Payloads
    from voicecosts.consumer.store.price_file import PriceFile
    from voicecosts.consumer.store.requests import Asked
    from voicecosts.consumer.store.streams import Streams


LOADED_METERS: Final = 50_000
"""Meters of the sessions of one transaction, about: a reading of a call brings all of its meters, at 1 kB each."""

_FEW: Final = LOADED_METERS // MAX_METERS
"""So many sessions never have more."""

SEALING_S: Final = 1.0
"""How long days are sealed when a ledger is opened to book what waits: the next opening goes on."""

_log = logging.getLogger(__name__)


class _State(Enum):
    OPEN = auto()
    FAILED = auto()
    CLOSED = auto()


class Ledger:
    """The one writer of a data directory. Open it with `Ledger.open`, close it when done.

    What it keeps in memory is `_active`, which holds committed state only and changes in one
    place: after a commit. After a failed write only the file tells what was written, so the ledger
    takes no more work and must be opened again.
    """

    def __init__(
        self,
        *,
        layout: Layout,
        lock: WriterLock,
        connection: duckdb.DuckDBPyConnection,
        rate: Rate,
        snapshots: Snapshots,
        clock: Clock,
        active: ActiveSessions,
        sequence: int,
        streams: Streams,
        payloads: Payloads,
        prices: PricesUsed,
        own_prices: PriceFile | None,
        operations: Operations,
        places: Places,
        has_stream: bool,
        piece_weight: int,
    ) -> None:
        self._layout = layout
        self._lock = lock
        self._connection = connection
        self._rate = rate
        self._snapshots = snapshots
        self._clock = clock
        self._active = active
        self._sequence = sequence
        self._streams = streams
        self._payloads = payloads
        self._prices = prices
        self._own_prices = own_prices
        self._operations = operations
        self._places = places
        self._piece_weight = piece_weight
        self._ahead: dict[SessionKey, SessionState] = {}  # on disk, and not yet in `_active`
        self._folding = Folding(connection, places, self._packed)
        self._sealing = Sealing(connection, layout, self._folding, clock.ticks)
        self._removal = Removal(connection, layout, lambda: micros(clock.now()))
        self._retention = Retention(
            connection,
            layout,
            self._folding,
            self._removal,
            clock.ticks,
            last_us=last_at_work_us(layout, clock),
        )
        self._retention.follow(operations.retain)
        self._erasing = Erasing(
            connection,
            layout,
            operations=operations,
            payloads=payloads,
            removal=self._removal,
        )
        self.has_stream = has_stream
        self._kept: Progress | None = None
        self._begun: Progress | None = None
        self._state = _State.OPEN
        self._reason = ""  # why it takes no more work

    @classmethod
    def open(
        cls,
        data_dir: Path,
        rate: Rate,
        *,
        clock: Clock | None = None,
        pacing: Pacing | None = None,
        cached_sessions: int = CACHED_SESSIONS,
        cached_bytes: int = PACKED_BYTES,
        dead_letter_bytes: int = MAX_BYTES,
        piece_weight: int = MAX_WEIGHT,
        embedded: bool = False,
        has_source: bool = False,
        run_by: RunBy | None = None,
        new_stream: bool = False,
        own_prices: PriceFile | None = None,
        goes_on: bool = True,
    ) -> Self:
        """Open the ledger of `data_dir`, creating it if need be, and publish a snapshot.

        With `embedded` it is opened to book what waits and to be closed again: what changed is
        published when it is closed, and readers are told that no ledger has to run, unless it ever read
        a stream. An operation that is under way is then ended first, unless it must not go on. `run_by` is how it is run to read one; the streams of the two ways differ, so a change of
        it needs `new_stream`. `own_prices` is the file that `rate` looks prices up in. With
        `has_source` it claims to hold what was sent to it only up to the moment that `heard` names;
        without, it is taken to hold everything that it was given. Where no snapshot can be published now, that is a warning: booking goes on, and it is tried again.

        Raises:
            LedgerInUse: Another process has it open.
            AnotherStream: It was run in the other way, and `new_stream` is not set.
            LedgerNewer: A newer version wrote it; it was not touched.
            LedgerDamaged: The file cannot be read.
            LedgerMissing: Snapshots of a ledger are there, and the ledger is not.
            InvalidConfig: The directory cannot be used.
        """
        clock = clock or Clock()
        layout = Layout(data_dir)
        with contextlib.ExitStack() as undo:
            lock = take_lock(layout)
            undo.callback(lock.release)
            now_us = micros(clock.now())
            connection = open_database(layout, now_us)
            undo.callback(close, connection)
            sequence, number, until = load_state(connection, layout)
            with translated(layout.ledger):
                remove_unrecorded(connection, layout)
                streams = load_streams(connection)
                prices = PricesUsed(connection.execute(sql.LOAD_PRICES_USED).fetchall())
                places = Places(connection)
                operations = Operations(connection, prices, places, clock.ticks)
                payloads = open_payloads(connection, layout.dead_letters, dead_letter_bytes)
                move_old(connection, payloads, now_us)
            last = read_heartbeat(layout.heartbeat)
            before = last.run_by if last is not None else None
            is_booked = streams.progress.stream_us is not None or sequence > 0
            if (
                is_booked
                and run_by
                and before
                and before.command != run_by.command
                and not new_stream
            ):
                raise AnotherStream(layout.data_dir, before.command, run_by.command)
            if own_prices is not None:
                own_prices.start(layout.prices, clock.now(), last.prices if last else None)
            run_by = run_by or before
            has_stream = is_booked or run_by is not None
            snapshots = Snapshots(
                connection,
                layout,
                clock,
                pacing or Pacing(),
                number,
                embedded=embedded and not has_stream,
                for_a_moment=embedded and has_stream,
                told_until=until if has_source else None,
            )
            snapshots.trimmed_to = streams.trimmed_to
            snapshots.run_by = run_by
            operations.lost = max(
                (
                    each.gap.last or 0
                    for each in streams.gaps
                    if each.gap.why is Why.OPERATIONS_LOST
                ),
                default=0,
            )
            snapshots.operations = max(operations.last, operations.lost)
            snapshots.prices = own_prices.trouble if own_prices is not None else None
            ledger = cls(
                layout=layout,
                lock=lock,
                connection=connection,
                rate=rate,
                snapshots=snapshots,
                clock=clock,
                active=ActiveSessions(
                    prices, clock.ticks, sessions=cached_sessions, packed_bytes=cached_bytes
                ),
                sequence=sequence,
                streams=streams,
                payloads=payloads,
                prices=prices,
                own_prices=own_prices,
                operations=operations,
                places=places,
                has_stream=has_stream,
                piece_weight=piece_weight,
            )
            if embedded:
                snapshots.resume()
            ledger._note_restored(last, now_us)
            ledger._acknowledge(now_us)
            ledger._read_again()
            if embedded and goes_on:  # else it goes on between two groups of messages
                ledger.work_off()
            if not embedded:
                ledger._begun = streams.progress
                publish_first(snapshots, sequence)
            undo.pop_all()
        if not (embedded or snapshots.changed):
            ledger._kept = streams.progress
        return ledger

    @property
    def ledger_id(self) -> str:
        """Which ledger this is; a copy of its file has the same id."""
        return self._streams.ledger_id

    @property
    def progress(self) -> Progress:
        """How far the stream is booked."""
        return self._streams.progress

    @property
    def kept(self) -> Progress | None:
        """How far the stream is booked in the published snapshot; None while there is none."""
        exists = self._layout.snapshot(self._snapshots.number).exists()
        return self._kept if exists else None

    @property
    def booked_sequence(self) -> int:
        """The highest place in the stream that was ever applied; 0 in a new ledger."""
        return self._sequence

    @property
    def snapshot(self) -> int:
        """The number of the published snapshot."""
        return self._snapshots.number

    def apply(self, messages: Sequence[Message]) -> Applied:
        """Book `messages`; when this returns, they may be acked.

        They are booked in pieces of bounded size, each in a transaction. While one is written, the
        next is worked out from what the sessions will be after it. What was booked before an error
        is booked, and adds nothing when it comes again.

        Raises:
            LedgerWriteFailed: Not all are booked, so the messages must not be acked.
            LedgerClosed: A write failed before, or the ledger is closed.
        """
        self._require_open()
        applied = Applied(messages=0, events=0)
        before: Worked | None = None  # what is being written
        with translated(self._layout.ledger), Beside(self._connection) as beside:
            every = pieces(messages, max_weight=self._piece_weight)
            rest: Piece | None = None
            while True:
                worked: Worked | None = None
                try:
                    # 1. Nothing is written here, and nothing changes that is kept.
                    piece = next(every, None) if rest is None else rest
                    if piece is not None:
                        worked, rest = self._worked_out(piece, before, beside)
                finally:
                    # 2. The one before is on disk, and memory takes over what it says. If we die or
                    #    fail before that, it comes again, and everything after it.
                    if before is not None:
                        with self._stopping(rolls_back=False):
                            applied += self._taken_over(before, beside.written(), following=worked)
                # 3. In the background, if there is something that can be worked out meanwhile.
                if piece is None or worked is None:
                    return applied
                if piece.is_last and rest is None:
                    return applied + self._commit(worked)
                beside.write(partial(self._write_and_work, beside), worked)
                before = worked

    def refill(self, messages: Sequence[Message]) -> int:
        """Book again what was booked of some messages and is not in the books; return how many rows it is.

        What was noted of it and what was refused is in the books: that is not noted or refused once more.

        Raises what `apply` does.
        """
        self._require_open()
        with self._stopping(), translated(self._layout.ledger):
            lacking = Told(self._connection, self._streams.progress).lacking(messages)
        rows = 0
        rest: Piece | None = Piece([it.message for it in lacking], [(it, []) for it in lacking])
        while rest is not None:
            part, sessions, rest = self._loaded(rest)
            entries = self._entries(sessions)
            for delivery, _ in part.reads:
                if delivery is not None:
                    entries.add(delivery)
            entries.notes.clear()
            entries.dead_letters.clear()
            rows += self._commit(self._of(entries)).bookings
        return rows

    def set_aside(self, message: Message) -> Applied:
        """Keep a message as a dead letter without reading it: the ledger does not survive that.

        Raises:
            LedgerWriteFailed: It is not kept, so the message must not be acked.
            LedgerClosed: A write failed before, or the ledger is closed.
        """
        self._require_open()
        worked, _ = self._worked_out(Piece([message], [(None, [set_aside(message)])]))
        return self._commit(worked)

    def reconcile(self, seen: Seen) -> tuple[Gap, ...]:
        """Compare the books with the stream that is there, note what is missing, and return it.

        What is missing is published at once, so that no answer is called complete without it.

        Raises:
            LedgerWriteFailed: It could not be noted.
            LedgerClosed: A write failed before, or the ledger is closed.
        """
        self._require_open()
        now_us = micros(self._clock.now())
        progress, found = self._streams.progress.compared(seen)
        gaps = news(found, (each.gap for each in self._streams.gaps))
        noted = tuple(Noted(gap=gap, noted_us=now_us) for gap in gaps)
        is_same = progress.stream_us == self._streams.progress.stream_us
        self._note(
            replace(
                self._streams,
                progress=progress,
                trimmed_to=self._streams.trimmed_to if is_same else 0,
                gaps=(*self._streams.gaps, *noted),
            )
        )
        if gaps:
            self._snapshots.untold = True
            try:
                self.publish_snapshot()
            except SnapshotFailed as error:  # the heartbeat says meanwhile that it is not known
                _log.warning("%s", error)
        return gaps

    def trimmed(self, upto: int) -> None:
        """Note that the messages up to `upto`, which are booked, were removed from the stream."""
        self._require_open()
        self._note(replace(self._streams, trimmed_to=max(self._streams.trimmed_to, upto)))

    def note_ended(self, producers: Sequence[str]) -> None:
        """Note that the processes of these producers have ended, where a session of theirs has not.

        Raises:
            LedgerWriteFailed: It could not be noted.
            LedgerClosed: A write failed before, or the ledger is closed.
        """
        self._require_open()
        told = {"producers": list(producers), "noted_at": micros(self._clock.now())}
        with self._stopping(), translated(self._layout.ledger):
            self._connection.begin()
            row = self._connection.execute(sql.NOTE_ENDED_PRODUCERS, told).fetchone()
            self._snapshots.changed = self._snapshots.changed or row != (0,)
            self._connection.commit()

    def stream_room(self, room: Room) -> None:
        """Take in how full the stream is; the next heartbeat tells it."""
        self._snapshots.room = room

    def do(self, request: Request) -> Outcome:
        """Find dead letters, read them again and book them, or give them up; return what came of it.

        What is refused once more stays as it is, and so does what is not kept any more.

        Raises:
            LedgerWriteFailed: It was not done.
            LedgerClosed: A write failed before, or the ledger is closed.
        """
        self._require_open()
        with self._stopping(), translated(self._layout.ledger):
            if request.action is Action.FIND:
                return look(self._connection, request)
            letters = find_open(self._connection, request)
        if request.action is Action.PURGE:
            if letters:
                self._purge(letters)
            return Outcome(letters=len(letters))
        done = sum(self._requeue(group) for group in batches(letters))
        return Outcome(letters=len(letters), left=len(letters) - done)

    def operate(self, work: Work, *, reason: str, source: str = "", asked: str = "") -> int:
        """Record an operation on the books, and return its number; `work` does what is left of it.

        `asked` is the id of the request: one that comes again is to be answered by what it made.

        Raises:
            OperationRefused: Something is in its way; nothing was changed.
            LedgerWriteFailed: It was not recorded.
            LedgerClosed: A write failed before, or the ledger is closed.
        """
        self._require_open()
        now = self._now()
        with self._stopping(), translated(self._layout.ledger):
            problem = self._operations.problem(work, now.today)
        if problem is not None:
            raise OperationRefused(problem)
        with self._stopping(), translated(self._layout.ledger):
            prices = None if self._own_prices is None else self._own_prices.text
            done = self._operations.begin(
                work, reason=reason, source=source, now=now, prices=prices, asked=asked
            )
            self._after(done)
        self._acknowledge(now.us)
        return done.operation

    def halt(self, number: int, *, goes_on: bool = False) -> None:
        """Stop a long operation where it is, or have it go on. Asked twice it is done once.

        Raises:
            OperationRefused: It has ended, or there is none; nothing was changed.
            LedgerWriteFailed: It was not recorded.
            LedgerClosed: A write failed before, or the ledger is closed.
        """
        self._require_open()
        operation = self._operations.get(number)
        if (
            operation is not None
            and operation.ended_us is None
            and goes_on == operation.is_under_way
            and (goes_on or not isinstance(operation.work, Erase))
        ):
            return
        with self._stopping(), translated(self._layout.ledger):
            problem = self._operations.halt(number, self._now(), goes_on=goes_on)
            if problem is None:
                self._after(Slice(number))
        if problem is not None:
            raise OperationRefused(problem)

    @property
    def is_operating(self) -> bool:
        """Whether an operation on the books is under way."""
        return self._operations.pending is not None

    @property
    def is_at_work(self) -> bool:
        """Whether `work` or `publish_if_due` has something to go on with."""
        return self._has_work or self._snapshots.is_at_work

    @property
    def _has_work(self) -> bool:
        return (
            self._operations.pending is not None
            or self._folding.is_due
            or self._is_removing
            or self._sealing.is_due
        )

    @property
    def _is_removing(self) -> bool:
        return self._removal.is_due(self._snapshots.published) or self._retention.is_due

    def work(self) -> bool:
        """Do a bounded part of what is to be done; return whether there is more.

        That is of an operation, else of folding, else of removing detail that grew too old, else of sealing days.

        Raises:
            LedgerWriteFailed: It was not done.
            LedgerClosed: A write failed before, or the ledger is closed.
        """
        self._require_open()
        pending = self._operations.pending
        if pending is None:
            with self._stopping(), translated(self._layout.ledger):
                self._sealing.look(micros(self._clock.now()))
            if self._folding.is_due:
                done = self._fold()
                self._active.forget(() if done is None else done.settled)
                return done is not None and self._has_work
            if self._is_removing:
                return self._retain()
            return self._sealing.is_due and self._seal()
        if isinstance(pending.work, Erase):
            return self._erase(pending, pending.work)
        # One re-rating has one price for equal calls, whatever happens to the file meanwhile.
        own = self._own_prices
        as_begun = own.as_in(pending.prices) if own is not None else contextlib.nullcontext()
        with self._stopping(), translated(self._layout.ledger), as_begun:
            did = self._operations.step(self._now())
            if did is not None:
                self._after(did)
        return self.is_at_work

    def work_off(self) -> None:
        """Do all that is to be done, but seal days for some moments only: nobody waits for that."""
        until = self._clock.ticks() + SEALING_S
        while self.work() and (
            self._clock.ticks() < until
            or self._operations.pending
            or self._folding.is_due
            or self._retention.is_due
        ):
            pass

    def _fold(self) -> Done | None:
        """Add up some rows, or settle some sessions; `None` where that has to wait.

        What it settles is to be forgotten.
        """
        with self._stopping(), translated(self._layout.ledger):
            if not self._snapshots.shorten_log(LOG_BYTES):
                return None  # the file is being copied: it goes on afterwards
            try:
                done = self._folding.step(micros(self._clock.now()))
            except duckdb.OutOfMemoryException as error:
                self._folding.ease()
                _log.warning("bookings are not added up now: %s", str(error).partition("\n")[0])
                return None
            if done.has_written:
                self._snapshots.changed = True
                self._check_written()
        return done

    def _retain(self) -> bool:
        """Remove some detail that grew too old; return whether there is more to do."""
        with self._stopping(), translated(self._layout.ledger):
            if not self._snapshots.shorten_log(LOG_BYTES):
                return False  # the file is being copied: it goes on afterwards
            self._removal.step(self._snapshots.published)
            if self._retention.is_due:
                self._sealing.drop()  # its rows may be among those that go
                if self._retention.step(self._now(), self._snapshots.newest):
                    self._snapshots.changed = True
                    self._check_written()
        return self._has_work

    def _erase(self, operation: Operation, work: Erase) -> bool:
        """Erase some of a tenant, and in the end every copy that has it; return whether there is more to do."""
        with self._stopping(), translated(self._layout.ledger):
            if not self._snapshots.shorten_log(LOG_BYTES):
                return False  # the file is being copied: it goes on afterwards
            self._sealing.drop()  # it may be the file of rows that go
            self._snapshots.changed = True
            try:
                if work.tenant:
                    now_us, number = micros(self._clock.now()), self._snapshots.newest
                    self._active.forget(self._erasing.step(operation, work, now_us, number))
                    self._snapshots.check_in_place()  # a step that finds nothing writes nothing
                else:
                    self._forget_copies(operation)
            except (
                OSError,
                SnapshotFailed,
                duckdb.IOException,
                duckdb.OutOfMemoryException,
            ) as error:
                if is_damage(str(error)) and not isinstance(error, SealedUnreadable):
                    raise
                self._give_up(operation, error)
        return self._has_work

    def _forget_copies(self, operation: Operation) -> None:
        """Remove every copy of what was erased: free blocks, the log, snapshots, sealed files."""
        # 1. The file has rows that are in force, and nothing else. If we die, it is done again.
        self._snapshots.close()  # what is under way is a copy of what it was
        rewrite_open(self._connection, self._layout, micros(self._clock.now()))
        self._snapshots.replaced()
        # 2. Readers see such a copy, and no other one is left.
        self.publish_snapshot()
        self._snapshots.forget_older()
        self._removal.finish()
        # 3. It is said to be done.
        ended = replace(operation, ended_us=micros(self._clock.now()), left_why="")
        self._operations.rewrite([ended])
        self._snapshots.changed = True

    def _give_up(self, operation: Operation, error: Exception) -> None:
        """Stop an erasure for which there is no room now; a person has it go on."""
        with contextlib.suppress(duckdb.TransactionException):  # none is open
            self._connection.rollback()
        self._erasing.forget()
        problem = str(error).partition("\n")[0]
        _log.warning("operation %d is stopped: %s", operation.number, problem)
        known = self._operations.get(operation.number) or operation
        stopped = replace(known, stopped_us=micros(self._clock.now()), left_why=problem)
        self._operations.rewrite([stopped])

    def _seal(self) -> bool:
        """Seal some rows of days that are over; return whether there is more to do."""
        with self._stopping(), translated(self._layout.ledger):
            if not self._snapshots.shorten_log(LOG_BYTES):
                return False  # the file is being copied: it goes on afterwards
            if self._sealing.step(micros(self._clock.now())):
                self._snapshots.changed = True
                self._check_written()
        return self._has_work

    def operation(self, number: int) -> Operation | None:
        """Return an operation; without an end it is under way."""
        return self._operations.get(number)

    def _now(self) -> Now:
        now = self._clock.now()
        return Now(micros(now), now.date(), self._rate)

    def _after(self, done: Slice) -> None:
        """Take in what an operation committed: what is known of its sessions is read again."""
        self._snapshots.changed = True
        self._snapshots.operations = max(self._operations.last, self._operations.lost)
        self._retention.follow(self._operations.retain)
        self._active.forget(done.touched)
        if done.has_written:
            self._check_written()
        else:
            self._snapshots.check_in_place()
        if done.left:
            _log.warning(
                "operation %d: %d meters stay as they are, such as one %s",
                *(done.operation, done.left, done.left_why),
            )

    def answer_requests(self) -> None:
        """Do what commands ask of a ledger that runs. Cheap to call often.

        Raises:
            LedgerWriteFailed: It could not be done or answered; who asked hears nothing, and may ask
                again.
        """
        self._require_open()
        with self._stopping(), translated(self._layout.requests):
            answer_requests(self._layout.requests, self.answer)

    def answer(self, asked: Asked) -> Outcome:
        """Do what a command asks; what cannot be done is said in the outcome.

        Raises:
            LedgerWriteFailed: It was not done.
            LedgerClosed: A write failed before, or the ledger is closed.
        """
        match asked:
            case Request():
                outcome = self.do(asked)
                if asked.action is not Action.FIND:
                    self._tell()
                return outcome
            case Operate():
                return self._operated(asked)
            case Check():
                with self._stopping(), translated(self._layout.ledger):
                    in_the_way = self._operations.obstacle(asked.work, self._now().today)
                return Outcome(problem=in_the_way or "")
            case Halt():
                try:
                    self.halt(asked.operation, goes_on=asked.goes_on)
                except OperationRefused as refused:
                    return Outcome(problem=refused.why)
                return self._told(asked.operation)
            case Watch():
                return self._told(asked.operation)

    def _operated(self, asked: Operate) -> Outcome:
        """Do what was asked, once: what comes again is answered by the operation that it made."""
        made = self._operations.made_by(asked.id)
        if made is not None:
            return replace(self._told(made.number), was_done=True)
        try:
            number = self.operate(
                asked.work, reason=asked.reason, source=asked.source, asked=asked.id
            )
        except OperationRefused as refused:
            return Outcome(problem=refused.why)
        return self._told(number)

    def _told(self, number: int) -> Outcome:
        operation = self._operations.get(number)
        is_done = operation is None or not operation.is_under_way
        if is_done:
            self._tell()
        if operation is None:
            return Outcome(operation=number)
        progress = self._operations.progress if operation.is_under_way else None
        return Outcome(
            operation=number,
            is_done=is_done,
            is_stopped=operation.stopped_us is not None,
            at="" if progress is None else f"{progress.done:,} of {progress.of:,} calls",
            left=operation.left,
            left_why=operation.left_why,
        )

    def _tell(self) -> None:
        """Publish what changed, if it can be: who hears that it is done asks what came of it."""
        if self._snapshots.changed:
            try:
                self.publish_snapshot()
            except SnapshotFailed as error:
                _log.warning("%s", error)

    def look_at_prices(self) -> None:
        """Read the operator's own prices again if their file changed. Cheap to call often.

        A file with mistakes changes nothing but what the heartbeat says.
        """
        if self._own_prices is not None:
            self._own_prices.look(self._clock.ticks(), self._clock.now())
            self._snapshots.prices = self._own_prices.trouble

    def publish_snapshot(self) -> int:
        """Publish everything booked so far, now, and return the number of the snapshot.

        Raises:
            SnapshotFailed: The disk is full or read-only. What is booked is safe, and the ledger
                can go on.
        """
        self._require_open()
        with self._stopping():
            number = self._snapshots.publish(self._sequence)
        self._operations.is_lost_told = True
        self._kept = self._streams.progress
        return number

    def publish_if_due(self) -> bool:
        """Publish if something changed and enough time has passed; return whether it is done.

        Where that takes longer than a moment, it goes on with the next calls, and what is booked
        meanwhile comes into the next snapshot.
        """
        self._require_open()
        with self._stopping():
            if not self._snapshots.is_under_way:
                if not self._snapshots.due():
                    self._snapshots.mend()
                    self._snapshots.keep_apart(PART_S)
                    return False
                self._begun = self._streams.progress
                self._snapshots.begin(self._sequence)
            if not self._snapshots.go_on(PART_S):
                return False
            self._kept = self._begun
            self._snapshots.keep_apart(PART_S)
        return True

    def heard(self, asked_at: datetime, waiting: int | None) -> None:
        """Note that what feeds the ledger was asked at `asked_at`, and how many messages wait there.

        To be called after what it answered with was applied. When nothing waits, the ledger holds
        everything that was sent to it until then, and the next snapshot says so.
        """
        self._snapshots.heard(asked_at, waiting)

    def heartbeat(self, waiting: int | None = None, *, running: bool = True) -> None:
        """Tell readers that the ledger lives. Cheap to call often: it writes once a second.

        `waiting` is how many messages are in the stream and not yet fetched, if that is known.

        Raises:
            SnapshotFailed: The disk is full or read-only. What is booked is safe, and the ledger
                can go on.
            LedgerMoved: The ledger's file was removed or replaced.
        """
        if running:
            with self._stopping():
                self._snapshots.check_in_place()
        self._snapshots.beat(waiting, running=running, at_once=not running)

    def close(self) -> None:
        """Publish what is not published yet, mark the heartbeat as stopped, and release the file."""
        if self._state is _State.CLOSED:
            return
        healthy, self._state = self._state is _State.OPEN, _State.CLOSED
        self._reason = self._reason or "it was closed"
        self._snapshots.changed = self._snapshots.changed or not healthy
        with (
            contextlib.ExitStack() as closing
        ):  # runs from the last to the first, even if one fails
            closing.callback(self._lock.release)
            closing.enter_context(translated(self._layout.ledger))
            # the last heartbeat says which file was left behind, so the file is closed before
            closing.callback(self.heartbeat, running=False)
            closing.callback(close, self._connection)
            closing.callback(self._snapshots.close)
            if healthy:
                self._sealing.drop()
            if healthy and (self._snapshots.changed or not self._layout.current.exists()):
                self._snapshots.publish(self._sequence)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = self._reason or f"{len(self._active)} sessions cached, snapshot {self.snapshot}"
        return f"Ledger({str(self._layout.ledger)!r}: {state})"

    def _worked_out(
        self, piece: Piece, before: Worked | None = None, beside: Beside | None = None
    ) -> tuple[Worked, Piece | None]:
        """Return what a piece comes to after the one before it, which may not be written yet, and what is left of it.

        Something is left where its sessions have more meters than are loaded at once.
        """
        piece, sessions, rest = self._loaded(piece, before, beside)
        entries = self._entries(sessions)
        for delivery, letters in piece.reads:
            if delivery is not None:
                entries.add(delivery)
            entries.refuse(letters, delivery)
        worked = replace(
            self._of(entries),
            sequences=[message.sequence for message in piece.messages],
            newest=Mark.newest((it.sequence, it.stored_us) for it in piece.messages),
            messages=len(piece.messages),
            events=sum(len(delivery.events) for delivery, _ in piece.reads if delivery is not None),
        )
        return worked, rest

    def _of(self, entries: Entries, requeued: Sequence[str] = ()) -> Worked:
        return Worked(
            entries=entries,
            prices=entries.new_prices(),
            now_us=micros(self._clock.now()),
            sequences=[],
            requeued=list(requeued),
        )

    def _entries(self, sessions: dict[SessionKey, SessionState]) -> Entries:
        months = Months(self._operations.closed, self._clock.now().date())
        return Entries(sessions, self._rate, self._prices, months, self._operations.erased)

    def _loaded(
        self, piece: Piece, before: Worked | None = None, beside: Beside | None = None
    ) -> tuple[Piece, dict[SessionKey, SessionState], Piece | None]:
        """Return as much of a piece as its sessions fit in memory, copies of these, and the rest, if there is any."""
        rest: Piece | None = None
        keys = sessions_of(piece)
        fitting = self._fitting(keys, before, beside)
        if len(fitting) < len(keys):
            piece, rest = divided(piece, set(fitting))
        return piece, self._sessions_of(fitting, before, beside), rest

    def _fitting(
        self,
        keys: list[SessionKey],
        before: Worked | None = None,
        beside: Beside | None = None,
    ) -> list[SessionKey]:
        """Return the first of some sessions: as many as have `LOADED_METERS` together."""
        if len(keys) <= _FEW:
            return keys
        ahead = {} if before is None else before.entries.sessions
        sizes = {key: ahead[key].size for key in keys if key in ahead}
        sizes |= self._active.sizes(key for key in keys if key not in ahead)
        unknown = [key for key in keys if key not in sizes]
        if len(unknown) > _FEW:
            with self._reading(beside) as connection:
                sizes |= load_sizes(connection, unknown)
        total = 0
        for count, key in enumerate(keys):
            total += sizes.get(key, 0)
            if total > LOADED_METERS and count:
                return keys[:count]
        return keys

    def _sessions_of(
        self,
        keys: Collection[SessionKey],
        before: Worked | None = None,
        beside: Beside | None = None,
    ) -> dict[SessionKey, SessionState]:
        """Return copies of sessions: as `before` leaves them, from memory, or else from the file."""
        ahead = {} if before is None else before.entries.sessions
        known, unknown = self._active.copies(key for key in keys if key not in ahead)
        known |= {key: ahead[key].copy() for key in keys if key in ahead}
        if unknown:
            with self._reading(beside) as connection:
                known |= self._found(unknown, connection)
        return known

    @contextlib.contextmanager
    def _reading(self, beside: Beside | None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection that has what is committed. What may be written meanwhile is not rolled back for it."""
        with (
            self._stopping(rolls_back=False),
            translated(self._layout.ledger),
            nullcontext() if beside is None else beside.reading,
        ):
            yield self._connection if beside is None else beside.connection

    def _found(
        self, keys: Collection[SessionKey], connection: duckdb.DuckDBPyConnection
    ) -> dict[SessionKey, SessionState]:
        """Find what the file has of sessions: of those that are settled, and from the rows of others."""
        settled = load_settled(
            connection,
            keys,
            self._prices,
            began_before_us=micros(self._clock.now()) - SETTLE_AFTER_US,
        )
        rest = [key for key in keys if key not in settled]
        return settled | load_sessions(connection, rest, self._prices)

    def _packed(self, keys: Collection[SessionKey]) -> dict[SessionKey, bytes]:
        """Return sessions packed: those in memory as they are, the others from their rows."""
        held = {
            key: pack(self._ahead[key], self._prices)
            if key in self._ahead
            else self._active.packed(key)
            for key in keys
        }
        found = load_sessions(
            self._connection, [key for key in keys if held[key] is None], self._prices
        )
        return {key: packed or pack(found[key], self._prices) for key, packed in held.items()}

    def _read_again(self) -> None:
        """Book the dead letters that this version understands and the last one did not."""
        version, types = reader()
        with translated(self._layout.ledger):
            last = self._connection.execute(sql.LOAD_READER).fetchone()
        if last == (version, types):
            return
        # 1. What is understood now is booked. If we die, the next opening does the rest.
        outcome = self.do(Request(action=Action.REQUEUE, reasons=READ_AGAIN))
        # 2. It is not tried again before the next upgrade.
        with self._stopping(), translated(self._layout.ledger):
            self._connection.begin()
            self._connection.execute(sql.CLEAR_READER)
            self._connection.execute(sql.WRITE_READER, {"version": version, "types": types})
            self._connection.commit()
        if outcome.letters:
            _log.info(
                "of %d dead letters of a newer version, %d are understood now and booked",
                outcome.letters,
                outcome.letters - outcome.left,
            )

    def _requeue(self, letters: list[Open]) -> int:
        """Book what can be read of some letters; return how many are done with.

        It is one transaction where their sessions fit in memory together. If we die between two, a letter of
        which some is booked is read again, and that adds nothing.
        """
        found = [(letter, letter.message(self._layout.dead_letters)) for letter in letters]
        reads = [(letter, read(message)) for letter, message in found if message is not None]
        piece = Piece([message for _, message in found if message], [made for _, made in reads])
        keys = sessions_of(piece)
        if len(self._fitting(keys)) == len(keys):
            entries = self._entries(self._sessions_of(keys))
            done = [letter.id for letter, made in reads if _is_read(entries, letter, made)]
            self._commit(self._of(entries, requeued=done))
            return len(done)
        if len(letters) > 1:
            half = len(letters) // 2
            return self._requeue(letters[:half]) + self._requeue(letters[half:])
        rest: Piece | None = piece
        is_done = True
        while rest is not None:
            part, sessions, rest = self._loaded(rest)
            entries = self._entries(sessions)
            for made in part.reads:
                is_done = _is_read(entries, letters[0], made) and is_done
            is_over = is_done and rest is None
            self._commit(self._of(entries, requeued=[letters[0].id] if is_over else ()))
        return int(is_done)

    def _purge(self, letters: list[Open]) -> None:
        now_us = micros(self._clock.now())
        with self._stopping(), translated(self._layout.ledger):
            self._connection.begin()
            mark(self._connection, (letter.id for letter in letters), PURGED, now_us)
            unused = mark_unused_files(self._connection, now_us)
            self._snapshots.changed = True
            # 1. Recorded as gone. If we die, the next opening removes the files.
            self._connection.commit()
            self._check_written()
            self._payloads.remove(unused)

    def _commit(self, worked: Worked) -> Applied:
        return self._taken_over(worked, self._write(worked))

    def _write(self, worked: Worked) -> Written:
        """Write a piece in one transaction. Nothing is changed that working out the next one reads."""
        entries, sequence = worked.entries, max(worked.sequences, default=0)
        with self._stopping(), translated(self._layout.ledger):
            streams = self._streams_after(worked)
            self._connection.begin()
            # 1. The rows, in a transaction. If we die, none is booked, and the messages come again.
            added = write_entries(
                self._connection, entries, worked.prices, self._places, worked.now_us
            )
            pending = self._unsettle(entries)
            added["dead_letters"], dropped = write_letters(
                self._connection, entries.dead_letters, self._payloads, worked.now_us
            )
            mark(self._connection, worked.requeued, REQUEUED, worked.now_us)
            is_news = any(added.values()) or bool(worked.requeued) or streams != self._streams
            if not is_news and sequence <= self._sequence:
                self._connection.rollback()
                return Written(added, [])
            write_streams(self._connection, streams, self._streams)
            write_state(
                self._connection,
                as_of_us=micros(self._snapshots.until()),
                sequence=max(self._sequence, sequence),
                snapshot=self._snapshots.number,
            )
            self._snapshots.changed = self._snapshots.changed or is_news
            # 2. All or nothing. If we die here or later, the messages come again and find
            #    either nothing of theirs booked or everything.
            self._connection.commit()
            self._check_written()
            self._payloads.remove(dropped)
            return Written(added, pending)

    def _write_and_work(self, beside: Beside, worked: Worked) -> Written:
        """Write a piece; while the next one is still worked out, do what is due between two groups.

        Not an operation, nor what removes something: what they touch may be in hand.
        """
        written = self._write(worked)
        self._ahead = worked.entries.sessions
        goes_on = self._operations.pending is None
        while goes_on and not beside.is_awaited:
            with beside.reading:
                goes_on = self._step_beside(written)
        return written

    def _step_beside(self, written: Written) -> bool:
        if self._folding.is_due:
            done = self._fold()
            written.settled.extend(() if done is None else done.settled)
            return done is not None
        return self._sealing.is_due and not self._is_removing and self._seal()

    def _taken_over(
        self, worked: Worked, written: Written, *, following: Worked | None = None
    ) -> Applied:
        """Take into memory what is on disk. `following` was worked out from it."""
        for each in (worked, following):
            if each is not None:
                known = each.entries.sessions
                for keys, is_pending in ((written.pending, True), (written.settled, False)):
                    for key in keys:
                        if key in known:
                            known[key].pending = is_pending
        self._ahead = {}
        self._active.keep(worked.entries.sessions)
        self._active.forget(written.settled)
        self._streams = self._streams_after(worked)
        self._sequence = max(self._sequence, *worked.sequences, 0)
        return Applied(messages=worked.messages, events=worked.events, **written.added)

    def _streams_after(self, worked: Worked) -> Streams:
        return replace(
            self._streams,
            progress=self._streams.progress.booked(worked.sequences, worked.newest),
            gaps=self._streams.arrived(runs(worked.sequences), worked.now_us),
        )

    def _unsettle(self, entries: Entries) -> list[SessionKey]:
        """Write of which sessions something came, where the files do not have them as pending."""
        known = entries.sessions
        found = [key for key in entries.touched() if key not in known or not known[key].pending]
        if found:
            unsettle(self._connection, found)
        reports = [each for each in entries.reports.values() if each.dropped or each.live_sessions]
        unsettle_of(self._connection, {(each.project, each.producer_id) for each in reports})
        return found

    def _note_restored(self, last: Heartbeat | None, now_us: int) -> None:
        """Note what this file lacks, if it is an older copy than what was published."""
        with translated(self._layout.ledger):
            lacking = lacking_of_copy(self._connection, self._layout, last, self._operations.last)
        if lacking is None:
            return
        self._snapshots.changed = True  # the newest snapshot is of another ledger
        for gap in lacking:
            _log.warning("an older copy of the ledger was put in its place: it lacks %s", gap)
            if gap.why is Why.OPERATIONS_LOST:
                self._operations.lost = self._snapshots.operations = gap.last or 0
                self._operations.is_lost_told = False
        noted = (Noted(gap=gap, noted_us=now_us) for gap in lacking)
        self._note(replace(self._streams, gaps=(*self._streams.gaps, *noted)))

    def _acknowledge(self, now_us: int) -> None:
        """Have the note of lost operations end, or stand again, as the operations in force say."""
        gaps = self._streams.acknowledged(self._operations.acknowledged, now_us)
        self._note(replace(self._streams, gaps=gaps))

    def _note(self, streams: Streams) -> None:
        """Write what is known of the stream, if it is news, and tell readers with the next snapshot."""
        if streams == self._streams:
            return
        with self._stopping(), translated(self._layout.ledger):
            self._connection.begin()
            write_streams(self._connection, streams, self._streams)
            self._snapshots.changed = True
            self._connection.commit()
        self._streams = streams
        self._snapshots.trimmed_to = streams.trimmed_to

    def _check_written(self) -> None:
        """Raise `LedgerMoved` when the commit went into files that have lost their names."""
        self._snapshots.check_in_place()
        if not self._layout.log.exists():
            raise LedgerMoved(self._layout.log)

    @contextlib.contextmanager
    def _stopping(self, *, rolls_back: bool = True) -> Iterator[None]:
        """Take no more work after a failure: only the file tells how much of it was written."""
        try:
            yield
        except SnapshotFailed:
            raise
        except BaseException as error:
            self._state, self._reason = _State.FAILED, f"it failed ({error})"
            if rolls_back:
                with contextlib.suppress(duckdb.Error):
                    self._connection.rollback()
            raise

    def _require_open(self) -> None:
        if self._state is not _State.OPEN:
            raise LedgerClosed(self._layout.ledger, self._reason)


def _is_read(entries: Entries, letter: Open, made: Read) -> bool:
    """Add what a letter was read as, and return whether it is done with.

    It is not while all of it is refused once more. What is refused of a batch that is booked now
    becomes letters of their own.
    """
    delivery, refused = made
    before = len(entries.dead_letters)
    if delivery is not None:
        is_whole = letter.index == WHOLE_MESSAGE  # its events were not refused: nobody read them
        entries.add(delivery, again=None if is_whole else Reason(letter.reason))
    entries.refuse(refused, delivery)
    again = entries.dead_letters[before:]
    is_refused = (
        any(each.index == WHOLE_MESSAGE for each in again)
        if letter.index == WHOLE_MESSAGE
        else bool(again)
    )
    if is_refused:
        del entries.dead_letters[before:]
    return not is_refused
