"""A telephone call in a real room, from its events to what `costs query` says that it cost."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession

from tests.support.pool_agents import QUIET
from tests.support.rooms import CALLER, SIP, Clock, ScriptedRoom, own_clock, room_job
from tests.support.script_run import SkippingLoop
from voicecosts import CostObserver, query
from voicecosts.producer.demo.providers import ScriptedLLM
from voicecosts.producer.process import PROCESS

TWILIO = {**CALLER, "sip.trunkID": "ST_1", "sip.twilio.callSid": "CA1"}


async def call(observer: CostObserver, clock: Clock) -> None:
    """A caller over Twilio talks for 61 seconds, with somebody who listens in a browser."""
    room = ScriptedRoom()
    with room_job(room.room) as context:
        model = ScriptedLLM(model="gpt-4.1-mini", provider="api.openai.com")
        session: AgentSession[Any] = AgentSession(llm=model, **QUIET)
        observer.attach(session, agent_id="dental", tenant="acme", job=context)
        room.connect()
        await session.start(Agent(instructions="x"))
        room.join("sip_caller", SIP, TWILIO)
        room.join("listener")
        await session.run(user_input="#1# hello")
        await clock.skip(61)
        room.leave("sip_caller")
        await clock.skip(30)
        await session.aclose()
    assert await observer.flush(10)


def test_a_telephone_call_costs_what_its_modalities_cost_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes have a price like tokens; those without one are named, and nothing is lost between."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COSTS_OUTBOX_DIR", str(tmp_path / "outbox"))  # an outbox has one owner
    observer = CostObserver(project="prod")
    try:
        with own_clock() as clock, asyncio.Runner(loop_factory=SkippingLoop) as runner:
            runner.run(call(observer, clock))
    finally:
        PROCESS.close()
    report = query(by="modality,provider")
    rows = {(row.group["modality"], row.group["provider"]): row for row in report.rows}
    cost = {key: row.cost for key, row in rows.items()}
    assert cost.pop(("llm", "openai"))
    assert cost == {
        ("telephony", "livekit"): 2 * Decimal("0.004"),
        ("telephony", "twilio"): 2 * Decimal("0.0085"),
        ("agent_session", "livekit"): None,
        ("participant", "livekit"): None,
    }
    assert {key: row.session_seconds for key, row in rows.items() if row.session_seconds} == {
        ("telephony", "livekit"): 61,
        ("telephony", "twilio"): 61,
        ("agent_session", "livekit"): 91,
        ("participant", "livekit"): 91,
    }
    assert report.total.cost == sum((row.cost or 0 for row in rows.values()), Decimal(0))
    assert any("prices.toml" in warning for warning in report.warnings)
