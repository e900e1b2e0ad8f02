"""What is read from the installed livekit-agents, in whichever version."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest
from livekit.agents import get_job_context

from tests.support.jobs import job
from voicecosts.producer.capture import installed
from voicecosts.producer.capture.usage import FIELDS, NOT_USAGE


def test_every_metrics_class_of_the_installed_version_is_found() -> None:
    """The classes of a session's metrics event are found with their fields, nested ones too."""
    assert set(installed.FIELDS_OF) == set(FIELDS) | set(NOT_USAGE)
    assert (
        "input_token_details.cached_tokens_details.audio_tokens"
        in (installed.FIELDS_OF["realtime_model_metrics"])
    )
    assert "metadata" in installed.FIELDS_OF["llm_metrics"]


def test_the_events_of_a_session_are_found() -> None:
    """A session's events are known by name."""
    assert {"metrics_collected", "close"} <= installed.EVENTS


def test_the_version_is_the_installed_one() -> None:
    """The version is that of the distribution."""
    assert version("livekit-agents") == installed.VERSION


def only_raises() -> Any:
    """Return the job of this context, as livekit-agents 1.5.0 does: there must be one."""
    return get_job_context()


@pytest.mark.parametrize("get", [get_job_context, only_raises], ids=["now", "1.5.0"])
async def test_the_job_of_a_context_is_found_and_none_where_there_is_none(get: Any) -> None:
    """Inside a job it is the job, outside none, also where LiveKit itself would raise."""
    find = installed.job_finder(get)
    assert find() is None
    with job("job-1") as context:
        assert find() is context
    assert find() is None
    assert installed.current_job() is None
