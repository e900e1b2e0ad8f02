"""The wrapping of LiveKit's requests: it changes nothing, and it cannot hurt a call."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import weakref
from typing import Any

import pytest
from livekit.agents import APIConnectionError, APIConnectOptions, llm, tokenize, tts

from tests.support.interruptible import InterruptibleLLM, Moments, SentenceVoice, WholeVoice
from tests.support.waiting import until
from voicecosts.producer.capture import requests
from voicecosts.producer.capture.requests import Prompt, Voice

BASES = (llm.LLMStream, tts.SynthesizeStream, tts.ChunkedStream)


def silent(_context: Any) -> tuple[str, list[Any]]:
    """Answer nothing."""
    return "", []


@pytest.fixture
def speech(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A speech that runs."""

    class Speech:
        id = "speech_1"

        def done(self) -> bool:
            return False

    running = Speech()
    monkeypatch.setattr(requests.contexts, "speech", lambda: running)
    return running


def test_what_is_read_of_livekits_requests_is_there() -> None:
    """Private names: without one of them nothing is estimated, which nobody would see."""
    for base in (llm.LLMStream, tts.SynthesizeStream):
        assert inspect.iscoroutinefunction(inspect.unwrap(base._metrics_monitor_task))
    assert callable(tts.SynthesizeStream._mark_started)
    of_voice = inspect.getsource(inspect.unwrap(tts.SynthesizeStream.__init__))
    for name in (
        "_input_ch",
        "_input_buffer",
        "_task",
        "_metrics_task",
        "_tts",
        "_current_attempt",
    ):
        assert f"self.{name}" in of_voice
    of_model = inspect.getsource(inspect.unwrap(llm.LLMStream.__init__))
    for name in ("_llm", "_chat_ctx", "_tools", "_event_ch"):
        assert f"self.{name}" in of_model


def test_the_classes_are_wrapped_once() -> None:
    """A second time changes nothing, and the signature stays the original's."""
    before = [base.__init__ for base in BASES]
    requests.watch()
    assert [base.__init__ for base in BASES] == before
    for base in BASES:
        original = inspect.unwrap(base.__init__)
        assert original is not base.__init__
        assert inspect.signature(base.__init__) == inspect.signature(original)


def test_classes_are_copied_and_pickled_as_before() -> None:
    """The wrapper is a plain function in its class."""
    for base in BASES:
        assert copy.deepcopy(base) is base
        assert pickle.loads(pickle.dumps(base)) is base  # noqa: S301 - our own


def test_the_error_of_a_request_reaches_its_caller() -> None:
    """What the original raises is raised, and the context is as before."""
    with pytest.raises(TypeError, match="input_text"):
        _Nothing(tts=WholeVoice(Moments()))  # type: ignore[call-arg]  # the point
    assert requests.reporting() is None


class _Nothing(tts.ChunkedStream):
    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        """Do nothing."""


async def test_a_request_that_cannot_be_noted_goes_on(
    monkeypatch: pytest.MonkeyPatch, speech: Any
) -> None:
    """Another LiveKit without what is read, or a fault of ours: the caller gets its answer."""

    def broken(_request: Any, _stream: Any) -> None:
        raise ZeroDivisionError

    for kind in (Prompt, Voice):
        monkeypatch.setattr(kind, "note", broken)
    model = InterruptibleLLM(Moments(), lambda _context: ("an answer", []))
    context = llm.ChatContext.empty()
    async with model.chat(chat_ctx=context) as stream:
        assert "".join([c.delta.content or "" async for c in stream if c.delta]) == "an answer"
    async with SentenceVoice(Moments()).stream() as speaking:
        speaking.push_text("Words.")
        speaking.end_input()
        assert [audio async for audio in speaking]


async def test_a_wrapper_of_somebody_else_stands_on_ours(speech: Any) -> None:
    """Both run, and taking the other one away leaves ours."""
    ours, seen = tts.SynthesizeStream.__init__, []

    def theirs(stream: Any, *args: Any, **kwargs: Any) -> None:
        ours(stream, *args, **kwargs)
        seen.append(stream)

    tts.SynthesizeStream.__init__ = theirs  # type: ignore[method-assign]  # as a tracing library
    try:
        stream = SentenceVoice(Moments()).stream()
    finally:
        tts.SynthesizeStream.__init__ = ours  # type: ignore[method-assign]  # same
    assert seen == [stream]
    assert len(requests.voices_of(speech)) == 1
    await stream.aclose()


async def test_an_answer_that_somebody_else_counts_is_left_to_them() -> None:
    """A channel that is wrapped already is not wrapped again: its words are not claimed."""
    prompt, channel = Prompt(), asyncio.Queue[Any]()
    channel.send_nowait = channel.put_nowait  # type: ignore[attr-defined]  # theirs
    prompt._count_answer(channel)
    channel.send_nowait("words")  # type: ignore[attr-defined]  # theirs
    assert channel.get_nowait() == "words"
    assert prompt.words == 0


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        (["one", " two", " thr", "ee"], 3),
        (["on", "e", "", " ", "two "], 2),
        (["  "], 0),
        (["a b", "c d"], 3),
        ([None, "x"], 1),
    ],
)
async def test_a_word_that_comes_in_pieces_is_one(chunks: list[Any], words: int) -> None:
    """Models answer in tokens, and a word may be several."""
    model = InterruptibleLLM(Moments(), silent)
    stream = model.chat(chat_ctx=llm.ChatContext.empty())
    prompt = Prompt()
    vars(stream._event_ch).pop("send_nowait")
    prompt._count_answer(stream._event_ch)
    for content in chunks:
        delta = None if content is None else llm.ChoiceDelta(content=content)
        stream._event_ch.send_nowait(llm.ChatChunk(id="r", delta=delta))
    assert prompt.words == words
    await stream.aclose()


async def test_the_tasks_of_a_request_know_it() -> None:
    """An event of usage is told by its context, whatever else runs meanwhile."""
    model = InterruptibleLLM(Moments(), silent)
    heard: list[Any] = []

    def listen(_metrics: Any) -> None:
        heard.append(requests.reporting())

    model.on("metrics_collected", listen)
    contexts = [llm.ChatContext.empty() for _ in range(3)]
    for number, context in enumerate(contexts):
        context.add_message(role="user", content=f"number {number}")
    streams = [model.chat(chat_ctx=context) for context in contexts]
    for stream in streams:
        await stream.collect()
    got = {each._items[0].text_content for each in heard}
    assert got == {f"number {number}" for number in range(3)}
    assert len(heard) == 3


async def test_a_request_that_serves_another_makes_it_an_adapter(speech: Any) -> None:
    """Then only the inner one speaks for itself; LiveKit's own adapters never do."""

    class Outer(tts.SynthesizeStream):
        async def _run(self, output_emitter: tts.AudioEmitter) -> None:
            async with inner.stream() as stream:
                async for _ in stream:
                    pass

    inner = SentenceVoice(Moments())
    outer = Outer(tts=inner, conn_options=tts.tts.DEFAULT_API_CONNECT_OPTIONS)
    await until(lambda: len(requests.voices_of(speech)) == 2)
    assert [voice.is_adapter for voice in requests.voices_of(speech)] == [True, False]
    await outer.aclose()


async def test_a_voice_that_serves_a_whole_text_is_not_followed(speech: Any) -> None:
    """`synthesize` of a voice that only streams reports the text itself, however it ends."""
    moments = Moments()
    moments.listen = lambda name: name == "voice connects"  # and halts there
    voice = SentenceVoice(moments)
    stream = voice.synthesize("A text that is whole.")
    await until(lambda: "voice connects" in moments.names)
    assert requests.voices_of(speech) == []
    await stream.aclose()


async def test_a_request_that_reports_in_its_own_way_is_not_followed(speech: Any) -> None:
    """Of what it reports nothing is known; LiveKit's adapters report nothing at all."""

    class Own(tts.SynthesizeStream):
        async def _run(self, output_emitter: tts.AudioEmitter) -> None:
            """Do nothing."""

        async def _metrics_monitor_task(self, event_aiter: Any) -> None:
            """Report nothing."""

    voice = SentenceVoice(Moments())
    stream = Own(tts=voice, conn_options=tts.tts.DEFAULT_API_CONNECT_OPTIONS)
    assert requests.voices_of(speech) == []
    await stream.aclose()


async def test_a_request_that_came_to_its_end_claims_nothing(speech: Any) -> None:
    """Also where nobody heard its report: a voice of a tool's own, say."""
    stream = SentenceVoice(Moments()).stream()
    (voice,) = requests.voices_of(speech)
    stream.push_text("A text that is spoken to its end.")
    stream.end_input()
    assert [audio async for audio in stream]
    await stream.aclose()
    assert voice.unreported() == 0


async def test_a_request_that_was_tried_again_claims_nothing(speech: Any) -> None:
    """The second time it may have sent nothing yet, and the first time not all."""

    class Flaky(tts.SynthesizeStream):
        tries = 0

        async def _run(self, output_emitter: tts.AudioEmitter) -> None:
            self.tries += 1
            self._mark_started()
            async for _ in self._input_ch:
                pass
            if self.tries == 1:
                raise APIConnectionError("once")
            await asyncio.Event().wait()

    options = APIConnectOptions(max_retry=3, retry_interval=0.0)
    stream = Flaky(tts=SentenceVoice(Moments()), conn_options=options)
    (voice,) = requests.voices_of(speech)
    stream.push_text("A sentence that is read twice.")
    stream.end_input()
    await until(lambda: stream.tries == 2 and not stream._input_ch.qsize())
    await stream.aclose()
    await until(lambda: voice.unreported() is not None)
    assert voice.unreported() == 0


async def test_no_request_is_kept_alive(speech: Any) -> None:
    """What is noted goes with the request, and leaves no work for the garbage collector."""
    model = InterruptibleLLM(Moments(), lambda _context: ("words", []))
    stream = model.chat(chat_ctx=llm.ChatContext.empty())
    channel = weakref.ref(stream._event_ch)
    await stream.collect()
    await stream.aclose()
    del stream
    await asyncio.sleep(0)
    gc.collect()
    assert channel() is None
    speaking = SentenceVoice(Moments()).stream()
    held = weakref.ref(speaking)
    await speaking.aclose()
    del speaking
    await asyncio.sleep(0)
    gc.collect()
    assert held() is None
    assert requests.voices_of(speech) == []


async def test_a_speech_that_is_gone_takes_its_voices_with_it() -> None:
    """Sessions that are not metered leave nothing behind."""

    class Speech:
        pass

    speech = Speech()
    requests._VOICES[speech] = [Voice()]
    assert len(requests.voices_of(speech)) == 1
    gone = weakref.ref(speech)
    del speech
    gc.collect()
    assert gone() is None


class _Ended:
    """What is read of a stream that was cut off."""

    def __init__(self, *pieces: Any, unread: int = 0, **more: Any) -> None:
        self._input_buffer = list(pieces)
        self._input_ch = self
        self._tts = self
        self._current_attempt_has_error = False
        self._unread = unread
        self.divides: Any = tokenize.basic.SentenceTokenizer()
        vars(self).update(more)

    def qsize(self) -> int:
        """Return how many pieces wait."""
        return self._unread


END = object()
TWO = "The first sentence is long enough. And the second one goes on"
LONG = "This sentence has 32 characters. " * 9_000
PRINTED = len(TWO.replace(" ", ""))
FIRST = len("Thefirstsentenceislongenough.") - requests._HELD_BACK
WORDS = tokenize.basic.WordTokenizer(ignore_punctuation=False)


@pytest.mark.parametrize(
    ("stream", "sends", "claimed"),
    [
        pytest.param(_Ended(TWO), 9, FIRST, id="the last sentence may go on"),
        pytest.param(_Ended(TWO + ". And a third"), 2, FIRST, id="one was sent of what goes on"),
        pytest.param(_Ended(TWO, END), 9, PRINTED, id="the text was ended"),
        pytest.param(_Ended(TWO, END), 2, FIRST + 20, id="one sentence was sent"),
        pytest.param(_Ended(TWO, END), 1, 0, id="it marked, and may connect still"),
        pytest.param(_Ended("So.   \n It  is.", END), 9, 8, id="spaces are collapsed"),
        pytest.param(_Ended(TWO, END, divides=WORDS), 4, 16, id="words, and three were sent"),
        pytest.param(_Ended(TWO, END, divides=None), 4, 16, id="words, of what is unknown"),
        pytest.param(_Ended("A ", "b c", END, divides=None), 2, 1, id="pieces were sent"),
        pytest.param(_Ended(TWO, END, unread=1), 9, FIRST, id="the end was not read"),
        pytest.param(_Ended(TWO, END, unread=2), 9, 0, id="nothing was read"),
        pytest.param(_Ended(TWO, END, unread=3), 9, 0, id="more waits than was given"),
        pytest.param(_Ended(TWO, END), 0, 0, id="nothing was sent"),
        pytest.param(_Ended(), 9, 0, id="there was no text"),
        pytest.param(_Ended("One sentence, not ended"), 9, 0, id="one sentence"),
        pytest.param(_Ended(TWO, END, _stream_pacer=object()), 9, 0, id="sentences are paced"),
        pytest.param(_Ended(TWO, END, _current_attempt_has_error=True), 9, 0, id="it failed"),
        pytest.param(_Ended(TWO, _expressive=True), 9, 0, id="sentences are collected"),
        pytest.param(_Ended(TWO, END, _expressive=True), 9, PRINTED, id="collected, and ended"),
        pytest.param(_Ended(LONG, END), 9999, 1_716, id="a text beyond measure"),
    ],
)
def test_what_a_voice_surely_sent(stream: Any, sends: int, claimed: int) -> None:
    """Of what it had taken, what it cannot have held back."""
    assert requests._passed_on(stream, sends) == claimed


def test_the_tokenizers_keep_every_character() -> None:
    """Lengths of sentences are places in the text."""
    text = "A sentence that is long enough.  Another one, long as well.\n\nAnd the last of them"
    tokenizers = requests._tokenizers()
    assert len(tokenizers) == 2
    for tokenizer in tokenizers:
        assert "".join(tokenizer.tokenize(text)) == text
