"""Messages in pieces: nothing left out, in order, and no piece larger than its bound."""

from __future__ import annotations

from tests.support.events import (
    SUBJECT,
    ended,
    final,
    message,
    reading,
    report,
    session_id,
    started,
)
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.booking.pieces import divided, pieces, sessions_of
from voicecosts.consumer.booking.sessions import SessionKey


def sequences(*messages: Message, max_weight: int) -> list[list[int]]:
    """Return the sequences of the messages of each piece."""
    return [
        [each.sequence for each in piece.messages]
        for piece in pieces(messages, max_weight=max_weight)
    ]


def test_every_message_is_in_one_piece_in_order() -> None:
    """What is divided is the same as before, decoded once."""
    given = [message(number, reading(number)) for number in range(1, 8)]
    made = list(pieces(given, max_weight=6))
    assert [each for piece in made for each in piece.messages] == given
    assert [len(piece.reads) for piece in made] == [3, 3, 1]


def test_a_piece_is_bounded_by_what_its_messages_decode_to() -> None:
    """An end weighs as much as all its meters, however few bytes it has."""
    heavy = message(2, ended(2, *(final(model=f"m{n}", requests=1) for n in range(50))))
    light = [message(number, started(of=number)) for number in (1, 3, 4)]
    assert sequences(light[0], heavy, *light[1:], max_weight=50) == [[1], [2], [3, 4]]


def test_everything_that_becomes_rows_weighs() -> None:
    """Unattributed usage of a report and events that cannot be booked become rows too."""
    usage = [final(model=f"m{n}", requests=1) for n in range(50)]
    reported = message(1, report(1, unattributed_usage=usage))
    foreign = message(2, *(reading(n, project="other") for n in range(1, 51)))
    garbage = [Message(SUBJECT, number, b"\xc1") for number in (3, 4)]
    assert sequences(reported, foreign, *garbage, max_weight=50) == [[1], [2], [3, 4]]


def test_no_message_is_no_piece() -> None:
    """Nothing given, nothing to book."""
    assert sequences(max_weight=50) == []


def test_a_piece_is_divided_by_sessions() -> None:
    """Everything is in one of both, a session's events together in their order; a divided message is of the rest."""
    given = [
        message(1, reading(1), number=1),
        message(2, reading(2), reading(1, of=2), reading(3), number=2),
        message(3, report(1), number=3),
        Message(SUBJECT, 4, b"\xc1"),
        message(5, reading(2, of=2), number=5),
        message(6, reading(4), number=6),
    ]
    [piece] = pieces(given)
    keys = sessions_of(piece)
    assert keys == [SessionKey("prod", session_id(1)), SessionKey("prod", session_id(2))]
    first, rest = divided(piece, keys[:1])
    assert [each.sequence for each in first.messages] == [1, 3, 4, 6]
    assert [each.sequence for each in rest.messages] == [2, 5]
    assert (first.is_last, rest.is_last) == (False, True)
    numbers = [
        [
            [getattr(event, "number", None) for _, event in delivery.events] if delivery else None
            for delivery, _ in each.reads
        ]
        for each in (first, rest)
    ]
    assert numbers == [[[1], [2, 3], [1], None, [4]], [[1], [2]]]
    places = [place for delivery, _ in rest.reads if delivery for place, _ in delivery.events]
    assert places == [1, 0]
    assert [len(letters) for _, letters in (*first.reads, *rest.reads)] == [0, 0, 0, 1, 0, 0, 0]
