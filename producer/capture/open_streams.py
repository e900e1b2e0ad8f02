"""How long the connections of speech recognition were open, where their provider bills that.

Such a provider bills from the connection's opening to its close, and LiveKit's plugins report the
audio that they sent: less, by what lies before the first word and after the last one, and by all
that was muted. The rest goes to an estimated meter of the same model
(`docs/decisions/0007-what-an-estimate-may-claim.md`). A plugin that reports the rest itself leaves
none. What is read is private to LiveKit: where something is absent, nothing is booked.
"""
# ruff: noqa: SLF001 - LiveKit's streams are read from the inside

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

from voicecosts.producer.capture.by_connection import BY_CONNECTION
from voicecosts.producer.capture.listener import listener
from voicecosts.producer.counts import UNKNOWN, Usage
from voicecosts.producer.events import now_us
from voicecosts.producer.providers import normalise_provider

Book = Callable[[Usage, str], None]
"""Counts estimated usage under an agent label."""

_HELD_BACK_S: Final = 5.0
"""Seconds that are not booked while a stream is open: audio that was sent and not reported yet, and
silence that LiveKit sends at once to end a turn or the session (two seconds each time)."""

_STEP_S: Final = 1.0
"""Seconds that are booked at once, at least, while a stream is open: each time makes a reading."""


class OpenStream:
    """One recognition stream of a provider that bills by connection. On the session's thread.

    A connection is open from when its plugin first reads the audio that it is to send, which all
    of them do when they have connected, to the end of that attempt. An attempt that never came to
    it connected to nothing.
    """

    def __init__(self, stream: Any, request: Any, *, reports_rest: bool) -> None:
        self.owner: Streams | None = None
        self.label = ""
        self._names: tuple[str, str] | None = None
        self._request = request
        self._reports_rest = reports_rest
        self._sent_s = 0.0
        self._heard_s = 0.0
        self._booked_s = 0.0
        self._open_s = 0.0
        self._since: float | None = None
        self._clock = asyncio.get_running_loop().time
        self._recogniser: Any = stream._stt
        self._tasks = {stream._task, stream._metrics_task}
        self._follow_attempts(stream)
        self._follow_reports(stream)
        for task in list(self._tasks):
            task.add_done_callback(listener(self._done))

    @property
    def has_ended(self) -> bool:
        """Whether it is closed, and all of its reports have come."""
        return not self._tasks

    def unreported_s(self) -> float:
        """Return the seconds that are known to be billed beyond what was reported, each once."""
        if self._request.is_adapter or (self._reports_rest and not self.has_ended):
            return 0.0
        open_s = self._open_s if self._since is None else self._open_s + self._clock() - self._since
        rest_s = open_s - max(self._sent_s, self._heard_s) - self._booked_s
        if not self.has_ended:
            rest_s -= _HELD_BACK_S
            if rest_s < _STEP_S:
                return 0.0
        rest_s = max(0.0, rest_s)
        self._booked_s += rest_s
        return rest_s

    def heard(self, usage: Usage) -> None:
        """Note what a session was counted of what the stream reported, and under which names."""
        self._heard_s += usage.audio_s
        self._names = usage.provider_raw, usage.model

    def names(self) -> tuple[str, str]:
        """Return provider and model as metrics name them."""
        if self._names is None:
            self._names = self._recogniser.provider, self._recogniser.model or UNKNOWN
        return self._names

    def _follow_attempts(self, stream: Any) -> None:
        run, channel = stream._run, stream._input_ch

        async def running(*args: Any, **kwargs: Any) -> Any:
            restore = self._await_first_read(channel)
            try:
                return await run(*args, **kwargs)
            finally:
                restore()
                self._close()

        stream._run = running
        stream._task.add_done_callback(lambda _task: _unwrap(stream, "_run", running))

    def _await_first_read(self, channel: Any) -> Callable[[], None]:
        """Note when a channel is first read, once; return what takes that away."""
        if "recv" in vars(channel):
            return lambda: None  # somebody else's wrapper
        receive = channel.recv

        def receiving(*args: Any, **kwargs: Any) -> Any:
            _unwrap(channel, "recv", receiving)
            self._since = self._clock()
            return receive(*args, **kwargs)

        channel.recv = receiving
        return lambda: _unwrap(channel, "recv", receiving)

    def _close(self) -> None:
        if self._since is not None:
            self._open_s += self._clock() - self._since
            self._since = None

    def _follow_reports(self, stream: Any) -> None:
        """Add up what the plugin reports, whether or not a session is known to have caused it."""
        channel = stream._event_ch
        send, count = channel.send_nowait, listener(self._count)

        def sending(*args: Any, **kwargs: Any) -> Any:
            sent = send(*args, **kwargs)
            count(*args, *kwargs.values())
            return sent

        channel.send_nowait = sending
        stream._task.add_done_callback(lambda _task: _unwrap(channel, "send_nowait", sending))

    def _count(self, event: Any) -> None:
        used = getattr(event, "recognition_usage", None)
        if used is not None:
            self._sent_s += max(0.0, float(used.audio_duration))

    def _done(self, task: Any) -> None:
        self._tasks.discard(task)
        if self._tasks:
            return
        self.names()
        self._recogniser = None
        if self.owner is not None:
            self.owner.ended(self)


class Streams:
    """The recognition streams of one session that are billed by connection. On its thread."""

    def __init__(self, session: Any, book: Book, label: Callable[[], str]) -> None:
        self._session = session
        self._book = book
        self._label = label
        self._followed: list[OpenStream] = []

    def heard(self, stream: OpenStream | None, usage: Usage | None, label: str) -> None:
        """A stream reported something that is this session's, so the stream is, from now on."""
        if stream is None:
            return
        if stream.owner is None:
            self._adopt(stream)
        if usage is not None:
            stream.heard(usage)
        if stream.owner is self:
            stream.label = label
            self._book_rest(stream)

    def close(self) -> None:
        """The session ends: book what its streams have used, also of those that reported nothing."""
        for stream in _OF_SESSION.pop(self._session, ()):
            if stream.owner is None:
                self._adopt(stream)
        for stream in list(self._followed):
            self._book_rest(stream)

    def ended(self, stream: OpenStream) -> None:
        """A stream was closed: the rest of it is known."""
        self._book_rest(stream)

    def _adopt(self, stream: OpenStream) -> None:
        stream.owner, stream.label = self, self._label()
        self._followed.append(stream)
        waiting = _OF_SESSION.get(self._session, [])
        if stream in waiting:
            waiting.remove(stream)

    def _book_rest(self, stream: OpenStream) -> None:
        seconds = stream.unreported_s()
        if stream.has_ended and stream in self._followed:
            self._followed.remove(stream)
        if seconds > 0:
            provider, model = stream.names()
            self._book(
                Usage(
                    modality="stt",
                    provider_raw=provider,
                    model=model,
                    occurred_at=now_us(),
                    quantities={},
                    audio_s=seconds,
                ),
                stream.label,
            )


def follow(stream: Any, request: Any, session: Any) -> OpenStream | None:
    """Follow a stream that is made, if its provider bills by connection.

    `session` is the one whose recognition opened it, `None` where that is not known.
    """
    terms = BY_CONNECTION.get(normalise_provider(str(stream._stt.provider)))
    if terms is None or "_run" in vars(stream) or "send_nowait" in vars(stream._event_ch):
        return None
    followed = OpenStream(stream, request, reports_rest=terms.reports_rest)
    if session is not None:
        _OF_SESSION.setdefault(session, []).append(followed)
    return followed


_OF_SESSION: Final[WeakKeyDictionary[Any, list[OpenStream]]] = WeakKeyDictionary()
"""Streams that no attached session owns yet, by the session whose recognition opened them: OpenRTC
attaches a session when it listens already, and a stream may never report anything."""


def _unwrap(wrapped: Any, name: str, wrapper: Any) -> None:
    """Take a wrapper away, unless somebody has put another one over it."""
    if vars(wrapped).get(name) is wrapper:
        delattr(wrapped, name)
