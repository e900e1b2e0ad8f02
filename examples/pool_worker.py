"""Three agents in one worker: each call is routed to one of them, and its cost to that one.

    pip install 'voicecosts[producer,agents]'
    export LIVEKIT_URL=wss://… LIVEKIT_API_KEY=… LIVEKIT_API_SECRET=…
    export COSTS_SERVERS=nats://…   # `costs up` says which; without it readings wait on this host
    python examples/pool_worker.py start

A call reaches the agent that its dispatch names, by {"agent": "support"} in the metadata of the job
or the room, or the one whose name its room's name begins with: support-4711. Any other call reaches
the first one. This says which:

    costs agents route --agents-dir examples/agents --room support-4711
"""

from __future__ import annotations

from pathlib import Path

from models import LLM, STT, TTS

from voicecosts import AgentPool, CostObserver

pool = AgentPool(
    observers=[CostObserver(project="examples")],
    default_stt=STT,
    default_llm=LLM,
    default_tts=TTS,
    default_greeting="Greet the caller and offer your help.",
)
pool.discover(Path(__file__).with_name("agents"))  # or pool.add("dental", Dental), one by one

server = pool.server  # where `python -m livekit.agents start` and `lk agent` look for it

if __name__ == "__main__":
    pool.run()
