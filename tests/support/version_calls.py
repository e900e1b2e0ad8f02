"""Metered calls on whichever livekit-agents is installed, with scripted providers.

A situation runs one or a few calls to their end, and keeps the providers and the ids of its sessions;
`version_report.py` compares what was booked with the providers' own books.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from livekit.agents import Agent, AgentSession, function_tool, llm
from livekit.agents.ipc.mock_room import create_mock_room

from tests.support.jobs import job
from tests.support.pool_agents import QUIET
from tests.support.version_providers import ReasoningLLM, SpeakingModel, TokenTTS
from tests.support.waiting import until
from voicecosts.producer.demo.calls import Call, pool_of, script
from voicecosts.producer.demo.cast import AGENTS, LINES, shared_providers
from voicecosts.producer.demo.devices import Microphone, session_io
from voicecosts.producer.demo.providers import (
    SAMPLE_RATE,
    ScriptedLLM,
    ScriptedSTT,
    ScriptedTTS,
    tool_call,
)
from voicecosts.producer.observer import CostObserver
from voicecosts.producer.process import PROCESS

_DEADLINE_S: Final = 60.0
_LINGER_S: Final = 2.0
"""How long after a session's end it may still be heard, with room."""

try:  # the detectors that ask a provider came with 1.6
    from tests.support import detectors as asking
    from tests.support import scripted
except ImportError:
    scripted = None  # type: ignore[assignment]  # no such situation


@dataclass
class Situation:
    """One kind of call. `sessions` maps the number of a call to the id of its session."""

    observer: CostObserver
    providers: list[Any] = field(default_factory=list)
    sessions: dict[int, str] = field(default_factory=dict)
    is_interrupted: bool = False

    def use(self, *providers: Any) -> Any:
        """Keep providers whose books will be read; return them."""
        self.providers += providers
        return providers

    def meter(self, session: AgentSession[Any], call: int, **options: Any) -> None:
        """Attach a session to the observer."""
        attached = self.observer.attach(session, agent_id="front", tenant="acme", **options)
        assert attached is not None, "the session could not be attached"
        self.sessions[call] = attached.session_id

    @contextlib.asynccontextmanager
    async def call(
        self, number: int, agent: Agent, **providers: Any
    ) -> AsyncIterator[tuple[AgentSession[Any], Microphone]]:
        """Run a metered session around the body."""
        session: AgentSession[Any] = AgentSession(**providers, **QUIET)
        microphone = Microphone(number)
        if "tts" in providers or isinstance(providers["llm"], llm.RealtimeModel):
            microphone = session_io(session, number)
        self.meter(session, number)
        await session.start(agent)
        yield session, microphone
        await session.aclose()


@contextlib.asynccontextmanager
async def ended_job(number: int) -> AsyncIterator[Any]:
    """Run the body inside a job, and its shutdown hooks after it, as a worker does."""
    with job(f"job-{number}") as context:
        yield context
        for hook in list(context._shutdown_callbacks):
            await hook("")


def quiet_ear() -> ScriptedSTT:
    """Return a recogniser that reports all that it heard when its stream closes."""
    return ScriptedSTT(report_every_samples=60 * SAMPLE_RATE)


async def turns(situation: Situation) -> None:
    """Three turns with audio; the recogniser reports while the session closes."""
    model, ear, voice = situation.use(ReasoningLLM(), quiet_ear(), ScriptedTTS())
    async with situation.call(1, Agent(instructions="x"), llm=model, stt=ear, tts=voice) as (
        session,
        microphone,
    ):
        for turn in range(3):
            microphone.say(0.7)
            await session.run(user_input=f"#1# turn {turn}")


async def whole_texts(situation: Situation) -> None:
    """A voice that takes whole texts, and is billed by tokens."""
    model, voice = situation.use(ScriptedLLM(), TokenTTS())
    async with situation.call(1, Agent(instructions="x"), llm=model, tts=voice) as (session, _):
        await session.run(user_input="#1# hello")
        await session.say("#1# a sentence of its own").wait_for_playout()


class Second(Agent):
    """Takes over."""

    def __init__(self) -> None:
        super().__init__(instructions="second")


class Desk(Agent):
    """Looks something up, hands over, and opens a call of its own to a colleague."""

    def __init__(self, inside: Callable[[], Awaitable[None]] | None = None) -> None:
        super().__init__(instructions="desk")
        self._inside = inside

    @function_tool
    async def look_up(self) -> str:
        """Look something up."""
        return "found"

    @function_tool
    async def hand_over(self) -> Agent:
        """Hand over."""
        return Second()

    @function_tool
    async def ask_colleague(self) -> str:
        """Ask a colleague."""
        assert self._inside is not None
        await self._inside()
        return "asked"


def planned(text: str, _context: Any) -> tuple[str, list[Any]]:
    """Call the tool that the caller names."""
    for word in ("look_up", "hand_over", "ask_colleague"):
        if word in text:
            return "", [tool_call(word)]
    return f"Here is {text}.", []


async def tool_and_hand_off(situation: Situation) -> None:
    """A tool call, and a hand-off to another agent, in a job."""
    model, ear, voice = situation.use(ReasoningLLM(plan=planned), ScriptedSTT(), ScriptedTTS())
    async with (
        ended_job(1),
        situation.call(1, Desk(), llm=model, stt=ear, tts=voice) as (session, microphone),
    ):
        microphone.say(1.3)
        for wish in ("look_up please", "hand_over please", "hello again"):
            await session.run(user_input=f"#1# {wish}")
        microphone.say(0.4)


async def shared(situation: Situation, *, in_jobs: bool) -> None:
    """Three calls at once on the same provider objects."""
    model, ear, voice = situation.use(ReasoningLLM(), ScriptedSTT(), ScriptedTTS())

    async def one(number: int) -> None:
        around = ended_job(number) if in_jobs else contextlib.nullcontext()
        async with (
            around,
            situation.call(number, Agent(instructions="x"), llm=model, stt=ear, tts=voice) as (
                session,
                microphone,
            ),
        ):
            for turn in range(2):
                microphone.say(0.4 + 0.1 * number)
                await session.run(user_input=f"#{number}# turn {turn}")

    await asyncio.gather(*(one(number) for number in (1, 2, 3)))


async def shared_in_jobs(situation: Situation) -> None:
    """Shared providers, each call in a job of its own."""
    await shared(situation, in_jobs=True)


async def shared_without_jobs(situation: Situation) -> None:
    """Shared providers, no jobs."""
    await shared(situation, in_jobs=False)


class Halting(ScriptedTTS):
    """Goes silent in the middle of a long speech, and stays so until it is interrupted."""

    spoken = 0

    def speak(self, emitter: Any, text: str) -> int:
        """Speak, and halt when it was much."""
        self.spoken += len(text)
        self.pause_s = 3600.0 if self.spoken > 200 else 0.0
        return super().speak(emitter, text)


async def interrupted(situation: Situation) -> None:
    """A speech that is interrupted while it is made."""
    situation.is_interrupted = True
    model, voice = situation.use(ReasoningLLM(), Halting(samples_per_character=160))
    async with situation.call(1, Agent(instructions="x"), llm=model, tts=voice) as (session, _):
        await session.run(user_input="#1# first")
        handle = session.say("#1# " + "One two three four five six. " * 40)
        heard: Any = session.output.audio
        await until(lambda: session.agent_state == "speaking" and heard.played_s() > 0.2)
        handle.interrupt(force=True)
        await handle.wait_for_playout()
        model.pause_s = 3600.0
        answer = session.generate_reply(user_input="#1# second")
        await until(lambda: session.agent_state == "thinking")
        answer.interrupt(force=True)
        await answer.wait_for_playout()


async def inside_a_tool(situation: Situation) -> None:
    """A metered session that is opened in a tool of another one, with providers of its own."""
    outer = situation.use(ReasoningLLM(plan=planned), ScriptedSTT(), ScriptedTTS())
    inner = situation.use(ReasoningLLM(), quiet_ear(), ScriptedTTS())

    async def colleague() -> None:
        async with situation.call(
            2, Agent(instructions="x"), llm=inner[0], stt=inner[1], tts=inner[2]
        ) as (session, microphone):
            microphone.say(0.9)
            await session.run(user_input="#2# a question")

    async with (
        ended_job(1),
        situation.call(1, Desk(colleague), llm=outer[0], stt=outer[1], tts=outer[2]) as (
            session,
            microphone,
        ),
    ):
        microphone.say(1.2)
        await session.run(user_input="#1# ask_colleague please")
        microphone.say(0.3)


class Greeter(Agent):
    """Speaks first."""

    async def on_enter(self) -> None:
        """Greet."""
        self.session.say("#1# Good day to you.")


async def after_the_start(situation: Situation) -> None:
    """A session that is handed over after its start, while it greets, as OpenRTC does."""
    model, voice = situation.use(ReasoningLLM(), ScriptedTTS())
    async with ended_job(1):
        session: AgentSession[Any] = AgentSession(llm=model, tts=voice, **QUIET)
        session_io(session, 1)
        await session.start(Greeter(instructions="x"))
        situation.meter(session, 1)
        await session.run(user_input="#1# hello")
        await until(lambda: voice.billed[1]["requests"] >= 2)
        await session.aclose()


async def served_by_the_second(situation: Situation) -> None:
    """A fallback adapter whose first model fails."""
    first, second = situation.use(ScriptedLLM(failures=100), ReasoningLLM(model="second"))
    adapter = llm.FallbackAdapter([first, second], max_retry_per_llm=0)
    async with situation.call(1, Agent(instructions="x"), llm=adapter) as (session, _):
        await session.run(user_input="#1# hello")


async def speaking_model(situation: Situation) -> None:
    """A realtime model: two answers, its connection, and the time of its connection."""
    (model,) = situation.use(SpeakingModel())
    async with situation.call(1, Agent(instructions="x"), llm=model) as (session, _):
        for turn in range(2):
            await session.generate_reply(user_input=f"#1# turn {turn}").wait_for_playout()


async def outside_of_all(situation: Situation) -> None:
    """A model that two calls share is asked from outside of both: nobody's usage."""
    (model,) = situation.use(ReasoningLLM())
    async with (
        situation.call(1, Agent(instructions="x"), llm=model) as (first, _),
        situation.call(2, Agent(instructions="x"), llm=model) as (second, _),
    ):
        await first.run(user_input="#1# hello")
        await second.run(user_input="#2# hello")
        await _apart(_ask(model))


async def _ask(model: Any) -> None:
    context = llm.ChatContext.empty()
    context.add_message(role="user", content="#3# a question outside of every session")
    async with model.chat(chat_ctx=context) as stream:
        async for _ in stream:
            pass


async def _apart(work: Any) -> None:
    """Run something in a context that no session was opened in."""
    import contextvars  # noqa: PLC0415 - only here

    await asyncio.get_running_loop().create_task(work, context=contextvars.Context())


async def detectors(situation: Situation) -> None:
    """A detector that asks a provider whether the caller has finished a turn."""
    model, ear, turn = situation.use(ReasoningLLM(), ScriptedSTT(), asking.ScriptedTurnDetector())
    session: AgentSession[Any] = AgentSession(
        llm=model,
        stt=ear,
        vad=scripted.Pieces(samples=10**9),
        turn_handling={"turn_detection": turn, "interruption": {"mode": "vad"}},
    )
    microphone = session_io(session, 1)
    session.output.set_audio_enabled(False)
    situation.meter(session, 1)
    await session.start(Agent(instructions="x"))
    microphone.say(0.4)
    await until(lambda: 1 in turn.streams)
    await turn.streams[1].predict()
    await turn.streams[1].predict()
    await session.run(user_input="#1# hello")
    await session.aclose()


async def through_the_pool(situation: Situation) -> None:
    """The agents of the demo in a pool, one call for each, at once."""
    providers = shared_providers()
    for of_agent in providers.values():
        situation.use(of_agent.llm, of_agent.stt, of_agent.tts)
    pool = pool_of(situation.observer, providers)

    async def one(call: Call) -> None:
        options = {"job_id": f"pool-{call.number}", "job_metadata": call.metadata()}
        with job(**options, room=create_mock_room()) as context:
            async with pool.session(context) as session:
                attached = PROCESS.attachments[id(session)]
                situation.sessions[call.number] = attached.session_id
                for line in LINES[call.agent_id]:
                    microphone: Any = session.input.audio
                    microphone.say(0.9)
                    await session.run(user_input=f"#{call.number}# {line}")

    await asyncio.gather(*(one(call) for call in script(len(AGENTS))))


SITUATIONS: Final[tuple[Callable[[Situation], Awaitable[None]], ...]] = (
    turns,
    whole_texts,
    tool_and_hand_off,
    shared_in_jobs,
    shared_without_jobs,
    interrupted,
    inside_a_tool,
    after_the_start,
    served_by_the_second,
    speaking_model,
    outside_of_all,
    through_the_pool,
    *([detectors] if scripted else []),
)
