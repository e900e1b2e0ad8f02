"""One connection to the broker with one pull at a time: used until its first fault.

The client library may close itself for good, stay silent or stop receiving while it says that it is
connected, so a connection is judged by answers alone: a quiet stream answers every pull within a
second, and when nothing comes there is no connection. Nothing here retries; `feed` does.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import nats.errors
from msgspec import Struct
from nats.aio.msg import Msg
from nats.js.errors import APIError, NotFoundError

from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.broker.requests import Api, Denials
from voicecosts.consumer.broker.stream import DURABLE
from voicecosts.consumer.broker.wire import LenientClient
from voicecosts.consumer.config import LedgerConfig
from voicecosts.consumer.errors import (
    BrokerError,
    BrokerFailed,
    BrokerNotTrusted,
    BrokerRefuses,
    BrokerUnreachable,
    MissingExtra,
)
from voicecosts.producer.settings import credentials_kind, mask
from voicecosts.producer.subjects import STREAM
from voicecosts.producer.tls import explained
from voicecosts.producer.transport import NotEncrypted, exposed, guarded

GROUP_MESSAGES: Final = 1000
GROUP_BYTES: Final = 8 * 2**20
"""Of messages at a time, at most: a few of the largest, or 30,000 readings as workers pack them."""

_BRIEF_S: Final = 0.05
"""How long a group is waited for while the ledger has other work."""

MISSED_INTERVAL_S: Final = 60.0
"""How often it is said that another reader gets messages."""

INBOX_PREFIX: Final = "_INBOX_c"
"""A prefix of its own: permissions can then keep other clients from reading the ledger's messages."""

_NO_ROOM: Final = (10023, 10028, 10047)
"""JetStream's errors where the server or the account has not enough storage for a stream."""

_REFUSED: Final = re.compile(r"authoriz|authentic|permissions violation", re.IGNORECASE)
"""What a server says to whom it does not let in, or not do what a ledger does."""

UNUSABLE: Final = (OSError, TimeoutError, nats.errors.Error)
"""What a connection raises when it cannot be used any more."""

_NEXT = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{DURABLE}"
_NOT_BOOKED = b"-NAK"
_PROBE = {"batch": 1, "no_wait": True}
_OVER = ("404", "408")  # an empty or an expired pull: the ordinary end
_FULL = ("Batch Completed", "Message Size Exceeds MaxBytes")

_FIELDS = 9  # $JS.ACK.<stream>.<consumer>.<times>.<sequence>.<delivery>.<time>.<waiting>

_log = logging.getLogger(__name__)


class Waits(Struct, frozen=True, kw_only=True):
    """How long to wait: for a group to fill, for any answer, for a connection.

    Every `renew_s` the ledger looks at the stream and renews its claim on the consumer.
    """

    group_s: float = 1.0
    answer_s: float = 2.0
    connect_s: float = 5.0
    renew_s: float = 15.0


class Group(Struct, frozen=True, kw_only=True):
    """The result of one pull. `waiting` more messages are in the stream; `None` if not known.

    `replies` are the addresses for the acknowledgements. `asked_at` is when the pull was sent; `None`
    if it was not answered to its end. What had reached the stream by then is booked, or waits.
    """

    messages: tuple[Message, ...] = ()
    replies: tuple[str, ...] = ()
    waiting: int | None = None
    asked_at: datetime | None = None


class _Place(NamedTuple):
    """Where a message stands: in the stream, in the deliveries, since when, how many wait behind it."""

    sequence: int
    delivery: int
    stored_us: int
    waiting: int


class Connection:
    """One connection with one pull at a time. `fault` is why it must not be used again.

    `warning` says that credentials were sent over a network in clear.
    """

    def __init__(self, stop: asyncio.Event, waits: Waits) -> None:
        self.client = LenientClient()
        self.waits = waits
        self.fault = ""
        self.last_error = ""
        self._last_cause: BaseException | None = None
        self.warning = ""
        self._denials = Denials()
        self._stop = stop
        self._begun = False
        self._inbox = ""
        self._pull_number = 0
        self._wanted = 0
        self._arrived: list[tuple[Msg, _Place]] = []
        self._over = asyncio.Event()
        self._last_delivery = 0
        self._missed = 0  # delivered to another reader, and not told yet
        self._tell_at = 0.0

    async def open(self, config: LedgerConfig) -> None:
        """Connect, or raise one of `UNUSABLE` within seconds."""
        options: dict[str, Any] = {
            "servers": list(config.servers),
            "name": "voicecosts ledger",
            "inbox_prefix": INBOX_PREFIX,
            "error_cb": self._on_error,
            "closed_cb": self._on_closed,
            "allow_reconnect": False,  # a connection is replaced, not repaired
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0.1,
            "connect_timeout": 2,
            "ping_interval": 10,
            "max_outstanding_pings": 2,
            "flush_timeout": 2,
            "pending_size": 2**20,
            **guarded(self.client, config.servers, config.tls),
            **_secrets(config),
        }
        self._begun = True
        async with asyncio.timeout(self.waits.connect_s):
            await self.client.connect(**options)
            self._inbox = self.client.new_inbox()
            await self.client.subscribe(f"{self._inbox}.*", cb=self._on_message)
        self.warning = exposed(self.client, has_credentials=config.credentials is not None) or ""

    @property
    def api(self) -> Api:
        """Where to ask JetStream something."""
        return Api(self.client, self._denials, answer_s=self.waits.answer_s)

    @property
    def address(self) -> str:
        """The address of the server that answered."""
        url = self.client.connected_url
        return url.geturl() if url else ""

    def reason(self, error: BaseException) -> str:
        """Return why it failed: the last error of the server, if `error` itself gives no reason."""
        return self.fault or (_is_vague(error) and self.last_error) or words(error)

    def cause(self, error: BaseException) -> BaseException:
        """Return what the server or TLS objected to, if `error` itself gives no reason."""
        return (self._last_cause if _is_vague(error) else None) or error

    async def probe(self) -> None:
        """Raise unless the consumer answers. A message that it sends is kept for the first pull."""
        await self._ask(_PROBE, wanted=1, answer_s=self.waits.answer_s)
        if self.fault:
            raise nats.errors.Error(self.fault)

    async def pull(self, at_most: int = GROUP_MESSAGES, *, is_brief: bool = False) -> Group:
        """Ask for one group and wait until it is full, its time is over, or we stop."""
        group_s = min(self.waits.group_s, _BRIEF_S) if is_brief else self.waits.group_s
        pull = {"batch": at_most, "max_bytes": GROUP_BYTES, "expires": int(group_s * 1e9)}
        asked_at = datetime.now(UTC)
        await self._ask(pull, wanted=at_most, answer_s=group_s + self.waits.answer_s)
        is_answered = self._over.is_set() and not self.fault
        arrived, self._arrived = self._arrived[:at_most], self._arrived[at_most:]
        return self._group(arrived, asked_at if is_answered else None)

    async def _ask(self, request: dict[str, int], *, wanted: int, answer_s: float) -> None:
        self._pull_number += 1
        self._wanted = wanted
        self.last_error = ""
        self._over.clear()
        waits = [asyncio.ensure_future(event.wait()) for event in (self._over, self._stop)]
        try:
            reply = f"{self._inbox}.{self._pull_number}"
            await self.client.publish(_NEXT, json.dumps(request).encode(), reply=reply)
            await self._wait_for_any(waits, answer_s)
        except UNUSABLE as error:
            self._end(words(error))
        finally:
            for wait in waits:
                wait.cancel()
        if not self._over.is_set() and not self._stop.is_set():
            self.fault = self.last_error or f"no answer to a pull within {answer_s} s"

    async def _wait_for_any(self, waits: Sequence[asyncio.Future[Any]], answer_s: float) -> None:
        """Wait until one is done, or nothing has come for so long: a slow network is no outage."""
        is_over = False
        while not is_over:
            received = self.client.received_bytes
            done, _ = await asyncio.wait(
                waits, timeout=answer_s, return_when=asyncio.FIRST_COMPLETED
            )
            is_over = bool(done) or self.client.received_bytes == received

    async def acknowledge(self, group: Group) -> None:
        """Send the plain acknowledgement, an empty message to each reply address."""
        async with asyncio.timeout(self.waits.answer_s):
            for reply in group.replies:
                await self.client.publish(reply)

    async def give_back(self, group: Group) -> None:
        """Have these messages offered again at once, to whoever reads next."""
        async with asyncio.timeout(self.waits.answer_s):
            for reply in group.replies:
                await self.client.publish(reply, _NOT_BOOKED)
            await self.client.flush()

    async def close(self) -> None:
        """Close in any state; if that hangs or fails, what was not sent yet is not sent."""
        if self._begun:  # nats-py asserts that there was a connect before
            try:
                async with asyncio.timeout(self.waits.answer_s):
                    await self.client.close()
            except UNUSABLE:
                pass
            finally:
                self.client.cut_off()

    def _group(self, arrived: list[tuple[Msg, _Place]], asked_at: datetime | None) -> Group:
        waiting = None if asked_at is None else 0
        for _, place in arrived:
            waiting = place.waiting
            if self._last_delivery:
                self._missed += max(0, place.delivery - self._last_delivery - 1)
            self._last_delivery = place.delivery
        self._tell_missed()
        return Group(
            messages=tuple(
                Message(m.subject, at.sequence, m.data, at.stored_us) for m, at in arrived
            ),
            replies=tuple(message.reply for message, _ in arrived),
            waiting=waiting,
            asked_at=asked_at,
        )

    def _tell_missed(self) -> None:
        """Say once in `MISSED_INTERVAL_S` how many messages another reader got since the last time."""
        now = time.monotonic()
        if not self._missed or now < self._tell_at:
            return
        _log.warning(
            "messages delivered to another reader: %d; if a second ledger reads consumer %s "
            "of stream %s, each books only a part: stop one of them",
            *(self._missed, DURABLE, STREAM),
        )
        self._missed, self._tell_at = 0, now + MISSED_INTERVAL_S

    def _end(self, fault: str = "") -> None:
        self.fault = self.fault or fault
        self._over.set()

    async def _on_message(self, msg: Msg) -> None:
        if msg.reply:  # where to acknowledge; what the server says of the pull has none
            place = _place(msg.reply)
            if place is None:  # somebody else's, who may publish to this inbox
                return
            self._arrived.append((msg, place))
            if len(self._arrived) >= self._wanted:
                self._end()
        elif msg.subject == f"{self._inbox}.{self._pull_number}":  # else of an earlier pull
            headers = msg.headers or {}
            status, text = headers.get("Status", ""), headers.get("Description", "").strip()
            usual = status in _OVER or text in _FULL
            self._end("" if usual else f"the consumer answers {status} {text}".strip())

    async def _on_error(self, error: Exception) -> None:
        # Nothing may be raised here: the client would silently stop reading.
        self.last_error, self._last_cause = words(error), error
        self._denials.note(self.last_error)

    async def _on_closed(self) -> None:
        self._end(self.last_error or "the connection was closed")


def _place(reply: str) -> _Place | None:
    """Read the address of an acknowledgement, in its first form or with domain and account.

    As the library does it, but for the time: as a moment it costs more than all the rest.
    """
    tokens = reply.split(".")
    if tokens[:2] != ["$JS", "ACK"] or not (len(tokens) == _FIELDS or len(tokens) > _FIELDS + 1):
        return None
    sequence, delivery, stored_ns, waiting = tokens[5:9] if len(tokens) == _FIELDS else tokens[7:11]
    try:
        return _Place(int(sequence), int(delivery), int(stored_ns) // 1000, int(waiting))
    except ValueError:
        return None


def _is_vague(error: BaseException) -> bool:
    return isinstance(error, (TimeoutError, nats.errors.NoServersError))


def failure(config: LedgerConfig, error: BaseException | None, reason: str) -> BrokerError:
    """Return the error of a failed start: refused, not safe to speak to, or without an answer.

    `error` is the cause of it, see `Connection.cause`.
    """
    if isinstance(error, APIError) and error.err_code:
        problem = words(error)
        if error.err_code in _NO_ROOM:
            problem += (
                f": it has no room for a stream of {config.stream_max_bytes} bytes. Give the server "
                "or the account more, or the ledger a smaller --stream-max-bytes"
            )
        return BrokerFailed(problem, code=error.err_code)
    servers = [mask(url) for url in config.servers]
    if isinstance(error, NotEncrypted) or explained(error):
        return BrokerNotTrusted(servers, reason)
    if isinstance(error, NotFoundError) or _REFUSED.search(reason):
        return BrokerRefuses(servers, reason)
    return BrokerUnreachable(servers, reason)


def words(error: BaseException) -> str:
    """Return an error in words; a timeout of asyncio has none of its own."""
    if said := explained(error):
        return said
    if isinstance(error, NotFoundError):
        return "the stream or its consumer is missing, and these credentials may not create it"
    if isinstance(error, APIError):
        return error.description or "JetStream does not answer; is it enabled?"
    return str(error).removeprefix("nats: ").strip("'") or type(error).__name__


def _secrets(config: LedgerConfig) -> dict[str, str]:
    """Return the options for the credentials file; it is read at each connect, so it may change."""
    path = config.credentials
    if path is None:
        return {}
    try:
        importlib.import_module("nkeys")  # nats-py needs it for both kinds
    except ModuleNotFoundError as error:
        raise MissingExtra("consumer", "Signing in with --credentials") from error
    kind = credentials_kind(path.read_text("utf-8"))
    if kind is None:  # nats-py would look for its end for ever
        raise OSError(f"{path} holds no NATS credentials any more")
    return {"nkeys_seed" if kind == "seed" else "user_credentials": str(path)}
