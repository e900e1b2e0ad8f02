"""What a worker's code says came of its calls reaches the answer: real sessions, LiveKit's own tagger."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession, JobContext

from tests.support.jobs import job
from tests.support.pool_agents import QUIET
from voicecosts import CostObserver, call, connect, query
from voicecosts.producer.demo.providers import ScriptedLLM
from voicecosts.producer.process import PROCESS

PRICES = """
[[cost]]
provider = "scripted"
model = "*"
unit = "million tokens"
price = "1"
"""


async def run(observer: CostObserver, job_id: str, turns: int) -> JobContext:
    """Run a call of some turns, greeted first; return its job, which is about to end."""
    with job(job_id) as context:
        session: AgentSession[Any] = AgentSession(llm=ScriptedLLM(), **QUIET)
        observer.attach(session, agent_id="front", tenant="acme")
        await session.start(Agent(instructions="x"))
        await session.generate_reply(instructions="#1# say hello")
        for turn in range(turns):
            await session.run(user_input=f"#1# turn {turn}")
        if turns:
            context.tagger.add("appointment:booked", metadata={"slot": "a secret"})
            context.tagger.success(reason="a secret")
        await session.aclose()
    return context


async def calls(outbox: Path) -> None:
    """Run a call that is booked, one in which nobody speaks, and one of which nobody says anything."""
    observer = CostObserver("prod", outbox_dir=outbox)
    await run(observer, "booked", 2)
    silent = await run(observer, "silent", 0)
    silent.tagger.fail()  # as LiveKit's hook at the session's end says it
    await asyncio.gather(*(hook("hung up") for hook in silent._shutdown_callbacks))
    with job("unsaid"):
        session: AgentSession[Any] = AgentSession(llm=ScriptedLLM(), **QUIET)
        observer.attach(session, agent_id="front", tenant="acme")
        await session.start(Agent(instructions="x"))
        await session.run(user_input="#1# hello")
        await session.aclose()
    assert await observer.flush()


def test_what_came_of_calls_is_in_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grouped by outcome, in the receipt and in the views; the silent call is told from the others."""
    home = tmp_path / "home"
    monkeypatch.delenv("COSTS_SERVERS", raising=False)
    monkeypatch.setenv("COSTS_DATA_DIR", str(home))
    monkeypatch.delenv("COSTS_OUTBOX_DIR")
    home.mkdir()
    (home / "prices.toml").write_text(PRICES)
    asyncio.run(calls(home / "outbox"))
    PROCESS.close()
    answer = query("outcome", data_dir=home)
    by_outcome = {row.group["outcome"]: row for row in answer.rows}
    assert {it: row.sessions for it, row in by_outcome.items()} == {
        "success": 1,
        "fail": 1,
        None: 1,
    }
    receipt = call("booked", data_dir=home).call
    assert (receipt.outcome, receipt.tags, receipt.user_turns) == (
        "success",
        ("appointment:booked",),
        2,
    )
    with connect(home) as reader:
        wasted = reader.execute(
            "SELECT sum(failed_cost), sum(silent_cost), count(failed_cost), sum(cost) FROM waste"
        ).fetchall()
        states = reader.execute("SELECT DISTINCT state FROM completeness").fetchall()
        ends = reader.execute("SELECT count(*) FROM session_ends").fetchall()
    failed = by_outcome["fail"].cost
    assert failed is not None
    assert failed > Decimal(0)
    assert wasted == [(failed, failed, 2, answer.total.cost)]
    assert (states, ends) == ([("complete",)], [(4,)])
    assert not [it for it in home.rglob("*") if it.is_file() and b"a secret" in it.read_bytes()]
