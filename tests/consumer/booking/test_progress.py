"""How far the books reach: the floor, what is above it, and what will never come."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicecosts.consumer.booking.progress import (
    Gap,
    Mark,
    Progress,
    Seen,
    Why,
    fill,
    news,
    runs,
    within,
    without,
)

SEQUENCES: Final = st.lists(st.integers(1, 40), max_size=40)


def numbers(progress: Progress) -> set[int]:
    """Return every sequence that counts as done."""
    above = {each for first, last in progress.above for each in range(first, last + 1)}
    return set(range(1, progress.floor + 1)) | above


@given(SEQUENCES)
def test_progress_is_exactly_what_was_booked(sequences: list[int]) -> None:
    """In any order, repeated or not: nothing is taken for booked that was not."""
    progress = Progress()
    for sequence in sequences:
        progress = progress.booked([sequence])
    assert progress == Progress().booked(sequences)
    assert numbers(progress) == set(sequences)
    assert progress.highest == max(sequences, default=0)
    runs_of_it = [(0, progress.floor), *progress.above]
    assert all(after[0] > before[1] + 1 for before, after in pairwise(runs_of_it))


@given(SEQUENCES, st.integers(1, 40), st.sets(st.integers(1, 40)))
def test_what_the_stream_has_no_more_is_noted_once_and_exactly(
    booked: list[int], first: int, deleted: set[int]
) -> None:
    """Everything above the floor is booked, or a gap, or still in the stream: never two of them."""
    before = Progress(stream_us=1).booked(booked)
    seen = Seen(stream_us=1, first=first, last=40, deleted=tuple(runs(deleted)))
    after, gaps = before.compared(seen)
    missing = {each for gap in gaps for each in range(gap.first, (gap.last or 0) + 1)}
    gone = set(range(1, first)) | deleted
    assert missing == gone - numbers(before)
    assert numbers(after) == numbers(before) | gone
    assert after.compared(seen) == (after, ())


def test_booked_messages_may_leave_the_stream() -> None:
    """Expiry below the floor is no gap."""
    progress = Progress(stream_us=1, floor=10, last=10)
    assert progress.compared(Seen(stream_us=1, first=8, last=10)) == (progress, ())


def test_another_stream_begins_at_its_start() -> None:
    """What the old one is known to have had is a gap; what it may have had besides has no end."""
    progress = Progress(stream_us=1, floor=3, above=((5, 5),), last=7)
    after, gaps = progress.compared(Seen(stream_us=2, first=1, last=4))
    assert (after.stream_us, after.floor, after.above, after.last) == (2, 0, (), 4)
    assert [(gap.first, gap.last) for gap in gaps] == [(4, 4), (6, 7), (8, None)]
    assert {(gap.stream_us, gap.why) for gap in gaps} == {(1, Why.STREAM_GONE)}


def test_a_stream_that_lost_its_end_gives_its_numbers_again() -> None:
    """After a power cut new messages may have numbers that were booked: they are not skipped."""
    mark = Mark(sequence=13, stored_us=99)
    progress = Progress(stream_us=1, floor=10, above=((12, 13),), last=13, mark=mark)
    after, gaps = progress.compared(Seen(stream_us=1, first=3, last=8))
    assert (after.floor, after.above, after.last, after.mark) == (2, (), 8, None)
    assert [(gap.first, gap.last, gap.why) for gap in gaps] == [(11, 11, Why.END_LOST)]
    assert after.compared(Seen(stream_us=1, first=3, last=8)) == (after, ())


def test_another_message_at_the_mark_means_that_the_end_was_lost_and_grew_again() -> None:
    """The stream is as long as before or longer, and nothing of its end counts as booked."""
    progress = Progress(stream_us=1, floor=10, last=12, mark=Mark(sequence=10, stored_us=99))
    after, gaps = progress.compared(Seen(stream_us=1, first=4, last=20, is_cut=True))
    assert (after.floor, after.last, after.mark) == (3, 20, None)
    assert [(gap.first, gap.last, gap.why) for gap in gaps] == [(11, 12, Why.END_LOST)]


def test_a_lost_end_that_was_not_booked_is_a_gap() -> None:
    """What the stream is known to have had, and has no more, never comes: its numbers do."""
    progress = Progress(stream_us=1, floor=1000, last=3000)
    after, gaps = progress.compared(Seen(stream_us=1, first=1, last=1500))
    assert (after.floor, after.last) == (1000, 1500)
    assert [(gap.first, gap.last, gap.why) for gap in gaps] == [(1501, 3000, Why.END_LOST)]
    assert fill(gaps[0], [(1400, 1600)]) == ([gaps[0]], [])


def test_what_the_server_cannot_read_is_a_gap() -> None:
    """What is behind it counts then, and what is booked is none."""
    progress = Progress(stream_us=1, floor=99, above=((101, 130),), last=130)
    after, gaps = progress.compared(
        Seen(stream_us=1, first=1, last=130, unreadable=((98, 98), (100, 100)))
    )
    assert after.floor == 130
    assert [(gap.first, gap.last, gap.why) for gap in gaps] == [(100, 100, Why.UNREADABLE)]


def test_a_stream_that_is_read_again_adds_no_gap_that_is_known() -> None:
    """But an end can be lost twice, with the same numbers."""
    left = Gap(stream_us=1, first=3, last=9, why=Why.LEFT_THE_STREAM)
    end = Gap(stream_us=1, first=3, last=9, why=Why.END_LOST)
    known = [Gap(stream_us=1, first=4, last=9, why=Why.LEFT_THE_STREAM), end]
    gone = Gap(stream_us=1, first=3, last=None, why=Why.STREAM_GONE)
    assert news([left, end, gone], [*known, gone]) == (
        Gap(stream_us=1, first=3, last=3, why=Why.LEFT_THE_STREAM),
        end,
        gone,
    )


def test_the_mark_is_the_newest_message_whose_time_is_known() -> None:
    """What was in no stream, or has no time, marks nothing; an older message does not replace it."""
    newest = Mark.newest([(4, 40), (6, 60), (7, 0), (0, 90)])
    assert newest == Mark(sequence=6, stored_us=60)
    assert Mark.newest([(0, 0)]) is None
    after = Progress().booked([4, 6], newest).booked([5], Mark(sequence=5, stored_us=50))
    assert after.booked([7]).mark == newest


def test_a_ledger_of_an_older_version_takes_the_stream_that_is_there() -> None:
    """It did not note which stream it read: the first one that can be its own is."""
    old = Progress(floor=5, last=5)
    assert old.compared(Seen(stream_us=9, first=1, last=7))[0].floor == 5
    after, gaps = old.compared(Seen(stream_us=9, first=1, last=3))
    assert (after.floor, [gap.last for gap in gaps]) == (0, [None])


@given(st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30)))
def test_ranges_are_sets(one: set[int], other: set[int]) -> None:
    """What is without and what is within is what it is of the numbers themselves."""
    left, right = list(runs(one)), list(runs(other))
    assert list(without(left, right)) == list(runs(one - other))
    assert list(within(left, right)) == list(runs(one & other))


def test_what_comes_after_all_closes_its_part_of_a_gap() -> None:
    """The rest stays open."""
    gap = Gap(stream_us=1, first=3, last=9, why=Why.LEFT_THE_STREAM)
    missing, filled = fill(gap, [(5, 6), (20, 21)])
    assert [(each.first, each.last) for each in missing] == [(3, 4), (7, 9)]
    assert [(each.first, each.last) for each in filled] == [(5, 6)]


@pytest.mark.parametrize(
    ("first", "last", "why", "said"),
    [
        (7, 7, Why.UNREADABLE, "message 7"),
        (7, 9, Why.LEFT_THE_STREAM, "messages 7 to 9 (3 of them)"),
        (7, None, Why.STREAM_GONE, "whatever came after message 6 of the stream that is gone"),
        (2, 4, Why.RESTORED, "what was booked from outboxes of this host in snapshots 2 to 4"),
        (
            2,
            4,
            Why.OPERATIONS_LOST,
            "operations 2 to 4: do again what is missing, then `costs operations acknowledge --reason …`",
        ),
    ],
)
def test_a_gap_says_what_is_missing(first: int, last: int | None, why: Why, said: str) -> None:
    """The numbers are of messages, of snapshots or of operations; how many is said where it is known."""
    assert str(Gap(stream_us=1, first=first, last=last, why=why)) == said
