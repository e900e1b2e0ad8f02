"""An offline realtime model that keeps books, on LiveKit's base classes."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from livekit import rtc
from livekit.agents import llm, utils
from livekit.agents.metrics import RealtimeModelMetrics, STTMetrics
from livekit.agents.metrics.base import Metadata
from livekit.agents.types import NOT_GIVEN

from tests.support.scripted import tag_of
from voicecosts.producer.demo.providers import (
    SAMPLE_RATE,
    Bill,
    call_in,
)

_ids = itertools.count(1)

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
