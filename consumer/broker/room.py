"""Room in the stream: booked messages make way for new ones before the stream is full.

A full stream takes nothing from anybody. What is removed is booked, stands in a published snapshot
on disk, and is older than what is kept for a ledger that is restored from a backup. At the start
that is a day; where a day does not fit, half of the stream's bound.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct
from nats.js.errors import APIError, BadRequestError

from voicecosts.consumer.booking.progress import Progress, Room
from voicecosts.consumer.broker.requests import Api
from voicecosts.consumer.broker.stored import came, is_another
from voicecosts.consumer.broker.stream import StreamInfo
from voicecosts.producer.subjects import STREAM

WARN_SHARE: Final = 0.7
"""From here on a stream that cannot be trimmed is worth a warning."""

TRIM_SHARE: Final = 0.8
KEPT_SHARE: Final = 0.5
"""What stays at least when all of it is younger than what should be kept."""


class Cut(Struct, frozen=True, kw_only=True):
    """What can be removed: `messages` of the stream, up to and with number `upto`."""

    upto: int
    messages: int
    bytes: int


def room_of(info: StreamInfo) -> Room:
    """Return how full the stream is."""
    bound = info.config.max_bytes or -1
    return Room(bytes=info.bytes, max_bytes=bound if bound > 0 else None, messages=info.messages)


async def find_cut(
    ask: Api, info: StreamInfo, kept: Progress | None, *, keep_s: float, squeeze: bool = True
) -> Cut | None:
    """Return what can be removed, or None when that is nothing.

    `kept` is how far the published snapshot has booked this stream; nothing can be removed when the
    stream has lost its end since, and other messages have numbers that are booked. With `squeeze`, what is younger
    than `keep_s` goes as well as long as more than `KEPT_SHARE` of the bound would stay and the
    stream would be tight.

    Raises:
        Denied: These credentials may not look at a message of the stream.
        APIError: The server refuses.
    """
    if kept is None or kept.stream_us != info.created_us:
        return None
    last = min(kept.floor, info.last)
    if last < info.first or not info.messages:
        return None
    if kept.mark is not None and await is_another(ask, info, kept.mark):
        return None
    upto = await _older_than(ask, info, last, info.now - timedelta(seconds=keep_s))
    room, each = room_of(info), info.bytes / info.messages
    left = info.bytes - max(0, upto - info.first + 1) * each
    if squeeze and room.max_bytes and left >= TRIM_SHARE * room.max_bytes:
        wanted = info.last - int(KEPT_SHARE * room.max_bytes / each)
        upto = max(upto, min(last, wanted))
    if upto < info.first:
        return None
    messages = min(upto - info.first + 1, info.messages)
    return Cut(upto=upto, messages=messages, bytes=int(messages * each))


async def trim(ask: Api, cut: Cut) -> int:
    """Remove what `find_cut` found, and return how many messages it was.

    Raises:
        Denied: These credentials may not purge.
        APIError: The server refuses.
    """
    answer = await ask.ask(f"STREAM.PURGE.{STREAM}", {"seq": cut.upto + 1})
    purged: int = answer.get("purged", 0)
    return purged


async def may_trim(ask: Api, info: StreamInfo) -> None:
    """Raise `Denied` when these credentials may not trim. Nothing is removed.

    A purge that names a number and a count as well is a bad request for every server.
    """
    await came(ask, info.first)
    with contextlib.suppress(BadRequestError):
        request = {"seq": info.first, "keep": info.messages}
        await ask.ask(f"STREAM.PURGE.{STREAM}", request)


async def _older_than(ask: Api, info: StreamInfo, last: int, limit: datetime) -> int:
    """Return the highest message up to `last` that came before `limit`; below the first if none did."""
    if info.first_at is None or info.first_at >= limit:
        return info.first - 1
    low, high = info.first, last  # the one at `low` came before it
    while low < high:
        middle = (low + high + 1) // 2
        found = await came(ask, middle)
        if found is not None and found[1] < limit:
            low = max(middle, min(found[0], last))
        else:
            high = middle - 1
    return low


def reason(error: Exception) -> str:
    """Return in words why it cannot be trimmed."""
    if isinstance(error, APIError):
        return f"the server refuses ({error.description})"
    return str(error)
