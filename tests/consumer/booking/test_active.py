"""The sessions in memory: bounded in sessions, meters, bytes and time; the least recently used go first."""

from __future__ import annotations

import time
from decimal import Decimal

from tests.support.events import PROJECT, reading, session_id
from voicecosts.consumer.booking.active import QUIET_S, ActiveSessions
from voicecosts.consumer.booking.difference import MeterState
from voicecosts.consumer.booking.packing import pack
from voicecosts.consumer.booking.prices import PricesUsed
from voicecosts.consumer.booking.sessions import SessionKey, SessionState
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
    cache = ActiveSessions(PricesUsed(), time.monotonic, sessions=2, packed_bytes=0)
    for number in (1, 2, 1, 3):
        cache.keep(session(number, 1))
    assert held(cache, 1, 2, 3) == [1, 3]


def test_the_cache_is_bounded_by_meters() -> None:
    """Few sessions with many meters need as much memory as many sessions with few."""
    cache = ActiveSessions(PricesUsed(), time.monotonic, meters=100, packed_bytes=0)
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


def test_what_was_not_used_lately_is_packed_until_the_bytes_run_out() -> None:
    """A packed session comes out as it went in, as a copy; the oldest of them go first."""
    sessions = [session(number, 3) for number in range(6)]
    [(_, one)] = sessions[0].items()
    room = 2 * (len(pack(one, PricesUsed())) + 600)
    cache = ActiveSessions(PricesUsed(), time.monotonic, sessions=2, packed_bytes=room)
    for each in sessions:
        cache.keep(each)
    assert repr(cache) == "<ActiveSessions: 2, and 2 packed>"
    assert held(cache, *range(6)) == [2, 3, 4, 5]
    known, unknown = cache.copies([key(2), key(1)])
    assert (known, unknown) == (sessions[2], [key(1)])
    known[key(2)].meters.clear()
    assert cache.copies([key(2)])[0] == sessions[2]
    assert cache.packed(key(2)) == pack(sessions[2][key(2)], PricesUsed())
    assert cache.packed(key(5)) == pack(sessions[5][key(5)], PricesUsed())
    assert cache.packed(key(0)) is None
    cache.keep(sessions[2])  # an object again: the oldest object is packed in its place
    assert repr(cache) == "<ActiveSessions: 2, and 2 packed>"
    cache.forget([key(number) for number in range(6)])
    assert (len(cache), cache._bytes, cache._meters) == (0, 0, 0)


def test_a_session_for_which_nothing_comes_is_dropped() -> None:
    """Memory follows the calls that are live, not those that ever were."""
    now = 0.0
    cache = ActiveSessions(PricesUsed(), lambda: now, sessions=2)
    for number in range(4):
        cache.keep(session(number, 1))
    now = QUIET_S
    cache.keep(session(0, 1))
    assert held(cache, *range(4)) == [0, 1, 2, 3]
    now += 1
    cache.keep(session(1, 1))
    assert held(cache, *range(4)) == [0, 1]
    now += 2 * QUIET_S
    cache.keep({})
    assert (len(cache), cache._bytes, cache._meters) == (0, 0, 0)
