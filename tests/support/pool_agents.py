"""Agents and providers that pool tests register: module-level, so that they go into job processes."""

from __future__ import annotations

from inspect import signature
from typing import Any, Final

from livekit.agents import Agent, AgentSession

from voicecosts.producer.demo.providers import ScriptedLLM, ScriptedSTT, ScriptedTTS

_NEWER: Final = {"session_close_transcript_timeout": 0.01}
"""Options that the oldest supported livekit-agents does not have."""

QUIET: Final[dict[str, Any]] = {
    "vad": None,
    "turn_handling": {"turn_detection": "manual"},
    **{name: it for name, it in _NEWER.items() if name in signature(AgentSession).parameters},
}
"""Session options that need no model download, and no two seconds for a last transcript."""


class Dental(Agent):
    """The agent of most test calls."""

    def __init__(self) -> None:
        super().__init__(instructions="You answer for a dental practice.")


class Restaurant(Agent):
    """Another one."""

    def __init__(self) -> None:
        super().__init__(instructions="You take reservations.")


class Broken(Agent):
    """An agent that cannot be made."""

    def __init__(self) -> None:
        raise ZeroDivisionError("of the agent")


class Greeter(Agent):
    """Speaks first, while its session is still starting."""

    def __init__(self) -> None:
        super().__init__(instructions="You greet.")

    async def on_enter(self) -> None:
        """Speak."""
        await self.session.generate_reply(instructions="#1# say hello")


def make_llm() -> ScriptedLLM:
    """Make a model for one session."""
    return ScriptedLLM()


def make_stt() -> ScriptedSTT:
    """Make a recogniser for one session."""
    return ScriptedSTT()


def make_tts() -> ScriptedTTS:
    """Make a voice for one session."""
    return ScriptedTTS()


def quiet_options() -> dict[str, Any]:
    """Make the session options for one session."""
    return dict(QUIET)


def first_word(metadata: Any) -> str | None:
    """Route by a key of this test's own."""
    return (metadata or {}).get("to")


class Silent:
    """An observer that does nothing."""

    async def on_session_start(self, info: Any, session: Any) -> None:
        """Do nothing."""

    async def on_session_end(self, info: Any, outcome: Any) -> None:
        """Do nothing."""
