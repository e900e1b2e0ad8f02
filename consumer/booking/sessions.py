"""The state of each session, and a bounded cache of the sessions that are active.

A session is known by its project and its id together, so no project can touch another one's. The
cache is only for speed: all of it can be derived from the rows. It holds committed state only, so a
session is changed on a copy, which is handed back after the commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct, field

from voicecosts.consumer.booking.difference import NO_LABELS, MeterState
from voicecosts.producer.events import Meter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date
    from decimal import Decimal

CACHED_SESSIONS: Final = 10_000
"""About 30 MB at four meters a session; ten times the calls of a busy fleet."""

CACHED_METERS: Final = 100_000
"""About 75 MB, for sessions that have many: an end may carry a thousand."""


class SessionKey(NamedTuple):
    """Which session: the same id in another project is another session."""

    project: str
    session_id: str


class Identity(Struct, frozen=True):
    """Whose a session is, as its first event says; no later event changes it.

    The names are the keys that `insert_session_identities.sql` reads. `producer_id` is `None` where
    an older version did not note it: then any producer may continue the session.
    """

    project: str
    session_id: str
    agent_id: str
    tenant: str | None
    producer_id: str | None
    day: date | None = None  # `None`: the day on which it started


class SessionState(Struct):
    """One session: whose it is, its meters, whether its start is known, its latest end's number.

    `counted` says that it has a row, and `pending` that the ledger's files have it as not settled.

    `labels` are those of its start. `voided` is the operation that took it out of every sum, 0 if none did.

    `noted` holds the reasons of notes that a session needs only once. `refused` is what another
    producer's readings would have cost at most, by producer and meter: its running totals come again
    and again, and each note says only what is new.
    """

    identity: Identity | None = None
    meters: dict[Meter, MeterState] = field(default_factory=dict)
    started: bool = False
    ended: int = 0
    noted: set[str] = field(default_factory=set)
    refused: dict[tuple[str, Meter], Decimal] = field(default_factory=dict)
    labels: Mapping[str, str] = NO_LABELS
    voided: int = 0
    counted: bool = False
    pending: bool = False

    @property
    def size(self) -> int:
        """How many meters it holds."""
        return len(self.meters) + len(self.refused)

    def copy(self) -> SessionState:
        """Return an independent copy; meters and their states never change in place."""
        return SessionState(
            self.identity,
            dict(self.meters),
            self.started,
            self.ended,
            set(self.noted),
            dict(self.refused),
            self.labels,
            self.voided,
            self.counted,
            self.pending,
        )


class ActiveSessions:
    """The most recently used sessions, each with all its meters.

    A session in the cache is known completely: a meter that it does not list has no rows.
    """

    def __init__(self, limit: int = CACHED_SESSIONS, *, meters_limit: int = CACHED_METERS) -> None:
        self._limit = limit
        self._meters_limit = meters_limit
        self._meters = 0  # of all sessions here
        self._sessions: dict[SessionKey, SessionState] = {}  # least recently used first

    def __len__(self) -> int:
        return len(self._sessions)

    def copies(
        self, keys: Iterable[SessionKey]
    ) -> tuple[dict[SessionKey, SessionState], list[SessionKey]]:
        """Return copies of the sessions in the cache, and the keys of those that are not in it."""
        known: dict[SessionKey, SessionState] = {}
        unknown: list[SessionKey] = []
        for key in keys:
            session = self._sessions.get(key)
            if session is None:
                unknown.append(key)
            else:
                known[key] = session.copy()
        return known, unknown

    def keep(self, sessions: dict[SessionKey, SessionState]) -> None:
        """Store committed sessions, and drop those that were used least recently."""
        for key, session in sessions.items():
            self._drop(key)
            self._sessions[key] = session
            self._meters += session.size
        if self._is_full():
            for key in list(self._sessions):
                self._drop(key)
                if not self._is_full():
                    break

    def forget(self, keys: Iterable[SessionKey]) -> None:
        """Drop sessions that were changed by something else than their events."""
        for key in keys:
            self._drop(key)

    def _is_full(self) -> bool:
        return len(self._sessions) > self._limit or self._meters > self._meters_limit

    def _drop(self, key: SessionKey) -> None:
        session = self._sessions.pop(key, None)
        if session is not None:
            self._meters -= session.size
