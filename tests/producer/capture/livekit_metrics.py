"""LiveKit's metrics objects with a value of its own in every field, to be changed one at a time.

`changes` are not validated, so that a test can also give a field what a careless plugin might.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

from livekit.agents.metrics.base import (
    LLMMetrics,
    Metadata,
    RealtimeModelMetrics,
    STTMetrics,
    TTSMetrics,
)

T = TypeVar("T", LLMMetrics, RealtimeModelMetrics)

AT: Final = 1_690_000_000.5
AT_US: Final = 1_690_000_000_500_000
MADE_BY: Final = Metadata(model_name="m-1", model_provider="Maker")


def llm(**changes: Any) -> LLMMetrics:
    """Return LLM metrics in which every field has a value of its own."""
    made = LLMMetrics(
        label="livekit.plugins.maker.LLM",
        request_id="req-1",
        timestamp=AT,
        duration=1.25,
        ttft=0.5,
        cancelled=False,
        completion_tokens=11,
        prompt_tokens=101,
        prompt_cached_tokens=31,
        cache_creation_tokens=7,
        reasoning_tokens=3,
        total_tokens=112,
        tokens_per_second=8.8,
        speech_id="speech-1",
        metadata=MADE_BY,
    )
    return in_all(made.model_copy(update=changes), changes, "prompt_tokens", "completion_tokens")


def in_all(metrics: T, changes: dict[str, Any], *parts: str) -> T:
    """Let the total be the sum of its parts, as far as these are numbers and it is not given."""
    amounts = [getattr(metrics, part) for part in parts]
    if "total_tokens" not in changes and all(type(amount) is int for amount in amounts):
        metrics.total_tokens = sum(amounts)
    return metrics


def stt(**changes: Any) -> STTMetrics:
    """Return metrics of a streaming STT with a value of its own in every field."""
    made = STTMetrics(
        label="livekit.plugins.maker.STT",
        request_id="req-2",
        timestamp=AT,
        duration=0.0,
        audio_duration=4.75,
        streamed=True,
        input_tokens=41,
        output_tokens=13,
        total_tokens=54,
        input_audio_tokens=37,
        acquire_time=0.125,
        connection_reused=True,
        metadata=MADE_BY,
    )
    return made.model_copy(update=changes)


def realtime(**changes: Any) -> RealtimeModelMetrics:
    """Return realtime metrics with a value of its own in every field, the nested ones too."""
    made = RealtimeModelMetrics(
        label="livekit.plugins.maker.RealtimeModel",
        request_id="req-3",
        timestamp=AT,
        duration=2.5,
        session_duration=60.5,
        ttft=0.75,
        cancelled=True,
        input_tokens=600,
        output_tokens=90,
        total_tokens=690,
        tokens_per_second=36.0,
        input_token_details=RealtimeModelMetrics.InputTokenDetails(
            audio_tokens=300,
            text_tokens=200,
            image_tokens=100,
            cached_tokens=66,
            cached_tokens_details=RealtimeModelMetrics.CachedTokenDetails(
                audio_tokens=33, text_tokens=22, image_tokens=11
            ),
        ),
        output_token_details=RealtimeModelMetrics.OutputTokenDetails(
            text_tokens=50, audio_tokens=35, image_tokens=5
        ),
        acquire_time=0.125,
        connection_reused=True,
        metadata=MADE_BY,
    )
    return in_all(made.model_copy(update=changes), changes, "input_tokens", "output_tokens")


NOTHING: Final = RealtimeModelMetrics(
    request_id="",
    timestamp=AT,
    input_token_details=RealtimeModelMetrics.InputTokenDetails(),
    output_token_details=RealtimeModelMetrics.OutputTokenDetails(),
)
"""A realtime event without any usage in it."""


def tts(**changes: Any) -> TTSMetrics:
    """Return TTS metrics with a value of its own in every field."""
    made = TTSMetrics(
        label="livekit.plugins.maker.TTS",
        request_id="req-4",
        timestamp=AT,
        ttfb=0.25,
        duration=1.5,
        audio_duration=3.25,
        cancelled=True,
        characters_count=120,
        input_tokens=24,
        output_tokens=65,
        streamed=True,
        acquire_time=0.125,
        connection_reused=True,
        segment_id="seg-1",
        speech_id="speech-4",
        metadata=MADE_BY,
    )
    return made.model_copy(update=changes)
