"""Which session the running code belongs to, as far as context variables tell.

LiveKit sets two of them: the activity whose speech made a request, and the pipeline whose
recogniser listens. Both are private, looked up with a guard, and a test watches that they are there.
The mark is our own. It is set where a session is attached, so that the tasks which the session's
start creates inherit it, and in the tasks of its speeches, so that what a tool opens inherits it.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any, Final
from weakref import ref

from livekit.agents import AgentSession
from msgspec import Struct

try:
    from livekit.agents.voice.agent_activity import _AgentActivityContextVar as _ACTIVITY
except ImportError:  # pragma: no cover - another livekit-agents
    _ACTIVITY = None  # type: ignore[assignment]  # absent in another version
try:
    from livekit.agents.voice.agent_activity import _SpeechHandleContextVar as _SPEECH
except ImportError:  # pragma: no cover - another livekit-agents
    _SPEECH = None  # type: ignore[assignment]  # absent in another version
try:
    from livekit.agents.voice.audio_recognition import _STTPipelineContextVar as _PIPELINE
except ImportError:  # pragma: no cover - another livekit-agents
    _PIPELINE = None  # type: ignore[assignment]  # absent in another version


def activity() -> Any:
    """Return LiveKit's activity (a session's work for one agent) that runs this code, or `None`."""
    return _ACTIVITY.get(None) if _ACTIVITY is not None else None  # type: ignore[redundant-expr]  # None in another version


def speech() -> Any:
    """Return the handle of the speech that this code works for, `None` outside of every speech."""
    return _SPEECH.get(None) if _SPEECH is not None else None  # type: ignore[redundant-expr]  # None in another version


def speech_id() -> str:
    """Return the id of the speech that this code works for, "" outside of every speech."""
    handle = speech()
    return "" if handle is None else str(handle.id)


def recognising() -> AgentSession[Any] | None:
    """Return the session whose speech recognition runs this code, `None` outside of recognition.

    The pipeline survives a hand-off, and so does the method of the session that it holds.
    """
    pipeline = _PIPELINE.get(None) if _PIPELINE is not None else None  # type: ignore[redundant-expr]  # None in another version
    if pipeline is None:
        return None
    session = getattr(getattr(pipeline, "_is_closing", None), "__self__", None)
    if session is None:
        agent = getattr(getattr(pipeline, "_stt_node", None), "__self__", None)
        session = getattr(getattr(agent, "_activity", None), "session", None)
    return session if isinstance(session, AgentSession) else None


def task() -> asyncio.Task[Any] | None:
    """Return the task that runs this code, `None` outside of every event loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


class Mark(Struct, eq=False, weakref=True):
    """The attached sessions that the tasks started from this context may belong to.

    More than one where a task attached several before it started any. `activity` ran when the mark
    was set, `task` set it (`None` inside a speech), and `before` is the mark that it replaced.
    `is_over` once that task has it no more: then only what the sessions' own tasks opened has it.
    """

    owners: tuple[ref[Any], ...]
    activity: ref[Any] | None = None
    task: ref[Any] | None = None
    before: Mark | None = None
    is_over: bool = False

    def names(self, owner: Any) -> bool:
        """Whether `owner` is one of the sessions that this mark stands for."""
        return any(each() is owner for each in self.owners)

    def owner(self) -> Any:
        """Return the one session that the mark stands for, `None` if several or if it is gone."""
        return self.owners[0]() if len(self.owners) == 1 else None

    def is_innermost(self, running: Any) -> bool:
        """Whether the activity that runs is the one that ran when the mark was set.

        Another one was entered later, and says more of the running code than the mark.
        """
        if self.activity is None or running is None:
            return self.activity is None and running is None
        return self.activity() is running


MARK: Final[ContextVar[Mark | None]] = ContextVar("voicecosts_mark", default=None)
"""The mark of the running context."""
