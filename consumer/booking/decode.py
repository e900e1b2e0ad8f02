"""Read a message: the events that can be booked, and dead letters for everything else.

Whatever the bytes are, reading them never raises, and takes time and memory in proportion to
their length. Only the bad events of a batch become dead letters; the good ones are booked.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from voicecosts.consumer.booking.message import (
    WHOLE_MESSAGE,
    DeadLetter,
    Message,
    Reason,
    shorten,
    shorten_subject,
)
from voicecosts.producer.events import (
    VERSION,
    Event,
    Name,
    Ordinal,
    ProducerReport,
    SessionId,
    decode,
    decode_event,
    encode_event,
)
from voicecosts.producer.subjects import REPORTS, owner_tokens, token

MAX_UNREADABLE_BATCH: Final = 10_000
"""Events of a batch that is read one by one, at most: 50 times what a producer packs."""

LAST_SESSION_ID: Final = "7fffffff-ffff-7fff-bfff-ffffffffffff"
"""The highest session id whose time (in the year 6429) DuckDB reads as Python does: it decides the
day of a session, and its prices."""

# msgspec passes the last two on from below its own errors: invalid UTF-8, bottomless nesting.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Delivery(Struct, frozen=True):
    """The readable events of one message, each with its place in the batch."""

    message: Message
    producer_id: str
    number: int
    events: list[tuple[int, Event]]


class Refused(Struct, frozen=True):
    """An event that was read, and why it cannot be booked."""

    index: int
    event: Event
    reason: Reason
    detail: str


class _Version(Struct):
    """The one field that a batch of any version has."""

    version: Ordinal = 1


class _Packed(Struct):
    """A batch whose events are still encoded.

    The length is checked before the first element is read: a message of ten million empty
    elements must not become ten million objects.
    """

    producer_id: str
    number: Ordinal
    events: Annotated[list[msgspec.Raw], Meta(max_length=MAX_UNREADABLE_BATCH)]


class _Tag(Struct):
    type: str


class _Whose(Struct):
    """The fields that tell the session of an unreadable event."""

    type: Literal["meter_reading", "session_ended"]
    session_id: SessionId
    project: Name
    agent_id: Name


class _Numbered(_Whose):
    number: Ordinal


_version_decoder = msgspec.msgpack.Decoder(_Version)
_packed_decoder = msgspec.msgpack.Decoder(_Packed)
_tag_decoder = msgspec.msgpack.Decoder(_Tag)
_whose_decoders: Final = (
    msgspec.msgpack.Decoder(_Numbered),
    msgspec.msgpack.Decoder(_Whose),
)
TYPES: Final = frozenset(str(kind.__struct_config__.tag) for kind in get_args(Event))
"""The types of events that this version reads."""


def read(message: Message) -> tuple[Delivery | None, list[DeadLetter]]:
    """Return the events of `message` that can be booked, and what of it cannot."""
    owner = owner_tokens(message.subject)
    if owner is None:
        return None, [_letter(message, Reason.FOREIGN_SUBJECT, "not a subject of ours")]
    try:
        batch = decode(message.data)
    except _UNREADABLE as error:
        return _read_one_by_one(message, owner, error)
    if batch.version > VERSION:
        return None, [_newer(message, batch.version)]
    delivery = Delivery(message, batch.producer_id, batch.number, list(enumerate(batch.events)))
    return _owned(delivery, owner)


def set_aside(message: Message) -> DeadLetter:
    """Return a message as a dead letter without reading it."""
    return _letter(message, Reason.DEADLY, "the ledger ended each time it read this message")


def reader() -> tuple[int, str]:
    """Return what this version reads: the newest version of a batch, and the types of events."""
    return VERSION, " ".join(sorted(TYPES))


def refuse(delivery: Delivery, refused: list[Refused]) -> list[DeadLetter]:
    """Return dead letters for events that were read but cannot be booked.

    Each keeps the bytes that were received, with fields that we do not know. Where they cannot be
    cut out of the batch (many thousand events, nesting at the limit), the decoded event is encoded
    again.
    """
    if not refused:
        return []
    message = delivery.message
    try:
        raws = _packed_decoder.decode(message.data).events
    except _UNREADABLE:
        raws = []
    letters = [
        _letter(
            message,
            each.reason,
            each.detail,
            each.index,
            bytes(raws[each.index]) if raws else encode_event(each.event),
        )
        for each in refused
    ]
    return [_of_batch(letter, delivery.producer_id, delivery.number) for letter in letters]


def _read_one_by_one(
    message: Message, owner: tuple[str, str], error: Exception
) -> tuple[Delivery | None, list[DeadLetter]]:
    try:
        version = _version_decoder.decode(message.data).version
        if version > VERSION:
            return None, [_newer(message, version)]
        packed = _packed_decoder.decode(message.data)
    except _UNREADABLE as deeper:
        return None, [_letter(message, Reason.NOT_A_BATCH, f"{deeper} (batch: {error})")]
    good: list[tuple[int, Event]] = []
    bad: list[DeadLetter] = []
    for index, raw in enumerate(packed.events):
        try:
            good.append((index, decode_event(raw)))
        except _UNREADABLE as problem:
            reason = _why_unreadable(raw)
            letter = _letter(message, reason, str(problem), index, bytes(raw))
            letter = _of_batch(letter, packed.producer_id, packed.number)
            bad.append(_attributed(letter, raw, owner))
    delivery, foreign = _owned(Delivery(message, packed.producer_id, packed.number, good), owner)
    return delivery, bad + foreign


def _of_batch(letter: DeadLetter, producer_id: str, number: int) -> DeadLetter:
    """Name the batch that a letter was in: with it, a later version can read the event again."""
    return msgspec.structs.replace(letter, producer_id=producer_id, batch_number=number)


def _why_unreadable(raw: msgspec.Raw) -> Reason:
    try:
        tag = _tag_decoder.decode(raw).type
    except _UNREADABLE:
        return Reason.INVALID_EVENT
    return Reason.INVALID_EVENT if tag in TYPES else Reason.UNKNOWN_EVENT


def _attributed(letter: DeadLetter, raw: msgspec.Raw, owner: tuple[str, str]) -> DeadLetter:
    """Name the session of an unreadable reading or end, if the subject may speak of it."""
    for decoder in _whose_decoders:
        try:
            found = decoder.decode(raw)
        except _UNREADABLE:
            continue
        said = token(found.project), token(found.agent_id)
        if said != owner or found.session_id > LAST_SESSION_ID:
            break
        number = found.number if isinstance(found, _Numbered) else 0
        return msgspec.structs.replace(
            letter, session_id=found.session_id, project=found.project, number=number
        )
    return letter


def _owned(delivery: Delivery, owner: tuple[str, str]) -> tuple[Delivery, list[DeadLetter]]:
    """Separate the events that the subject's project and agent may report from those they may not."""
    said = {_owner(event) for _, event in delivery.events}
    project = {it for it in said if token(it[0]) == owner[0]}
    agent = {it for it in project if token(it[1]) == owner[1]}
    if said == agent and not any(map(_is_undated, delivery.events)):
        return delivery, []  # as nearly all are
    good: list[tuple[int, Event]] = []
    refused: list[Refused] = []
    for index, event in delivery.events:
        problem = _problem(event, project, agent)
        if problem is None:
            good.append((index, event))
        else:
            refused.append(Refused(index, event, *problem))
    if not refused:
        return delivery, []
    return msgspec.structs.replace(delivery, events=good), refuse(delivery, refused)


def _owner(event: Event) -> tuple[str, str]:
    """Return the project and the agent that an event names; reports go under the producer's own."""
    return event.project, REPORTS if isinstance(event, ProducerReport) else event.agent_id


def _is_undated(placed: tuple[int, Event]) -> bool:
    """Return whether an event is of a session whose time is not one of the calendar."""
    _, event = placed
    return not isinstance(event, ProducerReport) and event.session_id > LAST_SESSION_ID


def _problem(
    event: Event, project: set[tuple[str, str]], agent: set[tuple[str, str]]
) -> tuple[Reason, str] | None:
    """Return why the subject may not report an event, given what of the batch it may."""
    owner = _owner(event)
    if owner not in project:
        detail = f"the body says project {event.project!r}, the subject another one"
        return Reason.PROJECT_MISMATCH, detail
    if owner not in agent:
        detail = f"the body says agent {owner[1]!r}, the subject another one"
        return Reason.AGENT_MISMATCH, detail
    if _is_undated((0, event)):
        return Reason.INVALID_EVENT, "the time inside session_id is not a calendar date"
    return None


def _newer(message: Message, version: int) -> DeadLetter:
    return _letter(
        message, Reason.NEWER_VERSION, f"batch version {version}, this ledger reads {VERSION}"
    )


def _letter(
    message: Message,
    reason: Reason,
    detail: str,
    index: int = WHOLE_MESSAGE,
    payload: bytes | None = None,
) -> DeadLetter:
    return DeadLetter(
        shorten_subject(message.subject),
        message.sequence,
        index,
        reason,
        shorten(detail),
        message.data if payload is None else payload,
    )
