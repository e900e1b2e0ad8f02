"""The stream COSTS and its durable consumer, as this ledger declares them.

`ensure` creates what is missing and compares what exists, field by field. A difference is an error
that names both values: a changed limit may discard events, so it is neither updated silently nor
worked around. Only more room is no danger.
"""

from __future__ import annotations

import dataclasses
import enum
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import nats.errors
from msgspec import Struct
from nats.js import api
from nats.js.errors import APIError, BadRequestError, NotFoundError

from voicecosts.consumer.booking.progress import Seen, runs
from voicecosts.consumer.broker.claim import server_time
from voicecosts.consumer.broker.requests import Api, Denied
from voicecosts.consumer.config import LedgerConfig
from voicecosts.consumer.errors import StreamDrift
from voicecosts.producer.subjects import STREAM, STREAM_SUBJECTS

DURABLE: Final = "ledger"

MAX_AGE_S: Final = 14 * 24 * 3600.0
"""How far back the stream can fill a ledger again; the ledger itself keeps its rows for ever."""

DUPLICATE_WINDOW_S: Final = 600.0
"""Spares the ledger most repeats of a retried publish, for about 280 bytes of the broker's memory a
message. Nothing depends on it: booking is by difference."""

MAX_MESSAGE_BYTES: Final = 1_000_000
"""Below the broker's `max_payload` of 1 MiB, with 48 kB left for headers that a mirror adds. A larger
message is refused with an error; above `max_payload` the server would close the connection."""

ACK_WAIT_S: Final = 60.0
MAX_ACK_PENDING: Final = 2000
"""Two groups of a fetch: with less than one group a fetch would stall and then repeat."""

_NAME_IN_USE = 10058
_OPTIONS = {"num_replicas": "--replicas"}
_FREE = ("max_bytes",)  # `_enlarge` sees to it
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Declaration(Struct, frozen=True, kw_only=True):
    """What may differ between two installations. Everything else is fixed above."""

    replicas: int
    max_bytes: int


def declaration(config: LedgerConfig) -> Declaration:
    """Return the declaration that a configuration asks for."""
    return Declaration(replicas=config.replicas, max_bytes=config.stream_max_bytes)


def stream_config(declared: Declaration) -> api.StreamConfig:
    """Return the stream: all messages within explicit limits; none is discarded for a newer one.

    With `discard=new` a full stream refuses the publisher, which keeps the event in its outbox;
    with `discard=old` events would vanish while the publisher sees success. Compression is not
    declared: nats-server 2.15.1 loses a compressed stream of several copies when two of them crash
    under `sync_interval: always`. A stream that has it, or gets it, is used as it is.
    """
    return api.StreamConfig(
        name=STREAM,
        subjects=[STREAM_SUBJECTS],
        storage=api.StorageType.FILE,
        retention=api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.NEW,
        max_bytes=declared.max_bytes,
        max_age=MAX_AGE_S,
        max_msgs=-1,
        max_msgs_per_subject=-1,
        max_msg_size=MAX_MESSAGE_BYTES,
        duplicate_window=DUPLICATE_WINDOW_S,
        num_replicas=declared.replicas,
        allow_direct=True,
        deny_delete=True,
        allow_rollup_hdrs=False,
        allow_msg_ttl=False,
        no_ack=False,
    )


def consumer_config() -> api.ConsumerConfig:
    """Return the durable pull consumer: each message acknowledged by itself, offered until it is."""
    return api.ConsumerConfig(
        durable_name=DURABLE,
        deliver_policy=api.DeliverPolicy.ALL,
        replay_policy=api.ReplayPolicy.INSTANT,
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        max_deliver=-1,
        max_ack_pending=MAX_ACK_PENDING,
    )


class StreamGone(nats.errors.Error):
    """There is no stream, and it is not to be made yet."""

    def __str__(self) -> str:
        return f"the stream {STREAM} is gone, and is made again in some seconds"


class StreamInfo(Struct, frozen=True, kw_only=True):
    """What the server says of the stream. `deleted` are single messages that it has no more."""

    config: api.StreamConfig
    created_us: int
    now: datetime
    messages: int
    bytes: int
    first: int
    last: int
    first_at: datetime | None
    deleted_messages: int
    deleted: tuple[int, ...]

    @property
    def seen(self) -> Seen:
        """What the ledger compares its books with."""
        return Seen(
            stream_us=self.created_us,
            first=self.first,
            last=self.last,
            deleted=tuple(runs(self.deleted)),
        )


class Standing(Struct, frozen=True, kw_only=True):
    """Stream and consumer as they stand; None where these credentials may not ask (`denied`)."""

    stream: StreamInfo | None = None
    consumer: api.ConsumerInfo | None = None
    now: datetime
    denied: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


async def ensure(ask: Api, declared: Declaration, *, creates: bool = True) -> Standing:
    """Create what is missing, compare what is there, and return how both stand.

    A stream whose `max_bytes` is below `declared` is made larger; one that is above is used as it
    is. `remarks` says what of it could not be done. What these credentials may not ask is used
    unchecked, and the first pull shows whether it may be pulled from.

    Raises:
        StreamDrift: The server has something else than `declared`.
        StreamGone: There is no stream, and `creates` is not set.
        APIError: The server refuses to create what is missing; `ServiceUnavailableError` when it
            has no JetStream (yet).
        TimeoutError: It does not answer.
    """
    wanted = stream_config(declared)
    remarks: list[str] = []
    denied: list[str] = []
    stream: StreamInfo | None = None
    consumer: api.ConsumerInfo | None = None
    now = datetime.now(UTC)
    try:
        stream = await _or_create_stream(ask, wanted, creates=creates)
        remarks += await _enlarge(ask, wanted, stream)
        _compare("stream", STREAM, wanted, stream.config)
        now = stream.now
    except Denied as error:
        denied.append(error.subject)
    try:
        consumer, now = await _or_create_consumer(ask)
        _compare("consumer", DURABLE, consumer_config(), consumer.config)
    except Denied as error:
        denied.append(error.subject)
    return Standing(
        stream=stream, consumer=consumer, now=now, denied=tuple(denied), remarks=tuple(remarks)
    )


async def inspect(ask: Api) -> Standing:
    """Return how stream and consumer stand, and change nothing.

    Raises:
        NotFoundError: One of them is gone.
        TimeoutError: The server does not answer.
    """
    denied: list[str] = []
    stream: StreamInfo | None = None
    consumer: api.ConsumerInfo | None = None
    now = datetime.now(UTC)
    try:
        stream = await stream_info(ask)
        now = stream.now
    except Denied as error:
        denied.append(error.subject)
    try:
        consumer, now = await consumer_info(ask)
    except Denied as error:
        denied.append(error.subject)
    return Standing(stream=stream, consumer=consumer, now=now, denied=tuple(denied))


async def stream_info(ask: Api, *, with_deleted: bool = False) -> StreamInfo:
    """Return what the server says of the stream, with the list of deleted messages if wanted."""
    request = {"deleted_details": True} if with_deleted else None
    return _stream(await ask.ask(f"STREAM.INFO.{STREAM}", request))


async def consumer_info(ask: Api) -> tuple[api.ConsumerInfo, datetime]:
    """Return what the server says of the consumer, and when it said so."""
    return _consumer(await ask.ask(f"CONSUMER.INFO.{STREAM}.{DURABLE}"))


async def write_consumer(ask: Api, config: api.ConsumerConfig) -> tuple[api.ConsumerInfo, datetime]:
    """Create the consumer, or change it."""
    request = {"stream_name": STREAM, "config": config.as_dict()}
    return _consumer(await ask.ask(f"CONSUMER.DURABLE.CREATE.{STREAM}.{DURABLE}", request))


async def _or_create_stream(ask: Api, wanted: api.StreamConfig, *, creates: bool) -> StreamInfo:
    try:
        return await stream_info(ask)
    except NotFoundError:
        if not creates:
            raise StreamGone from None
        try:
            return _stream(await ask.ask(f"STREAM.CREATE.{STREAM}", wanted.as_dict()))
        except BadRequestError as error:
            if error.err_code != _NAME_IN_USE:  # else another client was faster
                raise
            return await stream_info(ask)


async def _or_create_consumer(ask: Api) -> tuple[api.ConsumerInfo, datetime]:
    try:
        return await consumer_info(ask)
    except NotFoundError:
        return await write_consumer(ask, consumer_config())


async def _enlarge(ask: Api, wanted: api.StreamConfig, found: StreamInfo) -> list[str]:
    """Make the stream as large as it should be. A larger one endangers nothing and stays."""
    ours, theirs = wanted.max_bytes or 0, found.config.max_bytes or -1
    if theirs in {ours, -1} or theirs > ours:
        is_larger = theirs != ours
        size = "without a limit" if theirs == -1 else f"up to {theirs} bytes"
        return [f"the stream may grow {size}, and {ours} were asked for"] if is_larger else []
    try:
        await ask.ask(f"STREAM.UPDATE.{STREAM}", found.config.evolve(max_bytes=ours).as_dict())
    except (Denied, APIError) as error:
        why = str(error) if isinstance(error, Denied) else error.description
        asked = f"the stream may grow up to {theirs} bytes, {ours} were asked for"
        return [f"{asked}, and it could not be made larger: {why}"]
    return [f"the stream may now grow up to {ours} bytes instead of {theirs}"]


def _stream(answer: dict[str, Any]) -> StreamInfo:
    state = answer["state"]
    created = msgspec.convert(answer["created"], type=datetime, strict=False)
    return StreamInfo(
        config=api.StreamConfig.from_response(answer["config"]),
        created_us=(created - _EPOCH) // timedelta(microseconds=1),
        now=server_time(answer),
        messages=state["messages"],
        bytes=state["bytes"],
        first=state["first_seq"],
        last=state["last_seq"],
        first_at=msgspec.convert(state["first_ts"], type=datetime, strict=False)
        if state["messages"]
        else None,
        deleted_messages=state.get("num_deleted", 0),
        deleted=tuple(state.get("deleted") or ()),
    )


def _consumer(answer: dict[str, Any]) -> tuple[api.ConsumerInfo, datetime]:
    now = server_time(answer)
    info: api.ConsumerInfo = api.ConsumerInfo.from_response(answer)
    return info, now


def _compare(kind: str, name: str, wanted: api.Base, found: api.Base) -> None:
    """Raise `StreamDrift` when a declared field has another value. Undeclared fields are free."""
    differences = []
    for field in dataclasses.fields(wanted):
        ours, theirs = _plain(getattr(wanted, field.name)), _plain(getattr(found, field.name))
        if field.name in _FREE or ours is None:
            continue
        if ours == theirs or not (ours or theirs):  # the server omits what is off
            continue
        way_out = f", or run with {_OPTIONS[field.name]} {theirs}" if field.name in _OPTIONS else ""
        differences.append(
            f"{kind} {name} has {field.name}={theirs!r} and should have {ours!r}{way_out}"
        )
    if differences:
        raise StreamDrift(STREAM, differences)


def _plain(value: object) -> object:
    return value.value if isinstance(value, enum.Enum) else value
