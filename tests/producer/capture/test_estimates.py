"""Estimates: what was cut off is claimed as far as it is sure, and nothing else is.

Real sessions, with providers that count what they were sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import pytest
from livekit.agents import Agent, AgentSession, RunContext, function_tool, llm, tts
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS

from tests.support.conservation import Amounts, added, counted
from tests.support.interrupted_call import Outcome, attach, pieces, recording
from tests.support.interruptible import (
    PIECE,
    InterruptibleLLM,
    Listened,
    Moments,
    PieceVoice,
    SentenceVoice,
    WholeVoice,
    prompt_tokens,
)
from tests.support.pool_agents import QUIET
from tests.support.realtime import ScriptedRealtime
from tests.support.recorder import Recorder
from tests.support.waiting import until
from voicecosts.producer.capture import requests
from voicecosts.producer.capture.attachment import Attachment
from voicecosts.producer.capture.estimates import _MEASURED, _REMEMBERED
from voicecosts.producer.demo.providers import ScriptedTTS, tool_call

TERMS: Final = (
    "These are our terms and conditions, as agreed. The first one is about the price that you pay. "
    "The second one is about the time in which you pay it. The third one is about what happens if "
    "you do not. The fourth one is about us, and what we promise to do for you every single day."
)

SURE: Final = sum(map(len, TERMS.partition(" The fourth")[0].split()))
"""Characters of `TERMS` before its last sentence, which may not have left: without spaces."""

CREATED: Final = "speech_created"


@pytest.fixture(autouse=True)
def _no_warnings_of_livekit() -> None:
    logging.getLogger("livekit").setLevel(logging.ERROR)


class Scene:
    """A session that talks to interruptible providers, and what was counted of it."""

    def __init__(
        self,
        voice: Callable[[Moments], Any] = SentenceVoice,
        *,
        answers: str = TERMS,
        plays: bool = True,
    ) -> None:
        self.moments = Moments()
        self.answers = answers
        self.llm = InterruptibleLLM(self.moments, self._answer)
        self.voice = voice(self.moments)
        self.session: AgentSession[Any] = AgentSession(llm=self.llm, tts=self.voice, **QUIET)
        if plays:
            self.session.output.audio = Listened(self.moments)
        self.recorder = Recorder()
        self.attachment: Attachment | None = None

    def _answer(self, context: llm.ChatContext) -> tuple[str, list[llm.FunctionToolCall]]:
        last = context.items[-1]
        text = last.text_content or "" if isinstance(last, llm.ChatMessage) else ""
        _, _, tool = text.partition("|")
        return ("", [tool_call(tool)]) if tool else (self.answers, [])

    async def start(self, agent: Agent | None = None, *, late: bool = False) -> None:
        """Start the session, attached before or after."""
        if not late:
            self.attachment = attach(self.session, self.recorder)
        await self.session.start(agent or Agent(instructions="You answer."))
        if late:
            self.attachment = attach(self.session, self.recorder)

    def at(self, name: str, act: Callable[[], Any], *, count: int = 1) -> None:
        """Do something at a moment of a name: the first from now, or a later one.

        The provider halts there, so that no clock decides how far it comes.
        """
        left = count

        def one(passed: str) -> bool:
            nonlocal left
            left -= passed == name
            if left:
                return False
            self.moments.listen = None
            act()
            return name != "plays"

        self.moments.listen = one

    async def cut_off(self, make: Callable[[], Any], name: str, *, count: int = 1) -> None:
        """Make a speech and interrupt it at a moment."""
        speech: list[Any] = []
        self.at(name, lambda: speech[0].interrupt(force=True), count=count)
        speech.append(make())
        await speech[0]
        assert speech[0].interrupted

    async def end(self, *others: Any) -> Outcome:
        """Close the session and return what was counted; it is never more than was received."""
        await self.session.aclose()
        assert self.attachment is not None
        await self.attachment.closed.wait()
        self.attachment.detach()
        outcome = Outcome(
            measured=self.recorder.totals(self.attachment.session_id),
            estimated=self.recorder.totals(self.attachment.session_id, estimated=True),
            received=counted(self.voice, self.llm, *others),
        )
        assert not outcome.exceeding()
        return outcome


async def test_a_long_speech_that_is_cut_off_is_claimed_for_the_most_part() -> None:
    """A voice that was given a whole text and began to send it has sent it: the estimate has it."""
    scene = Scene()
    await scene.start()
    await scene.cut_off(lambda: scene.session.say(TERMS), "voice speaks")
    outcome = await scene.end()
    assert outcome.measured == {}
    assert outcome.estimated == {"tts": {"characters": SURE}}


async def test_of_text_that_still_comes_all_but_the_end_is_claimed() -> None:
    """The last sentence may be held back until it is complete: it is not claimed."""
    scene = Scene(answers=TERMS * 3)
    await scene.start()
    await scene.cut_off(
        lambda: scene.session.generate_reply(user_input="Hello"), "llm chunk", count=100
    )
    outcome = await scene.end()
    claimed = outcome.estimated["tts"]["characters"]
    assert 0.5 * outcome.received["tts"]["characters"] < claimed


async def test_a_voice_that_sends_one_sentence_after_the_other_is_claimed_as_far_as_it_came() -> (
    None
):
    """What waits inside of a plugin was read from LiveKit, and never sent."""
    scene = Scene(lambda moments: SentenceVoice(moments, one_by_one=True))
    await scene.start()
    await scene.cut_off(lambda: scene.session.say(TERMS), "voice speaks", count=2)
    outcome = await scene.end()
    claimed, sent = outcome.estimated["tts"]["characters"], outcome.received["tts"]["characters"]
    assert 0 < claimed <= sent < len(TERMS) / 2


async def test_a_voice_that_has_not_begun_to_send_is_not_claimed() -> None:
    """It had read the text while it connected; the provider never got it."""
    scene = Scene()
    await scene.start()
    await scene.cut_off(lambda: scene.session.say(TERMS), "voice connects")
    outcome = await scene.end()
    assert outcome.estimated == outcome.received == {}


async def test_a_voice_that_marks_before_it_connects_is_claimed_less_one() -> None:
    """The last mark need not have been followed by anything that was sent."""
    scene = Scene(lambda moments: SentenceVoice(moments, marks_first=True))
    await scene.start()
    await scene.cut_off(lambda: scene.session.say(TERMS), "voice connects")
    outcome = await scene.end()
    assert outcome.estimated == {}
    assert "characters" not in outcome.received["tts"]


async def test_a_voice_that_sends_words_is_claimed_by_its_words() -> None:
    """It marks each word: as many sentences were not sent."""
    scene = Scene(lambda moments: SentenceVoice(moments, words=True, one_by_one=True))
    await scene.start()
    await scene.cut_off(lambda: scene.session.say(TERMS), "voice speaks", count=4)
    outcome = await scene.end()
    assert outcome.estimated == {"tts": {"characters": len("Theseareour")}}


async def test_a_recording_that_is_cut_off_uses_no_voice() -> None:
    """`say(text, audio=…)` plays what was recorded: the voice never gets the text."""
    scene = Scene()
    await scene.start()
    await scene.cut_off(lambda: scene.session.say(TERMS, audio=recording()), "plays")
    outcome = await scene.end()
    assert outcome.estimated == outcome.received == {}


async def test_a_session_whose_audio_is_off_uses_no_voice() -> None:
    """Its text is shown, not spoken, and so is what was shown before an interruption."""
    scene = Scene()
    await scene.start()
    scene.session.output.set_audio_enabled(False)
    await scene.cut_off(lambda: scene.session.generate_reply(user_input="Hi"), "llm chunk", count=9)
    outcome = await scene.end()
    assert "tts" not in outcome.estimated
    assert "tts" not in outcome.received


async def test_a_realtime_model_that_is_cut_off_uses_no_voice() -> None:
    """It speaks by itself, also where the session has a voice for other texts."""
    moments, voice = Moments(), ScriptedTTS()
    session: AgentSession[Any] = AgentSession(llm=ScriptedRealtime(), tts=voice, **QUIET)
    session.output.audio = Listened(moments, speed=0.05)
    recorder = Recorder()
    attachment = attach(session, recorder)
    await session.start(Agent(instructions="You answer."))
    speech = session.generate_reply(instructions="Say it.")
    await until(lambda: "plays" in moments.names)
    speech.interrupt(force=True)
    await speech
    await session.aclose()
    await attachment.closed.wait()
    attachment.detach()
    assert not voice.billed
    assert recorder.totals(attachment.session_id, estimated=True) == {}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("wrapped", [True, False], ids=["adapter", "bare"])
async def test_a_voice_that_takes_whole_texts_reports_itself(count: int, *, wrapped: bool) -> None:
    """Behind LiveKit's adapter each sentence is a request, measured also when it is cut off."""
    made: list[WholeVoice] = []

    def voice(moments: Moments) -> Any:
        made.append(WholeVoice(moments))
        return tts.StreamAdapter(tts=made[0]) if wrapped else made[0]

    scene = Scene(voice)
    await scene.start()
    await scene.cut_off(lambda: scene.session.say(TERMS), "voice speaks", count=count)
    scene.voice = made[0]
    outcome = await scene.end()
    assert outcome.measured["tts"]["characters"] == outcome.received["tts"]["characters"]
    assert outcome.estimated == {}


async def test_a_reply_that_is_cut_off_is_claimed_by_its_words_and_by_the_prompt_before() -> None:
    """The prompt held everything that the one before held, and a word is a token at least."""
    scene = Scene(answers="It is all about the price that you pay for it every day.")
    await scene.start()
    await scene.session.generate_reply(user_input="Hello")
    before = dict(scene.llm.received[0])
    await scene.cut_off(
        lambda: scene.session.generate_reply(user_input="And now?"), "llm chunk", count=4
    )
    outcome = await scene.end()
    assert outcome.measured["llm"]["input_tokens"] == before["input_tokens"]
    assert outcome.estimated["llm"] == {
        "input_tokens": before["input_tokens"],
        "output_tokens": outcome.received["llm"]["output_tokens"] - before["output_tokens"],
    }


async def test_a_request_without_any_answer_is_not_claimed() -> None:
    """Cut off before the first chunk it may never have left the worker."""
    scene = Scene()
    await scene.start()
    await scene.session.generate_reply(user_input="Hello")
    await scene.cut_off(lambda: scene.session.generate_reply(user_input="Again"), "llm connects")
    outcome = await scene.end()
    assert outcome.estimated == {}
    assert outcome.measured == outcome.received


async def test_a_first_request_has_no_prompt_to_go_by() -> None:
    """Without a measured request before it, only the answer is known."""
    scene = Scene(answers="one two three four five six")
    await scene.start()
    await scene.cut_off(
        lambda: scene.session.generate_reply(user_input="Hello"), "llm chunk", count=2
    )
    outcome = await scene.end()
    assert set(outcome.estimated["llm"]) == {"output_tokens"}


class Asker(Agent):
    """Asks the session's model something big from a tool."""

    def __init__(self, instructions: str = "You answer.") -> None:
        super().__init__(instructions=instructions)

    @function_tool
    async def side(self, context: RunContext[Any]) -> str:
        """Ask with a prompt of 20,000 words, in a context of its own."""
        own = llm.ChatContext.empty()
        own.add_message(role="user", content="word " * 20_000)
        model = context.session.llm
        assert isinstance(model, llm.LLM)
        async with model.chat(chat_ctx=own) as stream:
            async for _ in stream:
                pass
        return "done"


async def test_a_prompt_of_another_context_bounds_nothing() -> None:
    """A side request of a tool is no part of the conversation, however long it was."""
    scene = Scene(answers="As short as can be, and that is all there is to say.")
    await scene.start(Asker())
    of_side = len(range(0, len(scene.answers), PIECE))
    await scene.cut_off(
        lambda: scene.session.generate_reply(user_input="Ask|side", tool_choice="auto"),
        "llm chunk",
        count=of_side + 3,
    )
    outcome = await scene.end()
    assert outcome.measured["llm"]["input_tokens"] > 20_000
    assert 0 < outcome.estimated["llm"]["input_tokens"] < 200


class Guard(Agent):
    """Asks the model with a schema before it has it answer the same."""

    async def llm_node(self, chat_ctx: Any, tools: Any, model_settings: Any) -> Any:
        """Ask twice."""
        model = self.session.llm
        assert isinstance(model, llm.LLM)
        options = {"response_format": {"type": "json_schema"}}
        async with model.chat(chat_ctx=chat_ctx, tools=tools, extra_kwargs=options) as stream:
            await stream.collect()
        return Agent.default.llm_node(self, chat_ctx, tools, model_settings)


async def test_a_prompt_with_other_options_bounds_nothing() -> None:
    """A schema of the answer is billed as well: a plain request of the same context has less."""
    scene = Scene(answers="As short as can be, and that is all there is to say.")
    await scene.start(Guard(instructions="You answer."))
    of_guard = len(range(0, len(scene.answers), PIECE))
    await scene.cut_off(
        lambda: scene.session.generate_reply(user_input="Hello"), "llm chunk", count=of_guard + 3
    )
    outcome = await scene.end()
    assert "input_tokens" not in outcome.estimated["llm"]


async def test_another_agents_prompt_bounds_nothing() -> None:
    """After a hand-off the instructions are others: the longer ones before are not in the prompt."""
    scene = Scene(answers="As short as can be, and that is all there is to say.")
    await scene.start(Agent(instructions="many words of instructions " * 500))
    await scene.session.generate_reply(user_input="Hello")
    follower = Agent(instructions="Few.")
    scene.session.update_agent(follower)
    activity = lambda: getattr(follower, "_activity", None)  # noqa: E731 - short
    await until(lambda: activity() is not None and scene.session._activity is activity())
    await scene.cut_off(
        lambda: scene.session.generate_reply(user_input="And now?"), "llm chunk", count=3
    )
    outcome = await scene.end()
    assert "input_tokens" not in outcome.estimated["llm"]


class Editor(Agent):
    """Cuts what was said before each of its later turns, in place."""

    async def llm_node(self, chat_ctx: Any, tools: Any, model_settings: Any) -> Any:
        """Cut the first user message from the second turn on."""
        messages = [item for item in chat_ctx.items if getattr(item, "role", "") == "user"]
        if len(messages) > 1:
            messages[0].content[0] = "cut"
        return Agent.default.llm_node(self, chat_ctx, tools, model_settings)


async def test_a_prompt_that_was_edited_since_bounds_nothing() -> None:
    """The item is the same object and says less: the earlier prompt is no part of this one."""
    scene = Scene(answers="As short as can be, and that is all there is to say.")
    await scene.start(Editor(instructions="You answer."))
    await scene.session.generate_reply(user_input="word " * 500)
    await scene.cut_off(
        lambda: scene.session.generate_reply(user_input="And now?"), "llm chunk", count=3
    )
    outcome = await scene.end()
    assert "input_tokens" not in outcome.estimated["llm"]


@pytest.mark.parametrize("choice", ["auto", "none"])
async def test_tools_that_may_not_be_used_may_be_no_part_of_the_prompt(choice: Any) -> None:
    """Some providers leave them out: then an earlier prompt with tools bounds nothing."""
    scene = Scene(answers="As short as can be, and that is all there is to say.")
    await scene.start(Asker())
    await scene.session.generate_reply(user_input="Hello", tool_choice="auto")
    await scene.cut_off(
        lambda: scene.session.generate_reply(user_input="And now?", tool_choice=choice),
        "llm chunk",
        count=3,
    )
    outcome = await scene.end()
    assert ("input_tokens" in outcome.estimated["llm"]) is (choice == "auto")


class Greeter(Agent):
    """Says something long when it enters."""

    def __init__(self) -> None:
        super().__init__(instructions="You greet.")
        self.greeting: Any = None

    async def on_enter(self) -> None:
        """Greet."""
        self.greeting = self.session.say(TERMS)


async def test_a_greeting_before_the_attachment_is_estimated() -> None:
    """OpenRTC attaches after the start, when the first speech is under way."""
    scene, agent = Scene(), Greeter()
    reached = asyncio.Event()
    scene.at("voice speaks", reached.set)
    await scene.session.start(agent)
    await reached.wait()
    scene.attachment = attach(scene.session, scene.recorder)
    agent.greeting.interrupt(force=True)
    await agent.greeting
    outcome = await scene.end()
    assert outcome.estimated == {"tts": {"characters": SURE}}


async def test_a_greeting_that_was_cut_off_before_the_attachment_is_estimated() -> None:
    """Also where the speech is over when the session is attached."""
    scene, agent = Scene(), Greeter()
    scene.at("voice speaks", lambda: agent.greeting.interrupt(force=True))
    await scene.session.start(agent)
    await until(lambda: agent.greeting is not None and agent.greeting.done())
    scene.attachment = attach(scene.session, scene.recorder)
    outcome = await scene.end()
    assert outcome.estimated == {"tts": {"characters": SURE}}


async def test_an_estimate_is_booked_while_the_session_goes_on() -> None:
    """Under the agent and the voice that it belongs to, and on a meter of its own."""
    scene = Scene()
    await scene.start()
    await scene.cut_off(lambda: scene.session.say(TERMS), "voice speaks")
    await until(lambda: any(reading.estimated for reading in scene.recorder.readings()))
    (reading,) = [each for each in scene.recorder.readings() if each.estimated]
    assert (reading.modality, reading.provider_raw, reading.model) == (
        "tts",
        "scripted",
        "SentenceVoice",
    )
    assert reading.agent_label == scene.session.current_agent.label
    await scene.end()


async def test_a_speech_that_is_cut_off_at_the_close_is_in_the_end_of_the_session() -> None:
    """The end holds every meter's final totals, those of estimates too."""
    scene = Scene()
    await scene.start()
    closed: list[asyncio.Task[None]] = []
    scene.at("voice speaks", lambda: closed.append(asyncio.create_task(scene.session.aclose())))
    speech = scene.session.say(TERMS)
    await speech
    await closed[0]
    await scene.end()
    (end,) = scene.recorder.ends()
    assert [m.totals.characters for m in end.meters if m.estimated] == [SURE]


async def test_a_voice_that_served_behind_a_fallback_is_the_one_that_is_named() -> None:
    """The adapter itself makes no audio, and the voice that failed claims nothing."""
    made: list[Any] = []

    def voice(moments: Moments) -> Any:
        made.extend((PieceVoice(moments, fails=True), SentenceVoice(moments)))
        return tts.FallbackAdapter(made)

    scene = Scene(voice)
    await scene.start()
    await scene.cut_off(lambda: scene.session.say(TERMS), "voice speaks")
    scene.voice = made[1]
    outcome = await scene.end()
    assert outcome.estimated == {"tts": {"characters": SURE}}
    assert not made[0].received
    assert {reading.model for reading in scene.recorder.readings()} == {"SentenceVoice"}


async def test_what_was_reported_before_a_request_was_cut_off_is_not_claimed() -> None:
    """Some plugins report a text and keep their connection until they are closed."""
    scene = Scene()
    await scene.start()
    await scene.cut_off(lambda: scene.session.say(TERMS), "voice ends")
    outcome = await scene.end()
    assert outcome.measured["tts"]["characters"] == len(TERMS)
    assert outcome.estimated == {}


class PassingOn(SentenceVoice):
    """An adapter that is not LiveKit's: it reads, marks that it sends, and has another one speak."""

    def stream(self, **_options: Any) -> Any:
        """Open a connection."""
        return _PassingOn(tts=self, conn_options=DEFAULT_API_CONNECT_OPTIONS)

    def inner(self) -> Any:
        """Open a connection of the one that speaks."""
        return super().stream()


class _PassingOn(tts.SynthesizeStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        voice = self._tts
        assert isinstance(voice, PassingOn)
        async with voice.inner() as stream:
            async for piece in self._input_ch:
                self._mark_started()
                if isinstance(piece, str):
                    stream.push_text(piece)
            stream.end_input()
            async for _ in stream:
                pass


async def test_an_adapter_that_is_not_livekits_claims_nothing_of_its_own() -> None:
    """A request that another one serves leaves the claim to that."""
    scene = Scene(PassingOn)
    await scene.start()
    await scene.cut_off(lambda: scene.session.say(pieces(TERMS)), "voice speaks", count=5)
    outcome = await scene.end()
    assert outcome.estimated == {"tts": {"characters": SURE}}


async def test_a_request_that_ended_without_a_report_is_not_claimed() -> None:
    """A model that names no usage is not one that was cut off."""
    scene = Scene(answers="Short.")
    scene.llm.reports = False
    await scene.start()
    await scene.session.generate_reply(user_input="Hello")
    outcome = await scene.end()
    assert outcome.measured["llm"] == {"requests": 1}
    assert outcome.estimated == {}


async def test_another_models_prompt_bounds_nothing() -> None:
    """Each model counts in tokens of its own."""
    scene = Scene(answers="As short as can be, and that is all there is to say.")
    await scene.start(Agent(instructions="You answer."))
    await scene.session.generate_reply(user_input="Hello")
    other = InterruptibleLLM(scene.moments, lambda _context: (scene.answers, []), name="other-llm")
    scene.session.current_agent.update_options(llm=other)
    await scene.cut_off(
        lambda: scene.session.generate_reply(user_input="And now?"), "llm chunk", count=3
    )
    outcome = await scene.end(other)
    assert "input_tokens" not in outcome.estimated["llm"]
    assert outcome.estimated["llm"]["output_tokens"] > 0


async def test_a_voice_is_booked_once_while_another_one_goes_on() -> None:
    """The timer after a speech and the end of the session may both book it."""
    scene = Scene()
    await scene.start()
    await scene.cut_off(lambda: scene.session.say(TERMS), "voice speaks")
    assert scene.attachment is not None
    (speech,) = scene.attachment._estimates.open_speeches()
    (created,) = [e for e in scene.session._recorded_events if e.type == CREATED]
    requests.voices_of(created.speech_handle).append(requests.Voice())
    for _ in range(3):
        scene.attachment._book_unreported(speech)
    outcome = await scene.end()
    assert outcome.estimated == {"tts": {"characters": SURE}}


async def test_text_in_pieces_is_claimed_up_to_what_was_read() -> None:
    """What waits in front of a voice that reads slowly is not claimed."""
    scene = Scene(PieceVoice)
    await scene.start()
    await scene.cut_off(lambda: scene.session.say(pieces(TERMS)), "voice speaks", count=30)
    outcome = await scene.end()
    claimed, sent = outcome.estimated["tts"]["characters"], outcome.received["tts"]["characters"]
    assert 0 < claimed <= sent < len(TERMS)


async def test_a_session_remembers_few_speeches_and_prompts_and_forgets_what_is_over() -> None:
    """A session of any length costs no more memory than a short one."""
    scene = Scene(answers="Yes.")
    await scene.start()
    for _ in range(2 * _MEASURED):
        await scene.session.generate_reply(user_input="Hello")
    assert scene.attachment is not None
    estimates = scene.attachment._estimates
    assert len(estimates._measured) == _MEASURED
    await until(lambda: not estimates.open_speeches())
    speeches = [e.speech_handle for e in scene.session._recorded_events if e.type == CREATED]
    assert len(speeches) == 2 * _MEASURED
    assert not any(speech in requests._VOICES for speech in speeches)
    for _ in range(_REMEMBERED + 5):
        estimates.created(_Handle(), "Agent")
    assert len(estimates.open_speeches()) == _REMEMBERED
    await scene.end()


class _Handle:
    def __init__(self) -> None:
        self.id = f"speech-{id(self)}"

    def done(self) -> bool:
        """Never."""
        return False


def test_the_prompts_of_these_tests_are_counted_as_a_model_would() -> None:
    """More items and more tools are more tokens."""
    context = llm.ChatContext.empty()
    context.add_message(role="user", content="three words here")
    assert prompt_tokens(context) == 8
    assert prompt_tokens(context, tools=1) == 48
    assert added({"llm": {"input_tokens": 1}}) == Amounts(llm={"input_tokens": 1})
