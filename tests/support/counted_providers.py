"""Providers that count what reaches them and what they finish, by the tag of the call.

`received` is what a provider may bill at most, counted when it comes; `billed` is what it reported
in the end. They are equal unless a request is cut off. A text with `(halt)` makes a provider stand
still after its first piece until it is interrupted.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import Counter, defaultdict
from typing import Any, Final

from livekit import rtc
from livekit.agents import llm, stt, tts
from livekit.agents.llm import ChatChunk, ChatContext, ChoiceDelta, CompletionUsage
from livekit.agents.metrics import RealtimeModelMetrics
from livekit.agents.metrics.base import Metadata
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN

from voicecosts.producer.demo.providers import (
    SAMPLE_RATE,
    Bill,
    ScriptedLLM,
    ScriptedSTT,
    ScriptedTTS,
    call_in,
    tool_call,
)

HALT: Final = "(halt)"
_ACT = re.compile(r"act (\d+)")
_ids = itertools.count(1)


def book() -> Bill:
    """Return an empty book: tag → quantity → amount, in the contract's names."""
    return defaultdict(Counter)


def audio_us(samples: int) -> int:
    """Return the duration of samples."""
    return round(samples * 1_000_000 / SAMPLE_RATE)


class Books:
    """What one provider counted. `modality` is the contract's."""

    modality: str
    received: Bill
    billed: Bill

    def open_books(self, modality: str) -> None:
        """Begin to count."""
        self.modality, self.received, self.billed = modality, book(), book()
        self.halted: set[int] = set()


class CountedLLM(Books, ScriptedLLM):
    """Answers with one sentence; calls the tool `act` with the number that the text names."""

    def __init__(self, *, model: str = "counted-llm") -> None:
        ScriptedLLM.__init__(self, model=model)
        self.open_books("llm")

    def chat(
        self,
        *,
        chat_ctx: ChatContext,
        tools: Any = None,
        conn_options: Any = DEFAULT_API_CONNECT_OPTIONS,
        **_options: Any,
    ) -> llm.LLMStream:
        """Open a request."""
        return _Reply(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _Reply(llm.LLMStream):
    async def _run(self) -> None:
        model = self._llm
        assert isinstance(model, CountedLLM)
        texts = [message.text_content or "" for message in self._chat_ctx.messages()]
        tag, asked = call_in(" ".join(texts)), _asked(self._chat_ctx)
        prompt = 20 + sum(len(text) for text in texts) // 4
        cached = prompt // 2
        model.received[tag].update(
            requests=1, input_tokens=prompt, cache_read_input_tokens=cached, output_tokens=1
        )
        request, act = f"req-{next(_ids)}", _ACT.search(asked)
        reply = "" if act else f"this much about {asked.replace(HALT, '')} for #{tag}#"
        for at in range(0, len(reply), 32):
            part = reply[at : at + 32]
            delta = ChoiceDelta(role="assistant", content=part)
            model.received[tag]["output_tokens"] += -(-len(part) // 4)
            self._event_ch.send_nowait(ChatChunk(id=request, delta=delta))
            if HALT in asked:
                model.halted.add(tag)
                await asyncio.sleep(3600)
            await asyncio.sleep(0)
        if act:
            calls = [tool_call("act", f'{{"number": {act[1]}}}')]
            delta = ChoiceDelta(role="assistant", tool_calls=calls)
            self._event_ch.send_nowait(ChatChunk(id=request, delta=delta))
        output = 1 + sum(-(-len(reply[at : at + 32]) // 4) for at in range(0, len(reply), 32))
        usage = CompletionUsage(
            prompt_tokens=prompt,
            prompt_cached_tokens=cached,
            completion_tokens=output,
            total_tokens=prompt + output,
        )
        self._event_ch.send_nowait(ChatChunk(id=request, usage=usage))
        model.billed[tag].update(
            requests=1,
            input_tokens=prompt,
            cache_read_input_tokens=cached,
            output_tokens=output,
        )


def _asked(context: ChatContext) -> str:
    for item in reversed(context.items):
        if item.type == "message" and item.role == "user":
            return item.text_content or ""
        if item.type == "function_call_output":
            return "the result"
    return ""


class CountedTTS(Books, ScriptedTTS):
    """Speaks silence, a millisecond a character."""

    def __init__(self, *, model: str = "counted-tts") -> None:
        ScriptedTTS.__init__(self, model=model)
        self.open_books("tts")

    def synthesize(self, text: str, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS) -> Any:
        """Speak a text that is complete."""
        return _Sentence(tts=self, input_text=text, conn_options=conn_options)

    def stream(self, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS) -> Any:
        """Speak a text as it comes."""
        return _Speech(tts=self, conn_options=conn_options)


async def _speak(voice: CountedTTS, emitter: tts.AudioEmitter, text: str, tag: int) -> None:
    samples = voice.samples_per_character * len(text)
    voice.received[tag]["audio_us"] += audio_us(samples)
    emitter.push(bytes(2 * samples))
    if HALT in text:
        voice.halted.add(tag)
        await asyncio.sleep(3600)


def _open(emitter: tts.AudioEmitter, *, stream: bool) -> None:
    emitter.initialize(
        request_id=f"tts-{next(_ids)}",
        sample_rate=SAMPLE_RATE,
        num_channels=1,
        mime_type="audio/pcm",
        stream=stream,
    )


def _bill(voice: CountedTTS, text: str, tag: int) -> None:
    voice.billed[tag].update(
        requests=1,
        characters=len(text),
        audio_us=audio_us(voice.samples_per_character * len(text)),
    )


class _Sentence(tts.ChunkedStream):
    async def _run(self, emitter: tts.AudioEmitter) -> None:
        voice, text = self._tts, self._input_text
        assert isinstance(voice, CountedTTS)
        tag = call_in(text)
        voice.received[tag].update(requests=1, characters=len(text))
        voice.received[tag]["audio_us"] += 10_000  # silence that LiveKit may append and report
        _open(emitter, stream=False)
        await _speak(voice, emitter, text, tag)
        emitter.flush()
        _bill(voice, text, tag)


class _Speech(tts.SynthesizeStream):
    _pushed = ""
    _counted = 0

    def push_text(self, token: str) -> None:
        """Count what is handed over; what comes before the tag is counted with it."""
        super().push_text(token)
        voice = self._tts
        assert isinstance(voice, CountedTTS)
        self._pushed += token
        tag = call_in(self._pushed)
        if tag:
            new = len(self._pushed) - self._counted
            voice.received[tag].update(requests=int(not self._counted), characters=new)
            self._counted = len(self._pushed)

    async def _run(self, emitter: tts.AudioEmitter) -> None:
        voice = self._tts
        assert isinstance(voice, CountedTTS)
        _open(emitter, stream=True)
        text, spoken = "", 0
        async for piece in self._input_ch:
            if not isinstance(piece, str):
                continue
            if not text:
                self._mark_started()
                emitter.start_segment(segment_id=f"segment-{next(_ids)}")
            text += piece
            if call_in(text):
                await _speak(voice, emitter, text[spoken:], call_in(text))
                spoken = len(text)
        if text:
            assert spoken == len(text), f"a text without a tag: {text!r}"
            emitter.end_segment()
            _bill(voice, text, call_in(text))


class CountedSTT(Books, ScriptedSTT):
    """Hears audio whose samples are the tag; what comes before the first sound is not billed."""

    def __init__(self, *, model: str = "counted-stt") -> None:
        ScriptedSTT.__init__(self, model=model)
        self.open_books("stt")

    def stream(
        self,
        *,
        language: Any = NOT_GIVEN,
        conn_options: Any = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        """Open a connection."""
        return _Connection(stt=self, conn_options=conn_options)


class _Connection(stt.RecognizeStream):
    async def _run(self) -> None:
        ear = self._stt
        assert isinstance(ear, CountedSTT)
        self._report_connection_acquired(0.01, connection_reused=False)
        tag, waiting = 0, 0

        def report() -> None:
            if not waiting or self._event_ch.closed:
                return
            used = stt.RecognitionUsage(audio_duration=waiting / SAMPLE_RATE)
            kind = stt.SpeechEventType.RECOGNITION_USAGE
            event = stt.SpeechEvent(type=kind, request_id="", recognition_usage=used)
            self._event_ch.send_nowait(event)
            ear.billed[tag]["audio_us"] += audio_us(waiting)

        try:
            async for frame in self._input_ch:
                if not isinstance(frame, rtc.AudioFrame):
                    continue
                tag = memoryview(frame.data)[0] or tag
                if tag:
                    waiting += frame.samples_per_channel
                    ear.received[tag]["audio_us"] += audio_us(frame.samples_per_channel)
                if waiting >= ear.report_every_samples:
                    report()
                    waiting = 0
        finally:
            report()


class CountedRealtime(Books, llm.RealtimeModel):
    """A realtime model that answers with text, and bills each answer to the tag in its context."""

    def __init__(self) -> None:
        llm.RealtimeModel.__init__(
            self,
            capabilities=llm.RealtimeCapabilities(
                message_truncation=False,
                turn_detection=False,
                user_transcription=False,
                auto_tool_reply_generation=False,
                audio_output=False,
                manual_function_calls=True,
                mutable_chat_context=True,
                mutable_instructions=True,
                mutable_tools=True,
                per_response_tool_choice=True,
            ),
        )
        self.open_books("realtime")

    @property
    def model(self) -> str:
        """The model's name in the metrics."""
        return "counted-realtime"

    @property
    def provider(self) -> str:
        """The provider's label in the metrics."""
        return "scripted"

    def session(self, *, turn_detection_disabled: bool = False) -> llm.RealtimeSession:
        """Open a connection."""
        return _RealtimeConnection(self)

    async def aclose(self) -> None:
        """Nothing is open."""


class _RealtimeConnection(llm.RealtimeSession[Any]):
    def __init__(self, model: CountedRealtime) -> None:
        super().__init__(model)
        self._counted = model
        self._context = ChatContext.empty()
        self._report_connection_acquired(0.01)

    @property
    def chat_ctx(self) -> ChatContext:
        return self._context

    @property
    def tools(self) -> llm.ToolContext:
        return llm.ToolContext.empty()

    async def update_instructions(self, instructions: str) -> None:
        """Ignore it."""

    async def update_chat_ctx(self, chat_ctx: ChatContext) -> None:
        self._context = chat_ctx.copy()

    async def update_tools(self, tools: list[llm.Tool]) -> None:
        """Ignore them."""

    def update_options(self, *, tool_choice: Any = NOT_GIVEN) -> None:
        """Ignore them."""

    def push_audio(self, frame: rtc.AudioFrame) -> None:
        """Ignore it."""

    def push_video(self, frame: rtc.VideoFrame) -> None:
        """Ignore it."""

    def generate_reply(
        self, *, instructions: Any = NOT_GIVEN, tool_choice: Any = NOT_GIVEN, tools: Any = NOT_GIVEN
    ) -> asyncio.Future[llm.GenerationCreatedEvent]:
        """Answer: a call of `act` where the last text asks for it, else one sentence."""
        act = _ACT.search(_asked(self._context))
        texts_so_far = [message.text_content or "" for message in self._context.messages()]
        response, tag = f"response-{next(_ids)}", call_in(" ".join(texts_so_far))
        texts, messages, calls = (_closing(items) for items in ([], [], []))
        if act:
            call = tool_call("act", f'{{"number": {act[1]}}}')
            calls = _closing(
                [llm.FunctionCall(call_id=call.call_id, name="act", arguments=call.arguments)]
            )
        else:
            texts = _closing([f"this much for #{tag}#"])
            modalities: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
            modalities.set_result(["text"])
            messages = _closing(
                [
                    llm.MessageGeneration(
                        message_id=response,
                        text_stream=texts,
                        audio_stream=_closing([]),
                        modalities=modalities,
                    )
                ]
            )
        event = llm.GenerationCreatedEvent(
            message_stream=messages,
            function_stream=calls,
            user_initiated=True,
            response_id=response,
        )
        created: asyncio.Future[llm.GenerationCreatedEvent] = (
            asyncio.get_running_loop().create_future()
        )
        created.set_result(event)
        self.emit("generation_created", event)
        self._report(response, tag)
        return created

    def _report(self, response: str, tag: int) -> None:
        for bill in (self._counted.received, self._counted.billed):
            bill[tag].update(
                requests=1,
                input_tokens=100,
                audio_input_tokens=70,
                text_input_tokens=30,
                output_tokens=40,
                text_output_tokens=40,
            )
        details = RealtimeModelMetrics.InputTokenDetails(audio_tokens=70, text_tokens=30)
        self.emit(
            "metrics_collected",
            RealtimeModelMetrics(
                label=self._counted.label,
                request_id=response,
                timestamp=time.time(),
                duration=0.1,
                ttft=0.1,
                cancelled=False,
                input_tokens=100,
                output_tokens=40,
                total_tokens=140,
                tokens_per_second=400.0,
                input_token_details=details,
                output_token_details=RealtimeModelMetrics.OutputTokenDetails(text_tokens=40),
                metadata=Metadata(model_name="counted-realtime", model_provider="scripted"),
            ),
        )

    def commit_audio(self) -> None:
        """Ignore it."""

    def clear_audio(self) -> None:
        """Ignore it."""

    def interrupt(self) -> None:
        """Ignore it."""

    def truncate(self, **_options: Any) -> None:
        """Ignore it."""

    async def aclose(self) -> None:
        """Close the connection."""


def _closing(items: list[Any]) -> Any:
    from livekit.agents import utils  # noqa: PLC0415

    channel: Any = utils.aio.Chan()
    for item in items:
        channel.send_nowait(item)
    channel.close()
    return channel
