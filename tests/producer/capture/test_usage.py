"""Usage: what each of LiveKit's metrics classes means in quantities, exactly.

Every field has a value of its own, so that two fields that were mixed up would show. That no class
and no field is overlooked is in `test_usage_complete.py`, the rules between them in
`test_usage_rules.py`.
"""

from __future__ import annotations

from typing import Any

import pytest
from livekit.agents.metrics.base import DecisionMetrics, EOTInferenceMetrics, InterruptionMetrics

from tests.producer.capture.livekit_metrics import AT, AT_US, MADE_BY, llm, realtime, stt, tts
from voicecosts.producer.capture.usage import FIELDS, usage_of
from voicecosts.producer.counts import Usage
from voicecosts.producer.events import RequestDetail


def usage(modality: str, **found: Any) -> Usage:
    """Return usage of the model that all of `livekit_metrics` is of."""
    names = {"provider_raw": "Maker", "model": "m-1", "occurred_at": AT_US}
    return Usage(modality=modality, **{"detail": RequestDetail(), **names, **found})


EXACTLY: list[tuple[Any, Usage]] = [
    (
        llm(),
        usage(
            "llm",
            quantities={
                "requests": 1,
                "input_tokens": 101,
                "cache_read_input_tokens": 31,
                "cache_creation_input_tokens": 7,
                "output_tokens": 11,
                "reasoning_output_tokens": 3,
            },
            detail=RequestDetail(
                request_id="req-1",
                speech_id="speech-1",
                duration_us=1_250_000,
                time_to_first_us=500_000,
            ),
        ),
    ),
    (
        stt(),
        usage(
            "stt",
            quantities={"input_tokens": 41, "audio_input_tokens": 37, "output_tokens": 13},
            audio_s=4.75,
            detail=RequestDetail(request_id="req-2"),
        ),
    ),
    (
        realtime(),
        usage(
            "realtime",
            quantities={
                "requests": 1,
                "input_tokens": 600,
                "cache_read_input_tokens": 66,
                "text_input_tokens": 200,
                "audio_input_tokens": 300,
                "image_input_tokens": 100,
                "text_cache_read_input_tokens": 22,
                "audio_cache_read_input_tokens": 33,
                "image_cache_read_input_tokens": 11,
                "output_tokens": 90,
                "text_output_tokens": 50,
                "audio_output_tokens": 35,
                "image_output_tokens": 5,
            },
            session_s=60.5,
            detail=RequestDetail(
                request_id="req-3",
                duration_us=2_500_000,
                time_to_first_us=750_000,
                cancelled=True,
            ),
        ),
    ),
    (
        tts(),
        usage(
            "tts",
            quantities={
                "requests": 1,
                "characters": 120,
                "input_tokens": 24,
                "output_tokens": 65,
            },
            audio_s=3.25,
            detail=RequestDetail(
                request_id="req-4",
                speech_id="speech-4",
                duration_us=1_500_000,
                time_to_first_us=250_000,
                cancelled=True,
            ),
        ),
    ),
    (
        DecisionMetrics(
            label="L",
            request_id="req-5",
            timestamp=AT,
            duration=0.5,
            input_tokens=17,
            output_tokens=2,
            metadata=MADE_BY,
        ),
        usage(
            "decision",
            quantities={"requests": 1, "input_tokens": 17, "output_tokens": 2},
            detail=RequestDetail(request_id="req-5", duration_us=500_000),
        ),
    ),
    (
        InterruptionMetrics(
            timestamp=AT,
            total_duration=0.5,
            prediction_duration=0.25,
            detection_delay=0.75,
            num_interruptions=2,
            num_backchannels=3,
            num_requests=5,
            metadata=MADE_BY,
        ),
        usage("interruption", quantities={"requests": 5}),
    ),
    (
        EOTInferenceMetrics(
            timestamp=AT,
            total_duration=0.5,
            detection_delay=0.75,
            prediction_duration=0.25,
            num_requests=4,
            metadata=MADE_BY,
        ),
        usage("turn_detector", quantities={"requests": 4}),
    ),
]


@pytest.mark.parametrize(("metrics", "expected"), EXACTLY, ids=lambda value: type(value).__name__)
def test_every_field_becomes_its_own_quantity(metrics: Any, expected: Usage) -> None:
    """Each class with a value of its own in every field gives exactly this usage."""
    assert usage_of(metrics, now_us=0) == expected


def test_every_class_that_is_read_is_read_here() -> None:
    """A class that joins the table joins these examples."""
    assert {metrics.type for metrics, _ in EXACTLY} == set(FIELDS)
