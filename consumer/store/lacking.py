"""Compare messages that were booked with what the books have of them: a meter's totals, a start, an end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from voicecosts.consumer.booking.decode import read
from voicecosts.consumer.booking.difference import readings
from voicecosts.consumer.booking.erased import Erased, Erasure
from voicecosts.consumer.booking.prices import PricesUsed
from voicecosts.consumer.booking.sessions import SessionKey, SessionState
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.load import load_sessions
from voicecosts.consumer.store.proof import Difference, meter_name
from voicecosts.producer.events import MeterReading, ProducerReport, SessionEnded, SessionStarted

if TYPE_CHECKING:
    import duckdb

    from voicecosts.consumer.booking.decode import Delivery
    from voicecosts.consumer.booking.difference import Reading
    from voicecosts.consumer.booking.message import Message
    from voicecosts.consumer.booking.progress import Progress
    from voicecosts.producer.events import Meter


SessionEvent = SessionStarted | MeterReading | SessionEnded


class Told:
    """What messages of the stream say of the books. What is not booked yet is not compared."""

    def __init__(self, books: duckdb.DuckDBPyConnection, progress: Progress) -> None:
        self._books = books
        self._unbooked = progress.unbooked(progress.highest)
        self._upto = progress.highest
        self._prices = PricesUsed(books.execute(sql.LOAD_PRICES_USED).fetchall())
        self._erased = Erased(Erasure(*row) for row in books.execute(sql.LOAD_ERASURES).fetchall())

    def differences(self, messages: Sequence[Message]) -> list[Difference]:
        """Return what the books lack of these messages, or have otherwise."""
        return list(self._compared(messages))

    def lacking(self, messages: Sequence[Message]) -> list[Delivery]:
        """Return what they say of the sessions of which the books lack something that they say."""
        keys = {
            SessionKey(it.project or "", it.session_id or "")
            for it in self.differences(messages)
            if it.found is None or int(it.found) < int(it.expected or 0)
        }
        booked = self.booked(messages)
        found: dict[int, Delivery] = {}
        for delivery, event in self._events(booked, self._refused(booked)):
            if SessionKey(event.project, event.session_id) in keys:
                own = found.setdefault(delivery.message.sequence, replace(delivery, events=[]))
                own.events.append((len(own.events), event))
        return list(found.values())

    def booked(self, messages: Iterable[Message]) -> list[Message]:
        """Return those that are booked."""
        return [
            it
            for it in messages
            if it.sequence <= self._upto
            and not any(first <= it.sequence <= last for first, last in self._unbooked)
        ]

    def _compared(self, messages: Sequence[Message]) -> Iterator[Difference]:
        booked = self.booked(messages)
        events = list(self._events(booked, self._refused(booked)))
        newest: dict[tuple[SessionKey, Meter], Reading] = {}
        keys = set()
        for delivery, event in events:
            keys.add(SessionKey(event.project, event.session_id))
            if isinstance(event, SessionStarted):
                continue
            for each in readings(delivery, event):
                place = (SessionKey(each.project, each.meter.session_id), each.meter)
                if place not in newest or newest[place].number < each.number:
                    newest[place] = each
        sessions = load_sessions(self._books, keys, self._prices)
        for _, event in events:
            yield from _facts(event, sessions[SessionKey(event.project, event.session_id)])
        for (key, _), each in newest.items():
            yield from _totals(key, each, sessions[key])

    def _events(
        self, messages: Sequence[Message], refused: set[tuple[int, int]]
    ) -> Iterator[tuple[Delivery, SessionEvent]]:
        """Yield what was said of sessions, and was booked."""
        for message in messages:
            delivery, _ = read(message)
            if delivery is None:
                continue
            for index, event in delivery.events:
                if (
                    not isinstance(event, ProducerReport)
                    and (message.sequence, index) not in refused
                    and self._erased.by(event.project, event.tenant) is None
                ):
                    yield delivery, event

    def _refused(self, messages: Sequence[Message]) -> set[tuple[int, int]]:
        """Return the events of these messages that could not be booked: as sequence and index."""
        if not messages:
            return set()
        span = {"first": messages[0].sequence, "last": messages[-1].sequence}
        return set(self._books.execute(sql.REFUSED_OF_MESSAGES, span).fetchall())


def _facts(event: SessionEvent, session: SessionState) -> Iterator[Difference]:
    """Yield the start or the end of a session that the books have not."""
    if session.voided:
        return
    key = SessionKey(event.project, event.session_id)
    if isinstance(event, SessionStarted) and not session.started:
        yield _difference(key, session, "start", ("1", None))
    if isinstance(event, SessionEnded) and session.ended < event.number:
        found = str(session.ended) if session.ended else None
        yield _difference(key, session, "number of the end", (str(event.number), found))


def _totals(key: SessionKey, told: Reading, session: SessionState) -> Iterator[Difference]:
    """Yield the quantities of which less is booked than a reading says, or more than its meter's last one."""
    if session.voided:
        return
    state = session.meters.get(told.meter)
    number = 0 if state is None else state.number
    for name, amount in msgspec.structs.asdict(told.totals).items():
        booked = 0 if state is None else getattr(state.totals, name)
        if booked < amount or (booked > amount and told.number == number):
            amounts = (str(amount), None if state is None else str(booked))
            yield _difference(
                key, session, name, amounts, meter_name(msgspec.structs.asdict(told.meter))
            )


def _difference(
    key: SessionKey,
    session: SessionState,
    quantity: str,
    amounts: tuple[str, str | None],
    meter: str = "",
) -> Difference:
    """Return what differs; `amounts` are what a message says and what is booked."""
    expected, found = amounts
    return Difference(
        what="stream",
        quantity=quantity,
        expected=expected,
        found=found,
        day=None if session.identity is None else session.identity.day,
        project=key.project,
        session_id=key.session_id,
        meter=meter or None,
    )
