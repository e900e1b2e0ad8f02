"""A process with real calls that is gone fifty milliseconds after the last of them has closed.

It ends as any program does, in order, and prints what the model billed: the provider's own books,
which know nothing of metrics or meters.

    python -m tests.support.brief_call SERVERS OUTBOX CALLS
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Final

from livekit.agents import Agent, AgentSession

from tests.support.pool_agents import QUIET
from voicecosts import CostObserver
from voicecosts.producer.demo.providers import ScriptedLLM

TURNS: Final = 3
EXIT_AFTER_S: Final = 0.05


async def main(servers: str, outbox: str, calls: int) -> None:
    """Hold the calls at once, close them at once, and be gone."""
    llm = ScriptedLLM(model="gpt-4.1-mini", provider="openai")
    observer = CostObserver(project="faults", servers=servers, outbox_dir=outbox)
    closed = asyncio.Event()
    open_calls = calls
    started = asyncio.Barrier(calls)

    def on_close(_event: object) -> None:
        nonlocal open_calls
        open_calls -= 1
        if not open_calls:
            closed.set()

    async def call(number: int) -> None:
        session: AgentSession[Any] = AgentSession(llm=llm, **QUIET)
        observer.attach(session, agent_id="dental", tenant=f"tenant-{number}")
        session.on("close", on_close)
        await session.start(Agent(instructions="Be brief."))
        for turn in range(TURNS):
            await session.run(user_input=f"#{number}# turn {turn}")
        await started.wait()
        await session.aclose()

    talking = asyncio.gather(*(call(number) for number in range(1, calls + 1)))
    await closed.wait()
    await asyncio.sleep(EXIT_AFTER_S)
    await talking
    sys.stdout.write(json.dumps({f"tenant-{n}": bill for n, bill in llm.billed.items()}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
