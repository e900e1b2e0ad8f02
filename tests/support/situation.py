"""A worker process as a situation: its observer, its calls, and the providers that they use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from livekit.agents import Agent, AgentSession, RunContext, function_tool, llm

from tests.support.conservation import (
    Amounts,
    assert_conserved,
    assert_one_end,
    assert_session,
    billed,
)
from tests.support.jobs import job
from tests.support.pool_agents import QUIET
from tests.support.recorder import Recorder
from tests.support.scripted import SentenceTTS
from voicecosts import CostObserver
from voicecosts.producer.capture.attribution import ATTRIBUTION
from voicecosts.producer.demo.devices import Microphone, session_io
from voicecosts.producer.demo.providers import ScriptedLLM, ScriptedSTT, tool_call
from voicecosts.producer.events import SessionStarted
from voicecosts.producer.process import PROCESS

PROMPT: Final[dict[str, Any]] = {**QUIET, "aec_warmup_duration": None}
"""Session options that do not put silence, in which no call's number is, in the place of what is
said during a greeting.
"""


class KeptEvents(Recorder):
    """A recorder that can stand where an observer's publisher stands."""

    async def wait_until_safe(self, _timeout_s: float, *, patient: bool = True) -> bool:
        """Whatever was put is safe."""
        return True


class RecordingObserver(CostObserver):
    """An observer whose events are kept instead of published."""

    def __init__(self, recorder: KeptEvents, project: str = "tests") -> None:
        super().__init__(project)
        self._recorder = recorder

    def _publisher(self) -> Any:
        return self._recorder


def planned(text: str, _context: llm.ChatContext) -> tuple[str, list[llm.FunctionToolCall]]:
    """Call the tool that the last input names; otherwise say something."""
    for tool in ("work", "hand_over"):
        if tool in text:
            return "", [tool_call(tool)]
    return f"Here is what I know about {text}.", []


@dataclass
class Providers:
    """What a session is made of, and the objects behind it that keep the books."""

    llm: Any = field(default_factory=lambda: ScriptedLLM(plan=planned))
    stt: Any = field(default_factory=ScriptedSTT)
    tts: Any = field(default_factory=SentenceTTS)
    behind: tuple[Any, ...] = ()

    def keepers(self) -> tuple[Any, ...]:
        """Return the objects that keep books."""
        used = (self.llm, self.stt, self.tts, *self.behind)
        return tuple(each for each in used if hasattr(each, "billed") or hasattr(each, "books"))


@dataclass
class Call:
    """One call: its session, its caller's microphone, and its number in all that it says."""

    number: int
    session: AgentSession[Any]
    microphone: Microphone

    async def start(self, agent: Agent | None = None) -> None:
        """Start the session."""
        await self.session.start(agent or Agent(instructions="Be brief."))

    async def turn(self, text: str = "hello", *, audio_s: float = 1.3) -> None:
        """Say something, and have it answered. The audio ends in less than a report."""
        if audio_s:
            self.microphone.say(audio_s)
        await self.session.run(user_input=f"#{self.number}# {text}")

    async def close(self) -> None:
        """End the session."""
        await self.session.aclose()

    async def run(self, *texts: str, agent: Agent | None = None) -> None:
        """Run the whole call."""
        await self.start(agent)
        for text in texts or ("hello",):
            await self.turn(text)
        await self.close()


def numbered(call: Call, number: int) -> Call:
    """Return the same session under another number: what it uses from here is counted apart."""
    call.microphone._call = number
    return Call(number, call.session, call.microphone)


class Host(Agent):
    """An agent whose tool `work` does what the test says, and who can hand over to another."""

    def __init__(
        self,
        work: Callable[[], Awaitable[Any]] | None = None,
        *,
        name: str = "host",
        successor: Agent | None = None,
        entering: Callable[[AgentSession[Any]], Awaitable[Any]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(instructions="Be brief.", id=name, **options)
        self._work = work
        self._successor = successor
        self._entering = entering

    async def on_enter(self) -> None:
        """Do what the test says."""
        if self._entering is not None:
            await self._entering(self.session)

    @function_tool
    async def work(self, context: RunContext[Any]) -> str:
        """Do what the test says."""
        if self._work is not None:
            await self._work()
        return "done"

    @function_tool
    async def hand_over(self) -> Agent:
        """Hand over to the successor."""
        assert self._successor is not None
        return self._successor


class Situation:
    """Makes calls, and compares what was booked of them with what the providers counted."""

    def __init__(self) -> None:
        self.recorder = KeptEvents()
        self.observer = RecordingObserver(self.recorder)
        self.keepers: list[Any] = []

    def keep(self, *providers: Any) -> None:
        """Check the books of these providers as well."""
        self.keepers += providers

    def call(self, number: int, providers: Providers | None = None, **options: Any) -> Call:
        """Make a call that is neither attached nor started, on its own providers if none given."""
        providers = providers or Providers()
        self.keep(*providers.keepers())
        parts = {"llm": providers.llm, "stt": providers.stt, "tts": providers.tts}
        parts = {name: part for name, part in parts.items() if part is not None}
        session: AgentSession[Any] = AgentSession(**{**parts, **PROMPT, **options})
        return Call(number, session, session_io(session, number))

    def attach(self, call: Call, agent_id: str = "front", **options: Any) -> str:
        """Meter a call; return the ledger's id of its session."""
        attachment = self.observer.attach(call.session, agent_id=agent_id, **options)
        assert attachment is not None
        return attachment.session_id

    async def observed(
        self,
        number: int,
        providers: Providers | None = None,
        *texts: str,
        agent: Agent | None = None,
        in_job: bool = True,
        **options: Any,
    ) -> str:
        """Run a whole call that is metered from before its start; return its session's id."""
        with job(f"job-{number}") if in_job else contextlib.nullcontext():
            call = self.call(number, providers, **options)
            session_id = self.attach(call)
            await call.run(*texts, agent=agent)
        return session_id

    def session_ids(self) -> list[str]:
        """Return the ids of all sessions in the order of their starts."""
        return [e.session_id for e in self.recorder.events if isinstance(e, SessionStarted)]

    def labels(self, session_id: str, modality: str = "llm") -> set[str]:
        """Return the agents that a session used something of a modality for."""
        readings = self.recorder.readings(session_id)
        return {r.agent_label for r in readings if r.modality == modality}

    def billed(self, calls: int | Iterable[int]) -> Amounts:
        """Return what all providers billed these calls."""
        return billed(calls, *self.keepers)

    def assert_booked(self, expected: Mapping[str, int | Iterable[int] | Amounts]) -> None:
        """Exactly these sessions were booked, each with one end, and nothing else was lost.

        A session has the usage of the calls it is given, or the amounts, in every quantity. What
        the providers counted beyond that is unattributed, in amounts.
        """
        assert set(self.session_ids()) == set(expected)
        for session_id, calls in expected.items():
            amounts = calls if isinstance(calls, dict) else self.billed(calls)
            assert_session(self.recorder, session_id, amounts)
        assert_one_end(self.recorder, *expected)
        self.assert_conserved()

    def assert_conserved(self, *, interrupted: bool = False) -> None:
        """The law holds for all providers of the situation, now that no session is attached late."""
        ATTRIBUTION.held.release()
        assert_conserved(self.recorder, *self.keepers, interrupted=interrupted)


@contextlib.contextmanager
def new_situation() -> Iterator[Situation]:
    """Give a situation, and detach what it leaves: its loop ends before a session's linger."""
    try:
        yield Situation()
    finally:
        for attachment in list(PROCESS.attachments.values()):
            attachment.detach()


async def together(*coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run each in a task of its own, as a worker runs its jobs."""
    return list(await asyncio.gather(*(asyncio.create_task(each) for each in coroutines)))


async def ask(model: llm.LLM[Any], call: int, text: str = "a question aside") -> None:
    """Ask a model something without a session."""
    context = llm.ChatContext.empty()
    context.add_message(role="user", content=f"#{call}# {text}")
    async with model.chat(chat_ctx=context) as stream:
        async for _ in stream:
            pass
