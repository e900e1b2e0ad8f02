"""Dead letters as messages again, and what they stand for. Pure: no I/O.

A later version may understand what an earlier one could not. A letter that is a whole message is read
as it came; one that is an event of a batch is put into a batch of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from voicecosts.consumer.booking.decode import MAX_UNREADABLE_BATCH
from voicecosts.consumer.booking.message import WHOLE_MESSAGE, DeadLetter, Message, Reason

READ_AGAIN: Final = (Reason.NEWER_VERSION, Reason.UNKNOWN_EVENT)
"""What a version that knows more may understand: a ledger reads it again by itself."""

NOT_COUNTED: Final = "; its events cannot be counted"


class _Counted(Struct):
    """What a batch of any version is likely to have: a list of events."""

    events: Annotated[list[msgspec.Raw], Meta(max_length=MAX_UNREADABLE_BATCH)]


class _One(Struct):
    producer_id: str
    number: int
    events: list[msgspec.Raw]


_counter = msgspec.msgpack.Decoder(_Counted)
_fields = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_NO_BATCH: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def events_in(letter: DeadLetter) -> int | None:
    """Return how many events a letter stands for; None when it is a whole message that does not say."""
    if letter.index != WHOLE_MESSAGE:
        return 1
    try:
        return len(_counter.decode(letter.payload).events)
    except _NO_BATCH:
        return None


def without(payload: bytes, is_out: Callable[[bytes], bool]) -> tuple[bytes, int] | None:
    """Return a whole message without the events that are out, and how many are left.

    `None` where none is left, or where it cannot be told apart: it is no batch, or is out for what it has beside
    its events.
    """
    try:
        events = _counter.decode(payload).events
        fields = _fields.decode(payload)
    except _NO_BATCH:
        return None
    left = [event for event in events if not is_out(bytes(event))]
    made = msgspec.msgpack.encode({**fields, "events": left})
    return (made, len(left)) if left and not is_out(made) else None


def as_message(
    subject: str, sequence: int, payload: bytes, batch: tuple[str, int] | None
) -> Message:
    """Return a letter as the message to read again: `batch` is of the event, None of a whole message."""
    if batch is None:
        return Message(subject, sequence, payload)
    one = _One(*batch, [msgspec.Raw(payload)])
    return Message(subject, sequence, msgspec.msgpack.encode(one))
