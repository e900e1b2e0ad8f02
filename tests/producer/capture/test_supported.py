"""Which livekit-agents is metered, and which is refused: by what it reports, not by its number."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from voicecosts import CostObserver
from voicecosts.producer.capture import installed
from voicecosts.producer.capture.supported import (
    NEWER_CLASSES,
    SUPPORTED,
    absent_parts,
    require_livekit,
    unreported_quantities,
    why_refused,
)
from voicecosts.producer.capture.usage import FIELDS, NEWER, usage_of
from voicecosts.producer.errors import ConfigError

ROOT = Path(__file__).parents[3]
NOW = installed.FIELDS_OF
EVERY_FIELD = [(kind, field) for kind, fields in FIELDS.items() for field in fields.quantities]


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    """Let each test ask as a new process would."""
    require_livekit.cache_clear()
    yield
    require_livekit.cache_clear()


def without(kind: str, *fields: str) -> dict[str, frozenset[str]]:
    """Return the installed fields, less some of one class."""
    return {**NOW, kind: NOW[kind] - set(fields)}


def older() -> dict[str, frozenset[str]]:
    """Return the fields of the oldest supported version."""
    return {kind: fields - NEWER for kind, fields in NOW.items() if kind not in NEWER_CLASSES}


def test_the_installed_version_lacks_nothing() -> None:
    """The version that is installed here is metered whole."""
    assert absent_parts(NOW, installed.EVENTS) == []
    assert unreported_quantities(NOW) == {}


def test_what_only_newer_versions_have_may_be_absent() -> None:
    """The oldest supported version lacks a few fields and classes, and is metered with the rest."""
    assert absent_parts(older(), installed.EVENTS) == []
    assert unreported_quantities(older()) == {
        "llm": ["cache_creation_input_tokens", "reasoning_output_tokens"],
        "stt": ["audio_input_tokens"],
    }


@pytest.mark.parametrize(("kind", "field"), [each for each in EVERY_FIELD if each[1] not in NEWER])
def test_a_quantity_that_every_supported_version_reports_must_be_there(
    kind: str, field: str
) -> None:
    """A later version that renames a field is refused, not counted as zero."""
    assert absent_parts(without(kind, field), installed.EVENTS) == [f"field {field!r} in {kind!r}"]


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("llm_metrics", "timestamp"),
        ("llm_metrics", "metadata"),
        ("llm_metrics", "ttft"),
        ("stt_metrics", "streamed"),
        ("stt_metrics", "audio_duration"),
        ("realtime_model_metrics", "session_duration"),
    ],
)
def test_what_says_of_whom_and_when_must_be_there(kind: str, field: str) -> None:
    """Model, time, and what tells a request from a report are in every supported version."""
    assert absent_parts(without(kind, field), installed.EVENTS) == [f"field {field!r} in {kind!r}"]


def test_the_classes_and_events_of_every_supported_version_must_be_there() -> None:
    """Without the metrics event, or a class, nothing could be heard."""
    fields = {kind: each for kind, each in NOW.items() if kind != "tts_metrics"}
    assert absent_parts(fields, installed.EVENTS - {"metrics_collected"}) == [
        "metrics of type 'tts_metrics'",
        "session event 'metrics_collected'",
    ]


def test_an_observer_is_refused_with_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names what is absent, the installed version, and what to install."""
    monkeypatch.setattr(installed, "VERSION", "1.9.0")
    monkeypatch.setattr(installed, "EVENTS", installed.EVENTS - {"metrics_collected"})
    with pytest.raises(ConfigError) as refused:
        CostObserver(project="prod")
    assert str(refused.value) == (
        "livekit-agents 1.9.0 cannot be metered, because it has no session event "
        "'metrics_collected': install \"livekit-agents>=1.5.2,<1.9\""
    )


@pytest.mark.parametrize("version", ["1.4.6", "1.5.0", "1.5.1", "0.12.21"])
def test_versions_that_swallow_the_end_of_a_recognition_are_refused(version: str) -> None:
    """Before 1.5.2 LiveKit itself loses seconds of every call, so no number would be right."""
    assert why_refused(version, NOW, installed.EVENTS) == (
        "does not report the last seconds that a speech recogniser heard"
    )


@pytest.mark.parametrize("version", ["1.5.2", "1.5.17", "1.6.0rc1", "1.8.9", "1.9.0", "2.0.0"])
def test_a_version_that_lacks_nothing_is_metered(version: str) -> None:
    """What a version has decides; a later number alone refuses nothing."""
    assert why_refused(version, NOW, installed.EVENTS) == ""


def test_what_a_version_does_not_report_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker on an older version reads once which quantities stay zero, however many observers."""
    monkeypatch.setattr(installed, "VERSION", "1.5.17")
    monkeypatch.setattr(installed, "FIELDS_OF", older())
    with caplog.at_level(logging.WARNING, "voicecosts"):
        CostObserver(project="prod")
        CostObserver(project="prod")
    (record,) = caplog.records
    assert record.getMessage() == (
        "livekit-agents 1.5.17 does not report cache_creation_input_tokens and "
        "reasoning_output_tokens of llm, audio_input_tokens of stt: they count as zero"
    )


def test_a_whole_version_is_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged where nothing is absent."""
    with caplog.at_level(logging.INFO, "voicecosts"):
        CostObserver(project="prod")
    assert caplog.records == []


class Older(BaseModel):
    """What an LLM reports in livekit-agents 1.5."""

    type: str = "llm_metrics"
    label: str = "L"
    request_id: str = "req-1"
    timestamp: float = 1_690_000_000.5
    duration: float = 1.25
    ttft: float = 0.5
    cancelled: bool = False
    completion_tokens: int = 11
    prompt_tokens: int = 101
    prompt_cached_tokens: int = 31
    total_tokens: int = 112
    metadata: None = None


def test_a_field_that_only_newer_versions_have_is_zero_where_it_is_absent() -> None:
    """An event of an older version is read without it; all else that it holds is counted."""
    assert not NEWER & set(Older.model_fields)
    usage = usage_of(Older(), now_us=1)
    assert usage is not None
    assert usage.unread == ()
    assert usage.quantities == {
        "requests": 1,
        "input_tokens": 101,
        "cache_read_input_tokens": 31,
        "output_tokens": 11,
    }


def test_the_package_asks_for_the_versions_that_are_supported() -> None:
    """The extra that installs livekit-agents, and the sentence of a refusal, say the same."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["optional-dependencies"]["agents"] == [f"livekit-agents{SUPPORTED}"]
