"""What may go when the outbox is full: first detail, and money only when nothing else is left.

Of the readings of one meter only the newest decides what is booked, so the older ones can go
without any total changing (`Thinning`). When even that is not enough, `shed` takes out events for
good: readings first, because a later one or the session's end repairs them, then starts, then ends,
each the oldest first. Pure: messages in, smaller messages out; nothing here knows a file.
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

Key = Meter | tuple[str, str]

ORDER: Final[tuple[type[Event], ...]] = (
    MeterReading,
    ProducerReport,
    SessionStarted,
    SessionEnded,
)
"""What makes way first."""

_encoder = msgspec.msgpack.Encoder()


class Smaller(Struct, frozen=True):
    """A message after some of its events were taken out: `None` when none is left.

    Of those, `superseded` readings have a newer one, and `lost` events have none.
    """

    message: Packed | None
    freed_bytes: int
    superseded: int = 0
    lost: int = 0


class Thinning:
    """One pass over messages, from the newest to the oldest.

    A reading goes only if a newer one of its meter was met in this pass, and that one stays: so the
    pass can be stopped after any message.
    """

    def __init__(self) -> None:
        self._newest: dict[Key, int] = {}

    def thin(self, message: Packed) -> Smaller | None:
        """Return the message without its superseded events, `None` when it has none."""
        envelope = _opened(message)
        if envelope is None:
            return None
        gone: set[int] = set()
        readings = 0
        for place in reversed(range(len(envelope.events))):
            event = _read(envelope.events[place])
            if isinstance(event, (MeterReading, ProducerReport)) and self._is_superseded(event):
                gone.add(place)
                readings += isinstance(event, MeterReading)
        return _without(message, envelope, gone, superseded=readings)

    def _is_superseded(self, event: MeterReading | ProducerReport) -> bool:
        key = _key(event)
        if self._newest.get(key, 0) >= event.number:
            return True
        self._newest[key] = event.number
        return False


def shed(message: Packed, kind: type[Event], need_bytes: int) -> Smaller | None:
    """Return the message without its first events of a kind, as many as free `need_bytes`.

    `None` when it has none of that kind. What cannot be read counts as the last kind.
    """
    envelope = _opened(message)
    if envelope is None:
        return (
            None if kind is not ORDER[-1] else Smaller(None, len(message.data), lost=message.events)
        )
    gone: set[int] = set()
    freed = lost = 0
    for place, raw in enumerate(envelope.events):
        event = _read(raw)
        if freed < need_bytes and (
            isinstance(event, kind) or (event is None and kind is ORDER[-1])
        ):
            gone.add(place)
            freed += len(bytes(raw))
            lost += not isinstance(event, ProducerReport)
    return _without(message, envelope, gone, lost=lost)


def _without(
    message: Packed,
    envelope: Envelope,
    gone: set[int],
    *,
    superseded: int = 0,
    lost: int = 0,
) -> Smaller | None:
    if not gone:
        return None
    kept = [raw for place, raw in enumerate(envelope.events) if place not in gone]
    if not kept:
        return Smaller(None, len(message.data), superseded, lost)
    data = _encoder.encode(replace(envelope, events=kept))
    smaller = replace(message, data=data, events=len(kept))
    return Smaller(smaller, len(message.data) - len(data), superseded, lost)


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


def _key(event: MeterReading | ProducerReport) -> Key:
    if isinstance(event, ProducerReport):
        return (event.producer_id, event.project)
    return meter_of(event)
