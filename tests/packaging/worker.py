"""A worker of the simplest kind: one scripted call without a server; prints what the model billed."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from livekit.agents import Agent, AgentSession

from voicecosts import CostObserver
from voicecosts.producer.demo.providers import ScriptedLLM


async def main() -> None:
    """Handle one call of two turns."""
    llm = ScriptedLLM(model="gpt-4.1-mini", provider="openai")
    session: AgentSession[Any] = AgentSession(
        llm=llm, vad=None, turn_handling={"turn_detection": "manual"}
    )
    CostObserver(project="clash").attach(session, agent_id="dental", tenant="acme")
    await session.start(Agent(instructions="Be brief."))
    for turn in range(2):
        await session.run(user_input=f"#1# turn {turn}")
    await session.aclose()
    sys.stdout.write(json.dumps(llm.billed[1]))


if __name__ == "__main__":
    asyncio.run(main())
