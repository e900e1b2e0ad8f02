"""Whatever the bound and whatever comes: totals stay exact, and what is dropped is counted."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.events import ended, reading, report, started
from tests.support.oracle import newest
from tests.support.outboxes import Clock, backlog
from voicecosts.producer.events import (
    Event,
    MeterReading,
    SessionEnded,
    SessionStarted,
    decode,
    decode_envelope,
)
from voicecosts.producer.outbox.backlog import Backlog
from voicecosts.producer.outbox.coalesce import ORDER, Coalescing, drop
from voicecosts.producer.outbox.packing import Packer
from voicecosts.producer.publishing.sender import WINDOW

Step = tuple[Literal["put", "send", "ack", "wait", "restart"], int]
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 30)),
        st.tuples(st.just("put"), st.integers(1, 30)),
        st.tuples(st.just("send"), st.integers(0, 2**WINDOW - 1)),
        st.tuples(st.just("wait"), st.integers(0, 2)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=25,
)


def made(first: int, count: int, meters: int) -> list[Event]:
    """Return events of some sessions: a start, readings of some meters, and some ends."""
    events: list[Event] = []
    for number in range(first, first + count):
        session = number % 7
        if number % 11 == 0:
            events.append(started(session))
        elif number % 13 == 0:
            events.append(ended(number, of=session))
        else:
            events.append(reading(number, model=f"m-{number % meters}", of=session))
    return events


class Host:
    """Processes that come and go on one host, and a server that takes what it likes."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.clock = Clock()
        self.put: list[Event] = []
        self.stored: list[Event] = []
        self.ids: set[str] = set()
        self.coalesced = 0
        self.dropped = 0
        self._producers = 0
        self._begin()

    def _begin(self) -> None:
        self._producers += 1
        self.backlog: Backlog = backlog(self.folder, self.clock, self.max_bytes)
        self.backlog.own._producer_id = str(self._producers)
        self.packer = Packer(f"producer-{self._producers}")

    def keep(self, count: int, meters: int) -> None:
        """Put events; while there is no room they wait, as in a buffer."""
        events = made(len(self.put) + 1, count, meters)
        self.put += events
        rounds = 0
        while not self.backlog.has_room():
            self.clock.at += 1
            rounds += 1
            if rounds > 10:  # what neighbours left fills the host: the server takes it now
                self.clock.at += 60
                self.backlog.tend()
                self.send(2**WINDOW - 1)
            assert rounds < 60, "a bound that is never kept"
        self.backlog.keep(self.packer.pack(events))

    def send(self, which: int) -> None:
        """Send a window; the server acknowledges some of it."""
        for place, held in enumerate(self.backlog.window(WINDOW)):
            if which >> place & 1:
                assert held.message.message_id not in self.ids, "sent again after it was done"
                self.ids.add(held.message.message_id)
                self.stored += decode(held.message.data).events
                self.backlog.done(held)
        self.backlog.forget_done()

    def restart(self) -> None:
        """End the process; another one begins and adopts what it left."""
        self.coalesced += self.backlog.bound.coalesced
        self.dropped += self.backlog.dropped
        self.backlog.close()
        self._begin()
        self.backlog.tend()

    def drain(self) -> None:
        """Send until nothing is left on the host."""
        self.restart()
        rounds = 0
        while list(self.folder.glob("*.sqlite3")):
            self.clock.at += 60
            self.backlog.tend()
            self.send(2**WINDOW - 1)
            rounds += 1
            assert rounds < 100
        self.restart()


@given(STEPS, st.integers(600, 20_000), st.integers(1, 12))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_totals_equal_the_oracle_and_what_was_dropped_is_counted(
    steps: list[Step], max_bytes: int, meters: int
) -> None:
    """After draining, every event was stored, replaced by a newer one of its meter, or counted."""
    with tempfile.TemporaryDirectory() as name:
        host = Host(Path(name), max_bytes)
        for step, argument in steps:
            if step == "put":
                host.keep(argument, meters)
            elif step == "send":
                host.send(argument)
            elif step == "wait":
                host.clock.at += argument * 10
                host.backlog.has_room()
            else:
                host.restart()
        host.drain()
        assert {path.name for path in Path(name).iterdir()} <= {"sent-late"}
    assert len(host.stored) + host.coalesced + host.dropped == len(host.put)
    assert all(event in host.put for event in host.stored)
    if host.dropped == 0:
        assert newest(host.stored) == newest(host.put)
        kinds = (SessionStarted, SessionEnded)
        assert [e for e in host.put if isinstance(e, kinds) and e not in host.stored] == []


@given(st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=8), st.integers(1, 4))
def test_coalescing_keeps_the_newest_reading_of_every_meter(
    batches: list[list[int]], meters: int
) -> None:
    """In any order, at any point of a pass, every meter still shows its highest number."""
    packer = Packer("producer")
    events: list[list[Event]] = [
        [
            started(number % 3)
            if number == 0
            else reading(number, model=f"m-{number % meters}", of=number % 3)
            for number in batch
        ]
        for batch in batches
    ]
    messages = [message for batch in events for message in packer.pack(batch)]
    left = list(messages)
    coalescing = Coalescing()
    coalesced = 0
    everything = [event for batch in events for event in batch]
    for place in reversed(range(len(left))):
        change = coalescing.coalesce(messages[place])
        if change is not None:
            coalesced += change.coalesced
            assert change.dropped == 0
            if change.after is None:
                del left[place]
            else:
                assert change.after.message_id == messages[place].message_id
                left[place] = change.after
        now = [event for message in left for event in decode(message.data).events]
        assert newest(now) == newest(everything)
        assert len(now) + coalesced == len(everything)
        assert all(isinstance(e, (MeterReading, SessionStarted)) for e in now)


def test_only_the_newest_report_of_a_producer_is_kept() -> None:
    """Reports are running totals too; an outage does not pile them up."""
    packer = Packer("producer")
    reports = [report(n, reported_at=n, dropped=n) for n in range(1, 5)]
    messages = [message for each in reports for message in packer.pack([each])]
    coalescing = Coalescing()
    kept = [message for message in reversed(messages) if coalescing.coalesce(message) is None]
    assert [decode(message.data).events for message in kept] == [[reports[-1]]]


def test_what_cannot_be_read_is_dropped_with_the_ends_and_not_before() -> None:
    """It may be an end, written by a newer version: the last thing to go."""
    [message] = Packer("producer").pack([reading(1), started(1), ended(1)])
    unknown = msgspec.msgpack.encode({"type": "of_tomorrow"})
    envelope = decode_envelope(message.data)
    events = [*envelope.events, msgspec.Raw(unknown)]
    message = replace(message, data=msgspec.msgpack.encode(replace(envelope, events=events)))
    left = []
    for kind in ORDER:
        change = drop(message, kind, 1 << 20)
        message = message if change is None else change.after
        left.append(0 if message is None else len(decode_envelope(message.data).events))
    assert left == [3, 3, 2, 0]
