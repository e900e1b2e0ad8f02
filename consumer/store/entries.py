"""Everything that one transaction is going to add, collected event by event. It writes nothing.

Each kind of event has its rule against repetition: a reading books only what its meter moved, a
session starts once, an end counts if its number is higher than the last one's. Reports and dead
letters are compared with the rows when they are inserted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumer.booking import MeterState, Rate, Refusal, book, readings
from consumer.decode import Delivery, Refused, refuse
from consumer.store.rows import BookingRow, booking_row
from producer.events import Event, MeterReading, ProducerReport, SessionEnded, SessionStarted

if TYPE_CHECKING:
    from consumer.message import DeadLetter
    from consumer.store.sessions import SessionState

_UNSEEN = MeterState()


class Entries:
    """The rows of one transaction, and the sessions as they will be after it.

    `sessions` must hold every session of what is added. They belong to this object until the
    transaction has committed; without a commit they are thrown away.
    """

    def __init__(self, sessions: dict[str, SessionState], rate: Rate) -> None:
        self.sessions = sessions
        self.bookings: list[BookingRow] = []
        self.starts: list[SessionStarted] = []
        self.ends: list[SessionEnded] = []
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

    def _add_event(self, delivery: Delivery, event: Event) -> Refusal | None:
        if isinstance(event, ProducerReport):
            self.reports.setdefault((event.producer_id, event.number), event)
            return None
        session = self.sessions[event.session_id]
        if isinstance(event, SessionStarted):
            if not session.started:
                session.started = True
                self.starts.append(event)
            return None
        if isinstance(event, SessionEnded) and event.number > session.ended:
            session.ended = event.number
            self.ends.append(event)
        return self._book(delivery, event, session)

    def _book(
        self, delivery: Delivery, event: MeterReading | SessionEnded, session: SessionState
    ) -> Refusal | None:
        """Book what can be booked. An end may have refusals of several meters: they become one."""
        refusals: list[Refusal] = []
        for reading in readings(event):
            result = book(reading, session.meters.get(reading.meter, _UNSEEN), self._rate)
            if isinstance(result, Refusal):
                refusals.append(result)
                continue
            booking, session.meters[reading.meter] = result
            if booking is not None:
                self.bookings.append(booking_row(booking, delivery))
        if not refusals:
            return None
        return Refusal(refusals[0].reason, "; ".join(each.detail for each in refusals))
