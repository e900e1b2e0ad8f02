"""What LiveKit's requests to language models and voices hold, noted while they are made.

A request that is cut off reports no tokens or no characters. What it surely used can be told only
by what was seen of it: what its prompt was made of, and how much text a voice had taken. So the
three base classes of LiveKit's requests are wrapped once in a process, as libraries for tracing
wrap them, and stay wrapped. The wrapper calls the original with what it was given, and nothing of
its own can raise there. What it reads is private to LiveKit: where something is absent, nothing is
noted, and nothing is estimated.
"""
# ruff: noqa: SLF001 - LiveKit's requests are read from the inside, in this file only

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import re
import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType
from typing import Any, Final
from weakref import ReferenceType, WeakKeyDictionary, ref

from livekit.agents import llm, stt, tokenize, tts

from voicecosts.producer.capture import contexts, open_streams
from voicecosts.producer.capture.components import holds_others
from voicecosts.producer.capture.listener import listener
from voicecosts.producer.capture.open_streams import OpenStream
from voicecosts.producer.capture.tiers import AskedTier
from voicecosts.producer.counts import UNKNOWN

logger = logging.getLogger(__name__)

_LONGEST: Final = 2_048
"""Characters of a text that are looked at, in less than a millisecond; the rest of what was cut
off, beyond two minutes of speech, is not counted."""

_HELD_BACK: Final = 20
"""Characters that LiveKit's tokenizers may hold back beside the last sentence: the length below
which they join a sentence to the next one."""

_ALONE: Final = r"\u0e00-\u0eff\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
"""Characters of scripts without spaces: a tokenizer may make a word of each."""

_WORD: Final = re.compile(rf"[{_ALONE}]|[^\s{_ALONE}]+")
_ENDING: Final = re.compile(r"[^.!?…。！？؟۔।॥\n]*(?:[.!?…。！？؟۔।॥\n]|\Z)")  # noqa: RUF001 - their marks
"""Text up to the next mark that may end a sentence, wherever it stands: `$3.50` has one."""

_MANY: Final = 200
"""Items of a context, or values of its options, beyond which a prompt is not noted: each costs a
tenth of a microsecond."""

_FRAMES: Final = 8
"""Callers between a request's base class and the method that was asked for it."""


class Request:
    """A request that is made. `is_adapter` once another one of its kind serves it."""

    __slots__ = ("is_adapter",)

    def __init__(self) -> None:
        self.is_adapter = False

    def note(self, stream: Any) -> None:
        """Note what is needed of a request that the base class has set up."""


class WholeText(Request):
    """A voice that was given its text when it was asked: it reports all of it, however it ends."""

    __slots__ = ()


class Recognition(Request):
    """A recogniser that is listening; `open` knows for how long, where its provider bills that."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        super().__init__()
        self.open: OpenStream | None = None

    def note(self, stream: Any) -> None:
        """Follow the stream to its end."""
        if _reports_itself(stream, stt.RecognizeStream) and not holds_others(stream._stt):
            self.open = open_streams.follow(stream, self, contexts.recognising())


class Prompt(Request):
    """A request to a language model.

    `words` counts those of its answer so far. `is_reported` once metrics named it. `tier` is known
    of every request, an adapter's too.
    """

    __slots__ = (
        "_contents",
        "_is_in_word",
        "_items",
        "_model",
        "_options",
        "_tools",
        "is_reported",
        "label",
        "tier",
        "words",
    )

    def __init__(self) -> None:
        super().__init__()
        self.label = ""
        self.words = 0
        self.is_reported = False
        self.tier: AskedTier | None = None
        self._items: tuple[Any, ...] = ()
        self._contents: list[Any] = []
        self._tools: tuple[Any, ...] = ()
        self._model: ReferenceType[Any] | None = None
        self._options: list[Any] | None = None
        self._is_in_word = False

    def note(self, stream: Any) -> None:
        """Note what the prompt is made of, and count the answer as it comes."""
        self.tier = AskedTier(stream, stream._llm)
        stream._task.add_done_callback(self.tier.end)
        if not _reports_itself(stream, llm.LLMStream) or holds_others(stream._llm):
            return
        self.label = stream._llm.label
        stream._task.add_done_callback(self._count_answer(stream._event_ch))
        if len(stream._chat_ctx.items) > _MANY:
            return
        self._tools = tuple(stream._tools)
        self._model, self._options = ref(stream._llm), _options_of(stream._llm)
        self._items = tuple(stream._chat_ctx.items)
        # An item may be edited in place later, so what it holds is kept beside it.
        self._contents = [
            tuple(held) if type(held := getattr(item, "content", None)) is list else held
            for item in self._items
        ]

    def contains(self, other: Prompt) -> bool:
        """Whether all that the other prompt is made of is in this one too, unchanged.

        Only prompts of one model object with the same options are compared: a schema of the answer
        is part of what is billed, and some providers leave tools out where none may be used.
        """
        if not self._items or not other._items or not self._is_asked_as(other):
            return False
        own_tools = {id(tool) for tool in self._tools}
        if not all(id(tool) in own_tools for tool in other._tools):
            return False
        own = {
            item.id: (item, content)
            for item, content in zip(self._items, self._contents, strict=True)
        }
        return all(
            _is_same(own.get(item.id), item, content)
            for item, content in zip(other._items, other._contents, strict=True)
        )

    def _is_asked_as(self, other: Prompt) -> bool:
        model = None if self._model is None else self._model()
        if model is None or other._model is None or other._model() is not model:
            return False
        return self._options is not None and self._options == other._options

    def _count_answer(self, channel: Any) -> Callable[[Any], None]:
        """Count what comes through a channel; return what ends it when a task is done."""
        if "send_nowait" in vars(channel):
            return lambda _task: None  # somebody else's wrapper
        send, count = channel.send_nowait, listener(self._count_words)

        def counting(*args: Any, **kwargs: Any) -> Any:
            sent = send(*args, **kwargs)
            count(*args, *kwargs.values())
            return sent

        channel.send_nowait = counting
        return lambda _task: _unwrap(channel, "send_nowait", counting)

    def _count_words(self, chunk: Any) -> None:
        usage = getattr(chunk, "usage", None)
        if usage is not None and self.tier is not None:
            self.tier.answered(usage)
        content = getattr(getattr(chunk, "delta", None), "content", None)
        if type(content) is str and content:
            joins = self._is_in_word and not content[0].isspace()
            self.words += len(content.split()) - joins
            self._is_in_word = not content[-1].isspace()


class Voice(Request):
    """A request to a voice that takes text as it comes.

    `reported` counts the characters that metrics named. `provider` and `model` are known once it
    was cut off.
    """

    __slots__ = (
        "_channel",
        "_may_be_served",
        "_reporter",
        "_sends",
        "_speech",
        "_stream",
        "_taken",
        "model",
        "provider",
        "reported",
    )

    def __init__(self) -> None:
        super().__init__()
        self.provider = ""
        self.model = UNKNOWN
        self.reported = 0
        self._sends = 0
        self._may_be_served = False
        self._taken: int | None = None
        self._speech: Any = None
        self._stream: Any = None
        self._channel: Any = None
        self._reporter: asyncio.Task[Any] | None = None

    def note(self, stream: Any) -> None:
        """Follow the request to its end, if it belongs to a speech."""
        speech = contexts.speech()
        if speech is None or speech.done() or not _reports_itself(stream, tts.SynthesizeStream):
            return
        self._speech, self._stream, self._channel = speech, stream, stream._input_ch
        self._may_be_served = holds_others(stream._tts)
        self._count_sends(stream)
        stream._task.add_done_callback(listener(self._ended))
        _VOICES.setdefault(speech, []).append(self)

    def is_reporting(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether a task is the one that reports what this request used."""
        reporter = self._reporter if self._stream is None else self._stream._metrics_task
        return task is not None and reporter is task

    def unreported(self) -> int | None:
        """Return the characters that no metrics will name, `None` while they still may."""
        if self._taken is None or (self._reporter is not None and not self._reporter.done()):
            return None
        is_served = self.is_adapter or self._may_be_served
        return 0 if is_served else max(0, self._taken - self.reported)

    def _count_sends(self, stream: Any) -> None:
        if "_mark_started" in vars(stream):
            return  # somebody else's wrapper
        mark = stream._mark_started

        def marking(*args: Any, **kwargs: Any) -> Any:
            marked = mark(*args, **kwargs)
            self._sends += 1
            return marked

        stream._mark_started = marking
        stream._task.add_done_callback(lambda _task: _unwrap(stream, "_mark_started", marking))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        stream, channel = self._stream, self._channel
        self._stream = self._channel = None
        self._reporter, self._taken = stream._metrics_task, 0
        # Of a request that failed, or was tried again (on a new channel), nothing is known.
        if task.cancelled() and stream._input_ch is channel:
            self.provider, self.model = _names(stream._tts)
            self._taken = _passed_on(stream, self._sends)
        if self._taken == 0 and self._reporter is not None:
            self._reporter.add_done_callback(listener(self._leave))
        elif self._taken == 0:
            self._leave(task)

    def _leave(self, _task: asyncio.Task[Any]) -> None:
        """All is reported: nothing will be asked about this request."""
        speech, self._speech = self._speech, None
        voices = voices_of(speech)
        if self in voices:
            voices.remove(self)
            if not voices:
                forget(speech)


def watch() -> None:
    """Wrap the base classes of LiveKit's requests; a second call does nothing."""
    for base, kind in _KINDS.items():
        if not getattr(base.__init__, "_is_watched", False):
            base.__init__ = _watched(base.__init__, kind, _PROVIDER[base])
    _tokenizers()


def on_request(asked: Callable[[Any], None]) -> None:
    """Have `asked` called with the model, voice or recogniser of each request that is made."""
    global _asked  # noqa: PLW0603 - one attribution in a process
    _asked = asked


def reporting() -> Request | None:
    """Return the request whose metrics are being emitted, as far as the context tells."""
    return _REQUEST.get()


def open_stream() -> OpenStream | None:
    """Return the recognition stream whose metrics are being emitted, if it is billed when open."""
    request = _REQUEST.get()
    return request.open if isinstance(request, Recognition) else None


def asked_tier() -> AskedTier | None:
    """Return the tier of the request to a language model whose metrics are being emitted."""
    request = _REQUEST.get()
    return request.tier if isinstance(request, Prompt) else None


def is_served_inside() -> bool:
    """Whether the request whose metrics are being emitted was served by another of its kind.

    A voice reports from a task that is not the request's own.
    """
    request, speech, task = _REQUEST.get(), contexts.speech(), contexts.task()
    voices = [] if speech is None else voices_of(speech)
    request = next((voice for voice in voices if voice.is_reporting(task)), request)
    return request is not None and request.is_adapter


def voices_of(speech: Any) -> list[Voice]:
    """Return the voices that were asked to speak for a speech."""
    return _VOICES.get(speech, [])


def forget(speech: Any) -> None:
    """Nothing more will be asked about a speech."""
    _VOICES.pop(speech, None)


_KINDS: Final[dict[Any, type[Request]]] = {
    llm.LLMStream: Prompt,
    tts.SynthesizeStream: Voice,
    tts.ChunkedStream: WholeText,
    stt.RecognizeStream: Recognition,
}

_PROVIDER: Final = {
    llm.LLMStream: "_llm",
    tts.SynthesizeStream: "_tts",
    tts.ChunkedStream: "_tts",
    stt.RecognizeStream: "_stt",
}
"""Where a request keeps the object that it was made by."""

_asked: Callable[[Any], None] | None = None

_REQUEST: ContextVar[Request | None] = ContextVar("voicecosts_request", default=None)
"""The request in whose tasks code runs."""

_VOICES: Final[WeakKeyDictionary[Any, list[Voice]]] = WeakKeyDictionary()
"""A speech's handle → its voices. They are noted for sessions that are not attached as well,
because OpenRTC hands a session over when its first speech may be under way."""


def _watched(
    original: Callable[..., None], kind: type[Request], provider: str
) -> Callable[..., None]:
    @functools.wraps(original)
    def init(stream: Any, *args: Any, **kwargs: Any) -> None:
        outer, request = _REQUEST.get(), kind()
        token = _REQUEST.set(request)  # the tasks that the base class starts inherit it
        try:
            original(stream, *args, **kwargs)
        finally:
            _REQUEST.reset(token)
        _note(request, outer, stream, provider)

    init._is_watched = True  # type: ignore[attr-defined]  # read by `watch`
    return init


def _note(request: Request, outer: Request | None, stream: Any, provider: str) -> None:
    try:
        if _asked is not None:
            _asked(getattr(stream, provider, None))
        is_inner = outer is not None and _family(outer) is _family(request)
        if is_inner and isinstance(outer, WholeText):
            return  # the outer one reports the text of both
        if is_inner and outer is not None:
            outer.is_adapter = True
        request.note(stream)
    except Exception:  # noqa: BLE001 - nothing may reach the voice loop, whatever its type
        logger.debug("a request was not noted; if it is cut off, nothing is estimated for it")


def _unwrap(wrapped: Any, name: str, wrapper: Any) -> None:
    """Take a wrapper away, unless somebody has put another one over it."""
    if vars(wrapped).get(name) is wrapper:
        delattr(wrapped, name)


def _family(request: Request) -> type[Request]:
    return type(request) if isinstance(request, Prompt | Recognition) else Voice


def _reports_itself(stream: Any, base: Any) -> bool:
    """Whether a request reports its own usage, which an adapter leaves to those it asks."""
    return getattr(type(stream), "_metrics_monitor_task", None) is base._metrics_monitor_task


def _names(voice: Any) -> tuple[str, str]:
    """Return provider and model as the metrics of a voice would name them."""
    provider = voice.provider
    return (provider if provider and provider != UNKNOWN else voice.label), voice.model or UNKNOWN


def _options_of(model: Any) -> list[Any] | None:
    """Return what a model is asked with beside its prompt, `None` where it cannot be seen.

    The base class is not told. The method that is asked for a request is, by its own signature.
    """
    frame = sys._getframe(1)
    for _ in range(_FRAMES):
        if frame.f_code.co_name == "chat":
            given = _arguments(frame)
            if not any(value is model for value in given.values()):
                return None
            return _flat(
                {
                    name: value
                    for name, value in given.items()
                    if name not in _OF_PROMPT and value is not model
                }
            )
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


_OF_PROMPT: Final = frozenset({"chat_ctx", "tools", "conn_options"})
"""Arguments of `chat` that are compared on their own, or do not reach the provider."""

_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


def _arguments(frame: FrameType) -> dict[str, Any]:
    """Return the arguments of the function that a frame runs, as they are now."""
    code, held = frame.f_code, frame.f_locals
    named = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)
    given = {name: held[name] for name in code.co_varnames[:named]}
    if code.co_flags & inspect.CO_VARKEYWORDS:
        given.update(held[code.co_varnames[named]])
    return given


def _flat(value: Any) -> list[Any] | None:
    """Return a value in a form that equals another's only where both say the same.

    Containers may be changed later, so they are unfolded now; `None` where they hold too many.
    Other objects stand beside their identity, which is compared first.
    """
    flat: list[Any] = []
    waiting = [value]
    while waiting:
        each = waiting.pop()
        kind = type(each)
        flat.append(kind)
        if kind in _PLAIN:
            flat.append(each)
        elif kind in {dict, list, tuple}:
            if len(flat) + len(waiting) + len(each) > _MANY:
                return None
            flat.append(len(each))
            waiting += each
            waiting += each.values() if kind is dict else ()
        else:
            flat += id(each), each
    return flat


def _is_same(own: tuple[Any, Any] | None, item: Any, content: Any) -> bool:
    """Whether an item is the same, or one of the same name that says the same."""
    if own is None:
        return False
    mine, my_content = own
    if my_content != content or type(mine) is not type(item):
        return False
    return mine is item or (content is not None and mine.role == item.role) or mine == item


def _passed_on(stream: Any, sends: int) -> int:
    """Return the characters that a voice that was cut off has surely sent to its provider.

    It had taken them from its input. `sends` is how often it marked that it sends; each time it
    sent a sentence or more, or a word, and the last time it may not have come to it. Of text that
    was not ended it may hold back the end, and all of it where it collects sentences. One that
    paces its sentences may hold back any.
    """
    pieces, unread, voice = stream._input_buffer, stream._input_ch.qsize(), stream._tts
    if (
        not sends
        or unread > len(pieces)
        or stream._current_attempt_has_error
        or getattr(voice, "_stream_pacer", None) is not None
    ):
        return 0
    taken = pieces[: len(pieces) - unread]
    is_ended = bool(taken) and not isinstance(taken[-1], str)  # by the mark that ends a segment
    if not is_ended and (
        getattr(stream, "_expressive", False) or getattr(voice, "_expressive", False)
    ):
        return 0
    taken = [piece for piece in taken if isinstance(piece, str)]
    text = "".join(taken)
    is_whole = is_ended and len(text) <= _LONGEST
    looked_at = text[:_LONGEST].rstrip()
    if _sends_sentences(voice):
        divided = [each.tokenize(looked_at) for each in _tokenizers()]
        divided.append(_ENDING.findall(looked_at)[:-1])  # the last match is empty
        count = _printed
    else:
        # A word, or what was pushed at once where that is less; punctuation may be left out.
        divided = [_WORD.findall(looked_at), taken]
        count = _letters
    return min((_sent(units, sends - 1, count, is_whole=is_whole) for units in divided), default=0)


def _sends_sentences(voice: Any) -> bool:
    """Whether what a voice sends at once is a sentence at least: LiveKit's tokenizers make it."""
    held = [
        type(value)
        for owner in (voice, getattr(voice, "_opts", None))
        for value in list(getattr(owner, "__dict__", {}).values())
    ]
    dividing = [
        kind
        for kind in held
        if issubclass(kind, tokenize.SentenceTokenizer | tokenize.WordTokenizer)
    ]
    known = {type(each) for each in _tokenizers()}
    return bool(dividing) and known.issuperset(dividing)


@functools.cache
def _tokenizers() -> tuple[tokenize.SentenceTokenizer, ...]:
    """Return LiveKit's own tokenizers, which plugins use; none where a version lacks one.

    They divide as finely as they can: a plugin may join sentences, and never sends less than one.
    They load something when they are first used, so that is not left to a call.
    """
    try:
        made = (
            tokenize.blingfire.SentenceTokenizer(min_sentence_len=1, retain_format=True),
            tokenize.basic.SentenceTokenizer(min_sentence_len=1, retain_format=True),
        )
        for each in made:
            each.tokenize("A first sentence. And a second one.")
    except Exception:  # noqa: BLE001  # pragma: no cover - another livekit-agents
        return ()
    return made


def _sent(units: list[str], sends: int, count: Callable[[str], int], *, is_whole: bool) -> int:
    """Return the characters of the first `sends` units of a text that is whole or goes on."""
    if is_whole:
        return count("".join(units[:sends]))
    # The last one may go on.
    return max(0, count("".join(units[:-1][:sends])) - _HELD_BACK)


def _printed(text: str) -> int:
    """Return the characters of a text without spaces, which tokenizers may collapse."""
    return sum(map(len, text.split()))


def _letters(text: str) -> int:
    """Return the letters and digits of a text."""
    return sum(map(str.isalnum, text))
