"""The cache of sessions: bounded in sessions and in meters, the least recently used go first."""

from __future__ import annotations

from decimal import Decimal

from tests.support.events import PROJECT, reading, session_id
from voicecosts.consumer.booking.difference import MeterState
from voicecosts.consumer.booking.sessions import ActiveSessions, SessionKey, SessionState
from voicecosts.producer.events import meter_of


def key(number: int) -> SessionKey:
    """Return the key of a session."""
    return SessionKey(PROJECT, session_id(number))


def session(number: int, meters: int) -> dict[SessionKey, SessionState]:
    """Return a session with so many meters."""
    made = (meter_of(reading(1, of=number, model=f"m{n}")) for n in range(meters))
    return {key(number): SessionState(meters={meter: MeterState() for meter in made})}


def held(cache: ActiveSessions, *numbers: int) -> list[int]:
    """Return which of these sessions the cache holds."""
    return [number for number in numbers if cache.copies([key(number)])[0]]


def test_the_least_recently_used_sessions_are_dropped() -> None:
    """At its bound the cache keeps the sessions that were used last."""
    cache = ActiveSessions(2)
    for number in (1, 2, 1, 3):
        cache.keep(session(number, 1))
    assert held(cache, 1, 2, 3) == [1, 3]


def test_the_cache_is_bounded_by_meters() -> None:
    """Few sessions with many meters need as much memory as many sessions with few."""
    cache = ActiveSessions(meters_limit=100)
    for number in (1, 2, 3):
        cache.keep(session(number, 40))
    assert held(cache, 1, 2, 3) == [2, 3]
    cache.keep(session(2, 60))
    assert held(cache, 1, 2, 3) == [2, 3]
    cache.keep(session(4, 101))
    assert held(cache, 1, 2, 3, 4) == []
    [(name, state)] = session(5, 60).items()
    state.refused = {("other", meter): Decimal(0) for meter in state.meters}
    cache.keep({name: state})
    assert held(cache, 5) == []  # what another producer said of it counts as well
