"""Scripted providers for every supported livekit-agents, with all that the newest one reports.

They are made of what the base classes of the oldest version have. Their books hold what a provider
bills, also where the installed version has no field to report it in.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections import Counter, defaultdict
from typing import Any

from livekit import rtc
from livekit.agents import llm, tts, utils
from livekit.agents.metrics import RealtimeModelMetrics
from livekit.agents.metrics.base import Metadata
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN

from voicecosts.producer.demo.providers import (
    SAMPLE_RATE,
    Bill,
    ScriptedLLM,
    ScriptedTTS,
    call_in,
)

_ids = itertools.count(1)


class ReasoningLLM(ScriptedLLM):
    """Thinks before it answers, and writes a cache: both are in what it bills and reports.

    `received` counts what a request had used when it was cut off as well.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.received: Bill = defaultdict(Counter)

    def chat(
        self, *, chat_ctx: Any, tools: Any = None, conn_options: Any = None, **_options: Any
    ) -> Any:
        """Open a request."""
        options = conn_options or DEFAULT_API_CONNECT_OPTIONS
        return _Thought(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=options)


class _Thought(llm.LLMStream):
    async def _run(self) -> None:
        model: Any = self._llm
        texts = [message.text_content or "" for message in self._chat_ctx.messages()]
        call = call_in(" ".join(texts))
        last = next((i for i in reversed(self._chat_ctx.items) if i.type != "agent_handoff"), None)
        asked = getattr(last, "text_content", None) or getattr(last, "output", "") or ""
        reply, calls = model.plan(asked, self._chat_ctx)
        if reply:
            reply += f" #{call}#"
        prompt, thought = 20 + sum(map(len, texts)) // 4, 7
        answer = 1 + len(reply) // 4 + thought
        request = f"req-{next(_ids)}"
        delta = llm.ChoiceDelta(role="assistant", content=reply or None, tool_calls=calls)
        amounts = {
            "requests": 1,
            "input_tokens": prompt,
            "cache_read_input_tokens": prompt // 2,
            "cache_creation_input_tokens": prompt // 4,
            "output_tokens": answer,
            "reasoning_output_tokens": thought,
        }
        model.received[call].update(amounts)
        self._event_ch.send_nowait(llm.ChatChunk(id=request, delta=delta))
        await asyncio.sleep(model.pause_s)
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "prompt_cached_tokens": prompt // 2,
            "cache_creation_tokens": prompt // 4,
            "completion_tokens": answer,
            "reasoning_tokens": thought,
            "total_tokens": prompt + answer,
        }
        self._event_ch.send_nowait(llm.ChatChunk(id=request, usage=llm.CompletionUsage(**usage)))
        model.billed[call].update(amounts)


class TokenTTS(ScriptedTTS):
    """Speaks each text whole, and is billed by tokens as well.

    It ends its audio without a flush: after one, LiveKit appends 10 ms of silence of its own.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._capabilities = tts.TTSCapabilities(streaming=False)

    def synthesize(self, text: str, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS) -> Any:
        """Speak a text that is complete."""
        return _Whole(tts=self, input_text=text, conn_options=conn_options)


class _Whole(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        voice: Any = self._tts
        output_emitter.initialize(
            request_id=f"tts-{next(_ids)}",
            sample_rate=SAMPLE_RATE,
            num_channels=1,
            mime_type="audio/pcm",
        )
        samples = voice.speak(output_emitter, self._input_text)
        read, spoken = 2 + len(self._input_text) // 4, 5
        self._set_token_usage(input_tokens=read, output_tokens=spoken)
        voice.bill(self._input_text, samples)
        voice.billed[call_in(self._input_text)].update(input_tokens=read, output_tokens=spoken)


class SpeakingModel(llm.RealtimeModel):
    """Answers by itself, reports each answer, the time of its connection, and the connection.

    The time is reported while the connection closes, or just `after` it.
    """

    modality = "realtime"

    def __init__(self, *, after: bool = False) -> None:
        known = {field.name for field in dataclasses.fields(llm.RealtimeCapabilities)}
        able = {"audio_output", "mutable_chat_context", "mutable_instructions", "mutable_tools"}
        given: dict[str, Any] = {name: name in able for name in known}
        super().__init__(capabilities=llm.RealtimeCapabilities(**given))
        self.billed: Bill = defaultdict(Counter)
        self.after = after

    @property
    def model(self) -> str:
        """The model's name in the metrics."""
        return "scripted-realtime"

    @property
    def provider(self) -> str:
        """The provider's label in the metrics."""
        return "scripted"

    def session(self, **_options: Any) -> Any:
        """Open a connection."""
        return _Line(self)

    async def aclose(self) -> None:
        """Do nothing."""


class _Line(llm.RealtimeSession[Any]):
    def __init__(self, model: SpeakingModel) -> None:
        super().__init__(model)
        self._model = model
        self._context = llm.ChatContext.empty()
        self._known_tools = llm.ToolContext.empty()
        self._tasks: set[asyncio.Task[None]] = set()
        self._call = 0
        if hasattr(self, "_report_connection_acquired"):  # not in the oldest versions
            self._later(self._connected())

    @property
    def chat_ctx(self) -> llm.ChatContext:
        return self._context

    @property
    def tools(self) -> llm.ToolContext:
        return self._known_tools

    async def update_instructions(self, instructions: str) -> None:
        pass

    async def update_chat_ctx(self, chat_ctx: llm.ChatContext) -> None:
        self._context = chat_ctx.copy()

    async def update_tools(self, tools: list[Any]) -> None:
        self._known_tools = llm.ToolContext(tools)

    def update_options(self, **_options: Any) -> None:
        pass

    def push_audio(self, frame: rtc.AudioFrame) -> None:
        pass

    def push_video(self, frame: rtc.VideoFrame) -> None:
        pass

    def generate_reply(self, *, instructions: Any = NOT_GIVEN, **_options: Any) -> Any:
        asked: Any = asyncio.get_running_loop().create_future()
        self._later(self._answer(asked))
        return asked

    def commit_audio(self) -> None:
        pass

    def clear_audio(self) -> None:
        pass

    def interrupt(self) -> None:
        pass

    def truncate(self, **_what: Any) -> None:
        pass

    async def aclose(self) -> None:
        await asyncio.gather(*self._tasks)
        self._model.billed[self._call].update(session_us=1_500_000)
        if self._model.after:
            self._later(self._report_time())
        else:
            await self._report_time()

    async def _report_time(self) -> None:
        self._report("", Counter(), session_duration=1.5)

    def _later(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self) -> None:
        self._report_connection_acquired(0.01)

    async def _answer(self, asked: Any) -> None:
        texts = [message.text_content or "" for message in self._context.messages()]
        self._call = call_in(" ".join(texts)) or self._call
        messages = utils.aio.Chan[llm.MessageGeneration]()
        functions = utils.aio.Chan[llm.FunctionCall]()
        asked.set_result(
            llm.GenerationCreatedEvent(
                message_stream=messages, function_stream=functions, user_initiated=True
            )
        )
        messages.send_nowait(_aloud())
        messages.close()
        functions.close()
        amounts = Counter(
            requests=1,
            input_tokens=40,
            audio_input_tokens=10,
            text_input_tokens=30,
            cache_read_input_tokens=12,
            text_cache_read_input_tokens=12,
            output_tokens=25,
            audio_output_tokens=20,
            text_output_tokens=5,
        )
        self._model.billed[self._call].update(amounts)
        self._report(f"response-{next(_ids)}", amounts, duration=0.1, ttft=0.05)

    def _report(self, request: str, amounts: Counter[str], **more: Any) -> None:
        details = RealtimeModelMetrics.InputTokenDetails(
            audio_tokens=amounts["audio_input_tokens"],
            text_tokens=amounts["text_input_tokens"],
            image_tokens=0,
            cached_tokens=amounts["cache_read_input_tokens"],
            cached_tokens_details=RealtimeModelMetrics.CachedTokenDetails(
                audio_tokens=0, text_tokens=amounts["text_cache_read_input_tokens"], image_tokens=0
            ),
        )
        spoken = RealtimeModelMetrics.OutputTokenDetails(
            text_tokens=amounts["text_output_tokens"],
            audio_tokens=amounts["audio_output_tokens"],
            image_tokens=0,
        )
        self.emit(
            "metrics_collected",
            RealtimeModelMetrics(
                label=self._model.label,
                request_id=request,
                timestamp=time.time(),
                input_tokens=amounts["input_tokens"],
                output_tokens=amounts["output_tokens"],
                input_token_details=details,
                output_token_details=spoken,
                metadata=Metadata(
                    model_name=self._model.model, model_provider=self._model.provider
                ),
                **more,
            ),
        )


def _aloud() -> llm.MessageGeneration:
    texts, audio = utils.aio.Chan[str](), utils.aio.Chan[rtc.AudioFrame]()
    texts.send_nowait("I say this aloud.")
    texts.close()
    audio.send_nowait(
        rtc.AudioFrame(
            data=bytes(SAMPLE_RATE // 5),
            sample_rate=SAMPLE_RATE,
            num_channels=1,
            samples_per_channel=SAMPLE_RATE // 10,
        )
    )
    audio.close()
    modalities: Any = asyncio.get_running_loop().create_future()
    modalities.set_result(["audio", "text"])
    return llm.MessageGeneration(
        message_id=f"item-{next(_ids)}",
        text_stream=texts,
        audio_stream=audio,
        modalities=modalities,
    )
