"""What the event contract refuses: wrong types, ranges, lengths, tags, and any room for free text.

The ledger turns a refused event into a dead letter, so what passes here is what it may rely on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import msgspec.inspect as mi
import pytest

from tests.producer.golden.examples import EVENTS, SESSION_ID, golden
from tests.producer.golden.forms import STRUCTS, packed, unpacked
from voicecosts.producer import events
from voicecosts.producer.events import (
    QUANTITIES,
    MeterReading,
    SessionEnded,
    decode_envelope,
    decode_event,
)

_SESSION_ID = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$(?!\n)"
_MONEY = r"^[0-9]{1,9}(\.[0-9]{1,9})?$(?!\n)"

REFUSED: list[tuple[str, str, Any]] = [
    *(("meter_reading", f"totals.{quantity}", -1) for quantity in QUANTITIES),
    ("meter_reading", "totals.requests", True),
    ("meter_reading", "totals.requests", 1.0),
    ("meter_reading", "totals.requests", "1"),
    ("meter_reading", "totals.requests", None),
    ("meter_reading", "totals.requests", 2**53),
    ("meter_reading", "totals", None),
    ("meter_reading", "number", 0),
    ("meter_reading", "number", True),
    ("meter_reading", "occurred_at", -1),
    ("meter_reading", "estimated", 1),
    ("meter_reading", "session_id", SESSION_ID.upper()),
    ("meter_reading", "session_id", SESSION_ID.replace("-774b-", "-474b-")),
    ("meter_reading", "session_id", SESSION_ID.replace("-bcce-", "-0cce-")),
    ("meter_reading", "session_id", SESSION_ID.replace("-", "")),
    ("meter_reading", "session_id", ""),
    ("meter_reading", "model", "m" * 129),
    ("meter_reading", "model", ""),
    ("meter_reading", "project", ""),
    ("meter_reading", "tenant", ""),
    ("meter_reading", "tenant", 7),
    ("meter_reading", "provider_raw", "p" * 257),
    ("meter_reading", "last.request_id", "r" * 257),
    ("meter_reading", "last.time_to_first_us", -1),
    *(
        ("meter_reading", "reported_cost", cost)
        for cost in ("", "-1", "+1", "1e-7", "1.", ".5", "1.0000000001", "NaN", " 1", "1,5", 1, 0.5)
    ),
    ("session_started", "labels", {"l" * 65: "x"}),
    ("session_started", "labels", {"l": "x" * 257}),
    ("session_started", "labels", {str(n): "x" for n in range(17)}),
    ("session_started", "labels", {"l": 1}),
    ("session_ended", "status", "s" * 65),
    ("session_ended", "meters", {}),
    ("session_ended", "readings", -1),
    ("producer_report", "dropped", -1),
    ("producer_report", "type", "meter_exploded"),
    ("producer_report", "type", None),
]


@pytest.mark.parametrize(("name", "path", "value"), REFUSED)
def test_a_value_outside_of_the_contract_is_refused(name: str, path: str, value: Any) -> None:
    """Wrong types, ranges, lengths and tags are refused; nothing is converted or cut silently."""
    raw = unpacked(golden(name))
    *parents, last = path.split(".")
    target = raw
    for parent in parents:
        target = target[parent]
    target[last] = value
    with pytest.raises(msgspec.ValidationError):
        decode_event(packed(raw))


@pytest.mark.parametrize("cost", ["0", "12", "0.000000001", "999999999.999999999"])
def test_a_plain_decimal_is_a_cost(cost: str) -> None:
    """Reported money is a plain decimal text with at most nine digits on each side."""
    raw = unpacked(golden("meter_reading")) | {"reported_cost": cost}
    event = decode_event(packed(raw))
    assert isinstance(event, MeterReading)
    assert event.reported_cost == cost


@pytest.mark.parametrize("name", EVENTS)
def test_a_required_field_may_not_be_absent(name: str) -> None:
    """An event without one of its required fields is refused, whichever it is."""
    raw = unpacked(golden(name))
    for field in msgspec.structs.fields(EVENTS[name]):
        if field.required:
            less = {name: value for name, value in raw.items() if name != field.name}
            with pytest.raises(msgspec.ValidationError, match=field.name):
                decode_event(packed(less))


def test_a_truncated_batch_is_refused_at_every_length() -> None:
    """No beginning of a batch passes for a batch, and the error is msgspec's."""
    data = golden("batch")
    for length in range(len(data)):
        with pytest.raises(msgspec.DecodeError):
            decode_envelope(data[:length])


BOUNDED_TEXTS: dict[str, dict[str, list[int | str]]] = {
    "Batch": {"producer_id": [128]},
    "SessionStarted": {
        "session_id": [_SESSION_ID],
        "project": [128],
        "agent_id": [128],
        "tenant": [128],
        "job_id": [256],
        "room_name": [256],
        "room_sid": [256],
        "worker_id": [256],
        "deployment": [256],
        "labels": [64, 256],
    },
    "MeterReading": {
        "session_id": [_SESSION_ID],
        "project": [128],
        "agent_id": [128],
        "agent_label": [128],
        "tenant": [128],
        "modality": [128],
        "provider": [128],
        "provider_raw": [256],
        "model": [128],
        "reported_cost": [_MONEY],
        "service_tier": [64],
    },
    "MeterTotals": {
        "agent_label": [128],
        "modality": [128],
        "provider": [128],
        "provider_raw": [256],
        "model": [128],
        "reported_cost": [_MONEY],
        "service_tier": [64],
    },
    "SessionEnded": {
        "session_id": [_SESSION_ID],
        "project": [128],
        "agent_id": [128],
        "tenant": [128],
        "status": [64],
        "reason": [256],
    },
    "ProducerReport": {"producer_id": [128], "project": [128]},
    "Outcome": {"result": [64], "tags": [128], "preempted": [64]},
    "Quantities": {},
    "RequestDetail": {"request_id": [256], "speech_id": [256]},
}
"""Every text of the contract and its bound: a length in characters, or a pattern."""


def bounds_of(kind: mi.Type) -> Iterator[int | str | None]:
    """Yield the bound of every text in a field of this type, `None` for one without a bound."""
    match kind:
        case mi.Metadata():
            yield from bounds_of(kind.type)
        case mi.StrType():
            yield kind.max_length if kind.pattern is None else kind.pattern
        case mi.UnionType():
            for one in kind.types:
                yield from bounds_of(one)
        case mi.ListType():
            yield from bounds_of(kind.item_type)
        case mi.DictType():
            yield from bounds_of(kind.key_type)
            yield from bounds_of(kind.value_type)
        case mi.IntType() | mi.BoolType() | mi.NoneType() | mi.StructType():
            return
        case _:
            raise AssertionError(f"{kind} may hold a text: bound it, then teach this test")


def test_every_text_of_the_contract_is_bounded() -> None:
    """No field can carry free text: each text is listed here with its bound, and no other exists."""
    found = {}
    for struct in STRUCTS:
        kind = mi.type_info(struct)
        assert isinstance(kind, mi.StructType)
        texts = {field.name: list(bounds_of(field.type)) for field in kind.fields}
        found[struct.__name__] = {name: bounds for name, bounds in texts.items() if bounds}
    assert found == BOUNDED_TEXTS


def test_the_bounds_cover_every_struct_of_the_contract() -> None:
    """A struct that joins the contract joins these tests."""
    declared = {
        value
        for value in vars(events).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct)
    }
    # An envelope is read before the contract applies, and a Meter is never sent.
    assert declared - {msgspec.Struct, events.Envelope, events.Meter} == set(STRUCTS)


def test_every_number_of_the_contract_has_the_same_two_bounds() -> None:
    """Counts begin at zero and ordinals at one; both end where a double stops being exact."""
    for struct in STRUCTS:
        for field in msgspec.structs.fields(struct):
            kinds = [mi.type_info(field.type)]
            while kinds:
                kind = kinds.pop()
                if isinstance(kind, mi.Metadata):
                    kinds.append(kind.type)
                elif isinstance(kind, mi.UnionType):
                    kinds.extend(kind.types)
                elif isinstance(kind, mi.IntType):
                    least = 1 if field.name in ("number", "version") else 0
                    assert (kind.ge, kind.le) == (least, 2**53 - 1), field.name
                else:
                    assert not isinstance(kind, mi.FloatType), field.name


@pytest.mark.parametrize(("meters", "passes"), [(1000, True), (1001, False)])
def test_an_end_carries_at_most_a_thousand_meters(meters: int, passes: bool) -> None:  # noqa: FBT001 - a case of the table
    """The end of a session is one event of one message, so its meters are bounded."""
    raw = unpacked(golden("session_ended"))
    raw["meters"] = raw["meters"][1:] * meters
    if passes:
        event = decode_event(packed(raw))
        assert isinstance(event, SessionEnded)
        assert len(event.meters) == meters
    else:
        with pytest.raises(msgspec.ValidationError):
            decode_event(packed(raw))


def test_a_name_may_be_one_character() -> None:
    """A name of one character passes."""
    raw = unpacked(golden("meter_reading")) | {"tenant": "a", "project": "p", "model": "m"}
    event = decode_event(packed(raw))
    assert isinstance(event, MeterReading)
    assert (event.tenant, event.project, event.model) == ("a", "p", "m")


def test_lengths_count_characters_not_bytes() -> None:
    """A name of 128 characters passes in any script."""
    raw = unpacked(golden("meter_reading")) | {"tenant": "ü" * 128}
    event = decode_event(packed(raw))
    assert isinstance(event, MeterReading)
    assert event.tenant == "ü" * 128


def test_bytes_that_are_no_text_are_a_decode_error() -> None:
    """Bytes that are not UTF-8 where text is due raise msgspec's DecodeError."""
    with pytest.raises(msgspec.DecodeError):
        decode_event(golden("session_started").replace(b"dental", b"den\xff\xfel"))


def test_endless_nesting_is_a_decode_error() -> None:
    """A deeply nested message raises the same error, not a RecursionError."""
    data = golden("session_started")
    nested = b"\xa3new" + b"\x91" * 5000 + b"\xc0"
    with pytest.raises(msgspec.DecodeError):
        decode_event(bytes([data[0] + 1]) + nested + data[1:])


@pytest.mark.parametrize(
    ("field", "value"), [("session_id", f"{SESSION_ID}\n"), ("reported_cost", "1.5\n")]
)
def test_a_line_end_is_no_part_of_a_value(field: str, value: str) -> None:
    """An id or an amount with a line break at its end is refused."""
    with pytest.raises(msgspec.ValidationError):
        decode_event(packed(unpacked(golden("meter_reading")) | {field: value}))
