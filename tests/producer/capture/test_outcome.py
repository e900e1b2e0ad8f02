"""What came of a call is in its end: LiveKit's own tagger, real sessions, and whatever code puts there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession
from livekit.agents.observability import Tagger

from tests.producer.capture.test_capture import Shared, attach
from tests.support.jobs import job
from tests.support.pool_agents import QUIET
from voicecosts.producer.capture import outcome
from voicecosts.producer.capture.attachment import Attachment
from voicecosts.producer.capture.outcome import verdict_of
from voicecosts.producer.events import MAX_TAGS, Outcome, encode_event


def new_session(shared: Shared) -> AgentSession[Any]:
    """Make a session that only writes: a recogniser could hear another turn in the silence at the end."""
    return AgentSession(llm=shared.llm, **QUIET)


async def call(
    shared: Shared, *turns: str, during: Callable[[Tagger], None] = lambda _tagger: None
) -> tuple[Attachment, Tagger]:
    """Run a call in a job of its own; `during` tags it before it is hung up."""
    with job("call") as context:
        session = new_session(shared)
        attachment = attach(session, shared.recorder)
        await session.start(Agent(instructions="x"))
        for turn in turns:
            await session.run(user_input=f"#1# {turn}")
        during(context.tagger)
        await session.aclose()
    return attachment, context.tagger


def booked(tagger: Tagger) -> None:
    """Tag a call as a worker's code does, with what must not travel beside it."""
    tagger.add("language:es")
    tagger.add("appointment:booked", metadata={"caller": "Ana, +1 555 123 4567"})
    tagger.add("callback:+1 (555) 123-4567")
    tagger.fail(reason="Ana was angry")
    tagger.success(reason="Ana was happy")


async def test_the_end_says_the_outcome_the_tags_and_the_turns_of_the_user() -> None:
    """The last word on the outcome holds; a phone number, a reason and metadata stay in the worker."""
    shared = Shared()
    await call(shared, "hello", "and again", during=booked)
    [end] = shared.recorder.ends()
    tags = ["appointment:booked", "callback:#", "language:es"]
    assert end.outcome == Outcome(result="success", tags=tags, user_turns=2, preempted=[])
    assert not [word for word in (b"Ana", b"555") if word in encode_event(end)]


async def test_a_call_of_which_nobody_said_anything_has_no_outcome() -> None:
    """Nor has a session without a job; that the user never spoke is known of both."""
    shared = Shared()
    await call(shared)
    session = new_session(shared)
    attach(session, shared.recorder)
    await session.start(Agent(instructions="x"))
    await session.aclose()
    for end in shared.recorder.ends():
        assert end.outcome == Outcome(user_turns=0, preempted=[])


async def test_a_session_that_starts_again_has_the_turns_since_then() -> None:
    """LiveKit's history goes on; each start is a session of its own."""
    shared = Shared()
    session = new_session(shared)
    for turns in (2, 1):
        attach(session, shared.recorder)
        await session.start(Agent(instructions="x"))
        for turn in range(turns):
            await session.run(user_input=f"#1# turn {turn}")
        await session.aclose()
    assert [end.outcome and end.outcome.user_turns for end in shared.recorder.ends()] == [2, 1]


async def test_what_is_said_after_the_end_comes_in_a_second_one() -> None:
    """It repeats the totals under a higher number, so nothing is booked twice; what is known is not said again."""
    shared = Shared()
    attachment, tagger = await call(shared, "hello", during=lambda it: it.fail())
    attachment.finalise(status="success", reason="job shutdown")
    tagger.success()
    tagger.add("lk.judge.accuracy:pass")
    attachment.finalise(status="success", reason="job shutdown")
    attachment.detach()
    first, second = shared.recorder.ends()
    assert first.outcome == Outcome(result="fail", user_turns=1, preempted=[])
    assert second.outcome == Outcome(
        result="success", tags=["lk.judge.accuracy:pass"], user_turns=1, preempted=[]
    )
    assert second.number > first.number
    assert (second.ended_at, second.reason, second.meters) == (
        first.ended_at,
        first.reason,
        first.meters,
    )


async def test_what_is_said_until_the_listening_ends_is_told() -> None:
    """A hook of the job may take its time; after the last word of it there is one more end."""
    shared = Shared()
    attachment, tagger = await call(shared)
    tagger.success()
    attachment.detach()
    tagger.fail()
    attachment.detach()
    assert [end.outcome and end.outcome.result for end in shared.recorder.ends()] == ["", "success"]


def test_hostile_tags_are_bounded_and_said_to_be_cut() -> None:
    """However many there are, and whatever they are, the end carries a few short texts."""
    odd: Any = ("", 7, b"bytes", None)
    tagger = Tagger()
    for tag in (*odd, "x" * 100_000, "\ud800", "fine"):
        tagger.add(tag)
    tagger.success()
    verdict = verdict_of(SimpleNamespace(tagger=tagger), Outcome(user_turns=3))
    assert verdict.tags == ["?", "fine", "x" * 128]
    assert (verdict.result, verdict.tags_cut, verdict.user_turns) == ("success", len(odd) + 1, 3)

    many = Tagger()
    many.fail()
    for number in range(100_000):
        many.add(f"n:{number}")
    verdict = verdict_of(SimpleNamespace(tagger=many), Outcome())
    assert verdict.tags == sorted(f"n:{number}" for number in range(MAX_TAGS))
    assert (verdict.result, verdict.tags_cut) == ("fail", 100_000 - MAX_TAGS)


@pytest.mark.parametrize(
    "broken",
    [
        object(),
        SimpleNamespace(tagger=None),
        SimpleNamespace(tagger=SimpleNamespace(_tags=7, outcome="success")),
        SimpleNamespace(tagger=SimpleNamespace(_tags={}, outcome="success\x00" * 9)),
    ],
)
async def test_a_job_that_cannot_be_asked_costs_the_end_nothing_else(
    broken: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was known before holds, a log line says why once in a process, and the end has its totals."""
    monkeypatch.setattr(outcome, "_SAID", set())
    shared = Shared()
    with job("call"):
        session = new_session(shared)
        attachment = attach(session, shared.recorder)
        attachment.job = broken
        await session.start(Agent(instructions="x"))
        await session.run(user_input="#1# hello")
        with caplog.at_level(logging.WARNING):
            await session.aclose()
        await asyncio.sleep(0)
    [end] = shared.recorder.ends()
    assert end.outcome is not None
    assert len(end.meters) > 0
    assert end.outcome.user_turns == 1
    assert len(end.outcome.result) <= 64
    attachment.detach()
    assert caplog.text.count("cannot be read") == (0 if end.outcome.result else 1)
