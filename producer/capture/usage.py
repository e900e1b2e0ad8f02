"""What LiveKit's metrics mean in quantities: the only file that knows LiveKit's metrics classes.

Every class and every field of the newest supported version is listed here, either with the quantity
it becomes or with the reason why it is not usage; a test compares the lists with livekit-agents.
What an older version does not report is read as zero (`supported.py` says once what that is). A class
that is not listed is logged once a session; its usage is not guessed.
"""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct

from voicecosts.producer.capture.responses import correct, correct_kinds
from voicecosts.producer.counts import UNKNOWN, Usage
from voicecosts.producer.events import LARGE_REQUEST_TOKENS, RequestDetail
from voicecosts.producer.names import plain

_US: Final = 1_000_000
_YEAR_2020: Final = 1_577_836_800
_YEAR_2200: Final = 7_258_118_400
"""Seconds; a timestamp before is of another clock, one after is in another unit."""

_MOST: Final = 10**12
"""Tokens, characters or requests; more in one report is an error of the plugin that makes it."""

_LONGEST_S: Final = 366 * 86_400
"""Seconds; a longer time in one report is a point in time."""


class Fields(Struct, frozen=True, kw_only=True):
    """How the fields of one metrics class are read.

    `quantities` maps a field (dotted where nested) to a quantity. `audio` and `session` name the
    fields in seconds. `first` is the field with the time to the first token or byte, `total` the
    one with all tokens of the response, which may be more than those that have a field.
    """

    modality: str
    quantities: dict[str, str]
    audio: str | None = None
    session: str | None = None
    first: str | None = None
    total: str | None = None
    requests: str | None = None  # a field that counts requests; otherwise one event is one request


FIELDS: Final[dict[str, Fields]] = {
    "llm_metrics": Fields(
        modality="llm",
        quantities={
            "prompt_tokens": "input_tokens",
            "prompt_cached_tokens": "cache_read_input_tokens",
            "cache_creation_tokens": "cache_creation_input_tokens",
            "completion_tokens": "output_tokens",
            "reasoning_tokens": "reasoning_output_tokens",
        },
        first="ttft",
        total="total_tokens",
    ),
    "stt_metrics": Fields(
        modality="stt",
        quantities={
            "input_tokens": "input_tokens",
            "input_audio_tokens": "audio_input_tokens",
            "output_tokens": "output_tokens",
        },
        audio="audio_duration",
    ),
    "tts_metrics": Fields(
        modality="tts",
        quantities={
            "characters_count": "characters",
            "input_tokens": "input_tokens",
            "output_tokens": "output_tokens",
        },
        audio="audio_duration",
        first="ttfb",
    ),
    "realtime_model_metrics": Fields(
        modality="realtime",
        quantities={
            "input_tokens": "input_tokens",
            "input_token_details.cached_tokens": "cache_read_input_tokens",
            "input_token_details.text_tokens": "text_input_tokens",
            "input_token_details.audio_tokens": "audio_input_tokens",
            "input_token_details.image_tokens": "image_input_tokens",
            "input_token_details.cached_tokens_details.text_tokens": "text_cache_read_input_tokens",
            "input_token_details.cached_tokens_details.audio_tokens": (
                "audio_cache_read_input_tokens"
            ),
            "input_token_details.cached_tokens_details.image_tokens": (
                "image_cache_read_input_tokens"
            ),
            "output_tokens": "output_tokens",
            "output_token_details.text_tokens": "text_output_tokens",
            "output_token_details.audio_tokens": "audio_output_tokens",
            "output_token_details.image_tokens": "image_output_tokens",
        },
        session="session_duration",
        first="ttft",
        total="total_tokens",
    ),
    "decision_metrics": Fields(
        modality="decision",
        quantities={"input_tokens": "input_tokens", "output_tokens": "output_tokens"},
    ),
    "interruption_metrics": Fields(
        modality="interruption", quantities={"num_requests": "requests"}, requests="num_requests"
    ),
    "eot_inference_metrics": Fields(
        modality="turn_detector", quantities={"num_requests": "requests"}, requests="num_requests"
    ),
}
"""How the classes that carry usage are read, by their `type`."""

NOT_USAGE: Final[dict[str, str]] = {
    "vad_metrics": "voice activity is detected inside the worker; nobody bills it",
    "eou_metrics": "delays of a turn, no quantity",
    "avatar_metrics": "latency only; avatar minutes are not reported by the framework",
}
"""The classes without usage, with the reason."""

NEWER: Final = frozenset({"cache_creation_tokens", "reasoning_tokens", "input_audio_tokens"})
"""Fields of `FIELDS` that not every supported version reports. Where one is absent it is zero; where
another one is absent, reading the event fails, which is better than a silent zero."""

DETAIL_FIELDS: Final = frozenset(
    {
        "type",
        "label",
        "request_id",
        "speech_id",
        "timestamp",
        "duration",
        "ttft",
        "ttfb",
        "cancelled",
        "streamed",
        "metadata",
    }
)
"""Fields that identify or describe a request; read by `usage_of`, never summed."""

NOT_QUANTITIES: Final[dict[str, str]] = {
    "total_tokens": "of a transcription: the sum of fields that are mapped",
    "tokens_per_second": "derived",
    "segment_id": "detail below a request",
    "acquire_time": "latency of the connection",
    "connection_reused": "state of the connection",
    "total_duration": "latency of inference requests",
    "prediction_duration": "latency of inference requests",
    "detection_delay": "latency of inference requests",
    "num_interruptions": "an outcome, not a request",
    "num_backchannels": "an outcome, not a request",
}
"""Fields of usage classes that are not usage themselves, with the reason."""

_PLAIN: Final[dict[type, tuple[tuple[str, str], ...]]] = {}
"""The fields that are read of a class, with their quantities; made at its first event."""

_NESTED: Final = {
    kind: tuple((attrgetter(f), f, name) for f, name in fields.quantities.items() if "." in f)
    for kind, fields in FIELDS.items()
}


class UnknownMetricsError(Exception):
    """A metrics class that this version does not know: its usage cannot be counted."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"metrics of type {kind!r} are not mapped to quantities")
        self.kind = kind


def usage_of(
    metrics: Any, *, now_us: int, speech_id: str = "", service_tier: str = ""
) -> Usage | None:
    """Return the usage in one LiveKit metrics object, `None` when it holds none.

    `now_us` and `speech_id` stand in where the event carries no time or no speech; no event carries
    the `service_tier`. A quantity that
    is absent counts as nothing; so does one that is no amount, and `unread` names it.

    Raises:
        UnknownMetricsError: The class is neither mapped nor known to be without usage.
    """
    kind = getattr(metrics, "type", type(metrics).__name__)
    fields = FIELDS.get(kind)
    if fields is None:
        if kind in NOT_USAGE:
            return None
        raise UnknownMetricsError(kind)
    # The model's own dictionary: much faster than attributes, and a field that was renamed is a
    # KeyError, not a zero.
    values = vars(metrics)
    unread: list[str] = []
    quantities = _quantities(kind, metrics, values, unread)
    metadata = values["metadata"]
    provider = _provider(metadata) or _text(values.get("label"))
    model = getattr(metadata, "model_name", None)
    model = model if type(model) is str and model else _text(model) or UNKNOWN
    if fields.total is not None and not unread:
        total = values[fields.total]
        if type(total) is not int or total > _MOST:
            total = _whole(total)
        correct(quantities, total, provider, model)
        if fields.modality == "realtime":
            correct_kinds(quantities)
    audio_s = _used_s(values, fields.audio, unread) if fields.audio else 0.0
    session_s = _used_s(values, fields.session, unread) if fields.session else 0.0
    if fields.requests is None and (
        (quantities and kind != "stt_metrics")
        or _is_request(kind, values, quantities, audio_s, session_s)
    ):
        quantities["requests"] = 1
        if quantities.get("input_tokens", 0) > LARGE_REQUEST_TOKENS:
            quantities["large_requests"] = 1
    if not quantities and not audio_s and not session_s and not unread:
        return None
    at = values["timestamp"]
    if type(at) is not float:
        at = _number(at)
    return Usage(
        modality=fields.modality,
        provider_raw=provider,
        model=model,
        occurred_at=int(at * _US) if _YEAR_2020 < at < _YEAR_2200 else now_us,
        quantities=quantities,
        audio_s=audio_s,
        session_s=session_s,
        detail=_detail(values, fields, speech_id),
        unread=tuple(unread) if unread else (),
        service_tier=service_tier,
    )


def _quantities(
    kind: str, metrics: Any, values: dict[str, Any], unread: list[str]
) -> dict[str, int]:
    found: dict[str, int] = {}
    for field, name in _PLAIN.get(type(metrics)) or _plain(type(metrics), kind):
        value = values[field]
        if value:
            if type(value) is int and 0 < value <= _MOST:
                found[name] = value
            else:
                _add_odd(found, name, value, field, unread)
    for get, field, name in _NESTED[kind]:
        try:
            value = get(metrics)
        except AttributeError:
            continue  # the nested details of a realtime response may be absent
        if value:
            if type(value) is int and 0 < value <= _MOST:
                found[name] = value
            else:
                _add_odd(found, name, value, field, unread)
    return found


def _plain(made: type, kind: str) -> tuple[tuple[str, str], ...]:
    """Keep and return the fields of a class that are read; newer ones where it has them."""
    present = getattr(made, "model_fields", NEWER)
    _PLAIN[made] = tuple(
        (field, name)
        for field, name in FIELDS[kind].quantities.items()
        if "." not in field and (field in present or field not in NEWER)
    )
    return _PLAIN[made]


def _add_odd(found: dict[str, int], name: str, value: Any, field: str, unread: list[str]) -> None:
    """Count an amount that is no plain whole number, as far as it is an amount."""
    amount = _number(value)
    if 0 <= amount <= _MOST:  # false for NaN
        if amount >= 1:
            found[name] = int(amount)
    else:
        unread.append(field)


def _number(value: Any) -> float:
    """Return a number as a float, 0 for an absent one and NaN for what is none.

    A plugin may have written a `Decimal` or a number of numpy's; text and flags are no amounts.
    """
    if type(value) is float or value is None:
        return value or 0.0
    if isinstance(value, (bool, str, bytes)):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, ArithmeticError):
        return math.nan


def _whole(total: Any) -> int:
    """Return the tokens that a provider says a response had in all; 0 if it says none."""
    if type(total) is not int:
        amount = _number(total)
        total = int(amount) if 0 <= amount <= _MOST else 0
    return total if total <= _MOST else 0


def _used_s(values: dict[str, Any], field: str, unread: list[str]) -> float:
    """Return seconds that a provider bills; `values` must have the field."""
    seconds = values[field]
    if type(seconds) is not float:
        seconds = _number(seconds)
    if 0 <= seconds <= _LONGEST_S:
        return seconds
    unread.append(field)
    return 0.0


def _is_request(
    kind: str,
    values: dict[str, Any],
    quantities: dict[str, int],
    audio_s: float,
    session_s: float,
) -> bool:
    """Tell a request from a report about a connection.

    A streaming STT reports seconds of one long connection. Every kind may report how long it took
    to connect, with neither usage nor an id. A realtime model that is billed by time reports the
    time since its last report, which may be none at all, under its session's id: a response has
    tokens, or was cancelled, or has an id and took time.
    """
    if kind == "stt_metrics" and values["streamed"]:
        return False
    if quantities or audio_s or values.get("cancelled"):
        return True
    if kind == "realtime_model_metrics":
        return bool(not session_s and values.get("request_id") and values.get("duration"))
    return bool(values.get("request_id") or values.get("duration"))


def _detail(values: dict[str, Any], fields: Fields, speech_id: str) -> RequestDetail:
    duration = values.get("duration")
    first = values[fields.first] if fields.first else None
    request_id, speech_id = values.get("request_id"), values.get("speech_id") or speech_id
    return RequestDetail(
        request_id=plain(request_id)[:256] if request_id else "",
        speech_id=plain(speech_id)[:256] if speech_id else "",
        duration_us=_time_us(duration) or 0 if duration else 0,
        time_to_first_us=None if first is None else _time_us(first),
        cancelled=values.get("cancelled") is True,
    )


def _time_us(value: Any) -> int | None:
    """Return a time that describes a request, `None` for one that cannot be."""
    seconds = value if type(value) is float else _number(value)
    return round(seconds * _US) if 0 <= seconds <= _LONGEST_S else None


def _provider(metadata: Any) -> str:
    """Return the provider that the plugin names; LiveKit's base classes say "unknown"."""
    named = getattr(metadata, "model_provider", None)
    if named is None or named == UNKNOWN:
        return ""
    return named if type(named) is str else _text(named)


def _text(value: Any) -> str:
    """Return a name as plain text; a member of an enumeration of texts is its value."""
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    return str(value) if value else ""
