"""The parts of a session that are listened to themselves, because the session does not hear all."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.agents import Agent, AgentSession

from tests.support.conservation import assert_conserved, assert_session, billed
from tests.support.pool_agents import QUIET
from tests.support.recorder import Recorder
from tests.support.version_providers import SpeakingModel
from tests.support.waiting import until
from voicecosts.producer.capture.attachment import Attachment
from voicecosts.producer.capture.identity import SessionIdentity, new_session_id
from voicecosts.producer.demo.devices import session_io
from voicecosts.producer.events import now_us


@pytest.mark.parametrize("after", [False, True], ids=["while closing", "after closing"])
async def test_the_last_report_of_a_realtime_model_is_counted(
    after: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A model that is billed by time reports it at the end, when LiveKit may listen no longer.

    Before 1.8 it stops before it closes the connection.
    """
    recorder, model, at = Recorder(), SpeakingModel(after=after), now_us()
    who = SessionIdentity(
        session_id=new_session_id(at), project="tests", agent_id="front", started_at=at
    )
    session: AgentSession[Any] = AgentSession(llm=model, **QUIET)
    session_io(session, 1)
    attachment = Attachment(session, who, recorder)
    attachment.open()
    await session.start(Agent(instructions="x"))
    await session.generate_reply(user_input="#1# hello").wait_for_playout()
    await session.aclose()
    await until(lambda: bool(recorder.totals(who.session_id)["realtime"].get("session_us")))
    assert_session(recorder, who.session_id, billed(1, model))
    assert_conserved(recorder, model)
    attachment.detach()
