"""More offline providers that keep books, on LiveKit's base classes: beside those of the demo."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Final

from livekit import rtc
from livekit.agents import inference, llm, stt, tts, utils, vad
from livekit.agents.inference.eot.base import _BaseStreamingTurnDetectorStream
from livekit.agents.inference.interruption import InterruptionStreamBase
from livekit.agents.metrics import RealtimeModelMetrics, STTMetrics
from livekit.agents.metrics.base import EOTInferenceMetrics, Metadata
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN

from voicecosts.producer.demo.providers import (
    SAMPLE_RATE,
    Bill,
    ScriptedLLM,
    ScriptedSTT,
    ScriptedTTS,
    call_in,
)

_ids = itertools.count(1)
_SECRETS: Final = {"api_key": "key", "api_secret": "secret-of-a-test-that-calls-nobody"}


def tag_of(frame: rtc.AudioFrame) -> int:
    """Return the call that a frame belongs to, 0 for silence."""
    return next(iter(memoryview(frame.data)[:1]), 0)


class ReceivingLLM(ScriptedLLM):
    """Counts in `received` what reached it, whether the request was finished or cut off.

    The output is the whole answer, of which a request that is cut off has used a part.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.received: Bill = defaultdict(Counter)
        self._answer = self.plan
        self.plan = self._count

    def _count(self, text: str, context: Any) -> tuple[str, list[llm.FunctionToolCall]]:
        reply, calls = self._answer(text, context)
        texts = [message.text_content or "" for message in context.messages()]
        call = call_in(" ".join(texts))
        prompt = 20 + sum(len(each) for each in texts) // 4
        answer = reply if not reply or call_in(reply) else f"{reply} #{call}#"
        self.received[call].update(
            requests=1,
            input_tokens=prompt,
            cache_read_input_tokens=prompt // 2,
            output_tokens=1 + len(answer) // 4,
        )
        return reply, calls


class BatchSTT(stt.STT[Any]):
    """Recognises whole pieces of audio: one request each. It says nothing back."""

    def __init__(self, *, model: str = "scripted-batch-stt") -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self.billed: Bill = defaultdict(Counter)
        self._model = model

    @property
    def model(self) -> str:
        """The model's name in the metrics."""
        return self._model

    @property
    def provider(self) -> str:
        """The provider's label in the metrics."""
        return "scripted"

    async def _recognize_impl(
        self,
        buffer: Any,
        *,
        language: Any = NOT_GIVEN,
        conn_options: Any = None,
    ) -> stt.SpeechEvent:
        frames = buffer if isinstance(buffer, list) else [buffer]
        samples = sum(frame.samples_per_channel for frame in frames)
        self.billed[tag_of(frames[0])].update(requests=1, samples=samples)
        return stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[])

    def stream(
        self,
        *,
        language: Any = NOT_GIVEN,
        conn_options: Any = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        """Refuse: this one takes whole pieces only."""
        raise NotImplementedError


class SentenceTTS(ScriptedTTS):
    """Speaks a text that is complete, for adapters that speak sentence by sentence.

    It ends its audio without a flush: after one, LiveKit appends 10 ms of silence of its own.
    """

    def synthesize(self, text: str, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS) -> Any:
        """Speak a text that is complete."""
        return _Sentence(tts=self, input_text=text, conn_options=conn_options)


class _Sentence(tts.ChunkedStream):
    async def _run(self, emitter: tts.AudioEmitter) -> None:
        voice = self._tts
        assert isinstance(voice, SentenceTTS)
        emitter.initialize(
            request_id=f"tts-{next(_ids)}",
            sample_rate=SAMPLE_RATE,
            num_channels=1,
            mime_type="audio/pcm",
        )
        await asyncio.sleep(voice.pause_s)
        voice.bill(self._input_text, voice.speak(emitter, self._input_text))


class DiarizingSTT(ScriptedSTT):
    """Claims to tell speakers apart, as `MultiSpeakerAdapter` asks of what it wraps."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._capabilities = stt.STTCapabilities(
            streaming=True, interim_results=False, diarization=True
        )


class Hearing(ScriptedSTT):
    """Also understands: `understand` is heard by all of its streams as the words of a turn."""

    def __init__(self) -> None:
        super().__init__()
        self._streams: list[stt.RecognizeStream] = []

    def stream(self, **options: Any) -> stt.RecognizeStream:
        """Open a connection."""
        stream = super().stream(**options)
        self._streams.append(stream)
        return stream

    def understand(self, text: str, kind: stt.SpeechEventType) -> None:
        """Have said this."""
        for stream in self._streams:
            stream._event_ch.send_nowait(
                stt.SpeechEvent(type=kind, alternatives=[stt.SpeechData(text=text, language="en")])
            )


class Pieces(vad.VAD):
    """Takes every `samples` of audio that is not silence for one piece of speech."""

    def __init__(self, *, samples: int = SAMPLE_RATE // 2) -> None:
        super().__init__(capabilities=vad.VADCapabilities(update_interval=0.1))
        self.samples = samples

    def stream(self) -> vad.VADStream:
        """Watch audio."""
        return _Piecing(self)


class _Piecing(vad.VADStream):
    async def _main_task(self) -> None:
        pieces = self._vad
        assert isinstance(pieces, Pieces)
        waiting: list[rtc.AudioFrame] = []
        async for frame in self._input_ch:
            if not isinstance(frame, rtc.AudioFrame) or not tag_of(frame):
                continue
            waiting.append(frame)
            if sum(each.samples_per_channel for each in waiting) >= pieces.samples:
                for kind in (vad.VADEventType.START_OF_SPEECH, vad.VADEventType.END_OF_SPEECH):
                    self._event_ch.send_nowait(_vad_event(kind, waiting))
                waiting = []


def _vad_event(kind: vad.VADEventType, frames: list[rtc.AudioFrame]) -> vad.VADEvent:
    return vad.VADEvent(
        type=kind,
        samples_index=0,
        timestamp=time.time(),
        speech_duration=0.5,
        silence_duration=0.0,
        frames=list(frames),
    )


RealtimePlan = Callable[[str], str]
"""The tool that a realtime model calls for the last user text, "" for none."""


class ScriptedRealtime(llm.RealtimeModel):
    """Speaks and hears by itself, and reports as the plugins do: from its connection's own task.

    It reports when a connection is made (no usage), after each response, for the audio that it
    transcribes (`transcribes`, every `report_every_samples` and at the end), and at the end
    `session_us` of connection time. Its books are of the modalities realtime and stt.
    """

    def __init__(
        self,
        *,
        model: str = "scripted-realtime",
        plan: RealtimePlan = lambda _text: "",
        transcribes: bool = False,
        report_every_samples: int = SAMPLE_RATE,
        session_us: int = 0,
    ) -> None:
        super().__init__(
            capabilities=llm.RealtimeCapabilities(
                message_truncation=False,
                turn_detection=False,
                user_transcription=transcribes,
                auto_tool_reply_generation=False,
                audio_output=True,
                manual_function_calls=False,
                mutable_chat_context=True,
                mutable_instructions=True,
                mutable_tools=True,
            )
        )
        self.books: dict[str, Bill] = {
            "realtime": defaultdict(Counter),
            "stt": defaultdict(Counter),
        }
        self.plan = plan
        self.transcribes = transcribes
        self.report_every_samples = report_every_samples
        self.session_us = session_us
        self._model = model

    @property
    def model(self) -> str:
        """The model's name in the metrics."""
        return self._model

    @property
    def provider(self) -> str:
        """The provider's label in the metrics."""
        return "scripted"

    def session(self, *, turn_detection_disabled: bool = False) -> llm.RealtimeSession[Any]:
        """Open a connection."""
        return _Conversation(self)

    async def aclose(self) -> None:
        """Do nothing."""


class _Conversation(llm.RealtimeSession[Any]):
    def __init__(self, model: ScriptedRealtime) -> None:
        super().__init__(model)
        self._model = model
        self._context = llm.ChatContext.empty()
        self._tool_context = llm.ToolContext.empty()
        self._call = 0
        self._unreported = 0
        self._asked: asyncio.Queue[asyncio.Future[llm.GenerationCreatedEvent] | None] = (
            asyncio.Queue()
        )
        self._task = asyncio.create_task(self._run())

    @property
    def chat_ctx(self) -> llm.ChatContext:
        return self._context

    @property
    def tools(self) -> llm.ToolContext:
        return self._tool_context

    async def update_instructions(self, instructions: str) -> None:
        pass

    async def update_chat_ctx(self, chat_ctx: llm.ChatContext) -> None:
        self._context = chat_ctx.copy()

    async def update_tools(self, tools: list[Any]) -> None:
        self._tool_context = llm.ToolContext(tools)

    def update_options(self, *, tool_choice: Any = NOT_GIVEN) -> None:
        pass

    def push_audio(self, frame: rtc.AudioFrame) -> None:
        if not self._model.transcribes:
            return
        self._call = tag_of(frame) or self._call
        self._unreported += frame.samples_per_channel
        if self._unreported >= self._model.report_every_samples:
            self._asked.put_nowait(None)

    def push_video(self, frame: rtc.VideoFrame) -> None:
        pass

    def generate_reply(
        self,
        *,
        instructions: Any = NOT_GIVEN,
        tool_choice: Any = NOT_GIVEN,
        tools: Any = NOT_GIVEN,
    ) -> asyncio.Future[llm.GenerationCreatedEvent]:
        if isinstance(instructions, str):
            self._call = call_in(instructions) or self._call
        future: asyncio.Future[llm.GenerationCreatedEvent] = (
            asyncio.get_running_loop().create_future()
        )
        self._asked.put_nowait(future)
        return future

    def commit_audio(self) -> None:
        pass

    def clear_audio(self) -> None:
        pass

    def interrupt(self) -> None:
        pass

    def truncate(self, **_what: Any) -> None:
        pass

    async def aclose(self) -> None:
        await utils.aio.cancel_and_wait(self._task)
        self._report_heard()
        if self._model.session_us:
            self._model.books["realtime"][self._call]["session_us"] += self._model.session_us
            self._report_response("", Counter(), session_s=self._model.session_us / 1_000_000)

    async def _run(self) -> None:
        self._report_connection_acquired(0.01)
        while True:
            asked = await self._asked.get()
            if asked is None:
                self._report_heard()
            else:
                await self._respond(asked)

    async def _respond(self, asked: asyncio.Future[llm.GenerationCreatedEvent]) -> None:
        texts = [message.text_content or "" for message in self._context.messages()]
        self._call = call = call_in(" ".join(texts)) or self._call
        last = self._context.items[-1] if self._context.items else None
        tool = (
            ""
            if getattr(last, "type", "") == "function_call_output"
            else self._model.plan(texts[-1] if texts else "")
        )
        reply, request = f"I say this aloud. #{call}#", f"response-{next(_ids)}"
        messages = utils.aio.Chan[llm.MessageGeneration]()
        functions = utils.aio.Chan[llm.FunctionCall]()
        asked.set_result(
            llm.GenerationCreatedEvent(
                message_stream=messages,
                function_stream=functions,
                user_initiated=True,
                response_id=request,
            )
        )
        if tool:
            functions.send_nowait(
                llm.FunctionCall(call_id=f"call_{next(_ids)}", name=tool, arguments="{}")
            )
        else:
            messages.send_nowait(_spoken(reply))
        messages.close()
        functions.close()
        await asyncio.sleep(0)
        heard, read = 10, 20 + sum(len(text) for text in texts) // 4
        amounts = Counter(
            requests=1,
            input_tokens=heard + read,
            audio_input_tokens=heard,
            text_input_tokens=read,
            cache_read_input_tokens=read // 2,
            text_cache_read_input_tokens=read // 2,
            output_tokens=30 + len(reply) // 4,
            audio_output_tokens=30,
            text_output_tokens=len(reply) // 4,
        )
        self._model.books["realtime"][call].update(amounts)
        self._report_response(request, amounts)

    def _report_response(
        self, request: str, amounts: Counter[str], *, session_s: float = 0.0
    ) -> None:
        self.emit(
            "metrics_collected",
            RealtimeModelMetrics(
                request_id=request,
                timestamp=time.time(),
                label=self._model.label,
                duration=0.1,
                session_duration=session_s,
                ttft=0.05,
                cancelled=False,
                input_tokens=amounts["input_tokens"],
                output_tokens=amounts["output_tokens"],
                total_tokens=amounts["input_tokens"] + amounts["output_tokens"],
                tokens_per_second=0.0,
                input_token_details=RealtimeModelMetrics.InputTokenDetails(
                    audio_tokens=amounts["audio_input_tokens"],
                    text_tokens=amounts["text_input_tokens"],
                    cached_tokens=amounts["cache_read_input_tokens"],
                    cached_tokens_details=RealtimeModelMetrics.CachedTokenDetails(
                        text_tokens=amounts["text_cache_read_input_tokens"]
                    ),
                ),
                output_token_details=RealtimeModelMetrics.OutputTokenDetails(
                    audio_tokens=amounts["audio_output_tokens"],
                    text_tokens=amounts["text_output_tokens"],
                ),
                metadata=Metadata(
                    model_name=self._model.model, model_provider=self._model.provider
                ),
            ),
        )

    def _report_heard(self) -> None:
        samples, self._unreported = self._unreported, 0
        if not samples:
            return
        self._model.books["stt"][self._call]["samples"] += samples
        self.emit(
            "metrics_collected",
            STTMetrics(
                request_id=f"event-{next(_ids)}",
                timestamp=time.time(),
                duration=0.0,
                label=self._model.label,
                audio_duration=samples / SAMPLE_RATE,
                streamed=True,
                metadata=Metadata(
                    model_name="scripted-transcription", model_provider=self._model.provider
                ),
            ),
        )


def _spoken(text: str) -> llm.MessageGeneration:
    texts, audio = utils.aio.Chan[str](), utils.aio.Chan[rtc.AudioFrame]()
    texts.send_nowait(text)
    texts.close()
    audio.send_nowait(
        rtc.AudioFrame(
            data=bytes(2 * SAMPLE_RATE // 10),
            sample_rate=SAMPLE_RATE,
            num_channels=1,
            samples_per_channel=SAMPLE_RATE // 10,
        )
    )
    audio.close()
    modalities: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    modalities.set_result(["audio", "text"])
    return llm.MessageGeneration(
        message_id=f"item-{next(_ids)}",
        text_stream=texts,
        audio_stream=audio,
        modalities=modalities,
    )


class ScriptedInterruptionDetector(inference.AdaptiveInterruptionDetector):
    """Stands where a session makes its own detector, and asks nobody.

    Sessions make their detectors themselves: put this class in the place of LiveKit's. Each
    detector knows its streams; `ask` makes a stream report requests, as a real one does when the
    caller speaks over the agent.
    """

    modality = "interruption"
    made: Final[list[ScriptedInterruptionDetector]] = []

    def __init__(self, **_options: Any) -> None:
        super().__init__(**_SECRETS)  # type: ignore[arg-type]  # two strings
        self.billed: Bill = defaultdict(Counter)
        self.streams: list[InterruptionStreamBase] = []
        self.made.append(self)

    def _ensure_session(self) -> Any:
        return None

    def stream(self, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS) -> Any:
        """Watch one call's audio."""
        watching = _Watching(model=self, conn_options=conn_options)
        self.streams.append(watching)
        return watching

    def ask(self, call: int, *, requests: int) -> None:
        """Have the newest stream report so many requests of a call."""
        self.billed[call]["requests"] += requests
        self.streams[-1].send(
            inference.OverlappingSpeechEvent(
                is_interruption=False, num_requests=requests, agent_ended=True
            )
        )


class _Watching(InterruptionStreamBase):
    async def _run(self) -> None:
        async for _ in self._input_ch:
            pass


class ScriptedTurnDetector(inference.TurnDetector):
    """Predicts the end of a turn, and counts its predictions by the call whose audio it heard.

    `streams` has the stream of each call that it has heard something of.
    """

    modality = "turn_detector"

    def __init__(self) -> None:
        super().__init__(version="v1", local_fallback=False, **_SECRETS)
        self.billed: Bill = defaultdict(Counter)
        self.streams: dict[int, _BaseStreamingTurnDetectorStream] = {}

    def stream(
        self,
        *,
        conn_options: Any = DEFAULT_API_CONNECT_OPTIONS,
    ) -> _BaseStreamingTurnDetectorStream:
        """Watch one call's audio."""
        return _BaseStreamingTurnDetectorStream(
            detector=self,
            opts=self._opts,
            transport=_Predicting(self),
            model="turn-detector-v1",
            local_fallback=False,
        )


class _Predicting:
    """The transport of a turn detector: answers from its own task, as a socket's reader does."""

    session_id = None

    def __init__(self, detector: ScriptedTurnDetector) -> None:
        self._detector = detector
        self._stream: _BaseStreamingTurnDetectorStream | None = None
        self._asked: asyncio.Queue[str] = asyncio.Queue()
        self._call = 0

    def attach(self, stream: _BaseStreamingTurnDetectorStream) -> None:
        self._stream = stream

    def detach(self) -> None:
        self._stream = None

    async def run(self) -> None:
        assert self._stream is not None
        stream = self._stream
        listening = asyncio.create_task(stream._drain_audio_channel())
        try:
            while True:
                request = await self._asked.get()
                stream._resolve_prediction(request, 1.0)
                self._detector.billed[self._call]["requests"] += 1
                self._detector.emit(
                    "metrics_collected",
                    EOTInferenceMetrics(
                        timestamp=time.time(),
                        total_duration=0.1,
                        prediction_duration=0.1,
                        detection_delay=0.1,
                        metadata=Metadata(
                            model_name=self._detector.model,
                            model_provider=self._detector.provider,
                        ),
                    ),
                )
        finally:
            await utils.aio.cancel_and_wait(listening)

    def run_inference(self, request_id: str) -> None:
        self._asked.put_nowait(request_id)

    def push_frame(self, frame: rtc.AudioFrame) -> None:
        self._call = tag_of(frame) or self._call
        if self._stream is not None:
            self._detector.streams[self._call] = self._stream

    def flush(self) -> None:
        pass
