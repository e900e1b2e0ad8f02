"""What a worker records, and what recognition is billed for while it is open, reaches the answer."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession

from tests.support.connected_stt import ConnectedSTT, silence, talk
from tests.support.pool_agents import QUIET
from tests.support.script_run import SkippingLoop, skip
from tests.support.waiting import until
from voicecosts import CostObserver, connect, query
from voicecosts.producer.demo.devices import session_io
from voicecosts.producer.process import PROCESS


async def call(outbox: Path) -> float:
    """Run a call without a server; return the seconds that its recogniser bills."""
    ear = ConnectedSTT("livekit", model="deepgram/nova-3:en")
    session: AgentSession[Any] = AgentSession(stt=ear, **QUIET)
    microphone = session_io(session, 1, speed=1000.0)
    observer = CostObserver("prod", outbox_dir=outbox)
    observer.attach(session, agent_id="front", tenant="acme")
    await session.start(Agent(instructions="x"))
    await skip(ear.connects_s + 0.1)
    await until(lambda: ear.is_open)
    await talk(microphone, 10, ear)
    await silence(10)
    avatar: dict[str, Any] = {"modality": "avatar", "provider": "tavus", "model": "phoenix-3"}
    observer.record(session, **avatar, session_seconds=61.25, reported_cost="0.30")
    await asyncio.to_thread(observer.record, session, **avatar, session_seconds=0.25)
    await session.aclose()
    observer.record(session, modality="tool", provider="serpapi", model="search", requests=1)
    assert await observer.flush()
    return ear.billed_s


def test_what_was_recorded_is_in_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside what LiveKit reports, also what was recorded on a thread and after the end."""
    monkeypatch.delenv("COSTS_SERVERS", raising=False)
    monkeypatch.setenv("COSTS_DATA_DIR", str(tmp_path / "home"))
    monkeypatch.delenv("COSTS_OUTBOX_DIR")
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        billed_s = runner.run(call(tmp_path / "home" / "outbox"))
    PROCESS.close()
    answer = query("modality", data_dir=tmp_path / "home")
    rows = {row.group["modality"]: row for row in answer.rows}
    assert set(rows) == {"stt", "avatar", "tool"}
    assert rows["avatar"].session_seconds == Decimal("61.5")
    assert rows["tool"].requests == 1
    assert abs(float(rows["stt"].audio_seconds) - billed_s) < 1
    assert 0 < rows["stt"].estimated_cost < rows["stt"].cost
    assert answer.total.sessions == 1
    with connect(tmp_path / "home") as reader:
        assert reader.execute("SELECT state FROM completeness").fetchall() == [("complete",)]
