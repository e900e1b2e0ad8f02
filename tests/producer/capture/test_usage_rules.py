"""The rules of usage: what is a request, what counts as nothing, and what is an error."""

from __future__ import annotations

import math
from typing import Any

import pytest
from livekit.agents.metrics.base import (
    AvatarMetrics,
    EOTInferenceMetrics,
    EOUMetrics,
    InterruptionMetrics,
    Metadata,
    VADMetrics,
)

from tests.producer.capture.livekit_metrics import AT, NOTHING, llm, realtime, stt, tts
from voicecosts.producer.capture.usage import UnknownMetricsError, usage_of
from voicecosts.producer.counts import UNKNOWN, Usage
from voicecosts.producer.events import LARGE_REQUEST_TOKENS, RequestDetail

NOW_US = 1_700_000_000_000_000


def found(metrics: Any) -> Usage:
    """Return the usage in `metrics`, which must hold some."""
    usage = usage_of(metrics, now_us=NOW_US)
    assert usage is not None
    return usage


def detail_of(metrics: Any) -> RequestDetail:
    """Return the detail of the request in `metrics`, which must hold one."""
    detail = found(metrics).detail
    assert detail is not None
    return detail


@pytest.mark.parametrize(
    "metrics",
    [
        stt(audio_duration=0.0, input_tokens=0, output_tokens=0, input_audio_tokens=0),
        InterruptionMetrics(
            timestamp=AT,
            total_duration=1,
            prediction_duration=1,
            detection_delay=1,
            num_interruptions=0,
            num_backchannels=0,
            num_requests=0,
        ),
        EOTInferenceMetrics(
            timestamp=AT,
            total_duration=1,
            detection_delay=1,
            prediction_duration=1,
            num_requests=0,
        ),
        VADMetrics(
            label="L", timestamp=AT, idle_time=1, inference_duration_total=1, inference_count=9
        ),
        EOUMetrics(
            timestamp=AT,
            end_of_utterance_delay=1,
            transcription_delay=1,
            on_user_turn_completed_delay=1,
        ),
        AvatarMetrics(timestamp=AT, playback_latency=1),
    ],
    ids=lambda metrics: type(metrics).__name__,
)
def test_an_event_without_usage_is_no_reading(metrics: Any) -> None:
    """A report about a connection, and classes that are not billed, hold no usage."""
    assert usage_of(metrics, now_us=NOW_US) is None


@pytest.mark.parametrize(
    "metrics",
    [
        llm(
            prompt_tokens=0,
            prompt_cached_tokens=0,
            cache_creation_tokens=0,
            completion_tokens=0,
            reasoning_tokens=0,
            cancelled=True,
        ),
        tts(characters_count=0, input_tokens=0, output_tokens=0, audio_duration=0.0),
        NOTHING.model_copy(update={"cancelled": True}),
    ],
    ids=lambda metrics: type(metrics).__name__,
)
def test_a_request_counts_although_it_reports_nothing(metrics: Any) -> None:
    """A cancelled request reports zeros, but it was made: one request and nothing else."""
    assert found(metrics).quantities == {"requests": 1}


@pytest.mark.parametrize("nothing", [None, 0, -1, -5.0, math.nan])
def test_an_absent_or_impossible_amount_counts_as_nothing(nothing: Any) -> None:
    """None, negative amounts and NaN neither raise nor lower a total."""
    metrics = llm(
        prompt_tokens=nothing,
        prompt_cached_tokens=nothing,
        cache_creation_tokens=nothing,
        total_tokens=11,
        duration=nothing,
    )
    assert found(metrics).quantities == {
        "requests": 1,
        "output_tokens": 11,
        "reasoning_output_tokens": 3,
    }
    assert detail_of(metrics).duration_us == 0


@pytest.mark.parametrize("nothing", [None, 0, -1, -5.0, math.nan])
def test_an_absent_or_impossible_nested_amount_counts_as_nothing(nothing: Any) -> None:
    """The details of a realtime response follow the same rule as the totals beside them."""
    details = realtime().output_token_details.model_copy(update={"audio_tokens": nothing})
    quantities = found(realtime(output_token_details=details)).quantities
    assert "audio_output_tokens" not in quantities
    assert quantities["text_output_tokens"] == 50


@pytest.mark.parametrize("nothing", [None, 0.0, -1.0, math.nan, math.inf, -math.inf])
def test_an_impossible_duration_counts_as_nothing(nothing: Any) -> None:
    """Seconds that are absent, negative or not finite are no audio and no session time."""
    assert found(stt(audio_duration=nothing)).audio_s == 0.0
    assert found(realtime(session_duration=nothing)).session_s == 0.0
    assert detail_of(tts(duration=nothing)).duration_us == 0


def test_the_smallest_amounts_count() -> None:
    """One token, one character and a millisecond are usage like any other."""
    details = realtime().output_token_details.model_copy(update={"audio_tokens": 1})
    assert found(realtime(output_token_details=details)).quantities["audio_output_tokens"] == 1
    assert found(llm(completion_tokens=1, reasoning_tokens=0)).quantities["output_tokens"] == 1
    spoken = tts(characters_count=1, audio_duration=0.001, duration=0.001)
    assert (found(spoken).quantities["characters"], found(spoken).audio_s) == (1, 0.001)
    assert detail_of(spoken).duration_us == 1000


@pytest.mark.parametrize("nothing", [None, -1, -1.0, math.nan, math.inf])
def test_no_first_token_is_no_time_to_it(nothing: Any) -> None:
    """LiveKit writes -1 where no token came; that is an absent time, not a short one."""
    for metrics in (llm(ttft=nothing), realtime(ttft=nothing), tts(ttfb=nothing)):
        assert detail_of(metrics).time_to_first_us is None


def test_an_immediate_first_token_is_a_time_of_zero() -> None:
    """Zero is a time, not an absent one."""
    assert detail_of(llm(ttft=0.0)).time_to_first_us == 0


def test_a_realtime_response_without_cache_details_is_read() -> None:
    """Only the nested details of a realtime response may be absent."""
    details = realtime().input_token_details.model_copy(update={"cached_tokens_details": None})
    quantities = found(realtime(input_token_details=details)).quantities
    assert quantities["cache_read_input_tokens"] == 66
    assert "text_cache_read_input_tokens" not in quantities


def test_a_renamed_field_is_an_error_and_not_a_zero() -> None:
    """A missing field is never read as nothing used."""
    metrics = llm()
    del metrics.__dict__["completion_tokens"]
    with pytest.raises(KeyError, match="completion_tokens"):
        usage_of(metrics, now_us=NOW_US)


@pytest.mark.parametrize(
    ("tokens", "large"),
    [(LARGE_REQUEST_TOKENS, 0), (LARGE_REQUEST_TOKENS + 1, 1), (LARGE_REQUEST_TOKENS - 1, 0)],
)
def test_a_request_above_the_boundary_is_large(tokens: int, large: int) -> None:
    """Price tiers begin above 128,000 input tokens of one request, cached ones included."""
    assert LARGE_REQUEST_TOKENS == 128_000
    for metrics in (llm(prompt_tokens=tokens), realtime(input_tokens=tokens)):
        quantities = found(metrics).quantities
        assert quantities.get("large_requests", 0) == large
        assert quantities["requests"] == 1


def test_an_unknown_class_is_an_error_that_names_it() -> None:
    """What is not mapped is reported with its name, never guessed."""

    class NewMetrics:
        type = "new_metrics"

    with pytest.raises(UnknownMetricsError, match="new_metrics") as caught:
        usage_of(NewMetrics(), now_us=NOW_US)
    assert caught.value.kind == "new_metrics"
    with pytest.raises(UnknownMetricsError, match="object"):
        usage_of(object(), now_us=NOW_US)


@pytest.mark.parametrize("no_time", [0.0, -1.0, None, math.nan])
def test_an_event_without_a_time_happened_now(no_time: Any) -> None:
    """Where LiveKit gives no time, the moment of the report stands in."""
    assert found(llm(timestamp=no_time)).occurred_at == NOW_US


@pytest.mark.parametrize("metadata", [None, Metadata(), Metadata(model_name="", model_provider="")])
def test_a_plugin_without_metadata_is_named_by_its_label(metadata: Metadata | None) -> None:
    """The label names the plugin's class, which gives the provider; the model stays unknown."""
    usage = found(llm(metadata=metadata))
    assert usage.provider_raw == "livekit.plugins.maker.LLM"
    assert usage.model == UNKNOWN


def test_ids_are_cut_to_what_the_contract_carries() -> None:
    """A plugin with very long ids does not make its readings invalid."""
    assert detail_of(llm(request_id="r" * 1000, speech_id="s" * 1000)) == RequestDetail(
        request_id="r" * 256, speech_id="s" * 256, duration_us=1_250_000, time_to_first_us=500_000
    )


def test_an_endless_quantity_counts_as_nothing() -> None:
    """An infinite amount counts as nothing."""
    assert "input_tokens" not in found(llm(prompt_tokens=math.inf)).quantities


@pytest.mark.parametrize(
    "time",
    [math.inf, 1.7e12, 86_400.5],
    ids=["endless", "in milliseconds", "of a clock since the machine's start"],
)
def test_a_time_that_cannot_be_one_is_replaced_by_now(time: float) -> None:
    """An endless time, one in milliseconds and one of another clock are no days to book on."""
    assert found(llm(timestamp=time)).occurred_at == NOW_US


def test_a_provider_called_unknown_is_named_by_the_plugins_label() -> None:
    """The provider "unknown" of LiveKit's base classes counts as no provider."""
    usage = found(llm(metadata=Metadata(model_name="m", model_provider="unknown")))
    assert usage.provider_raw == llm().label
