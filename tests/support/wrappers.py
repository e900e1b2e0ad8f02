"""What people put around a provider of LiveKit's, without LiveKit's own adapters."""

from __future__ import annotations

import asyncio
from typing import Any

from livekit import rtc
from livekit.agents import llm, stt, tts, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN


class DelegatingLLM(llm.LLM[Any]):
    """Hands every request to the model inside it."""

    def __init__(self, inner: llm.LLM[Any]) -> None:
        super().__init__()
        self.inner = inner

    @property
    def model(self) -> str:
        """The inner model's name."""
        return self.inner.model

    @property
    def provider(self) -> str:
        """The inner model's provider."""
        return self.inner.provider

    def chat(self, **request: Any) -> llm.LLMStream:
        """Open a request."""
        return self.inner.chat(**request)


class ChoosingLLM(DelegatingLLM):
    """Has its models in a dictionary, by name."""

    def __init__(self, inner: llm.LLM[Any]) -> None:
        super().__init__(inner)
        self._models = {"default": self.__dict__.pop("inner")}

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            return self._models["default"]
        raise AttributeError(name)


class GuardingLLM(DelegatingLLM):
    """Looks at what the model inside it says, in a stream of its own that reports as well."""

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[Any] | None = None,
        conn_options: Any = DEFAULT_API_CONNECT_OPTIONS,
        **_options: Any,
    ) -> llm.LLMStream:
        """Open a request."""
        return _Guarded(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _Guarded(llm.LLMStream):
    async def _run(self) -> None:
        guard = self._llm
        assert isinstance(guard, GuardingLLM)
        async with guard.inner.chat(
            chat_ctx=self._chat_ctx, tools=self._tools, conn_options=self._conn_options
        ) as answer:
            async for chunk in answer:
                self._event_ch.send_nowait(chunk)


class CorrectingSTT(stt.STT[Any]):
    """Looks at what the recogniser inside it hears, in a stream of its own that reports as well."""

    def __init__(self, inner: stt.STT[Any]) -> None:
        super().__init__(capabilities=inner.capabilities)
        self.inner = inner

    @property
    def model(self) -> str:
        """The inner recogniser's model."""
        return self.inner.model

    @property
    def provider(self) -> str:
        """The inner recogniser's provider."""
        return self.inner.provider

    async def _recognize_impl(
        self,
        buffer: Any,
        *,
        language: Any = NOT_GIVEN,
        conn_options: Any = None,
    ) -> stt.SpeechEvent:
        raise NotImplementedError

    def stream(
        self,
        *,
        language: Any = NOT_GIVEN,
        conn_options: Any = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        """Open a connection."""
        return _Corrected(stt=self, conn_options=conn_options)


class _Corrected(stt.RecognizeStream):
    async def _run(self) -> None:
        recogniser = self._stt
        assert isinstance(recogniser, CorrectingSTT)
        inner = recogniser.inner.stream()

        async def listen() -> None:
            async for frame in self._input_ch:
                if isinstance(frame, rtc.AudioFrame):
                    inner.push_frame(frame)
            inner.end_input()

        listening = asyncio.create_task(listen())
        try:
            async for event in inner:
                self._event_ch.send_nowait(event)
        finally:
            await utils.aio.cancel_and_wait(listening)
            await inner.aclose()


class PronouncingTTS(tts.TTS[Any]):
    """Spells what the voice inside it says, in a stream of its own that reports as well."""

    def __init__(self, inner: tts.TTS[Any]) -> None:
        super().__init__(
            capabilities=inner.capabilities,
            sample_rate=inner.sample_rate,
            num_channels=inner.num_channels,
        )
        self.inner = inner

    @property
    def model(self) -> str:
        """The inner voice's model."""
        return self.inner.model

    @property
    def provider(self) -> str:
        """The inner voice's provider."""
        return self.inner.provider

    def synthesize(self, text: str, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS) -> Any:
        """Speak a text that is complete."""
        return self.inner.synthesize(text, conn_options=conn_options)

    def stream(self, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS) -> tts.SynthesizeStream:
        """Speak a text as it comes."""
        return _Pronounced(tts=self, conn_options=conn_options)


class _Pronounced(tts.SynthesizeStream):
    async def _run(self, emitter: tts.AudioEmitter) -> None:
        voice = self._tts
        assert isinstance(voice, PronouncingTTS)
        emitter.initialize(
            request_id=utils.shortuuid(),
            sample_rate=voice.sample_rate,
            num_channels=voice.num_channels,
            mime_type="audio/pcm",
            stream=True,
        )
        async with voice.inner.stream(conn_options=self._conn_options) as inner:

            async def feed() -> None:
                async for piece in self._input_ch:
                    if isinstance(piece, str):
                        self._mark_started()
                        inner.push_text(piece)
                inner.end_input()

            feeding = asyncio.create_task(feed())
            emitter.start_segment(segment_id=utils.shortuuid())
            try:
                async for speech in inner:
                    emitter.push(speech.frame.data.tobytes())
                emitter.end_segment()
            finally:
                await utils.aio.cancel_and_wait(feeding)
