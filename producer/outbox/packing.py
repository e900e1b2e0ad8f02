"""Packing: many small events become few messages, one subject each.

Packing costs the worker and the server 10 to 20 times less than one message per event, and it
decides what the ledger's fetch costs too. Events keep their order within a message.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from itertools import count
from typing import Final

import msgspec
from msgspec import Struct

from voicecosts.producer.events import (
    MAX_BYTES,
    MAX_EVENTS,
    Envelope,
    Event,
    decode_envelope,
    encode_event,
    version_of,
)
from voicecosts.producer.subjects import REPORTS, subject

_ENVELOPE_BYTES: Final = 128
"""More than what a batch adds to its events: field names, version, ids, numbers."""

logger = logging.getLogger(__name__)
_encoder = msgspec.msgpack.Encoder()


class Packed(Struct, frozen=True, kw_only=True):
    """One message, ready to publish as often as it takes: a repeat under its id changes nothing."""

    subject: str
    message_id: str
    data: bytes
    events: int
    batch_number: int


class Packer:
    """Turns events into messages and numbers them. Used by one thread.

    `last` is the number of the last message, `unencodable` counts the events that no message holds.
    """

    def __init__(self, producer_id: str) -> None:
        self.producer_id = producer_id
        self.unencodable = 0
        self.last = 0
        self._numbers = count(1)

    def pack(self, events: Iterable[Event]) -> list[Packed]:
        """Return messages of up to 200 events and 256 kB each; a larger event travels alone."""
        by_subject: dict[str, list[Event]] = {}
        for event in events:
            agent = getattr(event, "agent_id", REPORTS)
            key = subject(event.project, agent, self.producer_id)
            by_subject.setdefault(key, []).append(event)
        packed = []
        for key, group in by_subject.items():
            batch: list[msgspec.Raw] = []
            size, version = _ENVELOPE_BYTES, 1
            for event in group:
                data = self._encoded(event)
                if data is None:
                    continue
                if batch and (len(batch) == MAX_EVENTS or size + len(data) > MAX_BYTES):
                    packed.append(self._message(key, batch, version))
                    batch, size, version = [], _ENVELOPE_BYTES, 1
                batch.append(msgspec.Raw(data))
                size += len(data)
                version = max(version, version_of(event))
            if batch:
                packed.append(self._message(key, batch, version))
        return packed

    def _encoded(self, event: Event) -> bytes | None:
        """Return the bytes of an event, `None` when it cannot be encoded."""
        try:
            return encode_event(event)
        except (UnicodeEncodeError, OverflowError) as error:
            self.unencodable += 1
            logger.error("an event cannot be encoded, and is lost: %s", error)  # noqa: TRY400 - the trace says no more
            return None

    def _message(self, key: str, batch: list[msgspec.Raw], version: int) -> Packed:
        number = self.last = next(self._numbers)
        envelope = Envelope(
            version=version, producer_id=self.producer_id, number=number, events=batch
        )
        return Packed(
            subject=key,
            # Random, so that nobody who may publish can suppress a message by guessing its id.
            message_id=secrets.token_hex(16),
            data=_encoder.encode(envelope),
            events=len(batch),
            batch_number=number,
        )


def halves(message: Packed) -> list[Packed]:
    """Return a message as two smaller ones; nothing when it holds one event, or is not readable.

    Their ids follow from the message's own, so sending them again changes nothing.
    """
    try:
        envelope = decode_envelope(message.data)
    except msgspec.DecodeError:
        return []
    middle = len(envelope.events) // 2
    if middle == 0:
        return []
    return [
        Packed(
            subject=message.subject,
            message_id=f"{message.message_id}.{index}",
            data=_encoder.encode(msgspec.structs.replace(envelope, events=events)),
            events=len(events),
            batch_number=message.batch_number,
        )
        for index, events in enumerate((envelope.events[:middle], envelope.events[middle:]))
    ]
