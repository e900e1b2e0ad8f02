"""The event contract: bytes that are out in the field stay readable, in both directions of age.

What may change and what may not is in docs/events.md; each rule there has a test here. A failing
test in this file means that workers and ledgers of two versions no longer agree.
"""

from __future__ import annotations

import time

import msgspec
import msgspec.inspect as mi
import pytest
from hypothesis import given, settings
from msgspec import Struct
from msgspec.structs import replace

from tests.producer.golden.examples import ALL_EVENTS, BATCH, EVENTS, SESSION_ID, golden
from tests.producer.golden.forms import (
    BATCHES,
    STRUCTS,
    packed,
    unpacked,
    with_extras,
    without_defaults,
)
from voicecosts.producer.events import (
    LARGE_REQUEST_TOKENS,
    MAX_BYTES,
    MAX_EVENTS,
    QUANTITIES,
    VERSION,
    Batch,
    Count,
    Event,
    MeterReading,
    Micros,
    Money,
    Name,
    Ordinal,
    ProducerReport,
    SessionEnded,
    SessionId,
    decode,
    decode_envelope,
    decode_event,
    encode,
    encode_event,
    meter_of,
    now_us,
    version_of,
)


class OldQuantities(Struct, kw_only=True):
    """Quantities as a ledger of another version knows them."""

    input_tokens: Count = 0
    characters: Count = 0


class OldReading(Struct, kw_only=True, tag_field="type", tag="meter_reading"):
    """A reading as a ledger of another version knows it."""

    session_id: SessionId
    number: Ordinal
    project: Name
    model: Name
    occurred_at: Micros
    totals: OldQuantities
    reported_cost: Money | None = None


@pytest.mark.parametrize("name", ALL_EVENTS)
def test_an_event_encodes_to_its_golden_bytes_and_back(name: str) -> None:
    """Every event type reads and writes the bytes that were fixed for it once."""
    assert encode_event(ALL_EVENTS[name]) == golden(name)
    assert decode_event(golden(name)) == ALL_EVENTS[name]


def test_a_batch_encodes_to_its_golden_bytes_and_back() -> None:
    """A batch with all event types reads and writes the bytes that were fixed for it once."""
    assert encode(BATCH) == golden("batch")
    assert decode(golden("batch")) == BATCH


def test_every_event_type_has_a_golden_file() -> None:
    """An event type joins the contract together with its bytes."""
    assert {type(event) for event in EVENTS.values()} == set(Event.__args__)


def test_the_quantities_keep_their_names_and_their_order() -> None:
    """The ledger's columns follow this order: a new quantity goes to the end."""
    assert QUANTITIES == (
        "requests",
        "large_requests",
        "input_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "text_input_tokens",
        "audio_input_tokens",
        "image_input_tokens",
        "text_cache_read_input_tokens",
        "audio_cache_read_input_tokens",
        "image_cache_read_input_tokens",
        "output_tokens",
        "reasoning_output_tokens",
        "text_output_tokens",
        "audio_output_tokens",
        "image_output_tokens",
        "characters",
        "audio_us",
        "session_us",
        "other_tokens",
    )


@given(BATCHES)
@settings(max_examples=60)
def test_any_valid_batch_survives_the_round_trip(batch: Batch) -> None:
    """What the contract allows arrives as it was sent, whole or event by event."""
    data = encode(batch)
    assert decode(data) == batch
    envelope = decode_envelope(data)
    assert (envelope.version, envelope.producer_id, envelope.number) == (
        batch.version,
        batch.producer_id,
        batch.number,
    )
    assert [decode_event(raw) for raw in envelope.events] == batch.events


@given(BATCHES)
@settings(max_examples=30)
def test_fields_of_a_newer_producer_are_ignored(batch: Batch) -> None:
    """An older ledger reads a newer worker: unknown fields, in any struct, change nothing."""
    data = packed(with_extras(unpacked(encode(batch))))
    assert decode(data) == batch
    assert [decode_event(raw) for raw in decode_envelope(data).events] == batch.events


@given(BATCHES)
@settings(max_examples=30)
def test_fields_that_an_older_producer_lacks_take_their_defaults(batch: Batch) -> None:
    """A newer ledger reads an older worker: every field with a default may be absent."""
    bare = without_defaults(mi.type_info(Batch), unpacked(encode(batch)))
    decoded = decode(packed(bare))
    assert without_defaults(mi.type_info(Batch), unpacked(encode(decoded))) == bare
    for event in decoded.events:
        for field in msgspec.structs.fields(event):
            if not field.required:
                assert getattr(event, field.name) in (field.default, {}, [])


def test_an_older_reader_reads_todays_bytes() -> None:
    """A ledger with fewer fields and events with fewer quantities still finds what it knows."""
    reading = EVENTS["meter_reading"]
    assert isinstance(reading, MeterReading)
    old = msgspec.msgpack.decode(golden("meter_reading"), type=OldReading)
    assert (old.session_id, old.number, old.project) == (SESSION_ID, reading.number, "prod")
    assert (old.model, old.occurred_at) == (reading.model, reading.occurred_at)
    assert old.totals.input_tokens == reading.totals.input_tokens
    assert old.totals.characters == reading.totals.characters
    assert old.reported_cost == reading.reported_cost


class OldEnd(Struct, kw_only=True, tag_field="type", tag="session_ended"):
    """A session's end as the first version of a ledger knows it."""

    session_id: SessionId
    number: Ordinal
    readings: Count
    coalesced: Count = 0


class OldReport(Struct, kw_only=True, tag_field="type", tag="producer_report"):
    """A report as the first version of a ledger knows it."""

    producer_id: Name
    number: Ordinal
    unattributed: Count = 0
    oldest_age_us: Count = 0


def test_what_is_in_no_session_is_skipped_by_an_older_ledger() -> None:
    """It reads the counts that it knows, and misses nothing that it would have to refuse."""
    end = msgspec.msgpack.decode(golden("session_ended_unmeasured"), type=OldEnd)
    assert (end.session_id, end.number, end.readings) == (SESSION_ID, 8, 7)
    other = msgspec.msgpack.decode(golden("session_ended_outcome"), type=OldEnd)
    assert (other.session_id, other.number, other.readings) == (SESSION_ID, 11, 7)
    report = msgspec.msgpack.decode(golden("producer_report_in_no_session"), type=OldReport)
    assert (report.number, report.unattributed) == (4, 14)


def test_an_older_worker_says_nothing_of_what_is_in_no_session() -> None:
    """Its bytes have no such fields, and mean that it counted none."""
    end, report = decode_event(golden("session_ended")), decode_event(golden("producer_report"))
    assert isinstance(end, SessionEnded)
    assert isinstance(report, ProducerReport)
    assert (end.unmeasured, report.unmeasured, report.unattributed_usage) == (0, 0, [])
    assert end.outcome is None


def test_an_absent_field_means_nothing_used_and_nothing_known() -> None:
    """Every default is zero, empty, false or none, and stays so: producers leave defaults out."""
    for struct in STRUCTS:
        for field in msgspec.structs.fields(struct):
            if field.required or field.name == "version":
                continue
            default = (
                field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            )
            assert default in (0, "", None, {}, []), (struct.__name__, field.name)


def test_the_numbers_that_ledgers_are_built_for_stay() -> None:
    """Version, batch limits and the boundary of a large request are the same in every release."""
    assert Batch(producer_id="p", number=1, events=[]).version == 1 < VERSION
    assert (MAX_EVENTS, MAX_BYTES, LARGE_REQUEST_TOKENS) == (200, 256_000, 128_000)


def test_a_new_quantity_never_becomes_required() -> None:
    """Only what was required in the first version is required: all else came with a default."""
    required = {
        s.__name__: {f.name for f in msgspec.structs.fields(s) if f.required} for s in STRUCTS
    }
    who = {"session_id", "project", "agent_id"}
    meter = {"agent_label", "modality", "provider", "model", "totals"}
    assert required == {
        "Batch": {"producer_id", "number", "events"},
        "SessionStarted": who | {"started_at"},
        "MeterReading": who | meter | {"number", "occurred_at"},
        "MeterTotals": meter,
        "SessionEnded": who | {"number", "ended_at", "status", "meters", "readings"},
        "ProducerReport": {"producer_id", "number", "project", "reported_at"},
        "Outcome": set(),
        "Quantities": set(),
        "RequestDetail": set(),
    }


def test_one_bad_event_does_not_hide_the_others() -> None:
    """An envelope opens although one of its events is invalid, and the others decode."""
    raw = unpacked(golden("batch"))
    raw["events"][1]["totals"]["requests"] = -1
    with pytest.raises(msgspec.ValidationError):
        decode(packed(raw))
    envelope = decode_envelope(packed(raw))
    good = [decode_event(event) for place, event in enumerate(envelope.events) if place != 1]
    assert good == [BATCH.events[0], *BATCH.events[2:]]


def test_the_clock_counts_microseconds_since_1970() -> None:
    """The wall clock of the producer is the computer's own, in the contract's unit."""
    before = time.time_ns() // 1000
    assert before <= now_us() <= time.time_ns() // 1000


@pytest.mark.parametrize("name", ALL_EVENTS)
def test_only_an_event_with_a_class_needs_a_newer_ledger(name: str) -> None:
    """An older ledger goes on reading all that it cannot misread: calls without a large request."""
    assert version_of(ALL_EVENTS[name]) == (2 if name.endswith("_class") else 1)


def test_an_older_reader_would_take_the_classes_of_a_meter_for_one() -> None:
    """That is why such a batch has a version of its own: the totals of two meters would be mixed."""
    end = decode_event(golden("session_ended_class"))
    assert isinstance(end, SessionEnded)
    small, large = end.meters
    assert meter_of(end, small) != meter_of(end, large)
    without = [replace(each, size_tier=0, service_tier="") for each in end.meters]
    assert meter_of(end, without[0]) == meter_of(end, without[1])
