"""The stream COSTS and its durable consumer, as this ledger declares them.

`ensure` creates what is missing and compares what exists, field by field. A difference is an error
that names both values: a changed limit may discard events, so it is neither updated silently nor
worked around. Credentials that may only pull are enough to run.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Final

import nats.errors
from msgspec import Struct
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, BadRequestError, NotFoundError

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
"""Four groups of a fetch: with less than one group a fetch would stall and then repeat."""

_NAME_IN_USE = 10058
_OPTIONS = {"num_replicas": "--replicas", "max_bytes": "--stream-max-bytes"}


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
    with `discard=old` events would vanish while the publisher sees success.
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
        compression=api.StoreCompression.S2,
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


async def ensure(js: JetStreamContext, declared: Declaration) -> api.ConsumerInfo | None:
    """Create what is missing, compare what is there, and return where the consumer stands.

    `None` when these credentials may not ask: then the consumer is used unchecked, and the first
    pull shows whether it may be pulled from.

    Raises:
        StreamDrift: The server has something else than `declared`.
        APIError: The server refuses to create what is missing; `nats.errors.NoRespondersError`
            when it has no JetStream (yet).
    """
    wanted = stream_config(declared)
    try:
        stream = await _stream(js, wanted)
        _compare("stream", STREAM, wanted, stream)
        consumer = await _consumer(js)
    except TimeoutError:
        # A denied request gets no answer; the client learns of it by its error callback.
        return None
    _compare("consumer", DURABLE, consumer_config(), consumer.config)
    return consumer


async def _stream(js: JetStreamContext, wanted: api.StreamConfig) -> api.StreamConfig:
    try:
        found = await js.stream_info(STREAM)
    except NotFoundError:
        try:
            found = await js.add_stream(wanted)
        except BadRequestError as error:
            if error.err_code != _NAME_IN_USE:  # else another client was faster
                raise
            found = await js.stream_info(STREAM)
    return found.config


async def _consumer(js: JetStreamContext) -> api.ConsumerInfo:
    try:
        found: api.ConsumerInfo = await js.consumer_info(STREAM, DURABLE)
    except NotFoundError:
        found = await js.add_consumer(STREAM, consumer_config())
    return found


async def rewind(js: JetStreamContext, info: api.ConsumerInfo, booked_sequence: int) -> str | None:
    """Have the server offer again what this ledger cannot have, at once and not after `ACK_WAIT_S`.

    There is one ledger per consumer, so what is unacknowledged when it connects was fetched by a
    predecessor that died. And a ledger whose `booked_sequence` is behind the acknowledged messages
    is a restored backup or a new folder: it gets the stream again from there on. Offering too much
    is harmless, because booking is by difference.

    Returns what was done, for the log. Needs nats-server 2.14 and the permission; without them
    unacknowledged messages come again by themselves, and only the second case is not repaired.
    """
    acked = info.ack_floor.stream_seq if info.ack_floor else 0
    behind = booked_sequence < acked
    if not behind and not info.num_ack_pending:
        return None
    start = booked_sequence + 1 if behind else None
    try:
        await js.reset_consumer(STREAM, DURABLE, seq=start)
    except (APIError, nats.errors.Error) as error:
        return f"could not rewind the consumer ({error})" + (
            f": the ledger has booked up to message {booked_sequence}, the consumer is at {acked};"
            f" delete the consumer {DURABLE} of stream {STREAM}, and start again to read all of it"
            if behind
            else ""
        )
    if behind:
        return (
            f"the ledger has booked up to message {booked_sequence}, the consumer is at {acked}: "
            "the messages between them are read again"
        )
    return f"{info.num_ack_pending} unacknowledged messages are offered again"


async def is_settled(js: JetStreamContext) -> bool:
    """Return whether nothing was delivered that nobody has acknowledged; False if it is not known."""
    try:
        info = await js.consumer_info(STREAM, DURABLE)
    except (TimeoutError, APIError, nats.errors.Error):
        return False
    return not info.num_ack_pending


def _compare(kind: str, name: str, wanted: api.Base, found: api.Base) -> None:
    """Raise `StreamDrift` when a declared field has another value. Undeclared fields are free."""
    differences = []
    for field in dataclasses.fields(wanted):
        ours, theirs = _plain(getattr(wanted, field.name)), _plain(getattr(found, field.name))
        if ours is None or ours == theirs or not (ours or theirs):  # the server omits what is off
            continue
        way_out = f", or run with {_OPTIONS[field.name]} {theirs}" if field.name in _OPTIONS else ""
        differences.append(
            f"{kind} {name} has {field.name}={theirs!r} and should have {ours!r}{way_out}"
        )
    if differences:
        raise StreamDrift(STREAM, differences)


def _plain(value: object) -> object:
    return value.value if isinstance(value, enum.Enum) else value
