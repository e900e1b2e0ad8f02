"""What goes when the outbox is full: first detail, and money only when nothing else is left.

Of the readings of one meter only the newest decides what is booked, so it can replace the older
ones and no total changes (`Coalescing`). When that is not enough, `drop` takes out events for good:
readings first, because a later one or the session's end repairs them, then starts, then ends, the
oldest of each first. Pure: messages in, changes out; nothing here knows a file.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from voicecosts.producer.events import (
    Envelope,
    Event,
    Meter,
    MeterReading,
    ProducerReport,
    SessionEnded,
    SessionStarted,
    decode_envelope,
    decode_event,
    meter_of,
)
from voicecosts.producer.outbox.packing import Packed

_Key = Meter | tuple[str, str]

ORDER: Final[tuple[type[Event], ...]] = (
    MeterReading,
    ProducerReport,
    SessionStarted,
    SessionEnded,
)
"""What is dropped first."""

_encoder = msgspec.msgpack.Encoder()


class Change(Struct, frozen=True):
    """A message before and after some of its events were taken out; `None` when none is left.

    Of those events, `coalesced` are readings that a newer one replaces, and `dropped` are lost.
    """

    before: Packed
    after: Packed | None
    coalesced: int = 0
    dropped: int = 0


class Coalescing:
    """One pass over messages, from the newest to the oldest.

    A reading goes only if a newer one of its meter was met in this pass, and that one stays: so the
    pass can be stopped after any message. Of the reports of a producer, too, the newest stays.
    """

    def __init__(self) -> None:
        self._newest: dict[_Key, int] = {}

    def coalesce(self, message: Packed) -> Change | None:
        """Take out the events that a newer one replaces; `None` when there is none."""
        envelope = _opened(message)
        if envelope is None:
            return None
        gone: set[int] = set()
        readings = 0
        for index in reversed(range(len(envelope.events))):
            event = _read(envelope.events[index])
            if isinstance(event, (MeterReading, ProducerReport)) and self._is_replaced(event):
                gone.add(index)
                readings += isinstance(event, MeterReading)
        return _without(message, envelope, gone, coalesced=readings)

    def _is_replaced(self, event: MeterReading | ProducerReport) -> bool:
        key = _key(event)
        if self._newest.get(key, 0) >= event.number:
            return True
        self._newest[key] = event.number
        return False


def drop(message: Packed, kind: type[Event], need_bytes: int) -> Change | None:
    """Take out the first events of a kind, as many as free `need_bytes`; `None` if there is none.

    What cannot be read counts as the last kind.
    """
    envelope = _opened(message)
    if envelope is None:
        return Change(message, None, dropped=message.events) if kind is ORDER[-1] else None
    gone: set[int] = set()
    freed = dropped = 0
    for index, raw in enumerate(envelope.events):
        event = _read(raw)
        if freed < need_bytes and (
            isinstance(event, kind) or (event is None and kind is ORDER[-1])
        ):
            gone.add(index)
            freed += len(bytes(raw))
            dropped += not isinstance(event, ProducerReport)
    return _without(message, envelope, gone, dropped=dropped)


def _without(
    message: Packed,
    envelope: Envelope,
    gone: set[int],
    *,
    coalesced: int = 0,
    dropped: int = 0,
) -> Change | None:
    if not gone:
        return None
    kept = [raw for index, raw in enumerate(envelope.events) if index not in gone]
    after = None
    if kept:
        data = _encoder.encode(replace(envelope, events=kept))
        after = replace(message, data=data, events=len(kept))
    return Change(message, after, coalesced, dropped)


def _opened(message: Packed) -> Envelope | None:
    try:
        return decode_envelope(message.data)
    except msgspec.DecodeError:
        return None


def _read(raw: msgspec.Raw) -> Event | None:
    try:
        return decode_event(raw)
    except msgspec.DecodeError:
        return None


def _key(event: MeterReading | ProducerReport) -> _Key:
    if isinstance(event, ProducerReport):
        return (event.producer_id, event.project)
    return meter_of(event)
