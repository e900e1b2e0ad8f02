"""The sessions in memory: bounded in bytes and in time, and only for speed.

All of it can be derived from the rows. It holds committed state only, so a session is changed on a
copy, which is handed back after the commit. Those that were used last are objects; the others are
packed, at a seventh of the memory, until nothing came for them for `QUIET_S` or the bytes run out.
To keep a session costs the same however many there are.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from voicecosts.consumer.booking.packing import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from voicecosts.consumer.booking.prices import PricesUsed
    from voicecosts.consumer.booking.sessions import SessionKey, SessionState

_T = TypeVar("_T")

CACHED_SESSIONS: Final = 10_000
"""Sessions that are objects, at most: about 55 MB at four meters each."""

CACHED_METERS: Final = 50_000
"""Meters of them, at most, for sessions that have many: an end may carry a thousand."""

PACKED_BYTES: Final = 160_000_000
"""Bytes of packed sessions, at most: two hundred thousand with four meters each."""

QUIET_S: Final = 3600.0
"""A session for which nothing came for so long is dropped: its call is over, and it is settled."""

_AROUND_BYTES: Final = 480
"""What a packed session takes beside its bytes: its key, and its place among the others."""


class _Packed(NamedTuple):
    session: bytes
    heard: float
    meters: int

    @property
    def size(self) -> int:
        return len(self.session) + _AROUND_BYTES


class ActiveSessions:
    """The most recently used sessions, each with all its meters.

    A session in here is known completely: a meter that it does not list has no rows. Both dicts are in
    the order of use, the longest unused first, and all that is packed was used before all that is not.
    """

    def __init__(
        self,
        prices: PricesUsed,
        ticks: Callable[[], float],
        *,
        sessions: int = CACHED_SESSIONS,
        meters: int = CACHED_METERS,
        packed_bytes: int = PACKED_BYTES,
    ) -> None:
        self._prices = prices
        self._most_sessions = sessions
        self._most_meters = meters
        self._most_bytes = packed_bytes
        self._ticks = ticks
        self._meters = 0  # of `_recent`
        self._bytes = 0  # of `_packed`
        self._recent: OrderedDict[SessionKey, tuple[SessionState, float]] = OrderedDict()
        self._packed: OrderedDict[SessionKey, _Packed] = OrderedDict()

    def __len__(self) -> int:
        return len(self._recent) + len(self._packed)

    def __repr__(self) -> str:
        return f"<ActiveSessions: {len(self._recent)}, and {len(self._packed)} packed>"

    def copies(
        self, keys: Iterable[SessionKey]
    ) -> tuple[dict[SessionKey, SessionState], list[SessionKey]]:
        """Return copies of the sessions in memory, and the keys of those that are not."""
        known: dict[SessionKey, SessionState] = {}
        unknown: list[SessionKey] = []
        for key in keys:
            if (recent := self._recent.get(key)) is not None:
                known[key] = recent[0].copy()
            elif (found := self._unpacked(key)) is not None:
                known[key] = found
            else:
                unknown.append(key)
        return known, unknown

    def sizes(self, keys: Iterable[SessionKey]) -> dict[SessionKey, int]:
        """Return how many meters each of the sessions in memory has."""
        found: dict[SessionKey, int] = {}
        for key in keys:
            if (recent := self._recent.get(key)) is not None:
                found[key] = recent[0].size
            elif (packed := self._packed.get(key)) is not None:
                found[key] = packed.meters
        return found

    def packed(self, key: SessionKey) -> bytes | None:
        """Return a session packed, or `None` if it is not in memory."""
        if (recent := self._recent.get(key)) is not None:
            return pack(recent[0], self._prices)
        return self._packed[key].session if key in self._packed else None

    def keep(self, sessions: dict[SessionKey, SessionState]) -> None:
        """Store committed sessions; pack those that were not used lately, and drop the oldest."""
        now = self._ticks()
        self.forget(sessions)
        for key, session in sessions.items():
            self._recent[key] = session, now
            self._meters += session.size
        while len(self._recent) > self._most_sessions or self._meters > self._most_meters:
            key, (session, heard) = self._recent.popitem(last=False)
            self._meters -= session.size
            if self._most_bytes:
                self._packed[key] = packed = _Packed(
                    pack(session, self._prices), heard, session.size
                )
                self._bytes += packed.size
        quiet = now - QUIET_S
        while self._bytes > self._most_bytes or (
            self._packed and _first(self._packed).heard < quiet
        ):
            self._bytes -= self._packed.popitem(last=False)[1].size
        while self._recent and _first(self._recent)[1] < quiet:
            self._meters -= self._recent.popitem(last=False)[1][0].size

    def _unpacked(self, key: SessionKey) -> SessionState | None:
        packed = self._packed.get(key)
        return None if packed is None else unpack(key, packed.session, self._prices)

    def forget(self, keys: Iterable[SessionKey]) -> None:
        """Drop sessions that were changed by something else than their events."""
        for key in keys:
            if (recent := self._recent.pop(key, None)) is not None:
                self._meters -= recent[0].size
            elif (packed := self._packed.pop(key, None)) is not None:
                self._bytes -= packed.size


def _first(sessions: OrderedDict[SessionKey, _T]) -> _T:
    """Return the one that was unused for longest."""
    return next(iter(sessions.values()))
