"""The COSTS stream as a test needs it: declared, filled, and everything it holds."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any

import nats
from nats.js import JetStreamContext, api

from tests.support.events import AGENT
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.broker.stream import DURABLE
from voicecosts.consumer.broker.wire import LenientClient
from voicecosts.producer.events import Batch, Event, ProducerReport, decode, encode
from voicecosts.producer.subjects import STREAM, STREAM_SUBJECTS, subject


@contextlib.asynccontextmanager
async def jetstream(url: str, **options: Any) -> AsyncIterator[JetStreamContext]:
    """A client of a broker's JetStream, for the time of a block; a lost connection stays lost.

    A server hangs up on who takes longer than two seconds to say who it is, as on a busy machine: that is tried again.
    """

    async def ignore(error: Exception) -> None:
        pass

    client = LenientClient()
    try:
        for tries_left in reversed(range(5)):
            try:
                await client.connect(url, error_cb=ignore, allow_reconnect=False, **options)
                break
            except ConnectionResetError:
                if not tries_left:
                    raise
                client.cut_off()
                client = LenientClient()
        yield client.jetstream(timeout=10)
    finally:
        with contextlib.suppress(OSError, nats.errors.Error, TimeoutError):
            await asyncio.wait_for(client.close(), 5)
        client.cut_off()


async def declare(url: str, *, tls: ssl.SSLContext | None = None, **options: object) -> None:
    """Create the stream, or change it."""
    config = api.StreamConfig(name=STREAM, subjects=[STREAM_SUBJECTS], **options)  # type: ignore[arg-type]  # options of StreamConfig
    async with jetstream(url, **({"tls": tls} if tls else {})) as js:
        try:
            await js.add_stream(config)
        except nats.js.errors.BadRequestError:
            await js.update_stream(config)


async def messages(url: str, pattern: str = STREAM_SUBJECTS) -> list[Message]:
    """Return every message that the stream stores, in its order."""
    async with jetstream(url) as js:
        state = (await js.stream_info(STREAM)).state
        found = []
        for sequence in range(max(1, state.first_seq), state.last_seq + 1):
            message = await js.get_msg(STREAM, sequence)
            if (message.subject or "").startswith(pattern.removesuffix(">")):
                found.append(Message(message.subject or "", sequence, message.data or b""))
    return found


async def batches(url: str, pattern: str = STREAM_SUBJECTS) -> list[Batch]:
    """Return every batch that the stream stores, in its order."""
    return [decode(message.data) for message in await messages(url, pattern)]


async def events(url: str, pattern: str = STREAM_SUBJECTS) -> list[Event]:
    """Return every event that the stream stores, in its order."""
    return [event for batch in await batches(url, pattern) for event in batch.events]


async def publish(url: str, wanted: Iterable[Batch]) -> None:
    """Publish each batch until the broker has it, through outages, as a producer does."""
    waiting = list(wanted)
    while waiting:
        with contextlib.suppress(OSError, TimeoutError, nats.errors.Error):
            await _publish_some(url, waiting)


async def standing(url: str) -> api.ConsumerInfo:
    """Ask the broker where the ledger's durable consumer stands."""
    async with jetstream(url) as js:
        return await js.consumer_info(STREAM, DURABLE)


async def settled(url: str, *, deadline_s: float = 60) -> None:
    """Return when everything is booked and acknowledged."""
    async with asyncio.timeout(deadline_s):
        info = await standing(url)
        while info.num_pending or info.num_ack_pending:
            await asyncio.sleep(0.02)
            info = await standing(url)


async def _publish_some(url: str, waiting: list[Batch]) -> None:
    async with jetstream(url, max_reconnect_attempts=1, connect_timeout=10) as js:
        while waiting:
            batch = waiting[0]
            first = batch.events[0]
            agent = AGENT if isinstance(first, ProducerReport) else first.agent_id
            await js.publish(
                subject(first.project, agent, batch.producer_id),
                encode(batch),
                timeout=2,
                headers={"Nats-Msg-Id": f"{batch.producer_id}-{batch.number}"},
            )
            waiting.pop(0)
