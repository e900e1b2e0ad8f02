"""The rows of one transaction, collected event by event. Nothing is written here.

Each kind of event has its rule against repetition: a reading books only what its meter moved, a
session starts once, an end counts if its number is higher than the last one's. Reports, notes and
dead letters are compared with existing rows when they are inserted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from voicecosts.consumer.booking import notes
from voicecosts.consumer.booking.decode import Delivery, Refused, refuse
from voicecosts.consumer.booking.difference import (
    Booking,
    MeterState,
    Refusal,
    book,
    readings,
    worst_case,
)
from voicecosts.consumer.booking.notes import Doubt, Note
from voicecosts.consumer.pricing import Rate
from voicecosts.producer.events import (
    Event,
    MeterReading,
    ProducerReport,
    SessionEnded,
    SessionStarted,
)

if TYPE_CHECKING:
    from voicecosts.consumer.booking.message import DeadLetter
    from voicecosts.consumer.booking.sessions import SessionState

_UNSEEN = MeterState()


class StartRow(Struct, frozen=True):
    """A session's start, and the producer that reported it."""

    start: SessionStarted
    producer_id: str


class EndRow(Struct, frozen=True):
    """A session's end, and the producer that reported it."""

    end: SessionEnded
    producer_id: str


class Entries:
    """The rows of one transaction, and the sessions as they will be after it.

    `sessions` must hold every session of the events that are added. They are changed here, so they
    must be copies: they are kept after a commit and discarded without one.
    """

    def __init__(self, sessions: dict[str, SessionState], rate: Rate) -> None:
        self.sessions = sessions
        self.bookings: list[Booking] = []
        self.starts: list[StartRow] = []
        self.ends: list[EndRow] = []
        self.notes: list[Note] = []
        self.reports: dict[tuple[str, int], ProducerReport] = {}
        self.dead_letters: list[DeadLetter] = []
        self._rate = rate

    def add(self, delivery: Delivery) -> None:
        """Add the events of one message."""
        refused: list[Refused] = []
        for index, event in delivery.events:
            refusal = self._add_event(delivery, event)
            if refusal is not None:
                refused.append(Refused(index, event, refusal.reason, refusal.detail))
        self.dead_letters += refuse(delivery, refused)

    def refuse(self, letters: list[DeadLetter], delivery: Delivery | None) -> None:
        """Add the dead letters of a message, and a note for each whose session is known."""
        self.dead_letters += letters
        producer_id = "" if delivery is None else delivery.producer_id
        self.notes += [
            Note(letter.session_id, letter.number, letter.reason, None, None, producer_id)
            for letter in letters
            if letter.session_id is not None
        ]

    def _add_event(self, delivery: Delivery, event: Event) -> Refusal | None:
        if isinstance(event, ProducerReport):
            self.reports.setdefault((event.producer_id, event.number), event)
            return None
        session = self.sessions[event.session_id]
        if isinstance(event, SessionStarted):
            if not session.started:
                session.started = True
                self.starts.append(StartRow(event, delivery.producer_id))
            return None
        if isinstance(event, MeterReading):
            if not (session.started or session.ended or session.missed):
                session.missed = True
                self._note(delivery, event, notes.NO_START, number=0)
            return self._book(delivery, event, session)
        if event.number <= session.ended:
            return self._book(delivery, event, session)
        session.ended = event.number
        self.ends.append(EndRow(event, delivery.producer_id))
        refusal = self._book(delivery, event, session, final=True)
        if notes.overtaken(session):
            self._note(delivery, event, notes.AFTER_END)
        return refusal

    def _book(
        self,
        delivery: Delivery,
        event: MeterReading | SessionEnded,
        session: SessionState,
        *,
        final: bool = False,
    ) -> Refusal | None:
        """Book what can be booked. The refusals of several meters of an end become one."""
        refusals: list[Refusal] = []
        doubts: list[Doubt] = []
        read = readings(delivery, event)
        for reading in read:
            result = book(reading, session.meters.get(reading.meter, _UNSEEN), self._rate)
            if isinstance(result, Refusal):
                refusals.append(result)
                doubts.append(Doubt(result.reason, worst_case(reading, self._rate), reading.meter))
                continue
            booking, session.meters[reading.meter] = result
            if booking is not None:
                self.bookings.append(booking)
                if session.ended and not final:
                    later = reading.number > session.ended
                    reason = notes.AFTER_END if later else notes.CONTRADICTS_END
                    self._note(delivery, event, reason, number=session.ended)
            elif isinstance(event, MeterReading):
                self._note(delivery, event, notes.NOTHING_NEW)
        if final:
            refused = {doubt.meter for doubt in doubts}
            doubts += notes.disagreements(read, session, refused, self._rate)
        for reason, at_most in notes.summed(doubts):
            self._note(delivery, event, reason, at_most=at_most)
        if not refusals:
            return None
        return Refusal(refusals[0].reason, "; ".join(each.detail for each in refusals))

    def _note(
        self,
        delivery: Delivery,
        event: MeterReading | SessionEnded,
        reason: str,
        *,
        number: int | None = None,
        at_most: str | None = None,
    ) -> None:
        self.notes.append(
            Note(
                event.session_id,
                event.number if number is None else number,
                reason,
                event.occurred_at if isinstance(event, MeterReading) else event.ended_at,
                at_most,
                delivery.producer_id,
            )
        )
