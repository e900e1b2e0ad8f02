"""The one source of traffic: sessions that count as a producer does, and deliveries of their events.

Whatever is made from a seed is the same in every process.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tests.support.events import (
    PRODUCER,
    SUBJECT,
    ended,
    final,
    message,
    reading,
    report,
    session_id,
    started,
)
from tests.support.oracle import Total, expected, list_cost, newest_readings
from voicecosts.consumer.booking.message import Message
from voicecosts.producer.events import Batch, Event, Meter, MeterTotals, Quantities

METERS: Final = (
    final(model="priced"),
    final(model="priced", estimated=True),
    final(model="reporting", modality="stt", reported_cost="0"),
    final(model="unknown", agent_label="Booker"),
)
"""Meters for `oracle.rate`: with a price, with a cost that the provider reports, with neither."""

LISTED: Final = (final(model="gpt-4.1-mini"), final(model="llama-local", provider="homebrew"))
"""Meters for the list prices: one has a price, one has none."""

MADE_UP: Final = b"\x81\xa4type\xa7made_up"
"""An event of a kind that nobody knows."""


class Call:
    """One session that produces readings: it counts as a producer does."""

    def __init__(
        self, session: str, meters: Iterable[MeterTotals], *, tenant: str | None = None
    ) -> None:
        self.session = session
        self.meters = list(meters)
        self.number = 0
        self.events: list[Event] = []
        self._labels = {"session_id": session, "tenant": tenant}

    def start(self) -> None:
        """Say that the session started."""
        self.events.append(started(**self._labels))

    def use(self, place: int, added: dict[str, int], reported_nano: int = 0) -> None:
        """Move one meter and read it."""
        meter = self.meters[place]
        totals = {
            name: getattr(meter.totals, name) + added.get(name, 0)
            for name in Quantities.__struct_fields__
        }
        reported = meter.reported_cost
        if reported is not None:
            reported = f"{Decimal(reported) + Decimal(reported_nano).scaleb(-9):f}"
        meter = replace(meter, totals=Quantities(**totals), reported_cost=reported)
        self.meters[place] = meter
        self.number += 1
        shown = {name: getattr(meter, name) for name in MeterTotals.__struct_fields__}
        self.events.append(reading(self.number, **self._labels, **shown))

    def end(self, **more: object) -> None:
        """Say that the session ended, with every meter's totals."""
        self.number += 1
        self.events.append(ended(self.number, *self.meters, **self._labels, **more))

    def needed(self) -> set[int]:
        """Return the places of the events that must arrive: the last word on every meter."""
        last = {
            meter: place
            for place, event in enumerate(self.events)
            for meter in newest_readings([event])
        }
        return set(last.values())


def calls(seed: int, count: int, *, readings: int = 12) -> list[Call]:
    """Return so many calls with list prices, each with a start, its readings and an end."""
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    made = []
    for number in range(count):
        session = session_id(seed * 10**6 + number, after_ms=number)
        call = Call(session, LISTED, tenant=chance.choice(("acme", "globex", None)))
        call.start()
        for _ in range(readings):
            added = {
                "requests": 1,
                "input_tokens": chance.randrange(1, 5000),
                "output_tokens": chance.randrange(1, 500),
            }
            call.use(chance.randrange(len(LISTED)), added)
        call.end()
        made.append(call)
    return made


def events_of(made: Iterable[Call]) -> list[Event]:
    """Return the events of calls, one call after the other."""
    return [event for call in made for event in call.events]


def bill(made: Iterable[Call]) -> dict[Meter, Total]:
    """Return what a ledger with the providers' list prices must hold of calls."""
    return expected(events_of(made), list_cost)


def batches(made: Sequence[Call], *, seed: int, size: int = 6) -> Iterator[Batch]:
    """Return the events of the calls, in their order within a call and mixed between calls."""
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    lines = [list(call.events) for call in made]
    number = 0
    while lines:
        events: list[Event] = []
        for _ in range(size):
            if lines:
                line = chance.choice(lines)
                events.append(line.pop(0))
                lines = [left for left in lines if left]
        number += 1
        yield Batch(producer_id=PRODUCER, number=number, events=events)


class Traffic(Struct, frozen=True):
    """Messages, and what must come of them: the events behind them, and the dead letters."""

    messages: list[Message]
    events: list[Event]
    dead_letters: int
    calls: int


def traffic(seed: int, *, calls: int = 30, readings: int = 40) -> Traffic:
    """Return a bad day's messages: repeated, out of order, lost, and here and there broken."""
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    made = [_any_call(chance, number, readings) for number in range(calls)]
    sent = [
        event
        for call in made
        for needed in [call.needed()]
        for place, event in enumerate(call.events)
        if place in needed or place == 0 or chance.random() > 0.1
    ]
    sent += chance.choices(sent, k=len(sent) // 20)
    chance.shuffle(sent)
    messages: list[Message] = []
    while sent:
        size = chance.randint(1, 12)
        messages.append(message(len(messages) + 1, *sent[:size], number=len(messages) + 1))
        del sent[:size]
    for number in range(1, 6):
        told = report(number, dropped=number)
        messages.append(message(len(messages) + 1, told, number=len(messages) + 1))
    dead_letters = 0
    for place in range(0, len(messages), 15):
        dead_letters += 1
        messages[place] = _with_unknown_event(messages[place])
    messages.append(Message(SUBJECT, len(messages) + 1, b"\xc1 torn"))
    return Traffic(messages, events_of(made), dead_letters + 1, calls)


def _any_call(chance: random.Random, number: int, readings: int) -> Call:
    call = Call(session_id(number + 1, after_ms=number * 1000), METERS)
    call.start()
    for _ in range(readings):
        added = {
            name: chance.randrange(5000)
            for name in ("requests", "input_tokens", "output_tokens", "characters", "audio_us")
            if chance.random() < 0.5
        }
        call.use(chance.randrange(len(METERS)), added, chance.randrange(1000))
    if chance.random() < 0.8:
        call.end()
    return call


def _with_unknown_event(good: Message) -> Message:
    batch = msgspec.msgpack.decode(good.data)
    batch["events"].append(msgspec.Raw(MADE_UP))
    return replace(good, data=msgspec.msgpack.encode(batch))
