"""One daemon thread per process that carries events from the buffer to JetStream.

It owns its event loop, its connection and its outbox, so that no call ever waits for the network or
the disk. At every linger events leave the buffer, into messages that are on disk before they are
sent; a message is forgotten only when JetStream has acknowledged it, and until then it is sent
again under the same id. Without servers nothing is sent: a ledger of this host reads the outbox and
says what it has booked. What a killed process loses is what came since its last linger.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import Final, NamedTuple

from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.events import Event, now_us
from voicecosts.producer.outbox.backlog import Backlog
from voicecosts.producer.outbox.packing import Packer
from voicecosts.producer.publishing.buffer import Buffer
from voicecosts.producer.publishing.connection import Connection
from voicecosts.producer.publishing.reports import ConnectionState, Reports, Stats
from voicecosts.producer.publishing.sender import Sender, Tally, pause

__all__ = ["Publisher", "Stats"]

logger = logging.getLogger(__name__)

_TAKE: Final = 1600
_IDLE_S: Final = 1.0


class _Flush(NamedTuple):
    """Somebody who waits until everything put so far is safe."""

    done: Future[None]
    patient: bool


class Publisher:
    """`put` from any thread; everything else happens in the publisher's own."""

    def __init__(self, config: ProducerConfig) -> None:
        self.config = config
        self.producer_id = secrets.token_hex(8)
        self.buffer = Buffer(config.limits)
        self.backlog = Backlog(config, self.producer_id, monotonic=time.monotonic, now_us=now_us)
        self.unattributed = 0
        self._tally = Tally()
        self._packer = Packer(self.producer_id)
        self._reports = Reports(
            self.producer_id,
            config.project,
            monotonic=time.monotonic,
            now_us=now_us,
            tells_of_long_waits=not config.is_embedded,
        )
        self._flushes: deque[_Flush] = deque()
        self._awaited: list[tuple[int, _Flush]] = []
        self._unanswered_since = -1
        self._next_round_at = 0.0
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._sender: Sender | None = None
        self._thread = threading.Thread(target=self._main, name="voicecosts-publisher", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return (
            f"<Publisher {self.producer_id}: {self._sender!r}, {self.buffer!r}, {self.backlog!r}>"
        )

    def put(self, event: Event) -> None:
        """Take an event; never waits and never raises."""
        self.buffer.put(event)

    def coalesced_of(self, session_id: str) -> int:
        """Return how many readings of a session the buffer has coalesced, and forget the count."""
        return self.buffer.coalesced_of(session_id)

    def count_unattributed(self) -> None:
        """Count a usage event that belongs to no session; the next round reports it."""
        self.unattributed += 1

    def flush(self, *, patient: bool = True) -> Future[None]:
        """Return a future that is done when everything put before is safe.

        That is when JetStream has acknowledged it; without servers, when it is in the outbox. Not
        `patient`: the outbox is enough, too, while no server answers.
        """
        flush = _Flush(Future(), patient)
        # Appended here rather than in the thread, which may not be up yet: nobody waits for it.
        self._flushes.append(flush)
        self._wake_up()
        return flush.done

    def gave_up(self) -> None:
        """Somebody has waited for an acknowledgement in vain: once is enough, until one comes."""
        self._unanswered_since = self._tally.published
        self._wake_up()

    def close(self, timeout_s: float) -> bool:
        """Publish what is left for at most `timeout_s` seconds, then end the thread.

        Returns whether everything is safe; what is not acknowledged is in the outbox, if there is one.
        Blocks: not for a voice loop.
        """
        done = self.flush(patient=False)
        try:
            done.result(timeout_s)
        except TimeoutError:
            logger.debug("closing before everything was safe")
        self._closing = True
        self._wake_up()
        self._thread.join(timeout_s)
        return done.done()

    def stats(self) -> Stats:
        """Return the counts of this process."""
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
            unattributed=self.unattributed,
            waiting=len(self.buffer) + backlog.events,
            outbox_rows=backlog.rows,
            outbox_bytes=backlog.bytes,
            oldest_age_us=backlog.oldest_age_us(),
            outbox=backlog.state,
            connection=connection.state if connection else untried,
            connection_problem=connection.problem if connection else "",
        )

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
                logger.exception("the publisher failed; it starts again with what it held")
                time.sleep(_IDLE_S)

    async def _run(self) -> None:
        self._wake, self._loop = asyncio.Event(), asyncio.get_running_loop()
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
        self._sender = Sender(connection, self.backlog, self._tally, self._resolve)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._sender.run())
            await self._keep_all(wake)
            sending.cancel()

    async def _keep_all(self, wake: asyncio.Event) -> None:
        """Move events from the buffer into messages, and those to disk, until the end."""
        while True:
            # 1. Whatever is asked to be flushed from here on is taken in a later round.
            is_last = self._closing
            flushes = [self._flushes.popleft() for _ in range(len(self._flushes))]
            # 2. Events leave the buffer into messages that are on disk before anything is sent.
            #    If we die in here, the events of this round are lost, as the buffer is.
            is_quiet = self._is_quiet(flushes, is_last=is_last)
            drained = is_quiet or await self._fill(urgent=bool(flushes), is_last=is_last)
            # 3. From here on they survive us: if we die, another process adopts the outbox and
            #    sends them under their own ids.
            if drained:
                self._awaited += [(self._packer.last, flush) for flush in flushes]
            else:
                self._flushes.extendleft(reversed(flushes))
                self.buffer.coalesce_oldest()
            self._resolve()
            if self._sender is None:
                self._tally.published += self.backlog.forget_booked()
            elif not is_quiet:
                self._sender.stored.set()
            if self._sender is not None and flushes:
                self._sender.hurry.set()
            if is_last:
                return
            self.backlog.tend()
            await pause(wake, self.config.linger_s)

    def _is_quiet(self, flushes: list[_Flush], *, is_last: bool) -> bool:
        """Whether this round can be left out: nothing has come, and nobody waits."""
        now = time.monotonic()
        if flushes or is_last or len(self.buffer) or now >= self._next_round_at:
            self._next_round_at = now + _IDLE_S  # room is made, and long waits told of, even so
            return False
        return True

    async def _fill(self, *, urgent: bool, is_last: bool) -> bool:
        """Pack what is in the buffer while there is room; tell whether it was emptied."""
        while self.backlog.has_room(is_last=is_last):
            events = self.buffer.remove(_TAKE)
            report = self._reports.due(
                self.stats(), own_age_us=self.backlog.own_age_us(), urgent=urgent or is_last
            )
            if report is not None:
                events.append(report)
            self.backlog.keep(self._packer.pack(events))
            if not len(self.buffer):
                return True
            await asyncio.sleep(0)
        return False

    def _resolve(self) -> None:
        """Fulfil the flushes whose messages are all safe."""
        if not self._awaited:
            return
        unsafe = self.backlog.lowest()
        stored = unsafe if self._answers() else self.backlog.lowest_in_memory()
        for entry in list(self._awaited):
            number, flush = entry
            lowest = unsafe if flush.patient else stored
            if lowest is None or lowest > number:
                self._awaited.remove(entry)
                if not flush.done.done():
                    flush.done.set_result(None)

    def _answers(self) -> bool:
        """Whether the server can be expected to acknowledge something soon."""
        is_hopeful = self._sender is not None and self._sender.connection.may_acknowledge
        return is_hopeful and self._unanswered_since != self._tally.published

    def _end(self) -> None:
        """Say what is left, and let go of the outbox."""
        backlog = self.backlog
        lost = len(self.buffer) + backlog.events_in_memory
        if lost:
            logger.warning("closed with %d events not acknowledged: they are lost", lost)
        if backlog.rows:
            who = (
                "a ledger of this host books"
                if self.config.is_embedded
                else "a later process publishes"
            )
            logger.info("closed with %r: %s what is on disk", backlog, who)
        backlog.close()
