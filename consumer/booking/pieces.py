"""Messages as pieces that are booked in one transaction each: none decodes to more than a bound.

A few bytes of a message may become a row of some kilobytes, so what a group of messages needs in
memory is not known before it is decoded. A message is decoded when its piece is made. It is divided only where its
sessions do not fit in memory together; what comes again after a death between its parts adds nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from voicecosts.consumer.booking.decode import Delivery, read
from voicecosts.consumer.booking.message import DeadLetter, Message
from voicecosts.consumer.booking.sessions import SessionKey
from voicecosts.producer.events import MeterReading, ProducerReport, SessionEnded, SessionStarted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from voicecosts.producer.events import Event

MAX_WEIGHT: Final = 10_000
"""Readings of a piece, about: they need 17 MB, 3.4 kB each, and two pieces are in hand at once, one that
is written and one that is worked out. A message alone in a piece can have 20,000 of the smallest in its 1 MB."""

Read = tuple[Delivery | None, list[DeadLetter]]


class Piece(Struct, frozen=True):
    """Messages in their order, and what each one holds; `is_last` of all.

    The first part of a divided piece holds, of messages that are not among its own, what is read of them.
    """

    messages: list[Message]
    reads: list[Read]
    is_last: bool = False


def pieces(messages: Iterable[Message], *, max_weight: int = MAX_WEIGHT) -> Iterator[Piece]:
    """Yield the messages in pieces; one that is heavier than the bound is a piece of its own."""
    piece = Piece([], [])
    weight = 0
    for message in messages:
        decoded = read(message)
        heavier = weight + _weight(decoded)
        if piece.messages and heavier > max_weight:
            yield piece
            piece = Piece([], [])
            heavier -= weight
        weight = heavier
        piece.messages.append(message)
        piece.reads.append(decoded)
    if piece.messages:
        yield replace(piece, is_last=True)


def sessions_of(piece: Piece) -> list[SessionKey]:
    """Return the sessions that a piece speaks of, in the order in which it names them first."""
    every = (
        (event.project, event.session_id)
        for delivery, _ in piece.reads
        if delivery is not None
        for _, event in delivery.events
        if not isinstance(event, ProducerReport)
    )
    return [SessionKey(*key) for key in dict.fromkeys(every)]


def divided(piece: Piece, sessions: Collection[SessionKey]) -> tuple[Piece, Piece]:
    """Return what of a piece is about some sessions, or about none, and the rest: all events of a session are together.

    A message that is divided is one of the rest: only then all of it is booked.
    """
    first, rest = Piece([], []), Piece([], [], is_last=piece.is_last)
    for message, (delivery, letters) in zip(piece.messages, piece.reads, strict=True):
        events = [] if delivery is None else delivery.events
        mine = [each for each in events if _is_about(each[1], sessions)]
        if delivery is None or len(mine) == len(events):
            first.messages.append(message)
            first.reads.append((delivery, letters))
            continue
        others = [each for each in events if not _is_about(each[1], sessions)]
        if mine:
            first.reads.append((replace(delivery, events=mine), []))
        rest.messages.append(message)
        rest.reads.append((replace(delivery, events=others), letters))
    return first, rest


def _is_about(event: Event, sessions: Collection[SessionKey]) -> bool:
    if isinstance(event, ProducerReport):
        return True
    return SessionKey(event.project, event.session_id) in sessions


def _weight(decoded: Read) -> int:
    delivery, letters = decoded
    events = [] if delivery is None else delivery.events
    return 1 + len(letters) + sum(_rows(event) for _, event in events)


def _rows(event: Event) -> int:
    """Return about how many rows an event becomes."""
    match event:
        case SessionEnded():
            return 1 + len(event.meters)
        case ProducerReport():
            return 1 + len(event.unattributed_usage)
        case SessionStarted() | MeterReading():
            return 1
