"""Messages from the durable consumer, a group at a time, over connections that may fail.

A connection is used until its first fault and then replaced, after a pause that grows. At the start
a broker that cannot be reached is an error; later an outage is waited out. A message that is lost
on the way is offered again until it is acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from voicecosts.consumer.broker.connection import (
    GROUP_MESSAGES,
    UNUSABLE,
    Connection,
    Group,
    Waits,
    failure,
    words,
)
from voicecosts.consumer.broker.footing import Books, Footing
from voicecosts.consumer.broker.stream import ACK_WAIT_S
from voicecosts.consumer.config import LedgerConfig
from voicecosts.consumer.errors import StreamClaimed
from voicecosts.producer.settings import mask
from voicecosts.producer.subjects import STREAM

START_DEADLINE_S: Final = 30.0

_BACKOFF_S = (0.1, 5.0)
_log = logging.getLogger(__name__)


class Feed:
    """The messages of the durable consumer, for one task.

    `books` is the ledger that they are for. With `take_over` another ledger's claim on them does not
    count.
    """

    def __init__(
        self,
        config: LedgerConfig,
        books: Books,
        stop: asyncio.Event,
        *,
        take_over: bool = False,
        waits: Waits | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._books = books
        self._stop = stop
        self._waits = waits or Waits()
        self._clock = clock
        self._jitter = jitter
        self._footing = Footing(
            config, books, clock, renew_s=self._waits.renew_s, take_over=take_over
        )
        self._link: Connection | None = None
        self._error: BaseException | None = None
        self._reason = ""
        self._failures = 0
        self._doubted_until = 0.0
        self._has_warned = False  # of clear text

    async def open(self, *, deadline_s: float = START_DEADLINE_S) -> None:
        """Connect, and create or check the stream and the consumer.

        Raises:
            BrokerUnreachable: No usable broker until the deadline, with the last reason.
            BrokerFailed: It refused until the deadline to create the stream or the consumer.
            StreamDrift: The stream or the consumer is not what the ledger declares.
            StreamClaimed: Another ledger reads the stream.
            LedgerBehind: Messages are missing, and cannot be read again.
            MissingExtra: The credentials are nkeys and the package for them is not installed.
        """
        until = self._clock() + deadline_s
        while self._link is None and not self._stop.is_set():
            if not await self._connect() and self._clock() >= until:
                raise failure(self._config, self._error, self._reason)

    async def next_group(self, at_most: int = GROUP_MESSAGES, *, is_brief: bool = False) -> Group:
        """Return up to `at_most` messages, or what came within `GROUP_S`, or nothing.

        Where the ledger has other work to do, the wait `is_brief`.

        An outage is waited out: it shows as empty groups whose `waiting` is not known, and which
        were not answered (`asked_at`).

        Raises:
            StreamDrift: After a reconnect the stream is no longer what the ledger declares.
            StreamClaimed: Another ledger has taken over.
            LedgerBehind: Messages are missing, and cannot be read again.
        """
        link = self._link
        if link is None:
            await self._connect()
            return Group()
        group = await link.pull(at_most, is_brief=is_brief)
        try:
            if group.messages:
                await self._footing.still_ours(link.api)
            await self._footing.look(link.api)
        except StreamClaimed:
            # Nothing of this group is booked: the other ledger gets it at once.
            with contextlib.suppress(*UNUSABLE):
                await link.give_back(group)
            raise
        except UNUSABLE as error:
            # Nothing of this group is booked: it is offered again.
            await self._drop(link.reason(error))
            return Group()
        if link.fault:
            await self._drop(link.fault)
        after = self._books.progress.booked(message.sequence for message in group.messages)
        if after.above or self._clock() < self._doubted_until:
            return replace(group, waiting=group.waiting or None, asked_at=None)
        return group

    async def acknowledge(self, group: Group) -> None:
        """Tell the broker that these messages are committed.

        A failure is harmless: they come again and book nothing.
        """
        if self._link is not None:
            try:
                await self._link.acknowledge(group)
            except UNUSABLE as error:
                await self._drop(words(error))

    async def close(self) -> None:
        """Give up the claim and close the connection; acknowledgements are flushed first."""
        if self._link is not None:
            with contextlib.suppress(*UNUSABLE):
                async with asyncio.timeout(self._waits.answer_s):
                    await self._footing.release(self._link.api)
        await self._close_link()

    async def _close_link(self) -> None:
        if self._link is not None:
            await self._link.close()
            self._link = None

    async def _connect(self) -> bool:
        """Try once, and wait after a failure: longer each time, with jitter."""
        link = Connection(self._stop, self._waits)
        try:
            await link.open(self._config)
            await self._check(link)
        except BaseException as error:
            reason = link.reason(error)
            await link.close()
            if not isinstance(error, UNUSABLE):
                raise
            self._error = link.cause(error)
            self._note_outage(reason)
        else:
            self._link = link
            self._failures, self._reason, self._error = 0, "", None
            if link.warning and not self._has_warned:
                self._has_warned = True
                _log.warning("%s", link.warning)
            _log.info("reading stream %s from %s", STREAM, mask(link.address))
            return True
        first_s, longest_s = _BACKOFF_S
        pause_s = min(longest_s, first_s * 2**self._failures) * (0.5 + self._jitter() / 2)
        self._failures = min(self._failures + 1, 16)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), pause_s)
        return False

    async def _check(self, link: Connection) -> None:
        """Check the stream and probe the consumer: only a pull shows whether we may pull."""
        # What a connection that died was sent, and nobody acknowledged, waits for so long, and no
        # pull tells of it.
        self._doubted_until = self._clock() + ACK_WAIT_S
        if await self._footing.find(link.api):
            self._doubted_until = 0.0
        await link.probe()

    async def _drop(self, reason: str) -> None:
        await self._close_link()
        self._note_outage(reason)

    def _note_outage(self, reason: str) -> None:
        """Log one line for each new reason, not one for each attempt."""
        if reason != self._reason:
            servers = ", ".join(map(mask, self._config.servers))
            _log.warning("no messages from %s: %s; trying until it works", servers, mask(reason))
        self._reason = reason
