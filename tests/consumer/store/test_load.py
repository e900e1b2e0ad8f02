"""Reading sessions back from their rows: how the ids are parted, and that nothing gets lost."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.support.events import message, reading, session_id
from tests.support.oracle import booked, expected, rate
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.load import FEW, MAX_RANGES, ranges

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
