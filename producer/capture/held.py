"""Usage of sessions that nobody attached waits a moment: they may be attached just after their start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

from livekit.agents import AgentSession
from msgspec import Struct

from voicecosts.producer.capture.candidates import Candidate
from voicecosts.producer.capture.components import is_started

HELD_S: Final = 5.0
"""How long usage of a session that nobody attached waits for it to be attached after its start."""

_MOST: Final = 256
"""Events of one such session that wait, at most."""


class Held(Struct):
    """An event of a session that may still be attached, with the context that it came in.

    `emitter` reported it, if that is known. `owner` gets it otherwise; without one, `heard_by`
    counts it as unattributed.
    """

    session: AgentSession[Any]
    metrics: Any
    label: str | None
    emitter: Any
    context: Context
    heard_by: Candidate
    owner: Candidate | None
    at: float  # monotonic seconds


class HeldEvents:
    """The events that wait, by session. `give_away` gets those whose session was not attached.

    Used on the threads of voice loops, by single dictionary operations.
    """

    def __init__(self, give_away: Callable[[Held], None]) -> None:
        self._give_away = give_away
        self._waiting: dict[int, list[Held]] = {}

    def __repr__(self) -> str:
        return f"<HeldEvents of {len(self._waiting)} sessions>"

    def add(self, held: Held) -> bool:
        """Have an event wait; return whether it does, as its session may still be attached."""
        waiting = self._waiting.get(id(held.session))
        if waiting is None and self._may_be_attached(held.session):
            waiting = self._waiting[id(held.session)] = []
        if waiting is None or len(waiting) >= _MOST:
            return False
        waiting.append(held)
        return True

    def taken_for(self, session: AgentSession[Any]) -> list[Held]:
        """Return the events of a session that is attached now; they wait no longer."""
        return self._waiting.pop(id(session), [])

    def release(self, owner: Candidate | None = None) -> None:
        """Give away at once what waits: no attachment follows.

        With `owner`, what would go to this session, which is about to end.
        """
        for session, waiting in list(self._waiting.items()):
            if owner is None or any(held.owner is owner for held in waiting):
                self._release(session)

    def release_old(self) -> None:
        """Give away what waited long enough: a loop that ended took the timer with it."""
        until = time.monotonic() - 2 * HELD_S
        for session, waiting in list(self._waiting.items()):
            if waiting and waiting[0].at < until:
                self._release(session)

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()

    def _may_be_attached(self, session: AgentSession[Any]) -> bool:
        """Whether a session may still be attached; if so, have its events released in time."""
        began = getattr(session, "_started_at", None)
        if not is_started(session) or (began is not None and time.time() - began >= HELD_S):
            return False
        try:
            asyncio.get_running_loop().call_later(HELD_S, self._release, id(session))
        except RuntimeError:  # a thread without a loop
            return False
        return True

    def _release(self, session: int) -> None:
        for held in self._waiting.pop(session, ()):
            self._give_away(held)
