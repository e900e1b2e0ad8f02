"""A plain LiveKit worker. Two lines make it say what its calls cost.

    pip install 'voicecosts[producer,agents]'
    export LIVEKIT_URL=wss://… LIVEKIT_API_KEY=… LIVEKIT_API_SECRET=…
    export COSTS_SERVERS=nats://…   # `costs up` says which; without it readings wait on this host
    python examples/plain_worker.py start

`costs query --by tenant` then says what its calls cost.
"""

from __future__ import annotations

from typing import Any

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli
from models import LLM, STT, TTS

from voicecosts import CostObserver, dispatch_metadata

server = AgentServer()
observer = CostObserver(project="examples")


class Dental(Agent):
    """Answers for a dental practice."""

    def __init__(self) -> None:
        super().__init__(instructions="You answer the telephone of a dental practice. Be brief.")


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    """Handle one call."""
    session: AgentSession[Any] = AgentSession(stt=STT, llm=LLM, tts=TTS)

    # Before the start, so that nothing is missed. The dispatch may name the tenant, for
    # example by the metadata {"tenant": "acme"}; otherwise the tenant stays absent.
    tenant = dispatch_metadata(ctx).get("tenant")
    observer.attach(session, agent_id="dental", tenant=tenant, job=ctx)

    await session.start(Dental(), room=ctx.room)
    session.generate_reply(instructions="Greet the caller and offer your help.")


if __name__ == "__main__":
    cli.run_app(server)
