"""A call on real sessions that is interrupted, closed or handed over at a moment that a test chooses.

Its providers count what was sent to them (`tests/support/interruptible.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from livekit import rtc
from livekit.agents import Agent, AgentSession, RunContext, function_tool, llm, tts

from tests.support.conservation import Amounts, added, counted, estimated_total, measured_total
from tests.support.interruptible import (
    InterruptibleLLM,
    Listened,
    Moments,
    PieceVoice,
    SentenceVoice,
    WholeVoice,
)
from tests.support.pool_agents import QUIET
from tests.support.recorder import Recorder
from voicecosts.producer.capture.attachment import Attachment
from voicecosts.producer.capture.identity import SessionIdentity, new_session_id
from voicecosts.producer.demo.providers import tool_call
from voicecosts.producer.events import now_us

SENTENCES: Final = (
    "Good morning, this is the practice of Dr. Smith.",
    "We open at 3.30 p.m. on Mondays.",
    "Hello!",
    "Ok.",
    "it goes on in small letters. and so does this",
    "Would you like an appointment, or do you want to talk to somebody?",
    "One, two, three; four, five, six, seven, eight, nine, ten and eleven.",
    "Nobody ends this one",
)
_DEADLINE_S: Final = 20.0


@dataclass(frozen=True)
class Call:
    """What a call is made of, and what happens to it at which moment."""

    voice: str
    model: str
    acts: tuple[tuple[str, str], ...]
    at: int
    what: str = "interrupt"
    attach: str = "before"
    plays: bool = True
    greets: bool = False


@dataclass
class Outcome:
    """What came out of a call."""

    measured: Amounts
    estimated: Amounts
    received: Amounts

    def exceeding(self) -> list[str]:
        """Return the quantities of which more was counted than received."""
        total = added(self.measured, self.estimated)
        return [
            f"{modality} {quantity}: measured {amount_of(self.measured, modality, quantity)}, estimated "
            f"{amount_of(self.estimated, modality, quantity)} of {amount_of(self.received, modality, quantity)}"
            for modality, amounts in total.items()
            for quantity, amount in amounts.items()
            # LiveKit adds 10 ms of silence to audio that ends between two frames.
            if quantity != "audio_us" and amount > amount_of(self.received, modality, quantity)
        ]


class Talker(Agent):
    """Uses a tool that asks the model something else, one that speaks, and one that hands over."""

    def __init__(self, call: Call, instructions: str) -> None:
        super().__init__(instructions=instructions)
        self._call = call

    async def on_enter(self) -> None:
        """Greet."""
        if self._call.greets:
            self.session.say(" ".join(SENTENCES[:3]))

    @function_tool
    async def side(self, context: RunContext[Any]) -> str:
        """Ask the model something with a long prompt of its own."""
        ctx = llm.ChatContext.empty()
        ctx.add_message(role="user", content="a long side request " * 60)
        model = context.session.llm
        assert isinstance(model, llm.LLM)
        async with model.chat(chat_ctx=ctx) as stream:
            return "".join([c.delta.content or "" async for c in stream if c.delta])[:20]

    @function_tool
    async def speak(self, context: RunContext[Any]) -> str:
        """Say something meanwhile."""
        context.session.say("Wait a moment. I look it up for you now.")
        return "said"

    @function_tool
    async def hand(self) -> Agent:
        """Hand over."""
        return Talker(self._call, "You are another one, with few words.")


def answer(context: llm.ChatContext) -> tuple[str, list[llm.FunctionToolCall]]:
    """Answer the last item: a result with a sentence, a wish for a tool with its call."""
    last = context.items[-1] if context.items else None
    text = last.text_content or "" if isinstance(last, llm.ChatMessage) else ""
    said, _, tool = text.partition("|")
    if tool:
        return (said, [tool_call(tool)])
    return said or "So it is done. Is there anything else that I can do for you?", []


async def pieces(text: str) -> AsyncIterator[str]:
    """Yield a text in pieces."""
    for start in range(0, len(text), 5):
        yield text[start : start + 5]
        await asyncio.sleep(0)


async def recording() -> AsyncIterator[rtc.AudioFrame]:
    """Yield a recording, as `say(audio=…)` takes it."""
    for _ in range(5):
        await asyncio.sleep(0.0005)
        yield rtc.AudioFrame(
            data=bytes(3200), sample_rate=16_000, num_channels=1, samples_per_channel=1600
        )


def voices(kind: str, moments: Moments) -> tuple[Any, list[Any]]:
    """Return what a session speaks with, and the providers that serve it."""
    one: Any
    match kind:
        case "pieces":
            one = PieceVoice(moments)
        case "sentences":
            one = SentenceVoice(moments)
        case "one by one":
            one = SentenceVoice(moments, one_by_one=True)
        case "one by one, older":
            one = SentenceVoice(moments, one_by_one=True, blingfire=False)
        case "words":
            one = SentenceVoice(moments, one_by_one=True, words=True)
        case "marks first":
            one = SentenceVoice(moments, one_by_one=True, marks_first=True)
        case "whole":
            one = WholeVoice(moments)
        case "adapter":
            one = WholeVoice(moments)
            return tts.StreamAdapter(tts=one), [one]
        case _:
            one = SentenceVoice(moments)
            bad = (WholeVoice if kind == "fallback of whole" else PieceVoice)(moments, fails=True)
            return tts.FallbackAdapter([bad, one]), [bad, one]
    return one, [one]


VOICES: Final = (
    "pieces",
    "sentences",
    "one by one",
    "one by one, older",
    "words",
    "marks first",
    "whole",
    "adapter",
    "fallback",
    "fallback of whole",
)


def models(kind: str, moments: Moments) -> tuple[Any, list[Any]]:
    """Return what a session thinks with, and the providers that serve it."""
    one = InterruptibleLLM(moments, answer)
    if kind == "plain":
        return one, [one]
    bad = InterruptibleLLM(moments, answer, fails=True)
    return llm.FallbackAdapter([bad, one]), [bad, one]


def attach(session: AgentSession[Any], recorder: Recorder) -> Attachment:
    """Attach a session as an observer would."""
    started_at = now_us()
    identity = SessionIdentity(
        session_id=new_session_id(started_at),
        project="tests",
        agent_id="talker",
        started_at=started_at,
    )
    attachment = Attachment(session, identity, recorder)
    attachment.open()
    return attachment


async def run(call: Call) -> Outcome:
    """Run a call to its end."""
    moments = Moments(call.at)
    voice, voice_providers = voices(call.voice, moments)
    model, model_providers = models(call.model, moments)
    session: AgentSession[Any] = AgentSession(llm=model, tts=voice, **QUIET)
    if call.plays:
        session.output.audio = Listened(moments)
    recorder, event = Recorder(), _Happening(session, call)
    moments.act = event.happen
    async with asyncio.timeout(_DEADLINE_S):
        attachment = await _talk(session, call, event, recorder)
        await asyncio.gather(*event.tasks)
        await session.aclose()
        await attachment.closed.wait()
    attachment.detach()
    return Outcome(
        measured=measured_total(recorder),
        estimated=estimated_total(recorder),
        received=counted(*voice_providers, *model_providers, received=True),
    )


class _Happening:
    """What happens to a call at its moment."""

    def __init__(self, session: AgentSession[Any], call: Call) -> None:
        self.session = session
        self.call = call
        self.speech: Any = None
        self.tasks: list[asyncio.Task[None]] = []

    def happen(self) -> None:
        """Interrupt what is said, close the session, or hand over."""
        if self.call.what == "close":
            self.tasks.append(asyncio.create_task(self.session.aclose()))
        elif self.call.what == "hand over":
            self.session.update_agent(Talker(self.call, "You are the next."))
        else:
            for speech in (self.speech, self.session.current_speech):
                if speech is not None:
                    speech.interrupt(force=True)


async def _talk(
    session: AgentSession[Any], call: Call, event: _Happening, recorder: Recorder
) -> Attachment:
    """Start the session and have it say everything; attach it when the call says so."""
    early = attach(session, recorder) if call.attach == "before" else None
    await session.start(Talker(call, "You answer in a few words, whatever is asked."))
    if early is None and call.attach == "started":
        early = attach(session, recorder)
    for kind, text in call.acts:
        try:
            event.speech = begin(session, kind, text)
        except RuntimeError:
            break  # closed, or closing
        early = early or attach(session, recorder)
        await event.speech
    return early or attach(session, recorder)


def begin(session: AgentSession[Any], kind: str, text: str) -> Any:
    """Begin a speech of a kind."""
    match kind:
        case "say":
            return session.say(text)
        case "pieces":
            return session.say(pieces(text))
        case "audio":
            return session.say(text, audio=recording())
        case "reply":
            return session.generate_reply(user_input=text)
        case _:
            return session.generate_reply(user_input=f"{text}|{kind}")


def amount_of(amounts: Amounts, modality: str, quantity: str) -> int:
    """Return an amount, 0 where there is none."""
    return amounts.get(modality, {}).get(quantity, 0)
