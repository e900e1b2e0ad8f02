"""The agent `dental`: found by its file's name, on the pool's models."""

from __future__ import annotations

from livekit.agents import Agent


class Dental(Agent):
    """Answers for a dental practice."""

    def __init__(self) -> None:
        super().__init__(instructions="You answer the telephone of a dental practice. Be brief.")
