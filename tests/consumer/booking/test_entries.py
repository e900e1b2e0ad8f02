"""The rows of a transaction: what bounds a session."""

from __future__ import annotations

from tests.support.events import ended, final, message, reading, started
from tests.support.oracle import rate
from voicecosts.consumer.booking.decode import read
from voicecosts.consumer.booking.entries import MAX_METERS, MAX_REFUSED, Entries
from voicecosts.consumer.booking.notes import NO_START
from voicecosts.consumer.booking.sessions import SessionKey, SessionState


def test_a_session_has_no_more_meters_than_an_end_may_carry() -> None:
    """All meters of a session are loaded to book one, so nobody may add them without end.

    Further meters are refused, and the session says so; those that it has are booked as before.
    """
    meters = [final(model=f"m{number}", requests=1) for number in range(MAX_METERS)]
    of_one_more = reading(MAX_METERS + 2, model="one more", requests=1)
    of_a_known_one = reading(MAX_METERS + 3, model="m7", requests=2)
    delivery, _ = read(message(1, ended(1, *meters), of_one_more, of_a_known_one))
    assert delivery is not None
    entries = Entries(
        {SessionKey(of_one_more.project, of_one_more.session_id): SessionState()}, rate
    )
    entries.add(delivery)
    assert len(entries.bookings) == MAX_METERS + 1
    assert entries.bookings[-1].meter.model == "m7"
    assert [letter.reason for letter in entries.dead_letters] == ["out_of_range"]
    assert "out_of_range" in [note.reason for note in entries.notes]


def test_what_other_producers_say_of_a_session_is_kept_of_so_many_meters_and_no_more() -> None:
    """Beyond that each reading is noted in full: too much rather than too little, in bounded memory."""
    key = SessionKey(reading(1).project, reading(1).session_id)
    entries = Entries({key: SessionState()}, rate)
    for number, producer in enumerate(("own", *["other"] * 2)):
        readings = [reading(n, model=f"m{n}", requests=1) for n in range(1, MAX_REFUSED + 3)]
        delivery, _ = read(message(number + 1, *readings, producer=producer))
        assert delivery is not None
        entries.add(delivery)
    assert len(entries.sessions[key].refused) == MAX_REFUSED


def test_a_reading_without_a_start_is_noted_once_and_one_with_it_is_not() -> None:
    """The end of a session stands for its start: one that has either is known."""
    for first, noted in (([started()], []), ([], [NO_START]), ([ended(9)], ["after_end"])):
        delivery, _ = read(message(1, *first, reading(10), reading(11)))
        assert delivery is not None
        entries = Entries(
            {SessionKey(reading(1).project, reading(1).session_id): SessionState()}, rate
        )
        entries.add(delivery)
        assert sorted({note.reason for note in entries.notes}) == noted
        assert [note.reason for note in entries.notes].count(NO_START) == noted.count(NO_START)
