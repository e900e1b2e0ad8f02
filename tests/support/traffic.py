"""A day's messages from a seed: the same in every process, and as bad as a network makes them."""

from __future__ import annotations

import random
from typing import Final

import msgspec
from msgspec import Struct

from tests.support.events import PRODUCER, PROJECT, START_US, SUBJECT, message, session_id
from tests.support.fleet import Call
from voicecosts.consumer.booking.message import Message
from voicecosts.producer.events import Event, ProducerReport

METERS: Final = (
    ("Greeter", "llm", "priced", False),
    ("Greeter", "llm", "priced", True),
    ("Greeter", "stt", "reporting", False),
    ("Booker", "llm", "unknown", False),
)
MADE_UP: Final = b"\x81\xa4type\xa7made_up"
"""An event of a kind that nobody knows."""


class Traffic(Struct, frozen=True):
    """Messages, and what must come of them: the events behind them, and the dead letters."""

    messages: list[Message]
    events: list[Event]
    dead_letters: int
    calls: int


def traffic(seed: int, *, calls: int = 30, readings: int = 40) -> Traffic:
    """Return the messages of some calls: repeated, out of order, lost, and here and there broken."""
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    made = [_call(chance, number, readings) for number in range(calls)]
    events = [event for call in made for event in call.events]
    sent = [
        event
        for call in made
        for place, event in enumerate(call.events)
        if place in call.needed() or place == 0 or chance.random() > 0.1
    ]
    sent += chance.choices(sent, k=len(sent) // 20)
    sent += [
        ProducerReport(
            producer_id=PRODUCER, number=n, project=PROJECT, reported_at=START_US, dropped=n
        )
        for n in range(1, 6)
    ]
    chance.shuffle(sent)
    messages: list[Message] = []
    while sent:
        size = chance.randint(1, 12)
        messages.append(message(len(messages) + 1, *sent[:size], number=len(messages) + 1))
        del sent[:size]
    dead_letters = 0
    for place in range(0, len(messages), 15):
        dead_letters += 1
        messages[place] = _with_unknown_event(messages[place])
    messages.append(Message(SUBJECT, len(messages) + 1, b"\xc1 torn"))
    return Traffic(messages, events, dead_letters + 1, calls)


def _call(chance: random.Random, number: int, readings: int) -> Call:
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
    return msgspec.structs.replace(good, data=msgspec.msgpack.encode(batch))
