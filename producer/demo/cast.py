"""Who appears in the demo: three agents, the providers they share, and what their callers say."""

from __future__ import annotations

from typing import Final

from livekit.agents import Agent, function_tool
from livekit.agents.llm import ChatContext, FunctionToolCall
from msgspec import Struct

from voicecosts.producer.demo.providers import (
    Bill,
    ScriptedLLM,
    ScriptedSTT,
    ScriptedTTS,
    tool_call,
)

TENANTS: Final = ("acme", "bistro-nord", "clinic-west", "delta-air")
"""The tenants of the demo's calls; one call has none."""


_SPEAKS_S: Final = 0.005
"""Seconds that a voice needs for a piece of text, so that there is something to interrupt."""


class Restaurant(Agent):
    """Takes a reservation after looking at the book."""

    def __init__(self) -> None:
        super().__init__(instructions="You take reservations for a small restaurant.")

    @function_tool
    async def free_tables(self) -> str:
        """Look which tables are free tonight."""
        return "a table for two at eight"


class Dental(Agent):
    """Answers for a dental practice."""

    def __init__(self) -> None:
        super().__init__(instructions="You answer the telephone of a dental practice.")


class Specialist(Agent):
    """Takes over what the support desk cannot answer."""

    def __init__(self) -> None:
        super().__init__(instructions="You answer technical questions in depth.")


class Support(Agent):
    """Helps, and hands over to a specialist."""

    def __init__(self) -> None:
        super().__init__(instructions="You are the first level of a support desk.")

    @function_tool
    async def ask_specialist(self) -> Agent:
        """Hand the caller over to a specialist."""
        return Specialist()


AGENTS: Final[dict[str, type[Agent]]] = {
    "restaurant": Restaurant,
    "dental": Dental,
    "support": Support,
}

LINES: Final[dict[str, tuple[str, ...]]] = {
    "restaurant": (
        "good evening, is a table for two free tonight?",
        "eight o'clock is fine, the name is Moreau.",
        "thank you, see you then.",
    ),
    "dental": (
        "I have had a toothache since yesterday.",
        "tomorrow at nine would suit me.",
        "no, that was all, thank you.",
    ),
    "support": (
        "my router blinks red and nothing works.",
        "could I speak to a specialist, please?",
        "I pressed the button and now it is green.",
    ),
}
"""What the callers of each agent say, one line a turn."""


class Providers(Struct):
    """The provider objects of one agent, shared by all of its calls as pools share them."""

    llm: ScriptedLLM
    stt: ScriptedSTT
    tts: ScriptedTTS

    def books(self) -> list[tuple[str, str, str, Bill]]:
        """Return (modality, provider, model, what it billed) of each provider."""
        return [
            ("llm", self.llm.provider, self.llm.model, self.llm.billed),
            ("stt", self.stt.provider, self.stt.model, self.stt.billed),
            ("tts", self.tts.provider, self.tts.model, self.tts.billed),
        ]


def shared_providers() -> dict[str, Providers]:
    """Return the providers of each agent; the support desk's model is in no price list."""
    return {
        "restaurant": Providers(
            llm=ScriptedLLM(provider="api.openai.com", model="gpt-4.1-mini", plan=answer),
            stt=ScriptedSTT(provider="Deepgram", model="nova-3"),
            tts=ScriptedTTS(provider="Cartesia", model="sonic-3", pause_s=_SPEAKS_S),
        ),
        "dental": Providers(
            llm=ScriptedLLM(provider="api.anthropic.com", model="claude-haiku-4-5", plan=answer),
            stt=ScriptedSTT(provider="Deepgram", model="nova-3"),
            tts=ScriptedTTS(provider="ElevenLabs", model="eleven_turbo_v2_5", pause_s=_SPEAKS_S),
        ),
        "support": Providers(
            llm=ScriptedLLM(provider="Meadow AI", model="meadow-7b", plan=answer),
            stt=ScriptedSTT(provider="Deepgram", model="nova-3"),
            tts=ScriptedTTS(provider="Cartesia", model="sonic-3", pause_s=_SPEAKS_S),
        ),
    }


def answer(text: str, _context: ChatContext) -> tuple[str, list[FunctionToolCall]]:
    """Use a tool where the caller's words ask for it, otherwise speak."""
    if "table for two free" in text:
        return "", [tool_call("free_tables")]
    if "speak to a specialist" in text:
        return "", [tool_call("ask_specialist")]
    if text.startswith("the result"):
        return f"I have looked, and there is good news: {text.removeprefix('the result ')}.", []
    return "Certainly. Let me note that down for you; is there anything else I can do?", []
