"""From the backlog to JetStream: at most eight messages in flight, each until it is acknowledged.

A message that is not accepted now is sent again under the same id, after a pause that grows while
nothing is accepted: up to five seconds while there are calls, up to a minute while only old
messages wait. One that can never be accepted is quarantined with the reason. A subject that the
credentials may not publish on is left out for half a minute, so that the others do not wait.
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
_LAST_BACKOFF_AT_REST_S: Final = 60.0
_AT_REST_AFTER_S: Final = 30.0
_DENIED_S: Final = 30.0


class Tally:
    """Counts of a process, which outlive a connection and a loop."""

    def __init__(self) -> None:
        self.published = 0
        self.retried = 0
        self.tries = 0  # of a server, also where there was nothing to send


class Sender:
    """Used by the publisher's thread. `on_progress` is called when messages may have become safe.

    `is_waited_for` tells whether anybody waits for an acknowledgement.
    """

    def __init__(
        self,
        connection: Connection,
        backlog: Backlog,
        tally: Tally,
        *,
        on_progress: Callable[[], None],
        is_waited_for: Callable[[], bool],
    ) -> None:
        self.connection = connection
        self._backlog = backlog
        self._tally = tally
        self._on_progress = on_progress
        self._is_waited_for = is_waited_for
        self._denied_until: dict[str, float] = {}
        self._to_send = asyncio.Event()  # there is something in the backlog
        self._try_now = asyncio.Event()  # ends the pause before the next try
        self._is_at_rest = False
        self._last_new_at = time.monotonic()

    def __repr__(self) -> str:
        return f"<Sender {self.connection!r}, {len(self._denied_until)} subjects denied>"

    def notice(self, *, is_new: bool) -> None:
        """Something is in the backlog; `is_new`: a call has put it there just now."""
        self._to_send.set()
        if is_new:
            self._last_new_at = time.monotonic()
            if self._is_at_rest:
                self._try_now.set()

    def try_now(self) -> None:
        """End the pause: a flush was asked for."""
        self._try_now.set()

    async def run(self) -> None:
        """Send until cancelled."""
        backoff_s = _FIRST_BACKOFF_S
        while True:
            self._to_send.clear()
            now = time.monotonic()
            self._denied_until = {
                subject: end for subject, end in self._denied_until.items() if end > now
            }
            window = self._backlog.window(WINDOW, self._denied_until)
            if not window:
                self._tally.tries += 1
                self._on_progress()
                until = min(self._denied_until.values(), default=None)
                await pause(self._to_send, None if until is None else until - now)
                continue
            # 1. Send. If we die here, JetStream may have what the outbox still holds: it is sent
            #    again under the same id, and booking a reading twice books nothing.
            accepted = await self._send(window)
            # 2. Only what was acknowledged or quarantined leaves the disk.
            self._backlog.forget_done()
            self._tally.tries += 1
            self._on_progress()
            if accepted:
                backoff_s = _FIRST_BACKOFF_S
                if len(window) < WINDOW:
                    # What is on disk may wait for more to be sent with it: each try wakes the loop
                    # and the connection, however little it sends. A flush does not wait for this.
                    await pause(self._try_now, _PACE_S)
            else:
                backoff_s = self._capped(backoff_s)
                await pause(self._try_now, backoff_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                self._is_at_rest = False
                backoff_s *= 2

    def _capped(self, backoff_s: float) -> float:
        """Return the pause before the next try, which is longer while no call is waiting for it.

        Each try costs a connection, and a host may have hundreds of processes with nothing to do.
        """
        is_quiet = time.monotonic() - self._last_new_at > _AT_REST_AFTER_S
        self._is_at_rest = is_quiet and not self._is_waited_for()
        return min(backoff_s, _LAST_BACKOFF_AT_REST_S if self._is_at_rest else _LAST_BACKOFF_S)

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


async def pause(event: asyncio.Event, seconds: float | None) -> None:
    """Sleep, or less when the event is set; it is cleared then. `None` is until it is set."""
    if seconds is None:
        await event.wait()
        event.clear()
        return
    # A timer that sets the event: cheaper than a timeout, which is raised and caught each time.
    timer = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
    event.clear()
