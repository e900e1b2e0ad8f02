"""One daemon thread per process that carries events from the buffer to JetStream.

It owns its event loop and its connection, so that no call ever waits for the network. A message is
forgotten only when JetStream has acknowledged it; until then it is sent again under the same id.
While nothing is accepted, events stay in the buffer, which is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import threading
import time
from concurrent.futures import Future
from typing import Final

from msgspec import Struct

from producer.buffer import Buffer
from producer.config import ProducerConfig
from producer.connection import Connection
from producer.errors import NeverAccepted, NotNow
from producer.events import Event, ProducerReport
from producer.identity import now_us
from producer.packing import Packed, Packer

logger = logging.getLogger(__name__)

WINDOW: Final = 8
"""Messages in flight at once; more buy nothing (measured)."""

_TAKE: Final = 1600
_FIRST_BACKOFF_S: Final = 0.1
_LAST_BACKOFF_S: Final = 5.0


class Stats(Struct, frozen=True, kw_only=True):
    """Counts of one process since its start; `waiting` and `connection` are of this moment."""

    captured: int
    published: int
    retried: int
    coalesced: int
    dropped: int
    refused: int
    unattributed: int
    waiting: int
    connection: str


class Publisher:
    """`put` from any thread; everything else happens in the publisher's own."""

    def __init__(self, config: ProducerConfig) -> None:
        self.config = config
        self.producer_id = secrets.token_hex(8)
        self.buffer = Buffer(config.limits)
        self.published = 0
        self.retried = 0
        self.refused = 0
        self.unattributed = 0
        self._packer = Packer(self.producer_id)
        self._pending: list[Packed] = []
        self._flushes: list[Future[None]] = []
        self._reported = (0, 0, 0)
        self._reports = 0
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._main, name="voicecosts-publisher", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<Publisher {self.producer_id}: {self._connection!r}, {self.buffer!r}>"

    @property
    def lost(self) -> int:
        """Events that no server will ever take: refused for good, or not to be encoded."""
        return self.refused + self._packer.refused

    def put(self, event: Event) -> None:
        """Take an event; never waits and never raises."""
        self.buffer.put(event)

    def flush(self) -> Future[None]:
        """Return a future that is done when everything put before was acknowledged."""
        done: Future[None] = Future()
        # Appended here rather than in the thread, which may not be up yet: nobody waits for it.
        self._flushes.append(done)
        self._wake_up()
        return done

    def close(self, timeout_s: float) -> bool:
        """Publish what is left for at most `timeout_s` seconds, then end the thread.

        Returns whether everything was acknowledged. Blocks: not for a voice loop.
        """
        done = self.flush()
        try:
            done.result(timeout_s)
        except TimeoutError:
            logger.warning(
                "closed with %d events and %d messages not acknowledged: they are lost",
                len(self.buffer),
                len(self._pending),
            )
        self._closing = True
        self._wake_up()
        self._thread.join(timeout_s)
        return done.done()

    def stats(self) -> Stats:
        """Return the counts of this process."""
        return Stats(
            captured=self.buffer.captured,
            published=self.published,
            retried=self.retried,
            coalesced=self.buffer.coalesced,
            dropped=self.buffer.dropped,
            refused=self.lost,
            unattributed=self.unattributed,
            waiting=len(self.buffer) + sum(packed.events for packed in self._pending),
            connection=self._connection.state if self._connection else "not connected",
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
                time.sleep(_LAST_BACKOFF_S)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._connection = Connection(self.config)
        backoff_s = _FIRST_BACKOFF_S
        while not self._closing:
            # 1. Whatever is asked to be flushed from here on is taken in this round or a later one.
            flushes = self._flushes
            self._flushes = []
            # 2. Events leave the buffer only into messages that this thread holds until acked.
            #    If we die here, what was taken is lost with the process, as the buffer is.
            drained = self._fill()
            # 3. Send. A message that was not acknowledged stays pending under the same id.
            accepted = await self._send(self._connection)
            if drained and not self._pending:
                for done in flushes:
                    done.set_result(None)
            else:
                self._flushes += flushes
            if accepted:
                backoff_s = _FIRST_BACKOFF_S
                if drained:
                    await self._sleep(self.config.linger_s)
            else:
                self.buffer.fold()
                await self._sleep(backoff_s * random.uniform(1.0, 1.5))  # noqa: S311 - jitter
                backoff_s = min(backoff_s * 2, _LAST_BACKOFF_S)
        await self._connection.close()

    def _fill(self) -> bool:
        """Pack events into the free places of the window; tell whether the buffer was emptied."""
        if len(self._pending) >= WINDOW:
            return False
        events = self.buffer.take(_TAKE)
        report = self._report()
        if report is not None:
            events.append(report)
        self._pending += self._packer.pack(events)
        return len(self.buffer) == 0

    def _report(self) -> ProducerReport | None:
        """Return a report when something was lost or merged since the last one."""
        losses = (self.buffer.coalesced, self.buffer.dropped + self.lost, self.unattributed)
        if losses == self._reported:
            return None
        self._reported = losses
        self._reports += 1
        coalesced, dropped, unattributed = losses
        return ProducerReport(
            producer_id=self.producer_id,
            number=self._reports,
            project=self.config.project,
            reported_at=now_us(),
            captured=self.buffer.captured,
            coalesced=coalesced,
            dropped=dropped,
            unattributed=unattributed,
        )

    async def _send(self, connection: Connection) -> bool:
        """Send what is pending; tell whether the server accepted all of it."""
        window = self._pending[:WINDOW]
        results = await asyncio.gather(
            *(connection.publish(message) for message in window), return_exceptions=True
        )
        left: list[Packed] = []
        for message, result in zip(window, results, strict=True):
            if result is None:
                self.published += message.events
            elif isinstance(result, NeverAccepted):
                self.refused += message.events
                logger.error("%d events were refused for good: %s", message.events, result.reason)
            elif isinstance(result, NotNow):
                self.retried += 1
                left.append(message)
            else:
                left.append(message)
                logger.error("publishing failed unexpectedly; it is tried again", exc_info=result)
        self._pending = left + self._pending[WINDOW:]
        return not left

    async def _sleep(self, seconds: float) -> None:
        """Sleep, or less when a flush or the end is asked for."""
        wake = self._wake
        if wake is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await wake.wait()
        except TimeoutError:
            return
        wake.clear()
