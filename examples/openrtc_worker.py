"""A worker on OpenRTC with one observer added; everything else is as without it.

    pip install 'openrtc[livekit]' 'voicecosts[producer]'
    export LIVEKIT_URL=wss://… LIVEKIT_API_KEY=… LIVEKIT_API_SECRET=…
    export COSTS_SERVERS=nats://…   # `costs up` says which; without it readings wait on this host
    python -m livekit.agents download-files   # once: the turn detector's model
    python examples/openrtc_worker.py start

`costs query --by tenant` then says what its calls cost.
"""

from __future__ import annotations

from livekit.agents import Agent
from models import LLM, STT, TTS
from openrtc import AgentPool

from voicecosts import CostObserver


class Dental(Agent):
    """Answers for a dental practice."""

    def __init__(self) -> None:
        super().__init__(instructions="You answer the telephone of a dental practice. Be brief.")


pool = AgentPool(observers=[CostObserver(project="examples")])
pool.add(
    "dental",
    Dental,
    stt=STT,
    llm=LLM,
    tts=TTS,
    greeting="Greet the caller and offer your help.",
)

server = pool.server

if __name__ == "__main__":
    pool.run()
