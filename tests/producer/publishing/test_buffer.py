"""The buffer: bounded, never in the way, and losing detail before it loses money."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.events import ended, reading, session_id, started
from tests.support.oracle import newest
from voicecosts.producer.config import BufferLimits
from voicecosts.producer.events import Event, MeterReading, SessionEnded, SessionStarted
from voicecosts.producer.publishing.buffer import PIECE, Buffer


def filled(events: list[Event], *, detail: int, meters: int) -> Buffer:
    """Return a buffer with these limits that was given these events."""
    buffer = Buffer(BufferLimits(detail=detail, meters=meters))
    for event in events:
        buffer.put(event)
    return buffer


def drained(buffer: Buffer) -> list[Event]:
    """Remove everything that is in the buffer."""
    taken: list[Event] = []
    while some := buffer.remove(7):
        taken += some
    assert len(buffer) == 0
    return taken


def test_what_fits_comes_out_as_it_went_in() -> None:
    """Below its bound a buffer is a queue: every event, in order, once."""
    events: list[Event] = [started(), reading(1), reading(2), reading(3), ended(4)]
    buffer = filled(events, detail=5, meters=1)
    assert len(buffer) == 5
    assert drained(buffer) == events
    assert (buffer.captured, buffer.coalesced, buffer.dropped) == (5, 0, 0)


def test_taking_is_bounded_and_an_empty_buffer_gives_nothing() -> None:
    """One call returns at most what was asked for, first from the detail, then the newest."""
    buffer = filled([reading(n, model=f"m-{n}") for n in range(1, 7)], detail=4, meters=9)
    sizes = [len(buffer.remove(3)) for _ in range(3)]
    assert sizes == [3, 3, 0]


def test_a_full_buffer_keeps_the_newest_reading_of_each_meter() -> None:
    """Beyond its bound detail is merged; totals stay exact, because a reading holds totals."""
    buffer = filled(
        [
            reading(1),
            reading(2),
            reading(3, model="m-2"),
            reading(4),
            reading(5, model="m-2"),
            reading(6),
        ],
        detail=1,
        meters=9,
    )
    assert len(buffer) == 3
    assert drained(buffer) == [reading(1), reading(6), reading(5, model="m-2")]
    assert (buffer.captured, buffer.coalesced, buffer.dropped) == (6, 3, 0)


@pytest.mark.parametrize(
    "other",
    [
        reading(3, of=2),
        reading(3, agent_label="b"),
        reading(3, model="m-2"),
        reading(3, estimated=True),
    ],
    ids=["session", "agent label", "model", "estimated"],
)
def test_readings_of_different_meters_are_never_merged(other: MeterReading) -> None:
    """What tells meters apart in the ledger tells them apart in the buffer."""
    buffer = filled([started(), reading(2), other], detail=1, meters=9)
    assert drained(buffer) == [started(), reading(2), other]
    assert buffer.coalesced == 0


def test_starts_and_ends_are_kept_where_readings_make_way() -> None:
    """A full buffer drops readings first: a later reading or the session's end repairs them."""
    readings = [reading(n, model=f"m-{n}") for n in range(1, 5)]
    buffer = filled(
        [started(), *readings, ended(5), ended(1, of=2), started(3)], detail=1, meters=3
    )
    assert drained(buffer) == [started(), *readings[:3], ended(5), ended(1, of=2), started(3)]
    assert buffer.dropped == 1


def test_a_buffer_never_grows_beyond_its_bounds() -> None:
    """Whatever arrives, memory is bounded, and every event that found no place is counted."""
    buffer = Buffer(BufferLimits(detail=5, meters=10))
    for number in range(1, 201):
        buffer.put(reading(number, model=f"m-{number}"))
        buffer.put(ended(1, of=number))
        assert len(buffer) <= 5 + 2 * 10
    assert buffer.captured == 400
    assert len(drained(buffer)) + buffer.dropped == 400


def test_a_meter_that_is_known_is_updated_even_in_a_full_buffer() -> None:
    """Only a meter without a place can be dropped; one that has a place stays exact."""
    buffer = filled(
        [started(), reading(1), reading(2, model="m-2"), reading(3)], detail=1, meters=1
    )
    assert drained(buffer) == [started(), reading(3)]
    assert buffer.dropped == 1


def test_coalesced_readings_are_counted_per_session_and_asked_for_once() -> None:
    """The end of a session says how much of its detail was merged away."""
    buffer = filled(
        [started(), *(reading(n) for n in range(1, 5)), reading(1, of=2), reading(2, of=2)],
        detail=1,
        meters=9,
    )
    assert [buffer.coalesced_of(session_id(of)) for of in (1, 2, 3)] == [3, 1, 0]
    assert buffer.coalesced_of(session_id(1)) == 0
    assert buffer.coalesced == 4


def test_coalescing_makes_room_and_keeps_what_counts() -> None:
    """While nothing can be sent the oldest detail is merged, so that new detail has a place."""
    buffer = filled([started(), *(reading(n) for n in range(1, 5))], detail=5, meters=9)
    buffer.coalesce_oldest()
    assert len(buffer) == 2
    buffer.put(reading(5))
    taken = drained(buffer)
    assert [e for e in taken if isinstance(e, SessionStarted)] == [started()]
    assert {e.number for e in taken if isinstance(e, MeterReading)} == {4, 5}


def test_coalescing_does_not_replace_a_newer_reading_by_an_older_one() -> None:
    """Old detail never takes the place of what came while the detail was full."""
    buffer = filled([reading(1), reading(2), reading(3)], detail=2, meters=9)
    buffer.coalesce_oldest()
    assert drained(buffer) == [reading(2), reading(3)]


def test_a_reading_that_comes_while_coalescing_is_not_replaced_by_an_older_one() -> None:
    """A voice loop may put between any two steps of coalescing; the newest total stays."""
    buffer = Buffer(BufferLimits(detail=1, meters=9))
    buffer.put(reading(1))

    class Interrupted(dict):  # type: ignore[type-arg]  # a dictionary that is interrupted
        busy = False

        def get(self, key: object, default: object = None) -> object:
            older = super().get(key, default)
            if not self.busy:
                self.busy = True
                buffer.put(reading(1, of=5))  # fills the detail again
                buffer.put(reading(2))  # is kept as the newest
            return older

    buffer._oldest = Interrupted()
    buffer.coalesce_oldest()
    kept = [event for event in drained(buffer) if isinstance(event, MeterReading)]
    assert max(event.number for event in kept if event.session_id == session_id(1)) == 2


def test_a_buffer_with_room_is_not_coalesced() -> None:
    """Detail is given up only when its place is needed."""
    buffer = filled([reading(1), reading(2)], detail=3, meters=9)
    buffer.coalesce_oldest()
    assert drained(buffer) == [reading(1), reading(2)]


def test_one_step_of_coalescing_moves_a_bounded_number_of_events() -> None:
    """Each step is short: the publisher must come back to the network soon."""
    detail = 2 * PIECE
    buffer = filled([started(n) for n in range(detail)], detail=detail, meters=detail)
    buffer.coalesce_oldest()
    assert len(buffer._oldest) == PIECE


def test_the_state_of_a_buffer_can_be_read() -> None:
    """A log line about a buffer says how full it is and what it lost."""
    buffer = filled([reading(n, model=f"m-{n % 3}") for n in range(1, 7)], detail=1, meters=2)
    assert repr(buffer) == "<Buffer 1 in detail, 2 newest, 2 coalesced, 1 dropped>"


Step = tuple[Literal["put", "remove", "coalesce", "end"], int]
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 3)),
        st.tuples(st.just("put"), st.integers(0, 3)),
        st.tuples(st.just("remove"), st.integers(0, 4)),
        st.tuples(st.just("coalesce"), st.just(0)),
        st.tuples(st.just("end"), st.integers(0, 3)),
    ),
    max_size=80,
)


def follow(steps: list[Step], buffer: Buffer) -> tuple[list[Event], list[Event]]:
    """Do all steps and then empty the buffer; return what was put and what was handed out."""
    put: list[Event] = []
    out: list[Event] = []
    for number, (step, argument) in enumerate(steps, start=1):
        if step == "remove":
            out += buffer.remove(argument)
        elif step == "coalesce":
            buffer.coalesce_oldest()
        else:
            event: Event = ended(number, of=argument)
            if step == "put":
                event = reading(number, model=f"m-{argument % 2}", of=argument // 2)
            put.append(event)
            buffer.put(event)
    return put, out + drained(buffer)


@given(STEPS, st.integers(0, 5))
def test_the_newest_reading_of_every_meter_is_handed_out(steps: list[Step], detail: int) -> None:
    """Under any interleaving, what the ledger books in the end is what the meters showed."""
    buffer = Buffer(BufferLimits(detail=detail, meters=100))
    put, out = follow(steps, buffer)
    assert buffer.dropped == 0
    assert newest(out) == newest(put)
    assert [e for e in put if isinstance(e, SessionEnded) and e not in out] == []


@given(STEPS, st.integers(0, 5), st.integers(0, 3))
def test_every_event_is_handed_out_merged_or_counted_as_dropped(
    steps: list[Step], detail: int, meters: int
) -> None:
    """Nothing disappears without a number, and nothing is handed out twice or made up."""
    buffer = Buffer(BufferLimits(detail=detail, meters=meters))
    put, out = follow(steps, buffer)
    assert buffer.captured == len(put)
    assert len(out) + buffer.coalesced + buffer.dropped == len(put)
    numbers = Counter(e.number for e in out if isinstance(e, (MeterReading, SessionEnded)))
    assert set(numbers.values()) <= {1}
    assert all(event in put for event in out)
    if buffer.dropped == 0:
        assert newest(out) == newest(put)


def test_many_threads_put_while_one_removes_and_nothing_is_lost() -> None:
    """Voice loops and the publisher need no lock: each event comes out once, in its own order."""
    voices, each = 4, 2000
    buffer = Buffer(BufferLimits(detail=voices * each, meters=1))
    together = threading.Barrier(voices + 1)

    def speak(voice: int) -> None:
        together.wait(10)
        for number in range(1, each + 1):
            buffer.put(reading(number, of=voice))

    threads = [threading.Thread(target=speak, args=(voice,)) for voice in range(voices)]
    for thread in threads:
        thread.start()
    together.wait(10)
    taken: list[Event] = []
    while any(thread.is_alive() for thread in threads):
        taken += buffer.remove(50)
    taken += drained(buffer)
    assert buffer.dropped == buffer.coalesced == 0
    for voice in range(voices):
        own = [
            e for e in taken if isinstance(e, MeterReading) and e.session_id == session_id(voice)
        ]
        assert [e.number for e in own] == list(range(1, each + 1))
