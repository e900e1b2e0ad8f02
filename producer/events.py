"""The event contract: what a worker tells the ledger about a session, and how it is encoded.

A reading carries a meter's running totals, never an increment, so a repeated, reordered or lost
reading cannot change what is booked in the end. Events are MessagePack maps: fields are known by
name, new fields come with a default, and the type of a field never changes. There is no free text
here on purpose: a transcript or a phone number has no field to travel in.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Final, TypeVar, overload

import msgspec
from msgspec import Meta, Struct

VERSION: Final = 2
"""The newest version of the batch. Raised only by a change that an older ledger would misread.

Version 2 has classes of requests (`size_tier`, `service_tier`) as a part of a meter's identity. A
batch without any is of version 1, which every ledger reads (`version_of`).
"""

MAX_EVENTS: Final = 200
"""Events in one batch, at most."""

MAX_BYTES: Final = 256_000
"""Bytes of one encoded batch, at most (a single larger event travels alone)."""

LARGE_REQUEST_TOKENS: Final = 128_000
"""Above so many input tokens a request counts as large: some price lists charge it more."""

SIZE_TIERS: Final = (32_000, 128_000, 200_000, 256_000, 272_000, 512_000)
"""Input tokens of one request above which some vendor charges all of its tokens at another price.

Requests between two of them are counted on a meter of their own, so that a price by size applies to
a meter's totals. A step may be added; none is ever removed.
"""

MAX_TAGS: Final = 32
"""Tags of a session, at most."""

MAX_PREEMPTED: Final = 256
"""Discarded speeches that a session names, at most."""

SessionId = Annotated[
    str,
    Meta(
        pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$(?!\n)",
        description="UUIDv7 in lower case; its time is the session's start.",
    ),
]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Ordinal = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Micros = Annotated[int, Meta(ge=0, le=2**53 - 1, description="Microseconds since 1970, UTC.")]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=256)]
Label = Annotated[str, Meta(max_length=64)]
Money = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$(?!\n)",
        description="US dollars as a plain decimal, at most nine digits behind the point.",
    ),
]


class Quantities(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a provider bills, in OpenTelemetry GenAI terms where they exist.

    `input_tokens` includes cached ones and `output_tokens` includes reasoning. The text, audio and
    image splits are parts of those totals and are zero where a provider does not report them.
    `other_tokens` are in none of them: nobody can tell what they were. Durations are whole
    microseconds.
    """

    requests: Count = 0
    large_requests: Count = 0
    input_tokens: Count = 0
    cache_read_input_tokens: Count = 0
    cache_creation_input_tokens: Count = 0
    text_input_tokens: Count = 0
    audio_input_tokens: Count = 0
    image_input_tokens: Count = 0
    text_cache_read_input_tokens: Count = 0
    audio_cache_read_input_tokens: Count = 0
    image_cache_read_input_tokens: Count = 0
    output_tokens: Count = 0
    reasoning_output_tokens: Count = 0
    text_output_tokens: Count = 0
    audio_output_tokens: Count = 0
    image_output_tokens: Count = 0
    characters: Count = 0
    audio_us: Count = 0
    session_us: Count = 0
    other_tokens: Count = 0


QUANTITIES: Final[tuple[str, ...]] = Quantities.__struct_fields__
"""The names of all quantities, in the order of the contract and of the ledger's columns."""


class RequestDetail(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The request that moved the meter. Detail only: it never decides what is booked.

    `time_to_first_us` is the time to the first token (LLM, realtime) or byte (TTS).
    """

    request_id: Text = ""
    speech_id: Text = ""
    duration_us: Count = 0
    time_to_first_us: Count | None = None
    cancelled: bool = False


class SessionStarted(
    Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="session_started"
):
    """A session was attached: who it belongs to and where it runs."""

    session_id: SessionId
    project: Name
    agent_id: Name
    tenant: Name | None = None
    started_at: Micros
    job_id: Text = ""
    room_name: Text = ""
    room_sid: Text = ""
    worker_id: Text = ""
    deployment: Text = ""
    fake_job: bool = False
    labels: Annotated[dict[Label, Text], Meta(max_length=16)] = {}


class MeterReading(
    Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="type",
    tag="meter_reading",
    gc=False,  # holds no cycle, and thousands may wait in a buffer
):
    """The running totals of one meter at a moment, like the number on an electricity meter.

    A meter is (session_id, agent_label, modality, provider, model, estimated, size_tier,
    service_tier). `number` rises with every reading of the session. `provider` is normalised,
    `provider_raw` is what the plugin said. `reported_cost` is a running total too: what the
    provider itself says it charged.

    `size_tier` and `service_tier` are the class of the meter's requests: each of them had more
    input tokens than `size_tier`, one of `SIZE_TIERS` or 0, and no more than the next one; and
    each is of one service tier, by the provider's own name, empty for the standard one. It is what
    was asked for, or what a provider says that it served where it bills that.
    """

    session_id: SessionId
    number: Ordinal
    project: Name
    agent_id: Name
    agent_label: Name
    tenant: Name | None = None
    modality: Name
    provider: Name
    provider_raw: Text = ""
    model: Name
    estimated: bool = False
    occurred_at: Micros
    totals: Quantities
    reported_cost: Money | None = None
    last: RequestDetail | None = None
    size_tier: Count = 0
    service_tier: Label = ""


class MeterTotals(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The totals of one meter: final ones of a session, or running ones of a producer's report."""

    agent_label: Name
    modality: Name
    provider: Name
    provider_raw: Text = ""
    model: Name
    estimated: bool = False
    totals: Quantities
    reported_cost: Money | None = None
    size_tier: Count = 0
    service_tier: Label = ""


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What came of a call, beside its totals. It decides nothing that is booked.

    `result` and `tags` are what the worker's code said of the job (LiveKit's `JobContext.tagger`),
    so all sessions of a job have the same. `user_turns` and `preempted` are absent where nobody
    knows them.
    """

    result: Label = ""
    tags: Annotated[list[Name], Meta(max_length=MAX_TAGS)] = []
    tags_cut: Count = 0
    user_turns: Count | None = None
    preempted: Annotated[list[Label], Meta(max_length=MAX_PREEMPTED)] | None = None


class SessionEnded(
    Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="session_ended"
):
    """A session ended: its final totals, which repair whatever reading was lost before.

    `number` is above every reading sent before it. `readings` counts those, so a ledger can tell a
    session whose readings all arrived from one that was repaired. `unmeasured` counts usage events
    of the session that were heard and could not be measured, in whole or in part; that part is in
    no total. What is known of the `outcome` only later comes in one more end with a higher number,
    which repeats the rest; older versions do not say.
    """

    session_id: SessionId
    number: Ordinal
    project: Name
    agent_id: Name
    tenant: Name | None = None
    ended_at: Micros
    status: Label
    reason: Text = ""
    meters: Annotated[list[MeterTotals], Meta(max_length=1000)]
    readings: Count
    coalesced: Count = 0
    unmeasured: Count = 0
    outcome: Outcome | None = None


class ProducerReport(
    Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="producer_report"
):
    """What a producer lost or merged so far, as running totals of the process.

    Sent when one of the counts has changed, and at the end. `dropped` are readings that no longer
    fitted; a later reading of the same meter repairs them. `unattributed` are usage events that
    could not be attributed to one session, and `unattributed_usage` is what they used, by modality,
    provider and model; `unmeasured` are usage events that were heard and could not be measured, in
    whole or in part, so nobody knows what they used. Of an event in part, the amounts that could be
    read are counted: where it could not be attributed, it is in both counts. Above a hundred meters
    of unattributed usage, further ones are merged into one whose model is `(more)`. Nothing repairs
    those. `live_sessions` are those that have started and not ended; while there are any, a report
    is sent every five minutes, so that silence tells that the process is gone. Older versions do not say.
    """

    producer_id: Name
    number: Ordinal
    project: Name
    reported_at: Micros
    captured: Count = 0
    coalesced: Count = 0
    dropped: Count = 0
    unattributed: Count = 0
    outbox_rows: Count = 0
    outbox_bytes: Count = 0
    oldest_age_us: Count = 0
    unmeasured: Count = 0
    unattributed_usage: Annotated[list[MeterTotals], Meta(max_length=1000)] = []
    live_sessions: Count | None = None


Event = SessionStarted | MeterReading | SessionEnded | ProducerReport


class Meter(Struct, frozen=True):
    """The identity of one running count. Project, agent and tenant are the session's."""

    session_id: str
    agent_label: str
    modality: str
    provider: str
    model: str
    estimated: bool
    size_tier: int = 0
    service_tier: str = ""


@overload
def meter_of(event: MeterReading) -> Meter: ...


@overload
def meter_of(event: SessionEnded, final: MeterTotals) -> Meter: ...


def meter_of(event: MeterReading | SessionEnded, final: MeterTotals | None = None) -> Meter:
    """Return the meter of a reading, or of one of the final totals of a session's end."""
    of: Any = final or event
    return Meter(
        event.session_id,
        of.agent_label,
        of.modality,
        of.provider,
        of.model,
        of.estimated,
        of.size_tier,
        of.service_tier,
    )


def version_of(event: Event) -> int:
    """Return the version of the batch that an event needs: the oldest one that is not misread."""
    if isinstance(event, MeterReading):
        return VERSION if event.size_tier or event.service_tier else 1
    if isinstance(event, SessionEnded):
        return VERSION if any(it.size_tier or it.service_tier for it in event.meters) else 1
    return 1


def now_us() -> int:
    """Return the wall clock in microseconds since 1970, UTC."""
    return time.time_ns() // 1000


class Batch(Struct, frozen=True, kw_only=True):
    """One NATS message: events of one subject from one producer.

    `version` is the highest that one of its events needs (`version_of`).
    """

    version: Ordinal = 1
    producer_id: Name
    number: Ordinal
    events: list[Event]


class Envelope(Struct, frozen=True, kw_only=True):
    """A batch whose events are still encoded, so that one bad event does not hide the others."""

    version: Ordinal = 1
    producer_id: Name
    number: Ordinal
    events: list[msgspec.Raw]


_encoder = msgspec.msgpack.Encoder()
_batch_decoder = msgspec.msgpack.Decoder(Batch)
_envelope_decoder = msgspec.msgpack.Decoder(Envelope)
_event_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def encode(batch: Batch) -> bytes:
    """Return the MessagePack bytes of a batch."""
    return _encoder.encode(batch)


def encode_event(event: Event) -> bytes:
    """Return the MessagePack bytes of one event, as it stands inside a batch."""
    return _encoder.encode(event)


def decode(data: bytes) -> Batch:
    """Return the batch in `data`.

    Raises:
        msgspec.DecodeError: The bytes are not MessagePack (truncated, garbage, nested without end).
        msgspec.ValidationError: A field has the wrong type, a wrong range, or an unknown event tag.
    """
    return _read(_batch_decoder, data)


def decode_envelope(data: bytes) -> Envelope:
    """Return the batch in `data` with its events undecoded; raises as `decode` does."""
    return _read(_envelope_decoder, data)


def decode_event(raw: bytes | msgspec.Raw) -> Event:
    """Return one event of an envelope; raises as `decode` does."""
    return _read(_event_decoder, raw)


_T = TypeVar("_T")


def _read(decoder: msgspec.msgpack.Decoder[_T], data: bytes | msgspec.Raw) -> _T:
    try:
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"{type(error).__name__}: {error}") from error
