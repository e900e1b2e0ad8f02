"""The provider objects that a session uses: its own, its agent's, and what adapters hold.

An adapter passes on what the objects inside it report, so the object that served decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from livekit import rtc
from livekit.agents import AgentSession, llm, stt, tts

PROVIDERS: Final = (llm.LLM, stt.STT, tts.TTS)
"""The base classes of what a session may hold, or an adapter inside."""

_COLLECTIONS: Final = (list, tuple, set, frozenset, dict)
_LOOKED_AT: Final = 64
"""Elements of a collection that are looked at."""

_DEPTH: Final = 8
"""Adapters inside adapters that are looked through."""


def running_agent(session: AgentSession[Any]) -> Any:
    """Return the agent that is active now, after the end the last one, `None` before the start."""
    try:
        return session.current_agent
    except RuntimeError:
        return None


def is_started(session: AgentSession[Any]) -> bool:
    """Whether a session's start has begun and its close has not."""
    return running_agent(session) is not None and not getattr(session, "_closing", False)


def has_restarted(session: AgentSession[Any]) -> bool:
    """Whether a session that was closed, or never ran, is started now."""
    return running_agent(session) is not None and getattr(session, "_closing", True) is False


def components_of(session: AgentSession[Any]) -> tuple[Any, ...]:
    """Return what a session and its active agent use now; a part that is not in use is `None`.

    Beside recogniser, model and voice these are the connection of a realtime model, whose last
    report versions before 1.8 do not hear, the detectors that ask a provider, and the model that
    looks for key terms. Those are private parts of LiveKit, absent in other versions.
    """
    agent = running_agent(session)
    work = getattr(agent, "_activity", None)
    return (
        session.stt,
        session.llm,
        session.tts,
        getattr(agent, "stt", None),
        getattr(agent, "llm", None),
        getattr(agent, "tts", None),
        getattr(work, "_rt_session", None),
        getattr(work, "_turn_detection", None),
        getattr(work, "_interruption_detector", None),
        getattr(work, "_rt_session", None),
        getattr(getattr(session, "_keyterm_detector", None), "_llm", None),
    )


def emitters(used: Iterable[Any]) -> Iterator[tuple[Any, bool]]:
    """Yield each provider object once, those inside adapters too, and whether it is an adapter."""
    seen: set[int] = set()
    waiting = [(component, 0) for component in used]
    while waiting:
        component, depth = waiting.pop()
        if id(component) in seen or not issubclass(type(component), rtc.EventEmitter):
            continue
        seen.add(id(component))
        inner = list(_inner(component)) if depth < _DEPTH else []
        yield component, bool(inner)
        waiting += ((each, depth + 1) for each in inner)


def uses(session: AgentSession[Any], emitter: Any, running: Any = None) -> bool:
    """Whether a session works with a provider object, directly or through adapters.

    `running` is the activity that runs; its agent may be another one than the session's now.
    """
    agent = getattr(running, "agent", None)
    of_agent = tuple(getattr(agent, part, None) for part in ("stt", "llm", "tts"))
    return any(each is emitter for each, _ in emitters((*components_of(session), *of_agent)))


def sessions_of(listeners: Iterable[Any]) -> Iterator[AgentSession[Any]]:
    """Yield the sessions whose activities are among the listeners of a provider object."""
    for callback in listeners:
        session = getattr(getattr(callback, "__self__", None), "_session", None)
        if isinstance(session, AgentSession):
            yield session


def holds_others(component: Any) -> bool:
    """Whether a provider object holds others, and may have them serve its requests."""
    return next(_inner(component), None) is not None


def _inner(component: Any) -> Iterator[Any]:
    """Yield the provider objects that one of them holds, alone or in a collection.

    Of a collection the first ones are looked at: a cache may be large. A proxy is not asked what it
    stands for.
    """
    for value in list(getattr(component, "__dict__", {}).values()):
        if _is_provider(value):
            yield value
        elif type(value) in _COLLECTIONS:
            held = value.values() if type(value) is dict else value
            yield from (each for each in list(islice(held, _LOOKED_AT)) if _is_provider(each))


def _is_provider(value: Any) -> bool:
    return issubclass(type(value), PROVIDERS)
