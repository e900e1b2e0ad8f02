"""What one project can send to bring a ledger down: calls that end with a thousand meters each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.support.raw_wire import RawMessage
from voicecosts.producer.capture.identity import new_session_id
from voicecosts.producer.events import (
    Batch,
    Event,
    MeterTotals,
    Quantities,
    SessionEnded,
    encode,
    now_us,
)
from voicecosts.producer.subjects import subject

METERS: Final = 1000
"""What an end may carry at most."""

PROJECT: Final = "flood"
SUBJECT: Final = subject(PROJECT, "a", "flooder").encode()
_MAX_MESSAGE_BYTES: Final = 990_000


def large_ends(total_bytes: int) -> Iterator[RawMessage]:
    """Yield messages of as many ends as fit, until so many bytes of bodies."""
    size = len(_encoded(1, [_end(0)]))
    number = 0
    sent = 0
    while sent < total_bytes:
        number += 1
        ends: list[Event] = [_end(place) for place in range(_MAX_MESSAGE_BYTES // size)]
        data = _encoded(number, ends)
        sent += len(data)
        yield RawMessage(SUBJECT, data)


def _end(place: int) -> SessionEnded:
    meters = [
        MeterTotals(
            agent_label="a",
            modality="llm",
            provider="p",
            model=f"m{place}-{number}",
            totals=Quantities(requests=1),
        )
        for number in range(METERS)
    ]
    return SessionEnded(
        session_id=new_session_id(now_us()),
        number=1,
        project=PROJECT,
        agent_id="a",
        ended_at=now_us(),
        status="closed",
        meters=meters,
        readings=0,
    )


def _encoded(number: int, events: list[Event]) -> bytes:
    return encode(Batch(producer_id="flooder", number=number, events=events))
