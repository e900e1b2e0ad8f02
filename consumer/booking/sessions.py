"""The state of each session, and a bounded cache of the sessions that are active.

The cache is only for speed: all of it can be derived from the rows. It holds committed state only,
so a session is changed on a copy, which is handed back after the commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from voicecosts.consumer.booking.difference import MeterState
from voicecosts.producer.events import Meter

if TYPE_CHECKING:
    from collections.abc import Iterable

CACHED_SESSIONS: Final = 10_000
"""About 30 MB at four meters a session; ten times the calls of a busy fleet."""

CACHED_METERS: Final = 100_000
"""About 75 MB, for sessions that have many: an end may carry a thousand."""


class SessionState(Struct):
    """One session: its meters, whether its start is known, and the number of its latest end.

    `missed` says that the absence of its start was noted.
    """

    meters: dict[Meter, MeterState] = field(default_factory=dict)
    started: bool = False
    ended: int = 0
    missed: bool = False

    def copy(self) -> SessionState:
        """Return an independent copy; meters and their states never change in place."""
        return SessionState(dict(self.meters), self.started, self.ended, self.missed)


class ActiveSessions:
    """The most recently used sessions, each with all its meters.

    A session in the cache is known completely: a meter that it does not list has no rows.
    """

    def __init__(self, limit: int = CACHED_SESSIONS, *, meters_limit: int = CACHED_METERS) -> None:
        self._limit = limit
        self._meters_limit = meters_limit
        self._meters = 0  # of all sessions here
        self._sessions: dict[str, SessionState] = {}  # least recently used first

    def __len__(self) -> int:
        return len(self._sessions)

    def copies(self, session_ids: Iterable[str]) -> tuple[dict[str, SessionState], list[str]]:
        """Return copies of the sessions in the cache, and the ids of those that are not in it."""
        known: dict[str, SessionState] = {}
        unknown: list[str] = []
        for session_id in session_ids:
            session = self._sessions.get(session_id)
            if session is None:
                unknown.append(session_id)
            else:
                known[session_id] = session.copy()
        return known, unknown

    def keep(self, sessions: dict[str, SessionState]) -> None:
        """Store committed sessions, and drop those that were used least recently."""
        for session_id, session in sessions.items():
            self._drop(session_id)
            self._sessions[session_id] = session
            self._meters += len(session.meters)
        if self._is_full():
            for session_id in list(self._sessions):
                self._drop(session_id)
                if not self._is_full():
                    break

    def _is_full(self) -> bool:
        return len(self._sessions) > self._limit or self._meters > self._meters_limit

    def _drop(self, session_id: str) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._meters -= len(session.meters)
