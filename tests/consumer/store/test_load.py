"""Reading sessions back from their rows: how the ids are parted, and that nothing gets lost."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.events import message, reading, session_id
from tests.support.oracle import booked, expected, rate
from voicecosts.consumer.booking.sessions import SessionKey, SessionState
from voicecosts.consumer.errors import LedgerOutOfMemory
from voicecosts.consumer.store import ledger as ledgers
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.load import FEW, MAX_RANGES, ranges
from voicecosts.consumer.store.overlap import Worked, Written
from voicecosts.consumer.store.requests import Action, Request

HOUR_MS = 3_600_000


def test_sessions_of_one_hour_are_one_range() -> None:
    """Sessions that run side by side are read in one go."""
    ids = [session_id(n, after_ms=n * 60_000) for n in range(FEW + 9)]
    assert ranges(reversed(ids)) == [ids]


def test_few_sessions_are_one_range_wherever_they_are() -> None:
    """DuckDB skips what lies between them by itself; of one more it only knows the first and the last."""
    ids = [session_id(n, after_ms=n * 240 * HOUR_MS) for n in range(FEW + 1)]
    assert ranges(ids[1:]) == [ids[1:]]
    assert len(ranges(ids)) == MAX_RANGES
    assert ranges([]) == []


def test_a_late_session_has_a_range_of_its_own() -> None:
    """One straggler must not make the range span the whole ledger."""
    old, new = session_id(1), [session_id(n, after_ms=24 * HOUR_MS + n) for n in range(FEW)]
    assert ranges([*new, old]) == [[old], new]


def test_ranges_are_few_and_part_where_it_is_widest() -> None:
    """A backlog from everywhere is a bounded number of queries, split at the longest silences."""
    ids = [session_id(n, after_ms=n * n * 2 * HOUR_MS) for n in range(100)]
    parted = ranges(ids)
    assert len(parted) == MAX_RANGES
    assert [len(part) for part in parted[1:]] == [1] * (MAX_RANGES - 1)


@given(st.lists(st.integers(0, 90 * 24 * HOUR_MS), max_size=90))
def test_every_session_is_in_exactly_one_range(times: list[int]) -> None:
    """However ids lie, none is left out and none is read twice."""
    ids = {session_id(n, after_ms=after) for n, after in enumerate(times)}
    parted = ranges(ids)
    assert [each for part in parted for each in part] == sorted(ids)
    assert all(parted)


def test_sessions_from_many_days_are_all_found_again(tmp_path: Path) -> None:
    """Readings of old and new sessions in one group continue where each of them was."""
    sessions = [session_id(n, after_ms=n * 5 * HOUR_MS) for n in range(60)]
    first = [reading(1, session_id=each, input_tokens=10) for each in sessions]
    second = [reading(2, session_id=each, input_tokens=25) for each in sessions]
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply([message(1, *first)])
    with Ledger.open(tmp_path, rate) as ledger:
        assert ledger.apply([message(2, *second)]).bookings == 60
    assert booked(tmp_path / "costs.duckdb") == expected([*first, *second])


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have a transaction's sessions few meters together; how many they had, each time."""
    monkeypatch.setattr(ledgers, "LOADED_METERS", 7)
    monkeypatch.setattr(ledgers, "_FEW", 2)
    loaded: list[int] = []
    sessions_of = Ledger._sessions_of

    def counted(self: Ledger, *given: Any) -> dict[SessionKey, SessionState]:
        known = sessions_of(self, *given)
        loaded.append(sum(each.size for each in known.values()))
        return known

    monkeypatch.setattr(Ledger, "_sessions_of", counted)
    return loaded


MODELS: Final = ("a", "b", "c")
CALLS: Final = range(1, 10)
BEFORE: Final = [reading(1, of=of, model=model, input_tokens=5) for of in CALLS for model in MODELS]
LATER: Final = [
    reading(number, of=of, model="a", input_tokens=9 * number) for number in (2, 3) for of in CALLS
]


@pytest.mark.parametrize("weight", [5, 10_000])
@pytest.mark.parametrize(
    "cached", [{}, {"cached_sessions": 0}, {"cached_sessions": 0, "cached_bytes": 0}]
)
def test_one_message_does_not_load_any_number_of_meters(
    tmp_path: Path, bounded: list[int], cached: dict[str, int], weight: int
) -> None:
    """A reading for each of many calls with many meters is booked in parts, wherever the calls are kept.

    It is acknowledged when all of it is booked; the sessions that are written at that moment count too.
    """
    with Ledger.open(tmp_path, rate, piece_weight=weight, **cached) as ledger:  # type: ignore[arg-type]
        ledger.apply([message(1, *BEFORE)])
        bounded.clear()
        applied = ledger.apply([message(2, *LATER), message(3, *LATER)])
        assert (applied.messages, applied.events) == (2, 2 * len(LATER))
        assert ledger.progress.floor == 3
    assert len(bounded) > 4
    assert max(bounded) <= 7
    assert booked(tmp_path / "costs.duckdb") == expected([*BEFORE, *LATER])


def test_letters_and_what_is_filled_again_load_no_more_either(
    tmp_path: Path, bounded: list[int]
) -> None:
    """What was refused for calls with many meters is read once more; rows that are gone come from the stream again."""
    back = [reading(2, of=of, model="a", input_tokens=1) for of in CALLS]
    with Ledger.open(tmp_path, rate, cached_sessions=0, cached_bytes=0) as ledger:
        ledger.apply([message(1, *BEFORE), message(2, *back)])
        bounded.clear()
        outcome = ledger.do(Request(action=Action.REQUEUE, reasons=("backwards",)))
        assert (outcome.letters, outcome.left) == (len(CALLS), len(CALLS))
        assert len(bounded) > 1
        assert max(bounded) <= 7
        ledger._connection.execute("DELETE FROM bookings WHERE model <> 'b'")
        bounded.clear()
        assert ledger.refill([message(1, *BEFORE), message(2, *back)]) == 2 * len(CALLS)
        assert len(bounded) > 1
        assert max(bounded) <= 7
        ledger.set_aside(message(3, *LATER))
        bounded.clear()
        outcome = ledger.do(Request(action=Action.REQUEUE, reasons=("deadly",)))
        assert (outcome.letters, outcome.left) == (1, 0)
        assert len(bounded) > 2
        assert max(bounded) <= 7
    assert booked(tmp_path / "costs.duckdb") == expected([*BEFORE, *LATER])


def dying_in_the_third() -> Callable[[Ledger, Worked], Written]:
    """Return what writes two parts, and has no memory for the third."""
    write, parts = Ledger._write, count()

    def dying(self: Ledger, worked: Worked) -> Written:
        if next(parts) == 2:
            raise MemoryError
        return write(self, worked)

    return dying


def test_a_death_between_the_parts_of_a_message_costs_nothing(
    tmp_path: Path, bounded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was booked of it is booked, it is not said to be, and all of it comes again."""
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply([message(1, *BEFORE)])
    with Ledger.open(tmp_path, rate) as ledger:
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "_write", dying_in_the_third())
            with pytest.raises(LedgerOutOfMemory):
                ledger.apply([message(2, *LATER)])
        assert ledger.progress.floor == 1
    with Ledger.open(tmp_path, rate) as ledger:
        assert 0 < ledger.apply([message(2, *LATER)]).bookings < len(LATER)
        assert ledger.progress.floor == 2
    assert booked(tmp_path / "costs.duckdb") == expected([*BEFORE, *LATER])


def test_a_death_between_the_parts_of_a_letter_costs_nothing(
    tmp_path: Path, bounded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays a letter until all of it is booked, and is read again as a whole."""
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply([message(1, *BEFORE)])
        ledger.set_aside(message(2, *LATER))
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "_write", dying_in_the_third())
            with pytest.raises(MemoryError):
                ledger.do(Request(action=Action.REQUEUE, reasons=("deadly",)))
    with Ledger.open(tmp_path, rate) as ledger:
        outcome = ledger.do(Request(action=Action.REQUEUE, reasons=("deadly",)))
        assert (outcome.letters, outcome.left) == (1, 0)
        assert ledger.do(Request(action=Action.FIND, reasons=("deadly",))).letters == 0
    assert booked(tmp_path / "costs.duckdb") == expected([*BEFORE, *LATER])
