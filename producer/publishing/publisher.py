"""One daemon thread per process that carries events from the buffer to JetStream.

It owns its event loop, its connection and its outbox, so that no call ever waits for the network or
the disk. At every linger (100 ms) events leave the buffer, into messages that are on disk before
they are sent; a message is forgotten only when JetStream has acknowledged it, and until then it is
sent again under the same id. Without servers nothing is sent: a ledger of this host reads the
outbox and writes there what it has booked. A killed process loses what came since its last linger.
While nothing comes the thread rests, so that hundreds of processes on a host cost nothing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final

from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.counts import Usage
from voicecosts.producer.events import (
    Event,
    MeterReading,
    SessionEnded,
    SessionStarted,
    now_us,
)
from voicecosts.producer.outbox.backlog import Backlog
from voicecosts.producer.outbox.packing import Packer
from voicecosts.producer.publishing.buffer import Buffer
from voicecosts.producer.publishing.connection import Connection
from voicecosts.producer.publishing.flushes import STUCK_WAIT_S, Flush, Flushes
from voicecosts.producer.publishing.lookups import Lookups
from voicecosts.producer.publishing.reports import ConnectionState, Reports, Stats
from voicecosts.producer.publishing.sender import Sender, Tally, pause
from voicecosts.producer.publishing.shortfall import Shortfall
from voicecosts.producer.settings import OUTBOX_DIR

__all__ = ["Publisher", "Stats", "close_all"]

logger = logging.getLogger(__name__)

_PIECE: Final = 1600
_IDLE_S: Final = 1.0
_REST_AFTER_S: Final = 5.0
_REST_S: Final = 30.0
_REST_OF_A_LOG_S: Final = 20.0
"""Without servers a ledger may have booked something meanwhile, which nobody tells the thread."""

_REST_WITHOUT_DISK_S: Final = 10.0
"""While messages wait in memory, until the disk is tried again."""

_IN_VAIN: Final = 0.1
"""The share of its time from which on a wait without success makes later ones wait no more."""

_FOR_THE_END: Final = 0.2
"""The share of the time for closing that is kept for storing what is left."""


class Publisher:
    """`put` from any thread; everything else happens in the publisher's own."""

    def __init__(self, config: ProducerConfig) -> None:
        self.config = config
        self.producer_id = secrets.token_hex(8)
        self.buffer = Buffer(config.limits)
        self.backlog = Backlog(config, self.producer_id, monotonic=time.monotonic, now_us=now_us)
        self._shortfall = Shortfall()
        self._tally = Tally()
        self._packer = Packer(self.producer_id)
        self._live: set[str] = set()  # sessions that have started and not ended
        self._reports = Reports(
            self.producer_id,
            config.project,
            monotonic=time.monotonic,
            now_us=now_us,
            tells_of_long_waits=not config.is_embedded,
        )
        self._flushes = Flushes(
            self.backlog,
            self._tally,
            self._may_acknowledge,
            has_server=not config.is_embedded,
        )
        self._next_round_at = 0.0
        self._rest_at = 0.0
        self._is_resting = False
        self._closing = False
        self._has_ended = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._sender: Sender | None = None
        if config.outbox_dir is None:
            logger.warning(
                "no folder for the outbox is known, as this user has no home directory: events "
                "wait in memory and are lost with the process; set %s",
                OUTBOX_DIR,
            )
        self._thread = threading.Thread(target=self._main, name="voicecosts-publisher", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return (
            f"<Publisher {self.producer_id}: {self._sender!r}, {self.buffer!r}, {self.backlog!r}>"
        )

    def put(self, event: Event) -> None:
        """Accept an event; never waits and never raises."""
        if type(event) is not MeterReading:
            self._note_live(event)
        self.buffer.put(event)
        if self._is_resting:
            self._end_rest()

    def coalesced_of(self, session_id: str) -> int:
        """Return how many readings of a session the buffer has coalesced, and forget the count."""
        return self.buffer.coalesced_of(session_id)

    def count_unattributed(self, usage: Usage) -> None:
        """Count the usage of an event that belongs to no session; never waits, never raises.

        It travels in a report within about a second.
        """
        self._shortfall.add_unattributed(usage)
        self._stay_awake()

    def count_unmeasured(self) -> None:
        """Count a usage event that could not be measured; never waits and never raises."""
        self._shortfall.add_unmeasured()
        self._stay_awake()

    def flush(self, *, patient: bool = True, is_last: bool = False) -> Future[bool]:
        """Return a future that is done when everything put before is safe; its result is True.

        Safe is what JetStream has acknowledged; without servers, what is in the outbox. If not
        `patient`, the outbox is also enough while no server answers; where nothing can be stored
        either, the server is tried once more, and then the result is False; if it `is_last` of the
        process, the server is tried until it answers. After the thread's end it is, too.
        """
        done = self._flushes.ask(patient=patient, is_last=is_last)
        if self._has_ended.is_set():
            self._flushes.end()
        self._wake_up()
        return done

    async def wait_until_safe(self, timeout_s: float, *, patient: bool = True) -> bool:
        """Wait as `flush` does, for at most `timeout_s` seconds; return whether everything is safe.

        After an impatient wait timed out, later ones expect no acknowledgement until all
        that it waited for is safe.
        """
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._patience_s(timeout_s, patient=patient)):
                is_safe = await asyncio.wrap_future(self.flush(patient=patient))
        except TimeoutError:
            is_safe = False
        if not is_safe and not patient and time.monotonic() - began > _IN_VAIN * timeout_s:
            self._timed_out()
        return is_safe

    def close(self, timeout_s: float) -> bool:
        """Publish what is left for at most `timeout_s` seconds, then end the thread.

        Returns whether everything is safe. What is not acknowledged stays in the outbox, if there
        is one. Blocks, so it must not be called on a voice loop.
        """
        return close_all([self], timeout_s)

    def is_safe_by(self, end: float, done: Future[bool]) -> bool:
        """Wait for an impatient flush until `end` of the monotonic clock; return its result."""
        try:
            return done.result(self._patience_s(end - time.monotonic(), patient=False))
        except TimeoutError:
            logger.debug("closing before everything was safe")
            self._timed_out()
            return False

    def end(self) -> None:
        """Let the thread store what is left, and end."""
        self._closing = True
        self._wake_up()

    def join_by(self, end: float) -> None:
        """Wait until what is left is stored, and the connection closed, if its server answers."""
        self._has_ended.wait(max(0.0, end - time.monotonic()))
        if self._may_acknowledge():
            self._thread.join(max(0.0, end - time.monotonic()))

    def _patience_s(self, timeout_s: float, *, patient: bool) -> float:
        """Return for how long to wait: nearly not while the thread hangs on a disk, as it seems."""
        is_stuck = not patient and self._flushes.is_stuck
        return min(max(0.0, timeout_s), STUCK_WAIT_S if is_stuck else threading.TIMEOUT_MAX)

    def _timed_out(self) -> None:
        self._flushes.timed_out()
        self._wake_up()

    def stats(self) -> Stats:
        """Return the counts of this process."""
        shortfall = self._shortfall.so_far()
        backlog = self.backlog
        connection = self._sender.connection if self._sender else None
        untried = ConnectionState.NO_SERVER if self.config.is_embedded else ConnectionState.UNTRIED
        return Stats(
            captured=self.buffer.captured,
            published=self._tally.published,
            retried=self._tally.retried,
            coalesced=self.buffer.coalesced + backlog.bound.coalesced,
            dropped=self.buffer.dropped + backlog.dropped,
            refused=backlog.quarantine.refused + self._packer.unencodable,
            quarantined=backlog.quarantine.quarantined,
            unattributed=shortfall.unattributed,
            unmeasured=shortfall.unmeasured,
            unattributed_usage=shortfall.usage,
            waiting=len(self.buffer) + backlog.own.events,
            outbox_rows=backlog.rows,
            outbox_bytes=backlog.bytes,
            oldest_age_us=backlog.oldest_age_us(),
            outbox=backlog.own.state,
            connection=connection.state if connection else untried,
            connection_problem=connection.problem if connection else "",
        )

    def _stay_awake(self) -> None:
        """Keep the thread from resting until what is in no event has been reported."""
        self._rest_at = time.monotonic() + _REST_AFTER_S
        if self._is_resting:
            self._end_rest()

    def _end_rest(self) -> None:
        """Wake the thread for the first event after a rest; by it a call starts, as a rule."""
        self._is_resting = False
        self._rest_at = time.monotonic() + _REST_AFTER_S
        self._wake_up()

    def _wake_up(self) -> None:
        """Wake the publisher's thread."""
        loop, wake = self._loop, self._wake
        if loop is None or wake is None:
            return
        try:
            loop.call_soon_threadsafe(wake.set)
        except RuntimeError:
            logger.debug("the publisher's loop has ended already")

    def _main(self) -> None:
        while not self._closing:
            try:
                asyncio.run(self._run())
            except Exception:
                logger.exception("the publisher failed and starts again; it keeps its events")
                time.sleep(_IDLE_S)
        self._has_ended.set()

    async def _run(self) -> None:
        self._wake, self._loop = asyncio.Event(), asyncio.get_running_loop()
        self._loop.set_default_executor(Lookups())
        connection = None if self.config.is_embedded else Connection(self.config)
        try:
            if connection is None:
                await self._keep_all(self._wake)
            else:
                await self._keep_and_send(self._wake, connection)
        finally:
            if self._closing:
                self._end()
            if connection is not None:
                await connection.close()

    async def _keep_and_send(self, wake: asyncio.Event, connection: Connection) -> None:
        def on_progress() -> None:
            self._flushes.resolve()
            if self.backlog.is_at_work:
                wake.set()  # an adopted outbox is empty: do not rest before looking for the next

        self._sender = Sender(
            connection,
            self.backlog,
            self._tally,
            on_progress=on_progress,
            is_waited_for=lambda: self._flushes.is_waited_for,
        )
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._sender.run())
            await self._keep_all(wake)
            sending.cancel()

    async def _keep_all(self, wake: asyncio.Event) -> None:
        """Move events from the buffer into messages, and those to disk, until the end."""
        while True:
            # 1. A flush that is asked for from here on belongs to a later round.
            is_last = self._closing
            flushes = self._flushes.next_round()
            # 2. Events leave the buffer into messages that are on disk before anything is sent.
            #    If we die in here, the events of this round are lost, as the buffer is.
            is_new = len(self.buffer) > 0
            is_due = self._is_due(flushes, is_last=is_last)
            if is_due:
                self._next_round_at = time.monotonic() + _IDLE_S
            is_drained = not is_due or await self._fill(urgent=bool(flushes), is_last=is_last)
            # 3. From here on they survive us: if we die, another process adopts the outbox and
            #    sends them under their own ids.
            if is_drained:
                self._flushes.wait_for(self._packer.last, flushes)
            else:
                self._flushes.ask_again(flushes)
                self.buffer.coalesce_oldest()
            self._flushes.resolve()
            if self._sender is None:
                self._tally.published += self.backlog.forget_booked()
            if is_last:
                return
            self.backlog.tend()
            if self._sender is not None:
                if is_due and not self.backlog.is_empty:
                    self._sender.notice(is_new=is_new)
                # Only for who has not seen a try yet: else the next try begins at once, and what
                # is in flight can never be coalesced to make room.
                if any(self._flushes.is_to_be_tried(flush) for flush in flushes):
                    self._sender.try_now()
            is_busy = is_new or bool(flushes) or not is_drained or self.backlog.is_at_work
            await self._pause(wake, is_busy=is_busy)

    async def _pause(self, wake: asyncio.Event, *, is_busy: bool) -> None:
        """Sleep until the next round: for long, or until the next event, where nothing goes on."""
        now = time.monotonic()
        if is_busy:
            self._rest_at = now + _REST_AFTER_S
        if now < self._rest_at:
            await pause(wake, self.config.linger_s)
            return
        self._is_resting = True
        # Looked at again, now that whoever puts or counts something sees that it has to wake us.
        if not len(self.buffer) and now >= self._rest_at:
            rest_s = _REST_OF_A_LOG_S if self.config.is_embedded else _REST_S
            await pause(wake, _REST_WITHOUT_DISK_S if self.backlog.own.in_memory else rest_s)
        self._is_resting = False

    def _is_due(self, flushes: list[Flush], *, is_last: bool) -> bool:
        """Whether this round has work: events, a flush, the end, or that a second has passed.

        Room is made in the outbox, and long waits are reported, even while no events come.
        """
        is_time = time.monotonic() >= self._next_round_at
        return is_last or is_time or bool(flushes) or len(self.buffer) > 0

    async def _fill(self, *, urgent: bool, is_last: bool) -> bool:
        """Pack what is in the buffer while there is room; return whether it was emptied."""
        while self.backlog.has_room(is_last=is_last, is_needed=len(self.buffer) > 0):
            events = self.buffer.remove(_PIECE)
            report = self._reports.due(
                self.stats(),
                own_age_us=self.backlog.own_age_us(),
                urgent=urgent or is_last,
                live_sessions=len(self._live),
            )
            if report is not None:
                events.append(report)
            self.backlog.keep(self._packer.pack(events))
            _log_sessions(events)
            if not len(self.buffer):
                return True
            await asyncio.sleep(0)
        return False

    def _note_live(self, event: Event) -> None:
        """Count as live what has started and not ended, by the order in which it was said.

        What the buffer drops or reorders later cannot change it, and nothing is kept of a session
        that has ended. A set's `add` and `discard` are atomic under the interpreter's rules.
        """
        if isinstance(event, SessionStarted):
            self._live.add(event.session_id)
        elif isinstance(event, SessionEnded):
            self._live.discard(event.session_id)

    def _may_acknowledge(self) -> bool:
        return self._sender is not None and self._sender.connection.may_acknowledge

    def _end(self) -> None:
        """Log what is left, close the outbox, and let nobody wait any more."""
        lost = len(self.buffer) + self.backlog.own.events_in_memory
        if lost:
            logger.warning("closed: %d events were neither published nor stored and are lost", lost)
        if self.backlog.rows:
            logger.info(
                "closed; messages left on disk in %s: %d (%s them)",
                self.config.outbox_dir,
                self.backlog.rows,
                "a ledger of this host books"
                if self.config.is_embedded
                else "a later process publishes",
            )
        self._flushes.end()
        self.backlog.close()
        self._has_ended.set()
        self._flushes.end()  # who asked meanwhile; who asks from here on sees that we have ended


def _log_sessions(events: Sequence[Event]) -> None:
    """Log the id of each session that began or ended: here, because the voice loop does not log."""
    for event in events:
        if isinstance(event, SessionStarted):
            logger.info("session %s of agent %r is metered", event.session_id, event.agent_id)
        elif isinstance(event, SessionEnded):
            logger.info(
                "session %s has ended (%s): `costs call %s` shows what it cost",
                event.session_id,
                event.status,
                event.session_id,
            )


def close_all(publishers: Sequence[Publisher], timeout_s: float) -> bool:
    """Publish what is left in publishers, then end their threads, in one time for all of them.

    Returns whether everything is safe. Blocks, for at most `timeout_s` seconds, so it must not be
    called on a voice loop.
    """
    end = time.monotonic() + timeout_s
    asked = [(publisher, publisher.flush(patient=False, is_last=True)) for publisher in publishers]
    are_safe = [
        publisher.is_safe_by(end - _FOR_THE_END * timeout_s, done) for publisher, done in asked
    ]
    for publisher in publishers:
        publisher.end()
    for publisher in publishers:
        publisher.join_by(end)
    return all(are_safe)
