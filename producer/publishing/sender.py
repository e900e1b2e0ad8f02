"""From the backlog to JetStream: at most eight messages in flight, each until it is acknowledged.

A message that is not accepted now is sent again under the same id, after a pause that grows while
nothing is accepted; one that can never be accepted is quarantined with the reason. A subject that
the credentials may not publish on is left out for half a minute, so that the others do not wait.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Final

from voicecosts.producer.errors import NeverAccepted, NotAllowed, NotNow, TooLarge
from voicecosts.producer.outbox.backlog import Backlog, Held
from voicecosts.producer.outbox.packing import Packed, halves
from voicecosts.producer.publishing.connection import Connection

logger = logging.getLogger(__name__)

WINDOW: Final = 8
"""Messages in flight at once; more buy nothing (measured)."""

_PACE_S: Final = 0.4
_FIRST_BACKOFF_S: Final = 0.1
_LAST_BACKOFF_S: Final = 5.0
_DENIED_S: Final = 30.0
_IDLE_S: Final = 1.0


class Tally:
    """Counts of a process, which outlive a connection and a loop."""

    def __init__(self) -> None:
        self.published = 0
        self.retried = 0


class Sender:
    """Used by the publisher's thread. `on_progress` is called when messages may have become safe."""

    def __init__(
        self,
        connection: Connection,
        backlog: Backlog,
        tally: Tally,
        on_progress: Callable[[], None],
    ) -> None:
        self.connection = connection
        self.stored = asyncio.Event()
        """Set when something was put into the backlog."""
        self.flush_asked = asyncio.Event()
        """Set when a flush was asked for: it ends the pause before the next try."""
        self._backlog = backlog
        self._tally = tally
        self._on_progress = on_progress
        self._denied_until: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Sender {self.connection!r}, {len(self._denied_until)} subjects denied>"

    async def run(self) -> None:
        """Send until cancelled."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            self.stored.clear()
            now = time.monotonic()
            self._denied_until = {
                subject: end for subject, end in self._denied_until.items() if end > now
            }
            window = self._backlog.window(WINDOW, self._denied_until)
            if not window:
                await pause(self.stored, _IDLE_S)
                continue
            # 1. Send. If we die here, JetStream may have what the outbox still holds: it is sent
            #    again under the same id, and booking a reading twice books nothing.
            accepted = await self._send(window)
            # 2. Only what was acknowledged or quarantined leaves the disk.
            self._backlog.forget_done()
            self._on_progress()
            if accepted:
                backoff_s = _FIRST_BACKOFF_S
                if len(window) < WINDOW:
                    # What is on disk may wait for more to be sent with it: each try wakes the loop
                    # and the connection, however little it sends. A flush does not wait for this.
                    await pause(self.flush_asked, _PACE_S)
            else:
                await pause(self.flush_asked, backoff_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                backoff_s = min(backoff_s * 2, _LAST_BACKOFF_S)

    async def _send(self, window: list[Held]) -> bool:
        """Send messages; return whether the server answered all of them."""
        results = await asyncio.gather(
            *(self._deliver(held.message) for held in window), return_exceptions=True
        )
        accepted = True
        for held, result in zip(window, results, strict=True):
            if isinstance(result, list):
                for message, reason in result:
                    self._backlog.quarantine.add(message, reason)
                self._tally.published += held.message.events - sum(m.events for m, _ in result)
                self._backlog.done(held)
                continue
            self._tally.retried += 1
            if isinstance(result, NotAllowed):
                # The other subjects must not wait for this one.
                self._denied_until[held.message.subject] = time.monotonic() + _DENIED_S
                continue
            accepted = False
            if not isinstance(result, NotNow):
                logger.error("publishing failed unexpectedly and is tried again", exc_info=result)
        return accepted

    async def _deliver(self, message: Packed) -> list[tuple[Packed, str]]:
        """Publish a message, in parts where it is too large; return what can never be accepted."""
        try:
            await self.connection.publish(message)
        except TooLarge as error:
            smaller = halves(message)
            refused = [] if smaller else [(message, error.reason)]
            for half in smaller:
                refused += await self._deliver(half)
            return refused
        except NeverAccepted as error:
            return [(message, error.reason)]
        return []


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Sleep, or less when the event is set; it is cleared then."""
    # A timer that sets the event: cheaper than a timeout, which is raised and caught each time.
    timer = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
    event.clear()
