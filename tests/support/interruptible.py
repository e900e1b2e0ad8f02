"""Providers that can be interrupted at any moment, and count what had reached them by then.

A call passes moments: a connection is made, a piece is sent, a chunk or audio comes, a tool runs. At
the moment that a test chooses, its interruption happens. What a provider had received counts from
where a real one sends, not from where LiveKit hands something over.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Final

from livekit import rtc
from livekit.agents import APIConnectionError, llm, tokenize, tts, utils
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN

from voicecosts.producer.demo.devices import Loudspeaker
from voicecosts.producer.demo.providers import SAMPLE_RATE, Bill

PIECE: Final = 7
"""Characters of an answer that come at once."""
_ids = itertools.count(1)


class Moments:
    """Counts the moments that a call passes, and calls `act` at number `at`.

    `listen` gets the name of each moment, and may halt it.
    """

    def __init__(self, at: int | None = None, act: Callable[[], None] = lambda: None) -> None:
        self.at = at
        self.act = act
        self.listen: Callable[[str], bool] | None = None
        self.passed = 0
        self.names: list[str] = []

    async def __call__(self, name: str) -> None:
        """Pass a moment."""
        self.passed += 1
        self.names.append(name)
        if self.passed == self.at:
            self.act()
        if self.listen is not None and self.listen(name):
            await asyncio.Event().wait()  # until it is cancelled
        await asyncio.sleep(0.0005)


class InterruptibleLLM(llm.LLM[Any]):
    """Sends its request, answers in pieces that divide words, and reports usage at the end.

    `answer` returns text and tool calls for a context. Tools are part of the prompt where they may
    be used, as Anthropic has it. A word of the answer is one token. One that `fails` does not
    connect, and one that does not report names no usage. Its usage names the tier `served`.
    """

    served: str | None = None

    def __init__(
        self,
        moments: Moments,
        answer: Callable[[llm.ChatContext], tuple[str, list[llm.FunctionToolCall]]],
        *,
        fails: bool = False,
        reports: bool = True,
        name: str = "interruptible-llm",
    ) -> None:
        super().__init__()
        self.moments = moments
        self.answer = answer
        self.fails = fails
        self.reports = reports
        self.name = name
        self.received: Bill = defaultdict(Counter)
        self.billed = self.received

    @property
    def model(self) -> str:
        """The model's name in the metrics."""
        return self.name

    @property
    def provider(self) -> str:
        """The provider's label in the metrics."""
        return "scripted"

    def book_of(self, _request: llm.LLMStream) -> Any:
        """Return the page of the book that a request is counted on."""
        return 0

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[Any] | None = None,
        conn_options: Any = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: Any = NOT_GIVEN,
        tool_choice: Any = NOT_GIVEN,
        extra_kwargs: Any = NOT_GIVEN,
    ) -> llm.LLMStream:
        """Make a request."""
        return _Answer(
            self,
            chat_ctx=chat_ctx,
            tools=tools or [],
            conn_options=conn_options,
            used_tools=0 if tool_choice == "none" else len(tools or []),
        )


class _Answer(llm.LLMStream):
    def __init__(self, model: InterruptibleLLM, *, used_tools: int, **options: Any) -> None:
        super().__init__(model, **options)
        self._used_tools = used_tools

    async def _run(self) -> None:
        model = self._llm
        assert isinstance(model, InterruptibleLLM)
        await model.moments("llm connects")
        if model.fails:
            raise APIConnectionError("scripted failure", retryable=False)
        prompt = prompt_tokens(self._chat_ctx, tools=self._used_tools)
        got = model.received[model.book_of(self)]
        got.update(requests=1, input_tokens=prompt)
        text, calls = model.answer(self._chat_ctx)
        request = f"request-{next(_ids)}"
        await model.moments("llm sent")
        said = ""
        for start in range(0, len(text), PIECE):
            piece = text[start : start + PIECE]
            got["output_tokens"] += len((said + piece).split()) - len(said.split())
            said += piece
            self._event_ch.send_nowait(
                llm.ChatChunk(id=request, delta=llm.ChoiceDelta(role="assistant", content=piece))
            )
            await model.moments("llm chunk")
        for call in calls:
            delta = llm.ChoiceDelta(role="assistant", tool_calls=[call])
            self._event_ch.send_nowait(llm.ChatChunk(id=request, delta=delta))
            await model.moments("llm tool call")
        if not model.reports:
            return
        words = len(said.split())
        usage = llm.CompletionUsage(
            prompt_tokens=prompt,
            completion_tokens=words,
            total_tokens=prompt + words,
            service_tier=model.served,
        )
        self._event_ch.send_nowait(llm.ChatChunk(id=request, usage=usage))


def prompt_tokens(context: llm.ChatContext, *, tools: int = 0) -> int:
    """Return the tokens of a prompt as the model here counts them."""
    texts = [
        item.text_content or "" if item.type == "message" else getattr(item, "output", "")
        for item in context.items
    ]
    return 3 + sum(2 + len(text.split()) for text in texts) + 40 * tools


class _Voice(tts.TTS[Any]):
    """Makes audio of text, and counts in `received` what was sent to it."""

    def __init__(self, moments: Moments, *, streaming: bool, fails: bool = False) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=streaming),
            sample_rate=SAMPLE_RATE,
            num_channels=1,
        )
        self.moments = moments
        self.fails = fails
        self.received: Bill = defaultdict(Counter)
        self.billed = self.received

    @property
    def model(self) -> str:
        """The model's name in the metrics."""
        return type(self).__name__

    @property
    def provider(self) -> str:
        """The provider's label in the metrics."""
        return "scripted"

    def synthesize(self, text: str, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS) -> Any:
        """Speak a text that is whole."""
        return self._synthesize_with_stream(text, conn_options=conn_options)

    def send(self, text: str) -> None:
        """Count what is sent."""
        self.received[0]["characters"] += len(text)

    async def speak(self, emitter: tts.AudioEmitter, text: str) -> None:
        """Push the audio of a text."""
        samples = 16 * len(text)
        self.received[0]["samples"] += samples
        emitter.push(bytes(2 * samples))
        await self.moments("voice speaks")


class WholeVoice(_Voice):
    """Takes whole texts only: LiveKit divides what it is to say into sentences.

    It is sent the text when it is asked, as LiveKit counts it.
    """

    def __init__(self, moments: Moments, **options: Any) -> None:
        super().__init__(moments, streaming=False, **options)

    def synthesize(self, text: str, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS) -> Any:
        """Speak a text."""
        self.received[0]["requests"] += 1
        self.send(text)
        return _Utterance(tts=self, input_text=text, conn_options=conn_options)


class _Utterance(tts.ChunkedStream):
    async def _run(self, emitter: tts.AudioEmitter) -> None:
        voice = self._tts
        assert isinstance(voice, WholeVoice)
        await voice.moments("voice connects")
        if voice.fails:
            raise APIConnectionError("scripted failure", retryable=False)
        _begin(emitter, stream=False)
        await voice.speak(emitter, self._input_text)
        emitter.flush()


class PieceVoice(_Voice):
    """Sends each piece of text as it comes."""

    def __init__(self, moments: Moments, **options: Any) -> None:
        super().__init__(moments, streaming=True, **options)

    def stream(self, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS) -> Any:
        """Open a connection."""
        return _Pieces(tts=self, conn_options=conn_options)


class _Pieces(tts.SynthesizeStream):
    async def _run(self, emitter: tts.AudioEmitter) -> None:
        voice = self._tts
        assert isinstance(voice, PieceVoice)
        await voice.moments("voice connects")
        if voice.fails:
            raise APIConnectionError("scripted failure", retryable=False)
        _begin(emitter, stream=True)
        said = ""
        async for piece in self._input_ch:
            if not isinstance(piece, str):
                continue
            if not said:
                voice.received[0]["requests"] += 1
                emitter.start_segment(segment_id=f"segment-{next(_ids)}")
            said += piece
            self._mark_started()
            voice.send(piece)
            await voice.speak(emitter, piece)
        if said:
            emitter.end_segment()
            await voice.moments("voice ends")


class SentenceVoice(_Voice):
    """Reads its input at once, even while it connects, and sends whole sentences.

    With `one_by_one` it sends the next one when it has spoken the last. It divides text as
    LiveKit's plugins do, by `blingfire` or by the older tokenizer, or into `words`. One that
    `marks_first` marks that it sends before it connects.
    """

    def __init__(
        self,
        moments: Moments,
        *,
        one_by_one: bool = False,
        blingfire: bool = True,
        words: bool = False,
        marks_first: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(moments, streaming=True, **options)
        self.one_by_one = one_by_one
        self.marks_first = marks_first
        self.tokenizer: tokenize.SentenceTokenizer | tokenize.WordTokenizer = (
            tokenize.basic.WordTokenizer(ignore_punctuation=False, retain_format=True)
            if words
            else tokenize.blingfire.SentenceTokenizer(retain_format=True)
            if blingfire
            else tokenize.basic.SentenceTokenizer(retain_format=True)
        )

    def stream(self, *, conn_options: Any = DEFAULT_API_CONNECT_OPTIONS) -> Any:
        """Open a connection."""
        return _Sentences(tts=self, conn_options=conn_options)


class _Sentences(tts.SynthesizeStream):
    async def _run(self, emitter: tts.AudioEmitter) -> None:
        voice = self._tts
        assert isinstance(voice, SentenceVoice)
        sentences = voice.tokenizer.stream()
        sent: asyncio.Queue[str | None] = asyncio.Queue()
        tasks = [
            asyncio.create_task(part)
            for part in (
                self._read(sentences),
                self._send(voice, sentences, emitter, sent),
                self._speak(voice, emitter, sent),
            )
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            await utils.aio.cancel_and_wait(*tasks)
            await sentences.aclose()
        if self._pushed_text:
            emitter.end_segment()
            await voice.moments("voice ends")

    async def _read(self, sentences: tokenize.SentenceStream | tokenize.WordStream) -> None:
        async for piece in self._input_ch:
            if isinstance(piece, str):
                sentences.push_text(piece)
            else:
                sentences.flush()
        sentences.end_input()

    async def _send(
        self,
        voice: SentenceVoice,
        sentences: tokenize.SentenceStream | tokenize.WordStream,
        emitter: tts.AudioEmitter,
        sent: asyncio.Queue[str | None],
    ) -> None:
        if not voice.marks_first:
            await voice.moments("voice connects")
        if voice.fails:
            raise APIConnectionError("scripted failure", retryable=False)
        _begin(emitter, stream=True)
        has_begun = False
        async for sentence in sentences:
            if not has_begun:
                has_begun = True
                voice.received[0]["requests"] += 1
                emitter.start_segment(segment_id=f"segment-{next(_ids)}")
            self._mark_started()
            if voice.marks_first:
                await voice.moments("voice connects")
            voice.send(sentence.token)
            if voice.one_by_one:
                await voice.speak(emitter, sentence.token)
            else:
                sent.put_nowait(sentence.token)
        sent.put_nowait(None)

    async def _speak(
        self, voice: SentenceVoice, emitter: tts.AudioEmitter, sent: asyncio.Queue[str | None]
    ) -> None:
        while (sentence := await sent.get()) is not None:
            await voice.speak(emitter, sentence)


def _begin(emitter: tts.AudioEmitter, *, stream: bool) -> None:
    emitter.initialize(
        request_id=f"voice-{next(_ids)}",
        sample_rate=SAMPLE_RATE,
        num_channels=1,
        mime_type="audio/pcm",
        stream=stream,
    )


class Listened(Loudspeaker):
    """A loudspeaker whose frames are moments too."""

    def __init__(self, moments: Moments, *, speed: float = 50.0) -> None:
        super().__init__(speed)
        self._moments = moments

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Queue a frame to play."""
        await super().capture_frame(frame)
        await self._moments("plays")
