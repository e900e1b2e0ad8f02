"""Writes docs/events.md, the page of the event contract, from the structs of producer/events.py.

`python docs/generate_events.py` writes the page; with `--check` nothing is written and the exit
status is 1 when the page is stale. Names, types, defaults and schemas come from the structs; what
a field means is said here, and a field without a meaning is an error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import msgspec.inspect as mi
from msgspec import Struct

ROOT: Final = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from voicecosts.producer import events, subjects  # noqa: E402 - a checkout need not be installed

PAGE: Final = ROOT / "docs" / "events.md"

EVENTS: Final[tuple[type[Struct], ...]] = events.Event.__args__
PARTS: Final[tuple[type[Struct], ...]] = (
    events.MeterTotals,
    events.Outcome,
    events.Quantities,
    events.RequestDetail,
)
STRUCTS: Final[tuple[type[Struct], ...]] = (events.Batch, *EVENTS, *PARTS)

_SESSION: Final = {
    "session_id": "The session, one attached `AgentSession`. Its first 48 bits are the start in milliseconds.",
    "project": "The project that pays; the consumer compares it with the subject's token.",
    "agent_id": "The registered agent to which the call was routed.",
    "tenant": "The customer on whose behalf the call was made; absent if the dispatch named none.",
}
_METER: Final = {
    "agent_label": "The agent of LiveKit that was active; a hand-off starts meters of its own. Of connected time, which connection it is: `leg 1`.",
    "modality": "`llm`, `stt`, `tts`, `realtime`, `turn_detector`, `interruption` or `decision`; of connected time `agent_session`, `participant` or `telephony`; or what the worker's own code recorded.",
    "provider": "Normalised name, in the spelling of the OpenTelemetry registry where it has one.",
    "provider_raw": "What the plugin calls itself.",
    "model": "Model as the plugin names it; `unknown` if it names none.",
    "estimated": (
        "A lower bound of what is billed and was not reported: requests that were cut off, and "
        "connections of speech recognition that were open."
    ),
    "totals": "Running totals since the session's start, never increments.",
    "reported_cost": "Running total in US dollars that the provider itself reports; kept beside the rated cost.",
    "size_tier": "Each of its requests had more input tokens than this step, and no more than the next; a part of the meter's identity.",
    "service_tier": "The service tier of its requests, as the provider names it: what was asked for, or what was served where the provider bills that; empty for the standard one; a part of the meter's identity.",
}
MEANINGS: Final[dict[str, dict[str, str]]] = {
    "Batch": {
        "version": "Version of the contract; raised only by a change that an older ledger would misread.",
        "producer_id": "The producing process, a random text of its own; decides the slot of the subject.",
        "number": "Rises by one with every batch of a producer; a gap is a batch that never arrived.",
        "events": "Up to 200 events of one subject, 256 kB together; a larger event travels alone.",
    },
    "SessionStarted": _SESSION
    | {
        "started_at": "When the session was attached.",
        "job_id": "LiveKit's job; it may have more than one session.",
        "room_name": "LiveKit's room, with phone numbers taken out.",
        "room_sid": "LiveKit's id of the room.",
        "worker_id": "LiveKit's id of the worker.",
        "deployment": "Deployed version of the agents, as LiveKit or OpenRTC names it.",
        "fake_job": "A session of a console or a simulation, not of a caller.",
        "labels": "Up to 16 short facts of the operator's choice, such as a region.",
    },
    "MeterReading": _SESSION
    | {
        "number": "Rises with every reading of the session; the ledger books the highest it knows.",
        "occurred_at": "The time that LiveKit gives the usage; of a realtime response its beginning.",
        "last": "The request that moved the meter; detail, never booked.",
    }
    | _METER,
    "MeterTotals": _METER
    | {
        "agent_label": "The agent of LiveKit that was active; `unattributed` in a report.",
        "totals": "Totals since the start of the session; in a report, of the process.",
    },
    "SessionEnded": _SESSION
    | {
        "number": "Above every reading that was sent before the end.",
        "ended_at": "When the session ended.",
        "status": "`success`, `failed` or `cancelled`.",
        "reason": "What ended it: LiveKit's close reason, or the hook that did.",
        "meters": "Final totals of every meter; they repair any reading that was lost.",
        "readings": "Readings made until the end, so that a loss can be seen.",
        "coalesced": "Readings of the session that were merged into newer ones in a full buffer.",
        "unmeasured": "Usage events of the session that could not be measured, in whole or in part; that part is in no total.",
        "outcome": "What came of the call; absent from older versions.",
    },
    "Outcome": {
        "result": "`success` or `fail`, as the worker's code told LiveKit (`ctx.tagger`); empty where it said nothing. The reason that it gave does not travel.",
        "tags": "The job's other tags, sorted, with phone numbers taken out; what is attached to them does not travel.",
        "tags_cut": "Tags that were left out, because there were more or they were no text, or shortened.",
        "user_turns": "Messages of the user in LiveKit's history; absent where it is not known: with a realtime model that wrote down none.",
        "preempted": "LiveKit's speeches that were begun before the user had finished and then discarded, unheard; absent where it is not known, and above 256.",
    },
    "ProducerReport": {
        "producer_id": "The process that reports.",
        "number": "Rises with every report of a producer.",
        "project": "The project of the producer.",
        "reported_at": "When the counts were read.",
        "captured": "Events that were put into the buffer.",
        "coalesced": "Readings that were merged into newer ones of their meter.",
        "dropped": "Events that found no place or were refused; a later reading repairs a reading.",
        "unattributed": "Usage events that could not be attributed to one session; nothing repairs them.",
        "outbox_rows": "Messages that wait on disk.",
        "outbox_bytes": "Bytes that wait on disk.",
        "oldest_age_us": "Age of the oldest message that waits.",
        "unmeasured": "Usage events that could not be measured, of sessions and of none; nothing repairs them.",
        "unattributed_usage": "What the unattributed events used: running totals by modality, provider and model.",
        "live_sessions": "Sessions that have started and not ended; while there are any, a report comes every five minutes. Older versions do not say.",
    },
    "Quantities": {
        "requests": "Requests that were made, cancelled ones too; seconds of a stream are none.",
        "large_requests": "Requests above 128,000 input tokens, for price lists with a tier there.",
        "input_tokens": "All input tokens, cached ones included.",
        "cache_read_input_tokens": "Input tokens that came from the provider's cache.",
        "cache_creation_input_tokens": "Input tokens that were written to the provider's cache.",
        "text_input_tokens": "Text among the input tokens.",
        "audio_input_tokens": "Audio among the input tokens.",
        "image_input_tokens": "Images among the input tokens.",
        "text_cache_read_input_tokens": "Text among the input tokens from the cache.",
        "audio_cache_read_input_tokens": "Audio among the input tokens from the cache.",
        "image_cache_read_input_tokens": "Images among the input tokens from the cache.",
        "output_tokens": "All output tokens, reasoning included.",
        "reasoning_output_tokens": "Reasoning among the output tokens.",
        "text_output_tokens": "Text among the output tokens.",
        "audio_output_tokens": "Audio among the output tokens.",
        "image_output_tokens": "Images among the output tokens.",
        "characters": "Characters that were synthesised.",
        "audio_us": "Audio that was recognised or synthesised, in microseconds.",
        "session_us": "Connected time that a provider bills, in microseconds.",
        "other_tokens": "Tokens of which nobody can tell what they were: only the provider's total has them, or the response contradicts itself. They have no price.",
    },
    "RequestDetail": {
        "request_id": "The provider's or the plugin's id; often empty, never a key.",
        "speech_id": "LiveKit's speech, which joins the requests of one turn.",
        "duration_us": "Duration of the request in microseconds.",
        "time_to_first_us": "Time to the first token or byte in microseconds; absent if none came.",
        "cancelled": "The request was cut off.",
    },
}
"""What each field means: struct → field → one sentence."""

INTRODUCTION: Final = f"""\
<!-- Written by docs/generate_events.py from producer/events.py; do not edit. -->

# The event contract

What a worker tells the ledger. An event is a **reading**: it carries a meter's running totals, not
an increment. The ledger books the difference to what it holds, so an event that arrives twice, late
or not at all does not change what is booked in the end. The structs are in `producer/events.py`,
which needs only msgspec; the bytes that every version must read are in `tests/producer/golden/`.

## On the wire

One NATS message is one `Batch`, a MessagePack map. Every event in it is a map with its type in the
key `type`. An event leaves out a field whose value is its default. Times are whole microseconds
since 1970 UTC, durations whole microseconds, money is a decimal text in US dollars. Lengths count
characters, and integers end at 2^53 - 1. No field has room for free text: a transcript has nowhere
to travel. Labels and tags are short texts of the worker's own code.

The subject is `{subjects.PREFIX}.<project>.<agent>.<slot>` in the stream
`{subjects.STREAM}` (`{subjects.STREAM_SUBJECTS}`):

* `<project>` and `<agent>` are the names themselves where they match `[A-Za-z0-9_-]{{1,48}}` and do
  not begin with `_h`; otherwise `_h` and a hash of 24 characters. The true names are in the events.
  Credentials pin the project's token, and an event of another project is a dead letter.
* `<slot>` is `00` to `{subjects.SLOTS - 1}`, a hash of the producer. A session lives in one
  producer, so a partition of slots holds whole sessions. A `ProducerReport` has `_producer` in the
  agent's place.

## How it may change

* A new field has a default. An older ledger ignores it, and a newer one takes the default where an
  older worker does not send it.
* A field keeps its name, its type and its meaning for ever, and is never removed. A bound may become
  wider once every ledger accepts it, never tighter.
* A new quantity goes to the end of `Quantities`, and the ledger gets a column for it first.
* A new type of event is sent only when every ledger knows it: an older one makes it a dead letter
  and books the other events of the batch.
* `version` is raised only by a change that an older ledger would misread. Version 2 has readings and ends that name a
  `size_tier` or a `service_tier`, which are a part of a meter's identity
  ([why](decisions/0010-what-is-settled-stays-settled.md)). A batch without any is of version 1. What reads version 1 alone must not
  book a newer batch: an older ledger keeps it as a dead letter (`newer_version`), to be booked after an upgrade.

`tests/producer/test_events.py` and `test_events_bounds.py` test these rules.
"""

_STARTED_AT: Final = 1_688_428_752_022_000
_WHO: Final = {
    "session_id": "01890a5d-ac96-774b-bcce-b302099a8057",
    "project": "prod",
    "agent_id": "dental",
    "tenant": "acme",
}
_LLM: Final = {
    "agent_label": "Greeter",
    "modality": "llm",
    "provider": "openai",
    "provider_raw": "api.openai.com",
    "model": "gpt-4.1-mini",
    "totals": {
        "requests": 2,
        "input_tokens": 512,
        "cache_read_input_tokens": 256,
        "output_tokens": 61,
    },
}
_CALL: Final = [
    {"type": "session_started", **_WHO, "started_at": _STARTED_AT, "room_name": "call-_+#_x"},
    {
        "type": "meter_reading",
        **_WHO,
        **_LLM,
        "number": 2,
        "occurred_at": _STARTED_AT + 4_500_000,
        "last": {"duration_us": 820_000, "time_to_first_us": 310_000},
    },
    {
        "type": "session_ended",
        **_WHO,
        "number": 3,
        "ended_at": _STARTED_AT + 60_000_000,
        "status": "success",
        "reason": "user_initiated",
        "meters": [_LLM],
        "readings": 2,
    },
]
EXAMPLE: Final = msgspec.convert(
    {"producer_id": "9f86d081884c7d65", "number": 1, "events": _CALL}, events.Batch
)
"""A short call: its start, the second reading of its only meter, and its end."""

_NAMED: Final = {
    get_args(events.SessionId)[1].pattern: "UUIDv7",
    get_args(events.Money)[1].pattern: "decimal text",
}
"""Patterns by their name; the schema shows them in full."""


def type_words(kind: mi.Type) -> str:
    """Return the type of a field in words."""
    return _WORDS[type(kind)](kind)


def _text_words(kind: mi.StrType) -> str:
    if kind.pattern is not None:
        return _NAMED[kind.pattern]
    least = f"{kind.min_length} to " if kind.min_length else "up to "
    return f"text, {least}{kind.max_length}"


def _list_words(kind: mi.ListType) -> str:
    if isinstance(kind.item_type, mi.UnionType):
        return "list of events"
    return f"list of {type_words(kind.item_type)}, up to {kind.max_length}"


_WORDS: Final[dict[type[mi.Type], Callable[[Any], str]]] = {
    mi.Metadata: lambda kind: type_words(kind.type),
    mi.StrType: _text_words,
    mi.IntType: lambda kind: f"integer ≥ {kind.ge}",
    mi.BoolType: lambda _: "boolean",
    mi.NoneType: lambda _: "nil",
    mi.UnionType: lambda kind: " or ".join(map(type_words, kind.types)),
    mi.ListType: _list_words,
    mi.DictType: lambda kind: (
        f"map of up to {kind.max_length}: "
        f"{type_words(kind.key_type)} → {type_words(kind.value_type)}"
    ),
    mi.StructType: lambda kind: f"[`{kind.cls.__name__}`](#{kind.cls.__name__.lower()})",
}


def default_words(field: mi.Field) -> str:
    """Return the default of a field, or that it is required."""
    if field.required:
        return "required"
    default = field.default
    if default is msgspec.NODEFAULT:
        default = field.default_factory()
    return f"`{msgspec.json.encode(default).decode()}`"


def section(struct: type[Struct]) -> Iterator[str]:
    """Yield the lines about one struct: its docstring and its fields."""
    kind = mi.type_info(struct)
    assert isinstance(kind, mi.StructType)  # noqa: S101 - a struct's type is a StructType
    yield f"## {struct.__name__}"
    yield ""
    yield (struct.__doc__ or "").replace("\n    ", "\n").strip()
    yield ""
    if kind.tag is not None:
        yield f"`type` is `{kind.tag}`."
        yield ""
    yield "| field | type | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for field in kind.fields:
        meaning = MEANINGS[struct.__name__][field.name]
        yield (
            f"| `{field.encode_name}` | {type_words(field.type)} | {default_words(field)} "
            f"| {meaning} |"
        )
    yield ""


def page() -> str:
    """Return the whole page."""
    lines = [INTRODUCTION]
    for struct in STRUCTS:
        lines += section(struct)
    lines += [
        "## Example",
        "",
        f"A batch, decoded; on the wire it has {len(events.encode(EXAMPLE))} bytes.",
        "",
        "```json",
        _json(EXAMPLE),
        "```",
        "",
        "## JSON Schema",
        "",
        "Of the batch and of each event in it, for readers without msgspec.",
        "",
        "<details><summary>Show</summary>",
        "",
        "```json",
        _json(msgspec.json.schema(events.Batch)),
        "```",
        "",
        "</details>",
    ]
    return "\n".join(lines).rstrip() + "\n"


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` compare it; return the exit status."""
    fresh = page()
    if arguments not in ([], ["--check"]):
        sys.stderr.write(f"unknown arguments {arguments}: there is only --check\n")
        return 2
    if not arguments:
        PAGE.write_text(fresh, encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == fresh:
        return 0
    sys.stderr.write(f"{PAGE.name} is stale: run `python docs/generate_events.py`\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
