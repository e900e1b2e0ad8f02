"""The rows of one transaction, collected event by event. Nothing is written here.

Each kind of event has its rule against repetition: a reading books only what its meter moved, a
session starts once, an end counts if its number is higher than the last one's. Reports, notes and
dead letters are compared with existing rows when they are inserted.

A session belongs to the tenant, the agent and the producer of its first event. What another producer
says of it is another count, and is refused; another tenant or agent is noted, and changes nothing.
"""

from __future__ import annotations

from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from voicecosts.consumer.booking import notes
from voicecosts.consumer.booking.decode import Delivery, Refused, refuse
from voicecosts.consumer.booking.difference import (
    Booking,
    MeterState,
    Reading,
    Refusal,
    book,
    holds,
    readings,
    session_time,
    worst_case,
)
from voicecosts.consumer.booking.erased import NOBODY, Erased
from voicecosts.consumer.booking.message import Reason
from voicecosts.consumer.booking.months import ALL_OPEN, Months
from voicecosts.consumer.booking.notes import Doubt, Note
from voicecosts.consumer.booking.repricing import Origin, repriced
from voicecosts.consumer.booking.sessions import Identity, SessionKey
from voicecosts.consumer.booking.whole_calls import (
    included_unknown,
    is_charged,
    rate_beside,
    time_first,
)
from voicecosts.consumer.pricing import Rate, Scope
from voicecosts.consumer.pricing.billing import CALL_TIME
from voicecosts.producer.events import (
    Event,
    MeterReading,
    ProducerReport,
    SessionEnded,
    SessionStarted,
)

if TYPE_CHECKING:
    from voicecosts.consumer.booking.message import DeadLetter
    from voicecosts.consumer.booking.prices import PriceRow, PricesUsed
    from voicecosts.consumer.booking.sessions import SessionState
    from voicecosts.producer.events import Meter

MAX_REFUSED: Final = 1_000
"""Meters of other producers that are remembered for one session, at most."""

MAX_METERS: Final = 1_000
"""Meters of one session, at most: what its end may carry. All of them are loaded when one is read."""

_SessionEvent = SessionStarted | MeterReading | SessionEnded

_OF_EVENT = attrgetter("project", "session_id")
_OF_BOOKING = attrgetter("project", "meter.session_id")

_UNSEEN = MeterState()
_TOO_MANY_METERS = Refusal(Reason.OUT_OF_RANGE, f"a session has at most {MAX_METERS:,} meters")
_ZERO = Decimal(0)


class StartRow(Struct, frozen=True):
    """A session's start, and the producer that reported it."""

    start: SessionStarted
    producer_id: str


class EndRow(Struct, frozen=True):
    """A session's end, and the producer that reported it."""

    end: SessionEnded
    producer_id: str


class Answered(Struct, frozen=True):
    """A reading or an end that was refused and is booked now: what was noted of that is not so any more."""

    project: str
    session_id: str
    number: int
    producer_id: str


class Entries:
    """The rows of one transaction, and the sessions as they will be after it.

    `sessions` must hold every session of the events that are added. They are changed here, so they
    must be copies: they are kept after a commit and discarded without one.
    """

    def __init__(
        self,
        sessions: dict[SessionKey, SessionState],
        rate: Rate,
        prices: PricesUsed | None = None,
        months: Months = ALL_OPEN,
        erased: Erased = NOBODY,
    ) -> None:
        self.sessions = sessions
        self.identities: list[Identity] = []
        self.bookings: list[Booking] = []
        self.starts: list[StartRow] = []
        self.ends: list[EndRow] = []
        self.notes: list[Note] = []
        self.answered: list[Answered] = []
        self.reports: dict[tuple[str, str, int], ProducerReport] = {}
        self.dead_letters: list[DeadLetter] = []
        self._rate = rate
        self._prices = prices
        self._months = months
        self._erased = erased

    def add(self, delivery: Delivery, *, again: Reason | None = None) -> None:
        """Add the events of one message. `again` is why they were refused, when they are read once more."""
        refused: list[Refused] = []
        for index, event in delivery.events:
            refusal = self._add_event(delivery, event, again=again)
            if refusal is not None:
                refused.append(Refused(index, event, refusal.reason, refusal.detail))
            elif again is not None and isinstance(event, MeterReading | SessionEnded):
                key = (event.project, event.session_id, event.number, delivery.producer_id)
                self.answered.append(Answered(*key))
        self.dead_letters += refuse(delivery, refused)

    def refuse(self, letters: list[DeadLetter], delivery: Delivery | None) -> None:
        """Add the dead letters of a message, and a note for each whose session is known."""
        self.dead_letters += letters
        producer_id = "" if delivery is None else delivery.producer_id
        self.notes += [
            Note(
                letter.project,
                letter.session_id,
                letter.number,
                letter.reason,
                None,
                None,
                producer_id,
            )
            for letter in letters
            if letter.session_id is not None
        ]

    def touched(self) -> set[SessionKey]:
        """Return the sessions that something is written of."""
        told: tuple[Identity | Note | Answered | SessionStarted | SessionEnded, ...] = (
            *self.identities,
            *self.notes,
            *self.answered,
            *(row.start for row in self.starts),
            *(row.end for row in self.ends),
        )
        found = {*map(_OF_EVENT, told), *map(_OF_BOOKING, self.bookings)}
        return {SessionKey(*key) for key in found}

    def new_prices(self) -> list[PriceRow]:
        """Return the prices that these rows are the first to use."""
        return [] if self._prices is None else self._prices.take_new()

    def _add_event(
        self, delivery: Delivery, event: Event, *, again: Reason | None
    ) -> Refusal | None:
        if isinstance(event, ProducerReport):
            self.reports.setdefault((event.project, event.producer_id, event.number), event)
            return None
        session = self.sessions[SessionKey(event.project, event.session_id)]
        identity = session.identity
        if self._erased:
            for tenant in {event.tenant, event.tenant if identity is None else identity.tenant}:
                if (erasure := self._erased.by(event.project, tenant)) is not None:
                    return Refusal(Reason.ERASED, f"its tenant was erased by operation {erasure}")
        if identity is None:
            session.identity = self._identity(delivery, event)
            self.identities.append(session.identity)
        elif identity.producer_id not in (delivery.producer_id, None):
            return self._refuse_other_producer(delivery, event, session, identity)
        elif session.voided and not isinstance(event, SessionStarted):
            self._note(delivery, event, Reason.VOIDED)
            return Refusal(
                Reason.VOIDED,
                f"session {event.session_id} was voided by operation {session.voided}",
            )
        elif (event.tenant, event.agent_id) != (identity.tenant, identity.agent_id):
            event = self._under_first(delivery, event, session, identity)
        return self._add_to(session, delivery, event, again=again)

    def _add_to(
        self,
        session: SessionState,
        delivery: Delivery,
        event: _SessionEvent,
        *,
        again: Reason | None,
    ) -> Refusal | None:
        """Add an event of the session's own producer."""
        if isinstance(event, MeterReading):
            if not (session.started or session.ended):
                self._note_once(delivery, event, session, notes.NO_START)
            return self._book(delivery, event, session, again=again)
        if isinstance(event, SessionStarted):
            if not session.started:
                session.started = True
                self.starts.append(StartRow(event, delivery.producer_id))
                self._label(delivery, event, session)
            return None
        if again is not None and event.number == session.ended:
            return self._judge_again(delivery, event, session, again)
        if event.number <= session.ended:
            return self._book(delivery, event, session, again=again)
        session.ended = event.number
        self.ends.append(EndRow(event, delivery.producer_id))
        refusal = self._book(delivery, event, session, final=True, again=again)
        if notes.overtaken(session):
            self._note(delivery, event, notes.AFTER_END)
        return refusal

    def _label(self, delivery: Delivery, event: SessionStarted, session: SessionState) -> None:
        """Take in the labels of a session; what came before them is priced again under them."""
        if not event.labels:
            return
        session.labels = event.labels
        self._reprice(delivery, event, session, time_first(session.meters), relabelled=True)

    def _charge(
        self,
        delivery: Delivery,
        event: MeterReading | SessionEnded,
        session: SessionState,
        read: list[Reading],
    ) -> None:
        """Bill at zero what a price for the whole call includes, when it charges the call from now on."""
        if not read or read[0].meter.modality != CALL_TIME or not is_charged(session.meters):
            return
        if unknown := included_unknown(session.meters):
            self._reprice(delivery, event, session, unknown, relabelled=False)

    def _reprice(
        self,
        delivery: Delivery,
        event: _SessionEvent,
        session: SessionState,
        meters: list[Meter],
        *,
        relabelled: bool,
    ) -> None:
        """Rate some meters of a session again, and book the difference."""
        if self._prices is None:
            return
        origin = Origin(
            event.project,
            event.agent_id,
            event.tenant,
            _moment(event),
            delivery.producer_id,
            delivery.number,
            delivery.message.sequence,
        )
        scope = Scope(
            project=event.project,
            agent_id=event.agent_id,
            tenant=event.tenant,
            labels=session.labels,
        )
        at, rate = session_time(event.session_id), rate_beside(self._rate, session.meters)
        for meter in meters:
            state = session.meters[meter]
            if not session.voided and replace(state, number=0) == _UNSEEN:
                continue  # it moved nothing and has no row, so whether it is known is by chance
            rated = rate(
                meter,
                state.totals,
                at,
                provider_raw=state.provider_raw,
                scope=scope,
                terms=state.terms,
                relabelled=relabelled,
            )
            found = (
                repriced(
                    meter, state, rated, origin=origin, prices=self._prices, months=self._months
                )
                if rated.excess is None
                else Refusal(Reason.ABOVE_CEILING, rated.excess)
            )
            if isinstance(
                found, Refusal
            ):  # it stays as it is booked, at another price than its own
                self._note_once(delivery, event, session, found.reason)
            elif found is not None:
                booking, session.meters[meter] = found
                self.bookings.append(booking)

    def _judge_again(
        self, delivery: Delivery, event: SessionEnded, session: SessionState, again: Reason
    ) -> Refusal | None:
        """Book what was refused of the end that holds, and compare the books with it once more.

        Readings before it may have been booked just now, when the books lacked what it says.
        """
        whose = (event.project, event.session_id, event.number, notes.CONTRADICTS_END)
        self.notes = [
            note
            for note in self.notes
            if (note.project, note.session_id, note.number, note.reason) != whose
        ]
        return self._book(delivery, event, session, final=True, again=again)

    def _under_first(
        self,
        delivery: Delivery,
        event: _SessionEvent,
        session: SessionState,
        identity: Identity,
    ) -> _SessionEvent:
        """Return an event under the tenant and agent that its session has, and note the difference."""
        if event.tenant != identity.tenant:
            self._note_once(delivery, event, session, notes.OTHER_TENANT, at_most="0")
        if event.agent_id != identity.agent_id:
            self._note_once(delivery, event, session, notes.OTHER_AGENT, at_most="0")
        return replace(event, tenant=identity.tenant, agent_id=identity.agent_id)

    def _refuse_other_producer(
        self,
        delivery: Delivery,
        event: _SessionEvent,
        session: SessionState,
        identity: Identity,
    ) -> Refusal:
        """Refuse what another producer says of a session, and note what that may be worth."""
        doubts: list[Doubt] = []
        if not isinstance(event, SessionStarted):
            for reading in readings(delivery, event):
                at_most = worst_case(reading, self._rate)
                if at_most is not None:
                    place = (delivery.producer_id, reading.meter)
                    noted = session.refused.get(place, _ZERO)
                    if place in session.refused or len(session.refused) < MAX_REFUSED:
                        session.refused[place] = max(noted, at_most)
                    at_most = max(at_most - noted, _ZERO)
                doubts.append(Doubt(Reason.OTHER_PRODUCER, at_most, reading.meter))
        sums = dict(notes.summed(doubts)) or {Reason.OTHER_PRODUCER: "0"}
        for reason, total in sums.items():
            self._note(delivery, event, reason, at_most=total)
        return Refusal(
            Reason.OTHER_PRODUCER,
            f"producer {identity.producer_id!r} reports session {event.session_id}; what "
            f"{delivery.producer_id!r} says of it is another count",
        )

    def _book(
        self,
        delivery: Delivery,
        event: MeterReading | SessionEnded,
        session: SessionState,
        *,
        final: bool = False,
        again: Reason | None = None,
    ) -> Refusal | None:
        """Book what can be booked. The refusals of several meters of an end become one.

        Of several reasons that something ran backwards comes first: that stays so, whatever changes.
        """
        refusals: list[Refusal] = []
        doubts: list[Doubt] = []
        read = readings(delivery, event)
        rate = rate_beside(self._rate, session.meters)
        for reading in read:
            state = session.meters.get(reading.meter, _UNSEEN)
            result = self._result(reading, state, session, rate, again)
            if isinstance(result, Refusal):
                refusals.append(result)
                doubts.append(Doubt(result.reason, worst_case(reading, self._rate), reading.meter))
                continue
            booking, session.meters[reading.meter] = result
            if booking is not None:
                if not session.counted:
                    session.counted = True
                    booking = replace(booking, opens=True)
                self.bookings.append(booking)
                if session.ended and not final:
                    later = reading.number > session.ended
                    reason = notes.AFTER_END if later else notes.CONTRADICTS_END
                    self._note(delivery, event, reason, number=session.ended)
            elif isinstance(event, MeterReading):
                self._note(delivery, event, notes.NOTHING_NEW)
        self._charge(delivery, event, session, read)
        if final:
            refused = {doubt.meter for doubt in doubts}
            doubts += notes.disagreements(read, session, refused, self._rate)
        for reason, at_most in notes.summed(doubts):
            self._note(delivery, event, reason, at_most=at_most)
        if not refusals:
            return None
        reasons = [each.reason for each in refusals]
        reason = Reason.BACKWARDS if Reason.BACKWARDS in reasons else reasons[0]
        return Refusal(reason, "; ".join(each.detail for each in refusals))

    def _result(
        self,
        reading: Reading,
        state: MeterState,
        session: SessionState,
        rate: Rate,
        again: Reason | None,
    ) -> tuple[Booking | None, MeterState] | Refusal:
        """Return what a reading adds to a meter of a session, or why it is refused."""
        if state is _UNSEEN and len(session.meters) >= MAX_METERS:
            return _TOO_MANY_METERS
        if again is not None and _is_still_refused(reading, state, again):
            return Refusal(again, "a later reading was booked, and does not make it good")
        return book(
            reading,
            state,
            rate,
            labels=session.labels,
            prices=self._prices,
            months=self._months,
        )

    def _identity(self, delivery: Delivery, event: _SessionEvent) -> Identity:
        day, _ = self._months.dated(session_time(event.session_id).date())
        return Identity(
            event.project, event.session_id, event.agent_id, event.tenant, delivery.producer_id, day
        )

    def _note_once(
        self,
        delivery: Delivery,
        event: _SessionEvent,
        session: SessionState,
        reason: str,
        *,
        at_most: str | None = None,
    ) -> None:
        """Note what is said of the whole session, and once is enough."""
        if reason not in session.noted:
            session.noted.add(reason)
            self._note(delivery, event, reason, number=0, at_most=at_most)

    def _note(
        self,
        delivery: Delivery,
        event: _SessionEvent,
        reason: str,
        *,
        number: int | None = None,
        at_most: str | None = None,
    ) -> None:
        self.notes.append(
            Note(
                event.project,
                event.session_id,
                _number(event) if number is None else number,
                reason,
                _moment(event),
                at_most,
                delivery.producer_id,
            )
        )


def _is_still_refused(reading: Reading, state: MeterState, again: Reason) -> bool:
    """Return whether a later reading was booked that does not have what a refused one says.

    What ran backwards is lower than what is booked, so totals say nothing of it: it stays refused.
    """
    if reading.number >= state.number:
        return reading.number == state.number and not holds(state, reading)
    return again is Reason.BACKWARDS or not holds(state, reading)


def _number(event: _SessionEvent) -> int:
    """Return the number of a reading or end; a start has none."""
    return 0 if isinstance(event, SessionStarted) else event.number


def _moment(event: _SessionEvent) -> int:
    """Return when an event says it happened."""
    if isinstance(event, SessionStarted):
        return event.started_at
    return event.occurred_at if isinstance(event, MeterReading) else event.ended_at
