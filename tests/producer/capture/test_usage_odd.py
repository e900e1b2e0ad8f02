"""Odd values in LiveKit's metrics: what is no amount counts as nothing, and says so.

LiveKit checks what a plugin writes when the event is made, and not when it is changed afterwards.
"""

from __future__ import annotations

import logging
import math
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from livekit.agents import Agent, AgentSession
from livekit.agents.metrics.base import Metadata

from tests.producer.capture.livekit_metrics import AT_US, llm, realtime, stt, tts
from tests.support.pool_agents import QUIET
from tests.support.recorder import Recorder
from voicecosts.producer.capture.attachment import Attachment
from voicecosts.producer.capture.identity import SessionIdentity, new_session_id
from voicecosts.producer.capture.usage import usage_of
from voicecosts.producer.counts import UNKNOWN, Usage
from voicecosts.producer.demo.providers import ScriptedLLM
from voicecosts.producer.events import now_us

NO_AMOUNT = ["12", "", b"12", True, math.nan, math.inf, -1, -2.5, Decimal("NaN"), Decimal(-3)]
NO_AMOUNT += [10**400, 10**13, [1], {}, object(), Decimal("Infinity"), 1j]


def found(metrics: Any) -> Usage:
    """Return the usage in `metrics`, which must hold some."""
    usage = usage_of(metrics, now_us=5)
    assert usage is not None
    return usage


@pytest.mark.parametrize(
    "odd",
    [each for each in NO_AMOUNT if each or each != each],  # noqa: PLR0124 - NaN
    ids=lambda odd: f"{type(odd).__name__} {odd!s:.9}",
)
def test_a_value_that_is_no_amount_costs_its_own_quantity_and_no_other(odd: Any) -> None:
    """One odd field is left out and named; everything beside it is counted as always."""
    usage, whole = found(llm(prompt_tokens=odd)), found(llm())
    assert usage.unread == ("prompt_tokens",)
    assert whole.unread == ()
    assert {**usage.quantities, "input_tokens": 101} == whole.quantities
    assert (usage.model, usage.occurred_at, usage.detail) == ("m-1", AT_US, whole.detail)


@pytest.mark.parametrize("odd", ["12", True, math.nan, -1], ids=repr)
def test_a_nested_value_that_is_no_amount_is_named_with_its_path(odd: Any) -> None:
    """The details of a realtime response follow the same rule."""
    details = realtime().input_token_details.model_copy(update={"audio_tokens": odd})
    usage = found(realtime(input_token_details=details))
    assert usage.unread == ("input_token_details.audio_tokens",)
    assert usage.quantities["text_input_tokens"] == 200


@pytest.mark.parametrize("odd", ["3", True, math.nan, math.inf, -0.5, 1.7e9], ids=repr)
def test_seconds_that_are_no_duration_are_named(odd: Any) -> None:
    """Audio and session time are billed: a point in time, or text, in their place is not counted."""
    heard, connected = found(stt(audio_duration=odd)), found(realtime(session_duration=odd))
    assert (heard.audio_s, heard.unread) == (0.0, ("audio_duration",))
    assert (connected.session_s, connected.unread) == (0.0, ("session_duration",))


def test_an_event_that_holds_nothing_readable_is_still_told() -> None:
    """A report whose only amount cannot be read is no silence: the caller learns of it."""
    usage = found(
        stt(audio_duration=math.nan, input_tokens=0, input_audio_tokens=0, output_tokens=0)
    )
    assert (usage.quantities, usage.audio_s, usage.unread) == ({}, 0.0, ("audio_duration",))


@pytest.mark.parametrize("nothing", [None, 0, 0.0, False], ids=repr)
def test_an_absent_amount_is_nothing_to_tell(nothing: Any) -> None:
    """Providers that report no count are ordinary."""
    usage = found(llm(prompt_cached_tokens=nothing))
    assert usage.unread == ()
    assert "cache_read_input_tokens" not in usage.quantities


@pytest.mark.parametrize(
    "twelve", [12.0, 12.9, Decimal("12.5"), Fraction(25, 2), np.int64(12), np.float32(12)], ids=repr
)
def test_a_number_of_another_type_is_a_whole_number(twelve: Any) -> None:
    """A count in another type of number is counted, whole and as a plain integer."""
    tokens = found(llm(completion_tokens=twelve)).quantities["output_tokens"]
    assert (tokens, type(tokens)) == (12, int)
    assert type(found(stt(audio_duration=twelve)).audio_s) is float


@pytest.mark.parametrize("odd", ["soon", True, math.nan, 10**400, [1], Decimal("NaN")], ids=repr)
def test_an_odd_time_never_costs_the_usage(odd: Any) -> None:
    """When a request began and how long it took are detail: what was used is counted."""
    usage = found(llm(timestamp=odd, duration=odd, ttft=odd))
    assert usage.quantities == found(llm()).quantities
    assert usage.detail is not None
    assert (usage.occurred_at, usage.unread) == (5, ())
    assert (usage.detail.duration_us, usage.detail.time_to_first_us) == (0, None)


class Name(str, Enum):  # noqa: UP042 - as text, a member of this one is not its value
    """A plugin's list of its models."""

    SMALL = "m-small"


def test_a_model_from_an_enumeration_is_its_value() -> None:
    """A plugin may name its model by a member of an enumeration; its value is the name."""
    named = Metadata.model_construct(model_name=Name.SMALL, model_provider=Name.SMALL)
    usage = found(llm(metadata=named))
    assert (usage.model, usage.provider_raw) == ("m-small", "m-small")
    assert (type(usage.model), type(usage.provider_raw)) == (str, str)


def test_names_that_are_no_text_are_text_or_unknown() -> None:
    """Whatever stands where a name should be, the usage is counted under a text."""
    named = Metadata.model_construct(model_name=4, model_provider=None)
    usage = found(tts(metadata=named, label=None))
    assert (usage.model, usage.provider_raw) == ("4", "")
    for metadata in (Metadata(), {"model_name": "m"}, "m", 4):
        usage = found(tts(metadata=metadata, label=None))
        assert (usage.model, usage.provider_raw) == (UNKNOWN, "")
        assert usage.quantities == found(tts()).quantities


def test_a_flag_that_is_no_flag_is_not_cancelled() -> None:
    """The contract carries true or false."""
    detail = found(llm(cancelled="no")).detail
    assert detail is not None
    assert detail.cancelled is False


async def test_a_session_in_which_a_field_could_not_be_read_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The end of a session counts such an event, the log says it once, and the rest is booked."""
    recorder, model = Recorder(), ScriptedLLM()
    session: AgentSession[Any] = AgentSession(llm=model, **QUIET)
    at = now_us()
    who = SessionIdentity(
        session_id=new_session_id(at), project="tests", agent_id="front", started_at=at
    )
    attachment = Attachment(session, who, recorder)
    attachment.open()
    with caplog.at_level(logging.WARNING, "voicecosts.producer.capture"):
        await session.start(Agent(instructions="x"))
        for _ in range(2):
            model.emit("metrics_collected", llm(prompt_tokens=math.nan))
        await session.aclose()
    (end,) = recorder.ends()
    assert (end.unmeasured, recorder.unmeasured) == (2, 2)
    assert [meter.totals.output_tokens for meter in end.meters] == [22]
    assert caplog.text.count("prompt_tokens of llm usage held no amount") == 1
