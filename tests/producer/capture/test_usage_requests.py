"""What is a request, and what is only a report about a connection, as LiveKit makes both."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from livekit.agents.llm import RealtimeSession, duplex
from livekit.agents.llm._realtime import gpt_live, gpt_live_types
from livekit.agents.metrics.base import DecisionMetrics

from tests.producer.capture.livekit_metrics import AT, NOTHING, llm, realtime, stt, tts
from voicecosts.producer.capture.usage import usage_of

MODEL = SimpleNamespace(label="maker.Realtime", model="m-1", provider="Maker")
NO_TOKENS = {"input_tokens": 0, "output_tokens": 0}


def requests_in(metrics: Any) -> int:
    """Return how many requests an event counts as."""
    usage = usage_of(metrics, now_us=1)
    return 0 if usage is None else usage.quantities.get("requests", 0)


def emitted(method: Any, *arguments: Any, **attributes: Any) -> Any:
    """Return the one metrics object that a method of LiveKit's sessions emits."""
    made: list[Any] = []
    session = SimpleNamespace(emit=lambda _event, metrics: made.append(metrics), **attributes)
    method(session, *arguments)
    (metrics,) = made
    return metrics


@pytest.mark.parametrize(
    "metrics",
    [
        emitted(RealtimeSession._report_connection_acquired, 0.25, _realtime_model=MODEL),
        emitted(duplex.DuplexSession._report_connection_acquired, 0.25, _duplex_model=MODEL),
    ],
    ids=["realtime", "duplex"],
)
def test_the_connection_of_a_realtime_model_is_no_usage(metrics: Any) -> None:
    """LiveKit reports how long the connection of a realtime model took; that is no request."""
    assert metrics.acquire_time == 0.25
    assert usage_of(metrics, now_us=1) is None


@pytest.mark.parametrize("seconds", [0.0, 12.5])
def test_a_report_of_a_duplex_session_is_time_and_no_request(seconds: float) -> None:
    """The voice model of a duplex session reports seconds since its last report, also none."""
    metrics = emitted(
        gpt_live.GPTLiveSession._handle_usage,
        gpt_live_types.Usage(seconds=30.0 + seconds),
        _usage_total=gpt_live_types.Usage(seconds=30.0),
        _session_id="session-1",
        _live_model=MODEL,
    )
    usage = usage_of(metrics, now_us=1)
    assert metrics.request_id == "session-1"
    assert (usage is None) == (seconds == 0.0)
    assert usage is None or (usage.session_s, usage.quantities) == (seconds, {})


def test_the_report_at_the_end_of_a_session_billed_by_time_is_no_request() -> None:
    """The plugin of xAI reports the whole connection once, under an id that is no request's."""
    closing = NOTHING.model_copy(update={"request_id": "session_close", "session_duration": 61.5})
    usage = usage_of(closing, now_us=1)
    assert usage is not None
    assert (usage.session_s, usage.quantities) == (61.5, {})


@pytest.mark.parametrize(
    "response",
    [
        pytest.param({"request_id": "resp-1", "duration": 1.5, "ttft": 0.3}, id="without counts"),
        pytest.param({"request_id": "resp-1", "duration": 0.5, "cancelled": True}, id="cancelled"),
        pytest.param({"cancelled": True}, id="cancelled, without an id"),
        pytest.param({"input_tokens": 7}, id="with tokens, without an id"),
        pytest.param({"input_tokens": 7, "session_duration": 2.0}, id="with tokens and time"),
    ],
)
def test_a_realtime_response_is_a_request(response: dict[str, Any]) -> None:
    """A response has tokens, or was cancelled, or has an id and took time."""
    assert requests_in(NOTHING.model_copy(update=response)) == 1


def test_two_responses_and_the_reports_around_them_are_two_requests() -> None:
    """Connection, two responses, and the time at the end: two requests."""
    call = [
        emitted(RealtimeSession._report_connection_acquired, 0.25, _realtime_model=MODEL),
        realtime(),
        realtime(cancelled=False, session_duration=0.0),
        NOTHING.model_copy(update={"request_id": "session_close", "session_duration": 61.5}),
    ]
    assert sum(map(requests_in, call)) == 2


def test_a_batch_recognition_is_a_request_and_a_streamed_report_is_none() -> None:
    """A streaming STT reports seconds of one long connection, not requests."""
    assert requests_in(stt(streamed=True)) == 0
    assert requests_in(stt(streamed=False)) == 1
    nothing = {"audio_duration": 0.0, "input_tokens": 0, "input_audio_tokens": 0}
    assert requests_in(stt(streamed=False, output_tokens=0, duration=0.4, **nothing)) == 1


@pytest.mark.parametrize(
    "metrics",
    [
        stt(
            request_id="",
            audio_duration=0.0,
            input_tokens=0,
            input_audio_tokens=0,
            output_tokens=0,
            streamed=streamed,
        )
        for streamed in (True, False)
    ]
    + [
        tts(
            request_id="",
            characters_count=0,
            audio_duration=0.0,
            **NO_TOKENS,
            cancelled=False,
            duration=0.0,
        ),
        llm(
            request_id="",
            prompt_tokens=0,
            prompt_cached_tokens=0,
            cache_creation_tokens=0,
            completion_tokens=0,
            reasoning_tokens=0,
            duration=0.0,
        ),
    ],
    ids=["stt", "batch stt", "tts", "llm"],
)
def test_a_report_with_nothing_but_the_time_to_connect_is_no_usage(metrics: Any) -> None:
    """Where an event has no amount, no id and no duration, nobody asked a provider for anything."""
    assert usage_of(metrics, now_us=1) is None


def test_a_decision_without_counts_is_a_request() -> None:
    """A provider of decisions may not say its tokens; the request was made."""
    metrics = DecisionMetrics(label="L", request_id="req-5", timestamp=AT, duration=0.5)
    usage = usage_of(metrics, now_us=1)
    assert usage is not None
    assert (usage.quantities, usage.unread) == ({"requests": 1}, ())


def test_a_report_that_is_no_request_is_never_a_large_one() -> None:
    """A large request is a request: tokens that a streamed recognition reports make none."""
    assert requests_in(stt(input_tokens=200_000)) == 0
    usage = usage_of(stt(input_tokens=200_000), now_us=1)
    assert usage is not None
    assert "large_requests" not in usage.quantities
