"""Single messages of the stream: whether one is there, and whether it is the one that was booked."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from nats.js.errors import NotFoundError

from voicecosts.consumer.booking.progress import Mark, Range
from voicecosts.consumer.broker.requests import Api
from voicecosts.consumer.broker.stream import StreamInfo
from voicecosts.producer.subjects import STREAM, STREAM_SUBJECTS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ASKED: Final = 100
"""How many messages are asked for at a time, at most."""


async def came(ask: Api, sequence: int) -> tuple[int, datetime] | None:
    """Return number and time of the message there, or of the next one that the server can read.

    Raises:
        Denied: These credentials may not look at a message of the stream.
        APIError: The server refuses.
    """
    return await _get(ask, {"seq": sequence, "next_by_subj": STREAM_SUBJECTS})


async def is_another(ask: Api, info: StreamInfo, mark: Mark) -> bool:
    """Return whether the message at the mark is not the one that was booked.

    What has left the stream, or cannot be read, proves nothing.

    Raises:
        Denied: These credentials may not look at a message of the stream.
        APIError: The server refuses.
    """
    if not info.first <= mark.sequence <= info.last:
        return mark.sequence > info.last
    found = await _get(ask, {"seq": mark.sequence})
    if found is None:
        return False
    stored_us = (found[1] - _EPOCH) // timedelta(microseconds=1)
    return abs(stored_us - mark.stored_us) > 1  # one of them may be rounded


async def find_unreadable(ask: Api, ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Return which of these messages, which the stream says it has, the server cannot read.

    Raises:
        Denied: These credentials may not look at a message of the stream.
        APIError: The server refuses.
    """
    found: list[Range] = []
    asked = 0
    for first, last in ranges:
        at = first
        while at <= last and asked < _ASKED:
            asked += 1
            readable = await came(ask, at)
            there = last + 1 if readable is None else readable[0]
            if there > at:
                found.append((at, min(there - 1, last)))
            at = there + 1
    return tuple(found)


async def _get(ask: Api, request: dict[str, Any]) -> tuple[int, datetime] | None:
    try:
        message = (await ask.ask(f"STREAM.MSG.GET.{STREAM}", request))["message"]
    except NotFoundError:
        return None
    return message["seq"], msgspec.convert(message["time"], type=datetime, strict=False)
