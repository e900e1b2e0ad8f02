"""The COSTS stream as a test needs it, and everything it holds, decoded."""

from __future__ import annotations

import nats
from nats.js import JetStreamContext, api

from voicecosts.producer.events import Batch, Event, decode
from voicecosts.producer.subjects import STREAM, STREAM_SUBJECTS


async def declare(url: str, **options: object) -> None:
    """Create the stream, or change it."""
    client = await nats.connect(url)
    config = api.StreamConfig(name=STREAM, subjects=[STREAM_SUBJECTS], **options)  # type: ignore[arg-type]  # options of StreamConfig
    try:
        await client.jetstream().add_stream(config)
    except nats.js.errors.BadRequestError:
        await client.jetstream().update_stream(config)
    finally:
        await client.close()


async def batches(url: str, subject: str = STREAM_SUBJECTS) -> list[Batch]:
    """Return every batch that the stream stores, in its order."""
    client = await nats.connect(url)
    try:
        stream = client.jetstream()
        return [decode(data) for data in await _stored(stream, subject)]
    finally:
        await client.close()


async def events(url: str, subject: str = STREAM_SUBJECTS) -> list[Event]:
    """Return every event that the stream stores, in its order."""
    return [event for batch in await batches(url, subject) for event in batch.events]


async def _stored(stream: JetStreamContext, subject: str) -> list[bytes]:
    info = await stream.stream_info(STREAM)
    found: list[bytes] = []
    for sequence in range(max(1, info.state.first_seq), info.state.last_seq + 1):
        message = await stream.get_msg(STREAM, sequence)
        if message.data is not None and _matches(message.subject or "", subject):
            found.append(message.data)
    return found


def _matches(subject: str, pattern: str) -> bool:
    return subject.startswith(pattern.removesuffix(">"))
