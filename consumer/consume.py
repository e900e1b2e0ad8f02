"""The ledger's loop: fetch a group, book it, acknowledge it, publish for the readers.

A message is acknowledged after the commit that holds its effect, and never before, so a death at
any line loses nothing; what comes twice books nothing. A failed write ends the loop with its error,
and its messages stay in the stream. The ledger works in a thread of its own, one call at a time, so
that the event loop keeps answering the broker. Messages that workers without a server left on this
host are booked in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

from voicecosts.consumer.booking.message import Applied, Message
from voicecosts.consumer.booking.progress import Gap, Progress, Room, Seen
from voicecosts.consumer.broker.connection import GROUP_MESSAGES, Waits
from voicecosts.consumer.broker.feed import START_DEADLINE_S, Feed
from voicecosts.consumer.config import LedgerConfig
from voicecosts.consumer.errors import LedgerError, LedgerOutOfMemory, SnapshotFailed
from voicecosts.consumer.local import OpenLog, book_waiting
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.clock import Pacing
from voicecosts.consumer.store.heartbeat import RunBy
from voicecosts.consumer.store.in_hand import LAST_CHANCES, InHand
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.price_file import PriceFile
from voicecosts.producer.settings import mask
from voicecosts.producer.subjects import STREAM

SUMMARY_INTERVAL_S: Final = 30.0

LOOK_INTERVAL_S: Final = 1.0
"""How often the outboxes of this host are looked at."""

WORK_S: Final = 0.5
"""How long an operation on the books may work between two groups, at most, and one slice more."""

_WATCH_INTERVAL_S = 0.2
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_P = ParamSpec("_P")
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


async def serve(
    config: LedgerConfig,
    *,
    on_ready: Callable[[], None] = lambda: None,
    broker_ended: Callable[[], bool] | None = None,
    open_log: OpenLog | None = None,
    take_over: bool = False,
    new_stream: bool = False,
) -> None:
    """Consume until SIGINT, SIGTERM or SIGHUP, or until `broker_ended` is true. As `consume`.

    SIGHUP comes when a terminal is closed; where it is ignored, as under `nohup`, it stays so.
    """
    stop = asyncio.Event()
    watcher = asyncio.create_task(_watch(broker_ended, stop)) if broker_ended else None
    try:
        with _set_by_signals(stop):
            await consume(
                config,
                stop,
                on_ready=on_ready,
                open_log=open_log,
                take_over=take_over,
                new_stream=new_stream,
            )
    finally:
        if watcher is not None:
            watcher.cancel()


@contextlib.contextmanager
def _set_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` on the signals that end a program; afterwards they do what they did before."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _STOPPING}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]
    for number in before:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


async def consume(
    config: LedgerConfig,
    stop: asyncio.Event,
    *,
    on_ready: Callable[[], None] = lambda: None,
    waits: Waits | None = None,
    pacing: Pacing | None = None,
    start_deadline_s: float = START_DEADLINE_S,
    open_log: OpenLog | None = None,
    take_over: bool = False,
    new_stream: bool = False,
) -> None:
    """Book the stream into the ledger of `config.data_dir` until `stop` is set.

    `pacing` says when snapshots are due, else `config` does.
    With `open_log` it also books what workers without a server left on this host. The current
    group is finished, and the last snapshot published, before this returns.

    Raises:
        AnotherStream: The ledger was run with a broker of its own and is not now, or the other way
            round, and `new_stream` is not set.
        BrokerUnreachable: No usable broker within `start_deadline_s`.
        StreamDrift: The stream is not what the ledger declares.
        StreamClaimed: Another ledger reads the stream, and `take_over` is not set; or another one
            took over.
        LedgerBehind: Messages are missing, and cannot be read again.
        LedgerError: The ledger cannot be opened or written; what it did not commit stays in the
            stream.
    """
    own_prices = PriceFile(config.price_file)
    with ThreadPoolExecutor(1, thread_name_prefix="ledger") as thread:
        opening = partial(
            Ledger.open,
            config.data_dir,
            rate_by(ListPrices(), own_prices, max_reading=config.max_reading),
            pacing=pacing or _pacing_of(config),
            has_source=True,
            dead_letter_bytes=config.dead_letter_bytes,
            run_by=_run_by(config),
            new_stream=new_stream,
            own_prices=own_prices,
        )
        ledger = await asyncio.get_running_loop().run_in_executor(thread, opening)
        in_hand = InHand(Layout(config.data_dir).in_hand, full=GROUP_MESSAGES)
        worker = _LedgerThread(ledger, thread, open_log, in_hand)
        feed = Feed(config, _Books(ledger, worker), stop, waits=waits, take_over=take_over)
        try:
            await feed.open(deadline_s=start_deadline_s)
            if not stop.is_set():
                on_ready()
            while not stop.is_set():
                await worker.book_group(feed)
        except BaseException:
            with contextlib.suppress(LedgerError):  # the first error is the one to report
                await worker.run(ledger.close)
            raise
        else:
            await worker.run(ledger.close)
        finally:
            await feed.close()
        worker.log_summary(at_once=True)
        _log.info("stopped; snapshot %d holds everything that was booked", ledger.snapshot)


def _pacing_of(config: LedgerConfig) -> Pacing:
    return Pacing(
        min_interval_s=config.snapshot_interval_s, bytes_per_day=config.snapshot_bytes_per_day
    )


def _run_by(config: LedgerConfig) -> RunBy:
    if config.own_broker:
        return RunBy("up")
    return RunBy("consume", tuple(map(mask, config.servers)))


class _LedgerThread:
    """The open ledger in its thread, and the log lines about its work."""

    def __init__(
        self,
        ledger: Ledger,
        thread: ThreadPoolExecutor,
        open_log: OpenLog | None,
        in_hand: InHand,
    ) -> None:
        self._ledger = ledger
        self._thread = thread
        self._open_log = open_log
        self._next_look = 0.0
        self._done: list[Applied] = []
        self._next_summary = 0.0
        self._waiting: int | None = None
        self._trouble = ""
        self._in_hand = in_hand
        if in_hand.died_with:
            _log.warning(
                "the last ledger ended while it booked %d messages, perhaps for want of memory; at "
                "most %d are taken at a time now",
                *(in_hand.died_with, in_hand.at_most),
            )

    async def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run one call in the ledger's thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(work, *args, **kwargs))

    async def book_group(self, feed: Feed) -> None:
        """Book the next group of the stream and publish when that is due."""
        # 1. A group is fetched. If we die, the broker offers it to the next ledger at once.
        group = await feed.next_group(self._in_hand.at_most, is_brief=self._ledger.is_at_work)
        self._waiting = group.waiting
        if group.messages:
            # 2. A few transactions. If we die inside, nothing is acknowledged, and the next ledger
            #    takes fewer messages at a time.
            self._done.append(await self.run(self._book, group.messages))
            # 3. Committed. If we die before every acknowledgement has arrived, those messages
            #    come again and book nothing.
            await feed.acknowledge(group)
        if group.asked_at is not None:
            self._ledger.heard(group.asked_at, group.waiting)
        # 4. Messages that wait on this host, by the same steps.
        await self.run(self._book_local)
        # 5. Snapshot and heartbeat. If we die, readers keep the last ones; the next ledger publishes.
        await self.run(self._publish)
        self.log_summary()

    def log_summary(self, *, at_once: bool = False) -> None:
        """Log what was booked since the last time, once in `SUMMARY_INTERVAL_S`, if anything was."""
        now = time.monotonic()
        if not self._done or (now < self._next_summary and not at_once):
            return
        _log.info(
            "booked rows: %d; events read: %d; messages read: %d; dead letters: %d%s",
            sum(applied.bookings for applied in self._done),
            sum(applied.events for applied in self._done),
            sum(applied.messages for applied in self._done),
            sum(applied.dead_letters for applied in self._done),
            "" if self._waiting is None else f"; messages waiting in the stream: {self._waiting}",
        )
        self._done.clear()
        self._next_summary = now + SUMMARY_INTERVAL_S

    def _book(self, messages: Sequence[Message]) -> Applied:
        if self._in_hand.is_deadly(messages):
            applied = self._ledger.set_aside(messages[0])
            _log.error(
                "message %d of stream %s is set aside as a dead letter: the ledger ended %d times "
                "while it read this message alone",
                *(messages[0].sequence, STREAM, LAST_CHANCES),
            )
        else:
            self._in_hand.begin(messages)
            try:
                applied = self._ledger.apply(messages)
            except LedgerOutOfMemory:
                raise  # it may be these messages: the next start takes fewer
            except BaseException:
                self._in_hand.put_down()
                raise
        self._in_hand.went_well(messages)
        return applied

    def _book_local(self) -> None:
        if self._open_log is None or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_INTERVAL_S
        log = self._open_log()
        if log is not None:
            with contextlib.closing(log):
                self._done += book_waiting(self._ledger, log)

    def _publish(self) -> None:
        trouble = ""
        self._ledger.look_at_prices()
        self._ledger.answer_requests()
        # Of a long queue the next group has pieces, and most of the work is done beside them.
        is_behind = (self._waiting or 0) >= GROUP_MESSAGES and not self._ledger.is_operating
        until = time.monotonic() + (0 if is_behind else WORK_S)
        try:
            while self._ledger.work() and time.monotonic() < until:
                pass
            self._ledger.publish_if_due()
            self._ledger.heartbeat(self._waiting)
        except SnapshotFailed as error:  # what is booked is safe; readers keep the last snapshot
            trouble = str(error)
        if trouble != self._trouble:
            _log.warning("%s", trouble or "snapshots are published again")
        self._trouble = trouble


class _Books:
    """The ledger as the feed knows it: it is asked at once, and written in its own thread."""

    def __init__(self, ledger: Ledger, worker: _LedgerThread) -> None:
        self._ledger = ledger
        self._worker = worker

    @property
    def ledger_id(self) -> str:
        return self._ledger.ledger_id

    @property
    def progress(self) -> Progress:
        return self._ledger.progress

    @property
    def kept(self) -> Progress | None:
        return self._ledger.kept

    async def reconcile(self, seen: Seen) -> tuple[Gap, ...]:
        return await self._worker.run(self._ledger.reconcile, seen)

    async def trimmed(self, upto: int) -> None:
        await self._worker.run(self._ledger.trimmed, upto)

    def room(self, room: Room) -> None:
        self._ledger.stream_room(room)


async def _watch(ended: Callable[[], bool], stop: asyncio.Event) -> None:
    while not ended():  # noqa: ASYNC110 - a child process cannot set an event
        await asyncio.sleep(_WATCH_INTERVAL_S)
    stop.set()
