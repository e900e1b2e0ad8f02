"""The agent `restaurant`: marked with a greeting of its own, and with a tool."""

from __future__ import annotations

from livekit.agents import Agent, function_tool

from voicecosts import agent_config


@agent_config(
    name="restaurant", greeting="Say good evening and ask for how many a table is needed."
)
class Restaurant(Agent):
    """Takes reservations."""

    def __init__(self) -> None:
        super().__init__(instructions="You take reservations for a small restaurant.")

    @function_tool
    async def free_tables(self) -> str:
        """Look which tables are free tonight."""
        return "a table for two at eight"
