"""One daemon thread per process that carries events from the buffer to JetStream.

It owns its event loop, its connection and its outbox, so that no call ever waits for the network or
the disk. At every linger events leave the buffer, into messages that are on disk before they are
sent; a message is forgotten only when JetStream has acknowledged it, and until then it is sent
again under the same id. What a killed process loses is what came since its last linger.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from producer.backlog import Backlog, Held
from producer.buffer import Buffer
from producer.config import ProducerConfig
from producer.connection import Connection
from producer.errors import NeverAccepted, NotAllowed, NotNow, TooLarge
from producer.events import Event
from producer.identity import now_us
from producer.packing import Packed, Packer, halves
from producer.reporting import Reports, Stats

__all__ = ["Publisher", "Stats"]

logger = logging.getLogger(__name__)

WINDOW: Final = 8
"""Messages in flight at once; more buy nothing (measured)."""

_TAKE: Final = 1600
_FIRST_BACKOFF_S: Final = 0.1
_LAST_BACKOFF_S: Final = 5.0
_ASIDE_S: Final = 30.0
_IDLE_S: Final = 1.0


class Publisher:
    """`put` from any thread; everything else happens in the publisher's own."""

    def __init__(self, config: ProducerConfig) -> None:
        self.config = config
        self.producer_id = secrets.token_hex(8)
        self.buffer = Buffer(config.limits)
        self.backlog = Backlog(config, self.producer_id, monotonic=time.monotonic, now_us=now_us)
        self.published = 0
        self.retried = 0
        self.unattributed = 0
        self._packer = Packer(self.producer_id)
        self._reports = Reports(
            self.producer_id, config.project, monotonic=time.monotonic, now_us=now_us
        )
        self._flushes: list[Future[None]] = []
        self._awaited: list[tuple[int, Future[None]]] = []
        self._aside: dict[str, float] = {}
        self._closing = False
        self._ready = threading.Event()
        self._wake: asyncio.Event  # these three belong to the loop of the thread
        self._stored: asyncio.Event
        self._hurry: asyncio.Event
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._main, name="voicecosts-publisher", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Publisher {self.producer_id}: {self._connection!r}, {self.buffer!r}, {self.backlog!r}>"

    def put(self, event: Event) -> None:
        """Take an event; never waits and never raises."""
        self.buffer.put(event)

    def flush(self) -> Future[None]:
        """Return a future that is done when everything put before was acknowledged."""
        done: Future[None] = Future()
        self._ready.wait(1.0)
        self._in_thread(lambda: self._flushes.append(done))
        return done

    def close(self, timeout_s: float) -> bool:
        """Publish what is left for at most `timeout_s` seconds, then end the thread.

        Returns whether everything was acknowledged; what was not is in the outbox, if there is one.
        Blocks: not for a voice loop.
        """
        done = self.flush()
        try:
            done.result(timeout_s)
        except TimeoutError:
            logger.debug("closing before everything was acknowledged")
        self._closing = True
        self._in_thread(lambda: None)
        self._thread.join(timeout_s)
        return done.done()

    def stats(self) -> Stats:
        """Return the counts of this process."""
        backlog = self.backlog
        return Stats(
            captured=self.buffer.captured,
            published=self.published,
            retried=self.retried,
            coalesced=self.buffer.coalesced + backlog.bound.coalesced,
            dropped=self.buffer.dropped + backlog.dropped,
            refused=backlog.refused + self._packer.refused,
            quarantined=backlog.quarantined,
            unattributed=self.unattributed,
            waiting=len(self.buffer) + backlog.events,
            outbox_rows=backlog.rows,
            outbox_bytes=backlog.bytes,
            oldest_age_us=backlog.oldest_age_us(),
            outbox=backlog.state,
            connection=self._connection.state if self._connection else "not connected",
        )

    def _in_thread(self, call: Callable[[], None]) -> None:
        """Run `call` in the publisher's thread and wake it."""
        loop = self._loop
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(call)
            loop.call_soon_threadsafe(self._wake.set)
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
        self._wake, self._stored, self._hurry = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(self.config)
        self._ready.set()
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(self._send_all(self._connection))
                await self._keep_all()
                sending.cancel()
        finally:
            if self._closing:
                self._end()
            await self._connection.close()

    async def _keep_all(self) -> None:
        """Move events from the buffer into messages, and those to disk, until the end."""
        while True:
            # 1. Whatever is asked to be flushed from here on is taken in a later round.
            is_last = self._closing
            flushes, self._flushes = self._flushes, []
            # 2. Events leave the buffer into messages that are on disk before anything is sent.
            #    If we die in here, the events of this round are lost, as the buffer is.
            drained = await self._fill(urgent=bool(flushes), is_last=is_last)
            # 3. From here on they survive us: if we die, another process adopts the outbox and
            #    sends them under their own ids.
            if drained:
                self._awaited += [(self._packer.last, done) for done in flushes]
            else:
                self._flushes += flushes
                self.buffer.fold()
            self._resolve()
            self._stored.set()
            if flushes:
                self._hurry.set()
            if is_last:
                return
            self.backlog.tend()
            await _pause(self._wake, self.config.linger_s)

    async def _fill(self, *, urgent: bool, is_last: bool) -> bool:
        """Pack what is in the buffer while there is room; tell whether it was emptied."""
        while self.backlog.has_room(is_last=is_last):
            events = self.buffer.take(_TAKE)
            report = self._reports.due(self.stats(), urgent=urgent or is_last)
            if report is not None:
                events.append(report)
            self.backlog.keep(self._packer.pack(events))
            if not len(self.buffer):
                return True
            await asyncio.sleep(0)
        return False

    async def _send_all(self, connection: Connection) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while True:
            self._stored.clear()
            now = time.monotonic()
            self._aside = {subject: end for subject, end in self._aside.items() if end > now}
            window = self.backlog.window(WINDOW, self._aside)
            if not window:
                await _pause(self._stored, _IDLE_S)
                continue
            # 1. Send. If we die here, JetStream may have what the outbox still holds: it is sent
            #    again under the same id, and booking a reading twice books nothing.
            accepted = await self._send(connection, window)
            # 2. Only what was acknowledged, or put away, leaves the disk.
            self.backlog.settle()
            self._resolve()
            if accepted:
                backoff_s = _FIRST_BACKOFF_S
            else:
                await _pause(self._hurry, backoff_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                backoff_s = min(backoff_s * 2, _LAST_BACKOFF_S)

    async def _send(self, connection: Connection, window: list[Held]) -> bool:
        """Send messages; tell whether the server answered all of them."""
        results = await asyncio.gather(
            *(self._deliver(connection, held.message) for held in window), return_exceptions=True
        )
        accepted = True
        for held, result in zip(window, results, strict=True):
            if isinstance(result, list):
                for message, reason in result:
                    self.backlog.refuse(message, reason)
                self.published += held.message.events - sum(m.events for m, _ in result)
                self.backlog.done(held)
                continue
            self.retried += 1
            if isinstance(result, NotAllowed):
                # The other subjects must not wait for one that nobody lets us publish on.
                self._aside[held.message.subject] = time.monotonic() + _ASIDE_S
                continue
            accepted = False
            if not isinstance(result, NotNow):
                logger.error("publishing failed unexpectedly; it is tried again", exc_info=result)
        return accepted

    async def _deliver(self, connection: Connection, message: Packed) -> list[tuple[Packed, str]]:
        """Publish a message, in parts where it is too large; return what can never be accepted."""
        try:
            await connection.publish(message)
        except TooLarge as error:
            smaller = halves(message)
            refused = [] if smaller else [(message, error.reason)]
            for half in smaller:
                refused += await self._deliver(connection, half)
            return refused
        except NeverAccepted as error:
            return [(message, error.reason)]
        return []

    def _resolve(self) -> None:
        """Fulfil the flushes whose messages are all acknowledged."""
        if not self._awaited:
            return
        lowest = self.backlog.lowest()
        for entry in list(self._awaited):
            number, done = entry
            if lowest is None or lowest > number:
                self._awaited.remove(entry)
                if not done.done():
                    done.set_result(None)

    def _end(self) -> None:
        """Say what is left, and let go of the outbox."""
        backlog = self.backlog
        lost = len(self.buffer) + backlog.events_in_memory
        if lost:
            logger.warning("closed with %d events not acknowledged: they are lost", lost)
        if backlog.rows:
            logger.info("closed with %r: a later process publishes what is on disk", backlog)
        backlog.close()


async def _pause(event: asyncio.Event, seconds: float) -> None:
    """Sleep, or less when the event is set; it is cleared then."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
    event.clear()
