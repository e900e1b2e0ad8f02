"""More offline providers that keep books, on LiveKit's base classes: beside those of the demo."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from typing import Any

from livekit import rtc
from livekit.agents import llm, stt, tts, vad
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
