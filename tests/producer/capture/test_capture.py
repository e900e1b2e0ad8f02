"""Capture is exact: real sessions on shared providers, compared with the providers' own books."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from livekit.agents import (
    Agent,
    AgentSession,
    AgentTask,
    RunContext,
    function_tool,
    get_job_context,
    llm,
    tts,
)
from livekit.agents.voice import agent_activity

from tests.support.conservation import assert_conserved, assert_session, billed
from tests.support.jobs import job
from tests.support.pool_agents import QUIET
from tests.support.recorder import Recorder
from tests.support.waiting import until
from voicecosts.producer.capture.attachment import Attachment
from voicecosts.producer.capture.identity import SessionIdentity, new_session_id
from voicecosts.producer.config import BufferLimits
from voicecosts.producer.demo.devices import Microphone, session_io
from voicecosts.producer.demo.providers import (
    SAMPLE_RATE,
    ScriptedLLM,
    ScriptedSTT,
    ScriptedTTS,
    tool_call,
)
from voicecosts.producer.events import Event, now_us
from voicecosts.producer.publishing.buffer import Buffer


@dataclass
class Shared:
    """The provider objects that all calls of a test share, and what came out of the calls.

    `behind` are the providers that do the work where `llm` is an adapter. After every test the
    law of conservation is checked for all that was made in it, unless it says that it `loses`
    usage; where a speech is `interrupted`, the sum may be less than what the providers received.
    """

    made: ClassVar[list[Shared]] = []

    llm: Any = field(default_factory=ScriptedLLM)
    stt: ScriptedSTT = field(default_factory=ScriptedSTT)
    tts: ScriptedTTS = field(default_factory=ScriptedTTS)
    recorder: Any = field(default_factory=Recorder)
    behind: tuple[Any, ...] = ()
    interrupted: bool = False
    loses: bool = False

    def __post_init__(self) -> None:
        self.made.append(self)

    def providers(self) -> tuple[Any, ...]:
        """Return the providers that keep books."""
        return (*(self.behind or (self.llm,)), self.stt, self.tts)


@pytest.fixture(autouse=True)
def _usage_is_conserved() -> Iterator[None]:
    """After every test, what was booked and what was not is what the providers counted."""
    Shared.made.clear()
    yield
    for shared in Shared.made:
        if not shared.loses:
            assert_conserved(shared.recorder, *shared.providers(), interrupted=shared.interrupted)


def attach(session: AgentSession[Any], outlet: Any, agent_id: str = "front") -> Attachment:
    """Attach a session as an observer would, without a publisher."""
    started_at = now_us()
    identity = SessionIdentity(
        session_id=new_session_id(started_at),
        project="tests",
        agent_id=agent_id,
        started_at=started_at,
    )
    attachment = Attachment(session, identity, outlet, job=get_job_context(required=False))
    attachment.open()
    return attachment


def new_session(shared: Shared, **options: Any) -> AgentSession[Any]:
    """Make a session on the shared providers."""
    return AgentSession(llm=shared.llm, stt=shared.stt, tts=shared.tts, **QUIET, **options)


Script = Callable[[AgentSession[Any], Microphone, int], Awaitable[None]]


async def three_turns(session: AgentSession[Any], microphone: Microphone, call: int) -> None:
    """Three turns, with audio whose tail is shorter than a report."""
    for turn in range(3):
        microphone.say(0.7 + 0.1 * (call % 4))
        await session.run(user_input=f"#{call}# turn {turn}")


async def run_call(
    shared: Shared,
    call: int,
    *,
    script: Script = three_turns,
    agent: Callable[[], Agent] | None = None,
    in_job: bool = True,
    **options: Any,
) -> Attachment:
    """Run one call to its end, in a job of its own or in none, and return its attachment."""
    with job(f"job-{call}") if in_job else contextlib.nullcontext():
        session = new_session(shared, **options)
        microphone = session_io(session, call)
        attachment = attach(session, shared.recorder)
        await session.start(agent() if agent else Agent(instructions="Be brief."))
        await script(session, microphone, call)
        await session.aclose()
        return attachment


async def run_calls(shared: Shared, count: int, **options: Any) -> list[Attachment]:
    """Run calls 1 to `count` at once; each equals what the providers billed it."""
    calls = range(1, count + 1)
    made = await asyncio.gather(*(run_call(shared, call, **options) for call in calls))
    for call, attachment in zip(calls, made, strict=True):
        assert_exact(shared, call, attachment)
    return made


def assert_exact(shared: Shared, call: int, attachment: Attachment) -> None:
    """The readings of a call equal what the providers billed it, to the token and microsecond."""
    assert_session(shared.recorder, attachment.session_id, billed(call, *shared.providers()))
    (end,) = [e for e in shared.recorder.ends() if e.session_id == attachment.session_id]
    final = sum(
        m.totals.input_tokens for m in end.meters if m.modality == "llm" and not m.estimated
    )
    assert final == billed(call, *shared.providers())["llm"]["input_tokens"]


@pytest.mark.parametrize(
    ("calls", "in_job"),
    [
        pytest.param(1, True, id="1-in jobs"),
        pytest.param(1, False, id="1-without jobs"),
        pytest.param(10, True, id="10-in jobs"),
        pytest.param(10, False, id="10-without jobs"),
        pytest.param(60, True, id="60-in jobs", marks=pytest.mark.slow),
        pytest.param(60, False, id="60-without jobs", marks=pytest.mark.slow),
    ],
)
async def test_concurrent_sessions_on_shared_providers_each_get_their_own_share(
    calls: int,
    in_job: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """However many sessions share an LLM, an STT and a TTS, each books exactly what it caused."""
    shared = Shared()
    await run_calls(shared, calls, in_job=in_job)
    assert shared.recorder.unattributed == 0


async def test_turns_driven_from_a_task_without_a_job_context_are_attributed() -> None:
    """A turn that is triggered from outside any job still belongs to the session it runs in."""
    shared = Shared()
    turns: asyncio.Queue[tuple[AgentSession[Any], int] | None] = asyncio.Queue()

    async def driver() -> None:
        while (turn := await turns.get()) is not None:
            session, call = turn
            await session.run(user_input=f"#{call}# from outside")
            turns.task_done()

    async def from_outside(session: AgentSession[Any], mic: Microphone, call: int) -> None:
        mic.say(1.5)
        for _ in range(3):
            turns.put_nowait((session, call))
        await turns.join()

    driving = asyncio.create_task(driver())  # started before any job exists
    await run_calls(shared, 5, script=from_outside)
    turns.put_nowait(None)
    await driving


async def test_speech_that_is_reported_while_closing_is_counted() -> None:
    """The recogniser's last seconds are counted, though the session listens no longer."""
    shared = Shared(stt=ScriptedSTT(report_every_samples=SAMPLE_RATE * 60))
    attachment = await run_call(shared, 1)
    assert attachment.session.usage.model_usage  # what LiveKit itself knows ...
    own = sum(
        getattr(usage, "audio_duration", 0.0) for usage in attachment.session.usage.model_usage
    )
    counted = shared.recorder.totals(attachment.session_id)["stt"]["audio_us"]
    assert counted > own * 1_000_000  # ... lacks the tail
    assert_exact(shared, 1, attachment)


class Specialist(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="specialist")


class Desk(Agent):
    """Hands the call over to the specialist, and can look something up."""

    def __init__(self) -> None:
        super().__init__(instructions="desk", id="desk")

    @function_tool
    async def look_up(self) -> str:
        """Look something up."""
        return "found"

    @function_tool
    async def hand_over(self) -> Agent:
        """Hand over to the specialist."""
        return Specialist()


def planned(text: str, _context: llm.ChatContext) -> tuple[str, list[llm.FunctionToolCall]]:
    """Call a tool where the caller asks for one."""
    for word in ("look_up", "hand_over", "confirm"):
        if word in text:
            return "", [tool_call(word)]
    return f"Here is {text}.", []


async def test_a_hand_off_splits_the_call_between_the_agents() -> None:
    """Each agent's part of a call is on meters of its own, and together they are the call."""
    shared = Shared(llm=ScriptedLLM(plan=planned))

    async def script(session: AgentSession[Any], mic: Microphone, call: int) -> None:
        mic.say(1.2)
        await session.run(user_input=f"#{call}# hello")
        await session.run(user_input=f"#{call}# look_up please")
        await session.run(user_input=f"#{call}# hand_over please")
        mic.say(1.2)
        await session.run(user_input=f"#{call}# hello again")

    for attachment in await run_calls(shared, 5, script=script, agent=Desk):
        readings = shared.recorder.readings(attachment.session_id)
        assert {r.agent_label for r in readings} == {"desk", "specialist"}
        of_desk = [r for r in readings if r.agent_label == "desk" and r.modality == "llm"]
        assert of_desk[-1].totals.requests == 4  # hello, look_up twice, hand_over


async def test_a_tool_call_is_two_requests_of_one_speech() -> None:
    """A tool call makes the model answer twice; both requests carry the same speech."""
    shared = Shared(llm=ScriptedLLM(plan=planned))

    async def script(session: AgentSession[Any], mic: Microphone, call: int) -> None:
        await session.run(user_input=f"#{call}# look_up please")

    attachment = await run_call(shared, 1, script=script, agent=Desk)
    readings = [r for r in shared.recorder.readings(attachment.session_id) if r.modality == "llm"]
    assert [r.totals.requests for r in readings] == [1, 2]
    (speech,) = {r.last.speech_id for r in readings if r.last}
    assert speech.startswith("speech_")


async def test_the_keyterm_model_that_is_also_the_session_model_counts_once() -> None:
    """LiveKit reports such a request twice, with one metrics object, and it is counted once."""
    shared = Shared()
    detection = {"enabled": True, "llm": shared.llm, "turn_interval": 1}

    async def script(session: AgentSession[Any], mic: Microphone, call: int) -> None:
        await three_turns(session, mic, call)
        # three answers and a detection
        await until(lambda: shared.llm.billed[call]["requests"] >= 4)

    options = {"keyterm_detection": detection}
    await run_calls(shared, 3, script=script, stt_context_options=options)


async def test_a_fallback_adapter_books_the_model_that_served() -> None:
    """When the first model fails the second one's usage is booked, under its own name."""
    broken = ScriptedLLM(model="first", failures=100)
    serving = ScriptedLLM(model="second")
    adapter = llm.FallbackAdapter([broken, serving], max_retry_per_llm=0)
    shared = Shared(llm=adapter, behind=(broken, serving))

    attachments = await asyncio.gather(*(run_call(shared, call) for call in range(1, 6)))
    for call, attachment in enumerate(attachments, start=1):
        readings = [
            r for r in shared.recorder.readings(attachment.session_id) if r.modality == "llm"
        ]
        assert {r.model for r in readings} == {"second"}
        assert_exact(shared, call, attachment)


class Consent(AgentTask[bool]):
    """Asks one question inside a tool of another agent."""

    def __init__(self) -> None:
        super().__init__(instructions="consent")

    async def on_enter(self) -> None:
        """Ask, and be done."""
        await self.session.generate_reply(user_input=f"{self.session.userdata} consent?")
        self.complete(result=True)


class Clerk(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="clerk", id="clerk")

    @function_tool
    async def confirm(self, context: RunContext[str]) -> str:
        """Ask for consent."""
        return "yes" if await Consent() else "no"


async def test_an_agent_task_inside_a_tool_is_counted_once() -> None:
    """While an AgentTask runs the parent's listeners are away; nothing is missed or doubled."""
    shared = Shared(llm=ScriptedLLM(plan=planned))

    async def script(session: AgentSession[Any], mic: Microphone, call: int) -> None:
        session.userdata = f"#{call}#"
        mic.say(1.1)
        await session.run(user_input=f"#{call}# confirm please")
        await session.run(user_input=f"#{call}# thanks")

    for attachment in await run_calls(shared, 5, script=script, agent=Clerk):
        labels = {r.agent_label for r in shared.recorder.readings(attachment.session_id)}
        assert labels == {"clerk", "consent"}


class Halting(ScriptedTTS):
    """Goes silent in the middle of a long speech, and stays so until it is interrupted."""

    spoken = 0

    def speak(self, emitter: tts.AudioEmitter, text: str) -> int:
        """Speak, and halt when it was much."""
        self.spoken += len(text)
        self.pause_s = 3600.0 if self.spoken > 200 else 0.0
        return super().speak(emitter, text)


async def test_an_interrupted_speech_is_estimated_on_a_meter_of_its_own() -> None:
    """LiveKit reports nothing for a speech that is cut off; the estimate never mixes with usage."""
    shared = Shared(tts=Halting(samples_per_character=160), interrupted=True)

    async def script(session: AgentSession[Any], mic: Microphone, call: int) -> None:
        await session.run(user_input=f"#{call}# first")
        handle = session.say(f"#{call}# " + "One two three four five six. " * 40)
        heard = session.output.audio
        await until(lambda: session.agent_state == "speaking" and heard.played_s() > 0.2)
        handle.interrupt(force=True)
        await handle.wait_for_playout()

    attachment = await run_call(shared, 1, script=script)
    measured = shared.recorder.totals(attachment.session_id)["tts"]
    assert measured["characters"] == shared.tts.billed[1]["characters"]
    estimated = shared.recorder.totals(attachment.session_id, estimated=True)
    assert 0 < estimated["tts"]["characters"] <= shared.tts.cut_off[1]
    readings = [it for it in shared.recorder.readings() if it.modality == "tts"]
    of_speech = [it.last and it.last.speech_id for it in readings]  # the cut off one is the last
    assert [it.estimated for it in readings] == [False, True]
    assert len(set(of_speech)) == 2
    assert all(of_speech)


async def test_a_speech_that_is_interrupted_after_its_synthesis_is_not_estimated() -> None:
    """A speech that was synthesised whole is reported whole, so nothing of it is estimated."""
    shared = Shared(tts=ScriptedTTS(samples_per_character=1600))

    async def script(session: AgentSession[Any], mic: Microphone, call: int) -> None:
        handle = session.say(f"#{call}# short words, long in the speaking of them")
        heard = session.output.audio
        await until(lambda: shared.tts.billed[call]["requests"] == 1 and heard.played_s() > 0)
        handle.interrupt(force=True)
        await handle.wait_for_playout()

    attachment = await run_call(shared, 1, script=script)
    measured = shared.recorder.totals(attachment.session_id)["tts"]
    assert measured["characters"] == shared.tts.billed[1]["characters"]
    assert shared.recorder.totals(attachment.session_id, estimated=True) == {}


class Broken(Recorder):
    """An outlet that fails at every event."""

    def put(self, event: Event) -> None:
        """Fail."""
        raise TypeError("scripted failure of a sink")


async def test_a_sink_that_raises_never_reaches_the_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A TypeError in a listener would end the agent's turn; ours stays inside and is logged."""
    shared = Shared(loses=True)
    session = new_session(shared)
    session_io(session, 1)
    attachment = attach(session, shared.recorder)
    attachment.account.outlet = Broken()
    with caplog.at_level(logging.ERROR, "voicecosts.producer.capture.listener"):
        await session.start(Agent(instructions="x"))
        result = await session.run(user_input="#1# hello")
        assert result.events  # the turn was answered
        await session.aclose()
    assert "a usage listener failed" in caplog.text


class Slow(Recorder):
    """An outlet whose consumer takes its first event when the call is long over."""

    def __init__(self) -> None:
        super().__init__()
        self.put = self.buffer.put  # type: ignore[method-assign]  # what the voice loop calls


async def test_a_slow_sink_never_reaches_the_session() -> None:
    """A call does not wait for the consumer of its events, however slow."""
    shared = Shared(recorder=Slow())
    attachment = await run_call(shared, 1)
    shared.recorder.events += shared.recorder.buffer.remove(1000)
    assert_exact(shared, 1, attachment)


async def test_a_full_buffer_never_reaches_the_session() -> None:
    """When the buffer is full the call goes on, and the newest totals are still there."""
    shared = Shared()
    outlet = Recorder()
    outlet.buffer = Buffer(BufferLimits(detail=1, meters=100))
    outlet.put = outlet.buffer.put  # type: ignore[method-assign]  # the buffer as a publisher has it
    session = new_session(shared)
    microphone = session_io(session, 1)
    attachment = attach(session, outlet)
    await session.start(Agent(instructions="x"))
    await three_turns(session, microphone, 1)
    await session.aclose()
    outlet.events = outlet.buffer.remove(1000)
    shared.recorder = outlet
    assert outlet.buffer.coalesced > 0
    assert_exact(shared, 1, attachment)


async def test_usage_of_a_shared_provider_outside_every_session_is_counted_as_unattributed() -> (
    None
):
    """An event outside of all sessions is counted as unattributed and booked to none of them."""
    shared = Shared()

    async def two_sessions_and_a_stranger() -> None:
        first, second = new_session(shared), new_session(shared)
        attachments = [attach(first, shared.recorder), attach(second, shared.recorder)]
        await first.start(Agent(instructions="x"))
        await second.start(Agent(instructions="x"))
        context = llm.ChatContext.empty()
        context.add_message(role="user", content="a question outside of every session")
        async with shared.llm.chat(chat_ctx=context) as stream:
            async for _ in stream:
                pass
        await first.aclose()
        await second.aclose()
        for attachment in attachments:
            assert "llm" not in shared.recorder.totals(attachment.session_id)

    await asyncio.create_task(two_sessions_and_a_stranger())
    assert shared.recorder.unattributed == 1


async def test_the_components_of_a_closed_session_are_let_go() -> None:
    """After a session's end no component has our listeners, so a worker does not grow."""
    shared = Shared()
    attachment = await run_call(shared, 1)
    attachment.detach()
    assert not shared.llm._events.get("metrics_collected")
    assert not shared.stt._events.get("metrics_collected")
    assert not shared.tts._events.get("metrics_collected")


async def test_the_private_parts_of_livekit_that_sharpen_attribution_are_there() -> None:
    """The three private names of livekit-agents that attribution uses are there."""
    assert hasattr(agent_activity, "_AgentActivityContextVar")
    assert hasattr(agent_activity, "_SpeechHandleContextVar")
    assert hasattr(AgentSession(vad=None), "_recorded_events")
