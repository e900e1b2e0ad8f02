"""A LiveKit worker that records what LiveKit does not report: an avatar's minutes and a paid search.

    pip install 'voicecosts[producer,agents]'
    export LIVEKIT_URL=wss://… LIVEKIT_API_KEY=… LIVEKIT_API_SECRET=…
    export COSTS_SERVERS=nats://…   # `costs up` says which; without it readings wait on this host
    python examples/recording_worker.py start

`costs query --by modality` then shows `avatar` and `tool` beside the models.
"""

from __future__ import annotations

import time
from typing import Any

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, RunContext, cli
from livekit.agents.llm import function_tool
from models import LLM, STT, TTS

from voicecosts import CostObserver

server = AgentServer()
observer = CostObserver(project="examples")


class Concierge(Agent):
    """Answers the guests of a hotel."""

    def __init__(self) -> None:
        super().__init__(instructions="You answer the guests of a hotel. Search when you must.")

    @function_tool
    async def search(self, context: RunContext[Any], question: str) -> str:
        """Search the web."""
        # One request, and what the answer itself says it cost. Money is text, never a float.
        observer.record(
            context.session,
            modality="tool",
            provider="serper",
            model="search",
            requests=1,
            reported_cost="0.015",
        )
        return f"Nothing was found about {question}."


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    """Handle one call."""
    session: AgentSession[Any] = AgentSession(stt=STT, llm=LLM, tts=TTS)
    avatar_since = time.monotonic()  # here an avatar's own start() would be awaited

    @session.on("close")
    def record_avatar(_event: object) -> None:
        observer.record(
            session,
            modality="avatar",
            provider="tavus",
            model="phoenix-3",
            session_seconds=time.monotonic() - avatar_since,
        )
        for meter in observer.usage_so_far(session):
            print(meter.modality, meter.model, meter.totals)  # noqa: T201 - what the call has used

    observer.attach(session, agent_id="concierge", job=ctx)
    await session.start(Concierge(), room=ctx.room)
    session.generate_reply(instructions="Greet the guest and offer your help.")


if __name__ == "__main__":
    cli.run_app(server)
