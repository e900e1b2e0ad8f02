"""The messages that the stream still holds, read beside its reader: nothing is taken or acknowledged.

They are asked for one by one, which the rights of a ledger allow, many questions at a time.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
from nats.js.errors import NotFoundError

from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.broker.connection import UNUSABLE, Connection, Waits, failure
from voicecosts.consumer.broker.stored import came
from voicecosts.producer.subjects import STREAM

if TYPE_CHECKING:
    from voicecosts.consumer.broker.requests import Api
    from voicecosts.consumer.config import LedgerConfig

AT_ONCE: Final = 64
"""Messages that are asked for at a time: with the largest ones it is 64 MB."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def asking(config: LedgerConfig) -> AsyncIterator[Api]:
    """Connect for the time of a block.

    Raises:
        BrokerError: No connection, or it broke.
    """
    link = Connection(asyncio.Event(), Waits())
    try:
        await link.open(config)
        yield link.api
    except UNUSABLE as error:
        raise failure(config, link.cause(error), link.reason(error)) from error
    finally:
        await link.close()


async def stored(ask: Api, first: int, last: int) -> AsyncIterator[list[Message]]:
    """Yield the messages from `first` to `last` that are there, in order, some at a time.

    Raises:
        Denied: These credentials may not look at a message of the stream.
        APIError: The server refuses.
    """
    at = max(first, 1)  # a stream that never had a message begins at 0
    while at <= last:
        upto = min(at + AT_ONCE - 1, last)
        found = await asyncio.gather(*(_stored(ask, each) for each in range(at, upto + 1)))
        group = [each for each in found if each is not None]
        if group:
            yield group
            at = upto + 1
        else:
            following = await came(ask, upto + 1)
            at = last + 1 if following is None else following[0]


async def _stored(ask: Api, sequence: int) -> Message | None:
    try:
        answer = await ask.ask(f"STREAM.MSG.GET.{STREAM}", {"seq": sequence})
    except NotFoundError:
        return None
    found: dict[str, Any] = answer["message"]
    moment = msgspec.convert(found["time"], type=datetime, strict=False)
    return Message(
        found["subject"],
        found["seq"],
        base64.b64decode(found.get("data") or ""),
        (moment - _EPOCH) // timedelta(microseconds=1),
    )
