"""The agent `support`: hands over to a specialist, whose cost is told apart by its label."""

from __future__ import annotations

from livekit.agents import Agent, function_tool

from voicecosts import agent_config


class Specialist(Agent):
    """Takes over what the desk cannot answer."""

    def __init__(self) -> None:
        super().__init__(instructions="You answer technical questions in depth.")


@agent_config()  # of the two agents in this file, this one gets the calls
class Support(Agent):
    """The first level of a support desk."""

    def __init__(self) -> None:
        super().__init__(instructions="You are the first level of a support desk.")

    @function_tool
    async def ask_specialist(self) -> Agent:
        """Hand the caller over to a specialist."""
        return Specialist()
