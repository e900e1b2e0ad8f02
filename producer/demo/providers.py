"""Offline LLM, STT and TTS on LiveKit's real base classes, which keep their own books.

Each provider counts, per call, what it billed, independently of LiveKit's metrics; that is the
oracle that the ledger is compared with. The call is recognised by what reaches the provider: a tag
in the text (`#12#`), and for audio the value of the samples.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Final

from livekit import rtc
from livekit.agents import APIConnectionError, stt, tokenize, tts
from livekit.agents.llm import (
    LLM,
    ChatChunk,
    ChatContext,
    ChoiceDelta,
    CompletionUsage,
    FunctionToolCall,
    LLMStream,
)
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN

SAMPLE_RATE: Final = 16_000
_TAG = re.compile(r"#(\d+)#")
_ids = itertools.count(1)

Bill = dict[int, Counter[str]]
"""What a provider billed: call number → quantity → amount. Audio is counted in samples."""

Plan = Callable[[str, ChatContext], "tuple[str, list[FunctionToolCall]]"]
"""What the model answers to the last user text: reply and tool calls."""


def call_in(text: str) -> int:
    """Return the number of the call a text belongs to, 0 when it carries no tag."""
    found = _TAG.findall(text)
    return int(found[-1]) if found else 0


def tool_call(name: str, arguments: str = "{}") -> FunctionToolCall:
    """Return a call of a tool, as a model makes it."""
    return FunctionToolCall(name=name, arguments=arguments, call_id=f"call_{next(_ids)}")


def _echo(text: str, _context: ChatContext) -> tuple[str, list[FunctionToolCall]]:
    return f"About {text} I can say this much, and a little more.", []


class _Named:
    """What a provider calls itself in LiveKit's metrics."""

    _names: tuple[str, str]

    @property
    def model(self) -> str:
        """The model's name in the metrics."""
        return self._names[0]

    @property
    def provider(self) -> str:
        """The provider's label in the metrics."""
        return self._names[1]


class ScriptedLLM(_Named, LLM[Any]):
    """Answers by `plan`, reports usage in its last chunk, and counts what it reported.

    `failures` requests fail before they answer. `pause_s` is waited between the chunks, so that a
    caller can interrupt.
    """

    def __init__(
        self,
        *,
        model: str = "scripted-llm",
        provider: str = "scripted",
        plan: Plan = _echo,
        pause_s: float = 0.0,
        failures: int = 0,
    ) -> None:
        super().__init__()
        self.billed: Bill = defaultdict(Counter)
        self.plan = plan
        self.pause_s = pause_s
        self.failures = failures
        self._names = (model, provider)

    def chat(
        self,
        *,
        chat_ctx: ChatContext,
        tools: list[Any] | None = None,
        conn_options: Any = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: Any = NOT_GIVEN,  # noqa: ARG002 - the base class's signature
        tool_choice: Any = NOT_GIVEN,  # noqa: ARG002 - same
        extra_kwargs: Any = NOT_GIVEN,  # noqa: ARG002 - same
    ) -> LLMStream:
        """Open a request."""
        return _Answer(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _Answer(LLMStream):
    async def _run(self) -> None:
        llm = self._llm
        assert isinstance(llm, ScriptedLLM)  # noqa: S101 - narrows the type
        if llm.failures > 0:
            llm.failures -= 1
            raise APIConnectionError("scripted failure")
        texts = [message.text_content or "" for message in self._chat_ctx.messages()]
        call = call_in(" ".join(texts))
        reply, calls = llm.plan(_last_input(self._chat_ctx), self._chat_ctx)
        if reply and not call_in(reply):
            reply += f" #{call}#"  # so that the TTS knows the call as well
        prompt = 20 + sum(len(text) for text in texts) // 4
        usage = CompletionUsage(
            prompt_tokens=prompt,
            prompt_cached_tokens=prompt // 2,
            completion_tokens=1 + len(reply) // 4,
            total_tokens=prompt + 1 + len(reply) // 4,
        )
        request = f"req-{next(_ids)}"
        half = len(reply) // 2
        for part in (reply[:half], reply[half:]):
            if part:
                delta = ChoiceDelta(role="assistant", content=part)
                self._event_ch.send_nowait(ChatChunk(id=request, delta=delta))
            await asyncio.sleep(llm.pause_s)
        if calls:
            delta = ChoiceDelta(role="assistant", tool_calls=calls)
            self._event_ch.send_nowait(ChatChunk(id=request, delta=delta))
        self._event_ch.send_nowait(ChatChunk(id=request, usage=usage))
        llm.billed[call].update(
            requests=1,
            input_tokens=usage.prompt_tokens,
            cache_read_input_tokens=usage.prompt_cached_tokens,
            output_tokens=usage.completion_tokens,
        )


def _last_input(context: ChatContext) -> str:
    for item in reversed(context.items):
        if item.type == "message" and item.role == "user":
            return item.text_content or ""
        if item.type == "function_call_output":
            return f"the result {item.output}"
    return ""


class ScriptedTTS(_Named, tts.TTS[Any]):
    """Speaks silence, `samples_per_character` of it, and counts what it finished.

    It sends one sentence after the other, as LiveKit's plugins do. `pause_s` is waited before each
    is spoken, so that a caller can interrupt. `said` counts the sentences of a call, and `cut_off`
    the characters it had sent of a speech that was interrupted.
    """

    def __init__(
        self,
        *,
        model: str = "scripted-tts",
        provider: str = "scripted",
        samples_per_character: int = 16,
        pause_s: float = 0.0,
    ) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=True),
            sample_rate=SAMPLE_RATE,
            num_channels=1,
        )
        self.billed: Bill = defaultdict(Counter)
        self.cut_off: Counter[int] = Counter()
        self.said: Counter[int] = Counter()
        self.samples_per_character = samples_per_character
        self.pause_s = pause_s
        self.sentences = tokenize.basic.SentenceTokenizer(retain_format=True)
        self._names = (model, provider)

    def synthesize(self, text: str, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS) -> Any:
        """Speak a text that is complete."""
        return _Utterance(tts=self, input_text=text, conn_options=conn_options)

    def stream(self, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS) -> Any:
        """Speak a text as it comes."""
        return _Voice(tts=self, conn_options=conn_options)

    def speak(self, emitter: tts.AudioEmitter, text: str) -> int:
        """Push the audio of a text; return its samples."""
        samples = self.samples_per_character * len(text)
        emitter.push(bytes(2 * samples))
        return samples

    def bill(self, text: str, samples: int) -> None:
        """Count a finished text as billed."""
        self.billed[call_in(text)].update(requests=1, characters=len(text), samples=samples)


def _initialise(emitter: tts.AudioEmitter, *, stream: bool) -> None:
    emitter.initialize(
        request_id=f"tts-{next(_ids)}",
        sample_rate=SAMPLE_RATE,
        num_channels=1,
        mime_type="audio/pcm",
        stream=stream,
    )


class _Utterance(tts.ChunkedStream):
    async def _run(self, emitter: tts.AudioEmitter) -> None:
        voice = self._tts
        assert isinstance(voice, ScriptedTTS)  # noqa: S101 - narrows the type
        _initialise(emitter, stream=False)
        await asyncio.sleep(voice.pause_s)
        samples = voice.speak(emitter, self._input_text)
        emitter.flush()
        voice.bill(self._input_text, samples)


class _Voice(tts.SynthesizeStream):
    async def _run(self, emitter: tts.AudioEmitter) -> None:
        voice = self._tts
        assert isinstance(voice, ScriptedTTS)  # noqa: S101 - narrows the type
        _initialise(emitter, stream=True)
        sent, waiting, samples, done = "", "", 0, False
        try:
            async for piece in self._input_ch:
                if isinstance(piece, str):
                    waiting += piece
                sentences = voice.sentences.tokenize(waiting) if waiting else []
                # The last one may go on, until the text is ended.
                waiting = sentences.pop() if isinstance(piece, str) and sentences else ""
                for sentence in sentences:
                    if not sent:
                        emitter.start_segment(segment_id=f"segment-{next(_ids)}")
                    self._mark_started()
                    sent += sentence
                    await asyncio.sleep(voice.pause_s)
                    samples += voice.speak(emitter, sentence)
                    voice.said[call_in(sent)] += 1
            done = True
        finally:
            if sent and done:
                emitter.end_segment()
                voice.bill(sent, samples)
            elif sent:
                voice.cut_off[call_in(sent)] += len(sent)


def _streaming() -> stt.STTCapabilities:
    made = stt.STTCapabilities(streaming=True, interim_results=False)
    if hasattr(made, "keyterms"):  # since livekit-agents 1.6
        made.keyterms = True
    return made


class ScriptedSTT(_Named, stt.STT[Any]):
    """Hears audio whose samples carry the call's number, and reports seconds as it goes.

    It reports every `report_every_samples`, and the rest when its stream closes, as a plugin does
    whose provider bills the connection.
    """

    def __init__(
        self,
        *,
        model: str = "scripted-stt",
        provider: str = "scripted",
        report_every_samples: int = SAMPLE_RATE,
    ) -> None:
        super().__init__(capabilities=_streaming())
        self.billed: Bill = defaultdict(Counter)
        self.report_every_samples = report_every_samples
        self._names = (model, provider)

    async def _recognize_impl(
        self,
        buffer: Any,  # noqa: ARG002 - the base class's signature
        *,
        language: Any = NOT_GIVEN,  # noqa: ARG002 - same
        conn_options: Any = None,  # noqa: ARG002 - same
    ) -> stt.SpeechEvent:
        return stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[])

    def stream(
        self,
        *,
        language: Any = NOT_GIVEN,  # noqa: ARG002 - the base class's signature
        conn_options: Any = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        """Open a connection."""
        return _Ear(stt=self, conn_options=conn_options)


class _Ear(stt.RecognizeStream):
    async def _run(self) -> None:
        ear = self._stt
        assert isinstance(ear, ScriptedSTT)  # noqa: S101 - narrows the type
        if hasattr(self, "_report_connection_acquired"):  # since livekit-agents 1.5.2
            self._report_connection_acquired(0.01, connection_reused=False)
        call, waiting = 0, 0

        def report() -> None:
            if not waiting or self._event_ch.closed:
                return
            used = stt.RecognitionUsage(audio_duration=waiting / SAMPLE_RATE)
            kind = stt.SpeechEventType.RECOGNITION_USAGE
            self._event_ch.send_nowait(
                stt.SpeechEvent(type=kind, request_id="", recognition_usage=used)
            )
            ear.billed[call].update(samples=waiting)

        try:
            async for frame in self._input_ch:
                if not isinstance(frame, rtc.AudioFrame):
                    continue
                heard = memoryview(frame.data)
                call = next((value for value in heard[:1] if value), call)
                waiting += frame.samples_per_channel
                if waiting >= ear.report_every_samples:
                    report()
                    waiting = 0
        finally:
            report()
