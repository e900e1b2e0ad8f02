"""The one builder of events: every field has a value, and a test names only those it is about."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from voicecosts.consumer.booking.message import Message
from voicecosts.producer.events import (
    Batch,
    Event,
    MeterReading,
    MeterTotals,
    ProducerReport,
    Quantities,
    SessionEnded,
    SessionStarted,
    encode,
)
from voicecosts.producer.subjects import REPORTS, subject

PROJECT: Final = "prod"
AGENT: Final = "dental"
PRODUCER: Final = "worker-1"
SUBJECT: Final = subject(PROJECT, AGENT, PRODUCER)
START_MS: Final = 1_795_000_000_000
START_US: Final = START_MS * 1000

_METER: Final = {
    "agent_label": "Greeter",
    "modality": "llm",
    "provider": "openai",
    "model": "gpt-4.1-mini",
}

Made = TypeVar("Made")


def session_id(number: int, *, after_ms: int = 0) -> str:
    """Return the id of a session: a UUIDv7 whose time is `after_ms` past `START_MS`."""
    time = f"{START_MS + after_ms:012x}"
    return f"{time[:8]}-{time[8:]}-7abc-8abc-{number:012x}"


def started(of: int = 1, **more: object) -> SessionStarted:
    """Return the start of session `of`."""
    return _made(SessionStarted, {**_session(of), "started_at": START_US}, more)


def reading(number: int, *, of: int = 1, **more: object) -> MeterReading:
    """Return reading `number` of a meter of session `of`; quantities are given by their names.

    Without any quantity it shows as many requests as its number says.
    """
    fields = {
        **_session(of),
        **_METER,
        "number": number,
        "occurred_at": START_US + number,
        "totals": _totals(more) or {"requests": number},
    }
    return _made(MeterReading, fields, more)


def final(**more: object) -> MeterTotals:
    """Return the final totals of the meter that `reading` reads."""
    return _made(MeterTotals, {**_METER, "totals": _totals(more)}, more)


def ended(number: int, *meters: MeterTotals, of: int = 1, **more: object) -> SessionEnded:
    """Return the end of session `of` after the readings 1 to `number - 1`."""
    fields = {
        **_session(of),
        "number": number,
        "ended_at": START_US + number,
        "status": "closed",
        "meters": meters,
        "readings": number - 1,
    }
    return _made(SessionEnded, fields, more)


def report(number: int, **more: object) -> ProducerReport:
    """Return report `number` of the producer."""
    fields = {
        "producer_id": PRODUCER,
        "number": number,
        "project": PROJECT,
        "reported_at": START_US,
    }
    return _made(ProducerReport, fields, more)


def message(
    sequence: int,
    *events: Event,
    number: int = 1,
    producer: str = PRODUCER,
    project: str = PROJECT,
    agent: str = AGENT,
) -> Message:
    """Return a message of a producer, as the stream stores it; reports have a subject of their own."""
    agent = REPORTS if events and isinstance(events[0], ProducerReport) else agent
    batch = Batch(producer_id=producer, number=number, events=list(events))
    return Message(subject(project, agent, producer), sequence, encode(batch))


def messages(sequence: int, *events: Event, number: int = 1) -> list[Message]:
    """Return a message, or two when there are reports among the events: they have their own subject."""
    reports = [event for event in events if isinstance(event, ProducerReport)]
    others = [event for event in events if not isinstance(event, ProducerReport)]
    parts = [part for part in (others, reports) if part]
    return [message(sequence, *part, number=number) for part in parts]


def _session(of: int) -> dict[str, object]:
    return {
        "session_id": session_id(of),
        "project": PROJECT,
        "agent_id": AGENT,
        "tenant": "acme",
    }


def _totals(more: dict[str, object]) -> dict[str, object]:
    """Take the quantities out of what a test has given."""
    return {name: more.pop(name) for name in Quantities.__struct_fields__ if name in more}


def _made(kind: type[Made], fields: dict[str, object], more: dict[str, object]) -> Made:
    return msgspec.convert({**fields, **more}, kind)
