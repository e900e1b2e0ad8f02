"""Usage that is heard and cannot be measured is a number of its session and of the process."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from livekit.agents import Agent

from tests.producer.capture.test_capture import Shared, attach, new_session
from tests.support.jobs import job
from voicecosts.producer.capture.attachment import Attachment
from voicecosts.producer.capture.listener import METRICS
from voicecosts.producer.demo.devices import session_io

UNKNOWN = "made_up_metrics"
EMPTY = "llm_metrics"


async def call(shared: Shared, *during: str, after: tuple[str, ...] = ()) -> Attachment:
    """Run a call of one turn; its model reports empty metrics of some types, or after the close."""
    with job("call"):
        session = new_session(shared)
        session_io(session, 1)
        attachment = attach(session, shared.recorder)
        await session.start(Agent(instructions="x"))
        await session.run(user_input="#1# hello")
        _report(shared, during)
        await session.aclose()
        _report(shared, after)
        await asyncio.sleep(0)
    return attachment


def _report(shared: Shared, kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        metrics: Any = SimpleNamespace(type=kind)
        shared.llm.emit(METRICS, metrics)


@pytest.mark.parametrize("odd", [UNKNOWN, EMPTY])
async def test_it_is_in_the_end_of_its_session_and_costs_it_nothing_else(
    odd: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each event is counted, one log line says why, and what was measured stays exact."""
    shared = Shared()
    with caplog.at_level(logging.WARNING):
        attachment = await call(shared, odd, odd)
    [end] = shared.recorder.ends()
    assert (end.session_id, end.status) == (attachment.session_id, "success")
    assert (end.unmeasured, shared.recorder.unmeasured) == (2, 2)
    assert len([it for it in caplog.records if it.name.startswith("voicecosts")]) == 1


async def test_what_comes_after_the_end_takes_back_that_there_was_none() -> None:
    """A second end, with a higher number and the same totals, says once that the session is short."""
    shared = Shared()
    attachment = await call(shared, after=(UNKNOWN, UNKNOWN))
    first, second = shared.recorder.ends()
    assert (first.unmeasured, second.unmeasured) == (0, 1)
    assert second.number > first.number
    assert (second.status, second.reason, second.ended_at, second.meters) == (
        first.status,
        first.reason,
        first.ended_at,
        first.meters,
    )
    assert shared.recorder.unmeasured == 2
    attachment.detach()


async def test_it_is_not_said_of_a_session_that_is_no_longer_listened_to() -> None:
    """The count is the process's alone then: it may as well be another session's."""
    shared = Shared()
    attachment = await call(shared)
    attachment.detach()
    attachment._count_unmeasured()  # as the listener of a component does that others still use
    assert [end.unmeasured for end in shared.recorder.ends()] == [0]
    assert shared.recorder.unmeasured == 1
