"""The ledger's side of its stream and consumer: its claim, the gaps, what is read again, the space left.

At each new connection and every few seconds it asks the broker how stream and consumer stand. It
refuses to read what another ledger reads, notes what is missing for good, has read again what is
missing and still there, and makes room. Where the credentials do not allow to ask, the messages
themselves still show what is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from msgspec.structs import replace
from nats.js.errors import APIError

from voicecosts.consumer.booking.progress import Gap, Progress, Range, Room, Seen
from voicecosts.consumer.broker.claim import Claim, check, claim_of, metadata_with, words
from voicecosts.consumer.broker.requests import Api, Denied
from voicecosts.consumer.broker.rewind import acked, rewind, runs_in_words
from voicecosts.consumer.broker.room import (
    TRIM_SHARE,
    WARN_SHARE,
    find_cut,
    may_trim,
    reason,
    room_of,
    trim,
)
from voicecosts.consumer.broker.stored import find_unreadable, is_another
from voicecosts.consumer.broker.stream import (
    ACK_WAIT_S,
    DURABLE,
    Standing,
    StreamGone,
    consumer_info,
    declaration,
    ensure,
    inspect,
    stream_info,
    write_consumer,
)
from voicecosts.consumer.config import LedgerConfig
from voicecosts.consumer.errors import LedgerBehind, StreamClaimed
from voicecosts.producer.subjects import STREAM

if TYPE_CHECKING:
    from datetime import datetime

    from nats.js import api

    from voicecosts.consumer.broker.stream import StreamInfo

LEASES: Final = 3
"""A claim that was not renewed for so many times its interval has run out."""

PATIENCE: Final = 1.5
"""How many times the acknowledgement's deadline a missing message may be on its way."""

REMOVED_AFTER_S: Final = 2.0
"""How long a stream that is gone is not made again. nats-server says so before it has removed the files, and a new
stream of that name in the same moment may find some of them, and then stores nothing until the server is started
again (seen with 2.15.1 on a busy machine)."""

READINGS: Final = 3
"""A message that was not offered in so many readings cannot be read, where nobody may ask for it."""

_LONGEST_PAUSE_S = 300.0

_log = logging.getLogger(__name__)


class Books(Protocol):
    """What the broker's side asks of the ledger, and tells it."""

    @property
    def ledger_id(self) -> str:
        """Which ledger it is."""

    @property
    def progress(self) -> Progress:
        """How far the stream is booked."""

    @property
    def kept(self) -> Progress | None:
        """How far it is booked in the published snapshot; None while there is none."""

    async def reconcile(self, seen: Seen) -> tuple[Gap, ...]:
        """Compare with the stream that is there, note the gaps that are new, and return them."""

    async def trimmed(self, upto: int) -> None:
        """Note that booked messages up to this one were removed."""

    def room(self, room: Room) -> None:
        """Note how full the stream is."""


class Footing:
    """The ledger's side of one stream and consumer, over one connection after the other."""

    def __init__(
        self,
        config: LedgerConfig,
        books: Books,
        clock: Callable[[], float],
        *,
        renew_s: float,
        take_over: bool,
    ) -> None:
        self._config = config
        self._books = books
        self._clock = clock
        self._renew_s = renew_s
        self._take_over = take_over
        self._own = Claim.of(books.ledger_id, config.data_dir)
        self._is_claimed = False
        self._next_look = 0.0
        self._gone_since: float | None = None
        self._hole_since: float | None = None
        self._read_from: int | None = None  # the floor from which it was read again, so many times
        self._readings = 0
        self._read_at = 0.0
        self._said: dict[str, str] = {}

    async def find(self, ask: Api) -> bool:
        """Create or check stream and consumer, claim them, and have read again what is missing.

        Returns whether nothing is on its way to anybody.

        Raises:
            StreamDrift: The stream is not what the ledger declares.
            StreamGone: It was read and is gone, since less than `REMOVED_AFTER_S`.
            StreamClaimed: Another ledger reads it.
            LedgerBehind: Something is missing, and cannot be read again.
        """
        standing = await self._ensured(ask)
        self._say("declaration", "; ".join(standing.remarks))
        if standing.denied:
            self._say(
                "denied",
                f"these credentials may not publish to {' and '.join(standing.denied)}: the stream "
                f"{STREAM} is used unchecked, and a second ledger on it would not be refused",
            )
        took_over = False
        if standing.consumer is not None:
            took_over = await self._claim(ask, standing.consumer, standing.now)
        await self._settle(ask, standing, is_cut=await self._is_cut(ask, standing))
        if standing.consumer is not None:
            await self._rewind(ask, standing.consumer)
        await self._make_room(ask, standing)
        self._next_look = self._clock() + self._renew_s
        if standing.consumer is None or took_over:
            return False
        return not (standing.consumer.num_ack_pending and await self._pending(ask))

    async def look(self, ask: Api) -> None:
        """Look again when it is time to, or when a message is missing.

        Raises:
            StreamClaimed: Another ledger took over.
            LedgerBehind: Something is missing, and cannot be read again.
        """
        now = self._clock()
        is_missing = bool(self._books.progress.above)
        if not is_missing:
            self._hole_since = None
        elif self._hole_since is None:
            self._hole_since = now
        soon = self._next_look - self._renew_s * (1 - 1 / LEASES)
        if now < (soon if is_missing else self._next_look):
            return
        self._next_look = now + self._renew_s
        standing = await inspect(ask)
        if standing.consumer is not None:
            await self._renew(ask, standing.consumer, standing.now)
        is_tight = (
            standing.stream is not None and room_of(standing.stream).percent >= TRIM_SHARE * 100
        )
        is_cut = is_tight and await self._is_cut(ask, standing)
        await self._settle(ask, standing, is_cut=is_cut)
        if standing.stream is None or standing.consumer is None:
            self._refuse_holes(standing, now)
        elif self._is_behind(standing.consumer):
            await self._read_again(ask, standing, standing.consumer)
        await self._make_room(ask, standing)

    async def still_ours(self, ask: Api) -> None:
        """Raise `StreamClaimed` if another ledger has taken over; asked before a group is booked."""
        if self._is_claimed:
            info, _ = await consumer_info(ask)
            self._require_own(info)

    async def release(self, ask: Api) -> None:
        """Give the claim up, so that any ledger may read next."""
        if not self._is_claimed:
            return
        info, now = await consumer_info(ask)
        found = claim_of(info.config.metadata)
        if found is not None and found.run == self._own.run:
            await self._write(ask, info, replace(self._own, renewed=now, released=True))

    async def _ensured(self, ask: Api) -> Standing:
        """Create or check stream and consumer; one that was read is made again some time after it was missed."""
        now = self._clock()
        was_read = self._books.progress.stream_us is not None
        is_removed = self._gone_since is not None and now >= self._gone_since + REMOVED_AFTER_S
        try:
            standing = await ensure(
                ask, declaration(self._config), creates=is_removed or not was_read
            )
        except StreamGone:
            self._gone_since = now if self._gone_since is None else self._gone_since
            raise
        self._gone_since = None
        return standing

    async def _claim(self, ask: Api, info: api.ConsumerInfo, now: datetime) -> bool:
        """Claim the consumer; return whether that took it from a ledger that may be at work."""
        took_over = False
        found = claim_of(info.config.metadata)
        if not self._take_over:
            check(found, self._own, now, lease_s=self._renew_s * LEASES)
        elif found is not None and found.run != self._own.run and not found.released:
            took_over = True
            _log.warning("taking the stream %s over from %s", STREAM, words(found, self._own))
        self._take_over = False  # once: whoever takes over from us did so on purpose
        await self._renew(ask, info, now, is_first=True)
        return took_over

    async def _renew(
        self, ask: Api, info: api.ConsumerInfo, now: datetime, *, is_first: bool = False
    ) -> None:
        if not is_first:
            if not self._is_claimed:
                return
            self._require_own(info)
        try:
            await self._write(ask, info, self._own.at(now))
            self._is_claimed = True
        except Denied as error:
            self._is_claimed = False
            self._say("claim", f"{error}: a second ledger on the stream would not be refused")

    async def _write(self, ask: Api, info: api.ConsumerInfo, claim: Claim) -> None:
        self._own = claim
        metadata = metadata_with(info.config.metadata, claim)
        await write_consumer(ask, info.config.evolve(name=None, metadata=metadata))

    def _require_own(self, info: api.ConsumerInfo) -> None:
        found = claim_of(info.config.metadata)
        if found is not None and found.run != self._own.run:
            self._is_claimed = False
            raise StreamClaimed(
                STREAM, holder=words(found, self._own), since=found.since, free_in_s=None
            )

    async def _settle(
        self,
        ask: Api,
        standing: Standing,
        *,
        is_cut: bool = False,
        unreadable: tuple[Range, ...] = (),
    ) -> None:
        """Note what is missing for good."""
        stream = standing.stream
        if stream is None:
            return
        wants_details = stream.deleted_messages and (
            self._books.progress.above
            or (standing.consumer and acked(standing.consumer) > self._books.progress.floor)
        )
        if wants_details:
            stream = await stream_info(ask, with_deleted=True)
        seen = replace(stream.seen, is_cut=is_cut, unreadable=unreadable)
        for gap in await self._books.reconcile(seen):
            _log.warning("%s never reached this ledger (%s)", gap, gap.why.value)

    async def _is_cut(self, ask: Api, standing: Standing) -> bool:
        """Return whether the stream lost its end, and has other messages with its numbers since."""
        stream, progress = standing.stream, self._books.progress
        if stream is None or progress.mark is None or progress.stream_us != stream.created_us:
            return False
        try:
            is_cut = await is_another(ask, stream, progress.mark)
        except (Denied, APIError) as error:
            self._say(
                "mark", f"{reason(error)}: a stream that lost its end would not always be noticed"
            )
            return False
        if is_cut:
            _log.warning(
                "the stream %s lost its end: message %d is not the one that is booked; the stream is "
                "read again from its start",
                *(STREAM, progress.mark.sequence),
            )
        return is_cut

    async def _rewind(self, ask: Api, info: api.ConsumerInfo) -> None:
        """Have what is missing read again, and count how often it was."""
        floor = self._books.progress.floor
        self._say("rewind", await rewind(ask, info, self._books.progress) or "")
        self._readings = self._readings + 1 if floor == self._read_from else 1
        self._read_from, self._read_at = floor, self._clock()

    async def _read_again(self, ask: Api, standing: Standing, info: api.ConsumerInfo) -> None:
        """Have what is missing read again, less and less often, and note what the server has lost."""
        floor = self._books.progress.floor
        if floor != self._read_from:
            await self._rewind(ask, info)
            return
        silent_s = self._clock() - self._read_at
        is_passed = acked(info) > floor  # by whatever the server offered
        if not is_passed and silent_s < PATIENCE * ACK_WAIT_S:
            return  # it is on its way
        lost = await self._unreadable(ask, info)
        if lost:
            await self._settle(ask, standing, unreadable=lost)
        elif silent_s >= min(_LONGEST_PAUSE_S, self._renew_s * 2.0**self._readings / LEASES):
            await self._rewind(ask, info)

    async def _unreadable(self, ask: Api, info: api.ConsumerInfo) -> tuple[Range, ...]:
        progress = self._books.progress
        missing = progress.unbooked(max(acked(info), progress.highest))
        try:
            return await find_unreadable(ask, missing)
        except (Denied, APIError):
            return missing[:1] if self._readings >= READINGS else ()

    def _is_behind(self, info: api.ConsumerInfo) -> bool:
        progress = self._books.progress
        return bool(progress.above) or acked(info) > progress.floor

    def _refuse_holes(self, standing: Standing, now: float) -> None:
        """Refuse to go on past messages that may be there and cannot be asked for."""
        progress = self._books.progress
        if self._hole_since is None or now - self._hole_since < PATIENCE * ACK_WAIT_S:
            return
        subjects = " and ".join(standing.denied)
        raise LedgerBehind(
            runs_in_words(progress.unbooked(progress.highest)),
            f"these credentials may not publish to {subjects}",
            f"Allow this ledger to publish to {subjects} and $JS.API.CONSUMER.RESET.{STREAM}."
            f"{DURABLE}, and start again.",
        )

    async def _pending(self, ask: Api) -> int:
        info, _ = await consumer_info(ask)
        return info.num_ack_pending or 0

    async def _make_room(self, ask: Api, standing: Standing) -> None:
        if standing.stream is None:
            return
        room = room_of(standing.stream)
        self._books.room(room)
        if room.percent < WARN_SHARE * 100:
            self._say("room", "")
            return
        try:
            problem = await self._trim(ask, standing.stream, room)
        except (Denied, APIError) as error:
            problem = reason(error)
        self._say("room", problem and f"{_full(room)}, and cannot be trimmed: {problem}")

    async def _trim(self, ask: Api, info: StreamInfo, room: Room) -> str:
        """Trim when it is time, and return why that was not possible."""
        if room.percent < TRIM_SHARE * 100:
            await may_trim(ask, info)
            return ""
        cut = await find_cut(ask, info, self._books.kept, keep_s=self._config.stream_keep_s)
        if cut is None:
            return (
                "nothing in it is booked and in a snapshot and may go. Make the stream larger with "
                "--stream-max-bytes; until there is room, workers keep what they measure"
            )
        purged = await trim(ask, cut)
        await self._books.trimmed(cut.upto)
        left = await stream_info(ask)
        self._books.room(room_of(left))
        _log.warning(
            "%s: removed %d booked messages, up to message %d; it is now %s",
            *(_full(room), purged, cut.upto, f"{room_of(left).percent} % full"),
        )
        return ""

    def _say(self, topic: str, words: str) -> None:
        """Log a state once, when it changes."""
        if words and self._said.get(topic) != words:
            _log.warning("%s", words)
        self._said[topic] = words


def _full(room: Room) -> str:
    return f"the stream {STREAM} is {room.percent} % full"
