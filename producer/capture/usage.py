"""What LiveKit's metrics mean in quantities: the only file that knows LiveKit's metrics classes.

Every class and every field of the installed version is listed here, either with the quantity it
becomes or with the reason why it is not usage; a test compares the lists with livekit-agents.
A class that is not listed is logged once a session; its usage is not guessed.
"""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Any, Final

from msgspec import Struct

from voicecosts.producer.counts import UNKNOWN, Usage
from voicecosts.producer.events import LARGE_REQUEST_TOKENS, RequestDetail
from voicecosts.producer.names import plain

_US: Final = 1_000_000
_YEAR_2200: Final = 7_258_118_400
"""Seconds; a timestamp above is in another unit."""


class Fields(Struct, frozen=True, kw_only=True):
    """How the fields of one metrics class are read.

    `quantities` maps a field (dotted where nested) to a quantity. `audio` and `session` name the
    fields in seconds. `first` is the field with the time to the first token or byte.
    """

    modality: str
    quantities: dict[str, str]
    audio: str | None = None
    session: str | None = None
    first: str | None = None
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
    "total_tokens": "the sum of fields that are mapped",
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

_PLAIN: Final = {
    kind: tuple((f, name) for f, name in fields.quantities.items() if "." not in f)
    for kind, fields in FIELDS.items()
}
_NESTED: Final = {
    kind: tuple((attrgetter(f), name) for f, name in fields.quantities.items() if "." in f)
    for kind, fields in FIELDS.items()
}


class UnknownMetricsError(Exception):
    """A metrics class that this version does not know: its usage cannot be counted."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"metrics of type {kind!r} are not mapped to quantities")
        self.kind = kind


def usage_of(metrics: Any, *, now_us: int, speech_id: str = "") -> Usage | None:
    """Return the usage in one LiveKit metrics object, `None` when it holds none.

    `now_us` and `speech_id` stand in where the event carries no time or no speech. Quantities that
    are absent, negative or not finite count as nothing.

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
    quantities = _quantities(kind, metrics, values)
    audio_s = _seconds(values[fields.audio]) if fields.audio else 0.0
    session_s = _seconds(values[fields.session]) if fields.session else 0.0
    if fields.requests is None and _is_request(kind, values, quantities, session_s):
        quantities["requests"] = 1
        if quantities.get("input_tokens", 0) > LARGE_REQUEST_TOKENS:
            quantities["large_requests"] = 1
    if not quantities and not audio_s and not session_s:
        return None
    metadata = values["metadata"]
    at = values["timestamp"]
    return Usage(
        modality=fields.modality,
        provider_raw=_provider(metadata) or values.get("label", ""),
        model=(metadata and metadata.model_name) or UNKNOWN,
        occurred_at=int(at * _US) if at and 0 < at < _YEAR_2200 else now_us,
        quantities=quantities,
        audio_s=audio_s,
        session_s=session_s,
        detail=_detail(values, fields, speech_id),
    )


def _quantities(kind: str, metrics: Any, values: dict[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for field, name in _PLAIN[kind]:
        value = values[field]
        if value and 0 < value < math.inf:
            found[name] = int(value)
    for get, name in _NESTED[kind]:
        try:
            value = get(metrics)
        except AttributeError:
            continue  # the nested details of a realtime response may be absent
        if value and 0 < value < math.inf:
            found[name] = int(value)
    return found


def _provider(metadata: Any) -> str:
    """Return the provider that the plugin names; LiveKit's base classes say "unknown"."""
    named = metadata.model_provider if metadata else None
    return "" if named is None or named == UNKNOWN else str(named)


def _seconds(value: float | None) -> float:
    return float(value) if value and 0 < value < math.inf else 0.0


def _is_request(
    kind: str, values: dict[str, Any], quantities: dict[str, int], session_s: float
) -> bool:
    """Tell a request from a report about a connection.

    A streaming STT reports seconds of one long connection, and a model billed by session time
    reports the time since its last report: neither is a request.
    """
    if kind == "stt_metrics":
        return not values["streamed"]
    return bool(quantities) or not session_s


def _detail(values: dict[str, Any], fields: Fields, speech_id: str) -> RequestDetail:
    first = values[fields.first] if fields.first else None
    duration = values.get("duration")
    return RequestDetail(
        request_id=_name(values.get("request_id")),
        speech_id=_name(values.get("speech_id") or speech_id),
        duration_us=round(duration * _US) if duration and 0 < duration < math.inf else 0,
        time_to_first_us=round(first * _US)
        if first is not None and 0 <= first < math.inf
        else None,
        cancelled=values.get("cancelled", False),
    )


def _name(value: Any) -> str:
    """Return an id as the contract carries it; most are short and plain, many are absent."""
    return plain(value)[:256] if value else ""
