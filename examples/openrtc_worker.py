"""A worker on OpenRTC with one observer added; everything else is as without it.

Start it as any other: `pip install openrtc`, then `python examples/openrtc_worker.py dev`, with
COSTS_SERVERS as `costs up` prints it.
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
