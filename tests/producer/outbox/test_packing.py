"""Packing: bounded messages of one subject, in order, each with a number and an id of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.producer.golden.examples import BATCH, EVENTS, LATER_EVENTS
from tests.support.events import ended, final, started
from voicecosts.producer.events import (
    MAX_BYTES,
    MAX_EVENTS,
    VERSION,
    Event,
    ProducerReport,
    SessionEnded,
    decode,
    encode_event,
)
from voicecosts.producer.outbox.packing import Packed, Packer
from voicecosts.producer.subjects import REPORTS, owner_tokens, subject

PRODUCER = "0123456789abcdef"


def large(number: int, meters: int) -> SessionEnded:
    """Return an event of about 350 bytes for each of its meters."""
    return ended(
        number,
        *(
            final(agent_label="x" * 128, model=f"m-{place}".ljust(128, "x"), requests=1)
            for place in range(meters)
        ),
    )


def unpacked(messages: list[Packed]) -> list[Event]:
    """Return the events of all messages, in order."""
    return [event for message in messages for event in decode(message.data).events]


def test_nothing_makes_no_message() -> None:
    """An empty round publishes nothing."""
    assert Packer(PRODUCER).pack([]) == []


def test_small_events_become_full_batches_in_order() -> None:
    """Up to 200 events travel as one message, and no event changes its place."""
    events = [started(number) for number in range(2 * MAX_EVENTS + 50)]
    messages = Packer(PRODUCER).pack(events)
    assert [message.events for message in messages] == [MAX_EVENTS, MAX_EVENTS, 50]
    assert unpacked(messages) == events


def test_a_full_batch_of_bytes_is_sent_before_it_is_full_of_events() -> None:
    """A message of many events stays within 256 kB, however few of them fit."""
    events = [large(number, 300) for number in range(1, 8)]
    messages = Packer(PRODUCER).pack(events)
    assert len(encode_event(events[0])) * 2 < MAX_BYTES < len(encode_event(events[0])) * 4
    assert len(messages) > 1
    assert all(message.events > 1 for message in messages[:-1])
    assert all(len(message.data) <= MAX_BYTES for message in messages)
    assert unpacked(messages) == events


def test_a_larger_event_travels_alone() -> None:
    """An event that no batch can hold is neither cut nor dropped, and takes nobody with it."""
    events: list[Event] = [started(1), large(2, 1000), started(3), started(4)]
    messages = Packer(PRODUCER).pack(events)
    assert [message.events for message in messages] == [1, 1, 2]
    assert len(messages[1].data) > MAX_BYTES
    assert unpacked(messages) == events


def test_each_project_and_agent_has_messages_of_its_own() -> None:
    """A message has one subject, so a permission on the subject covers every event in it."""
    keys = [("prod", "dental"), ("prod", "legal"), ("test", "dental"), ("prod", "dental")]
    events = [started(n, project=p, agent_id=a) for n, (p, a) in enumerate(keys)]
    messages = Packer(PRODUCER).pack(events)
    assert {message.subject: decode(message.data).events for message in messages} == {
        subject("prod", "dental", PRODUCER): [events[0], events[3]],
        subject("prod", "legal", PRODUCER): [events[1]],
        subject("test", "dental", PRODUCER): [events[2]],
    }


def test_reports_of_the_process_travel_apart_from_any_agents_events() -> None:
    """A producer's report belongs to its project, not to an agent."""
    report = EVENTS["producer_report"]
    assert isinstance(report, ProducerReport)
    (message,) = Packer(PRODUCER).pack([report])
    assert message.subject == subject("prod", REPORTS, PRODUCER)
    assert owner_tokens(message.subject) == ("prod", REPORTS)
    assert unpacked([message]) == [report]


def test_a_message_tells_its_producer_and_its_version() -> None:
    """The envelope that is packed is the batch of the contract."""
    (message,) = Packer(PRODUCER).pack(list(EVENTS.values())[:3])
    batch = decode(message.data)
    assert (batch.version, batch.producer_id, batch.number) == (BATCH.version, PRODUCER, 1)
    assert message.batch_number == 1


def test_batches_are_numbered_without_gaps_and_every_id_is_new() -> None:
    """A gap in the numbers means a lost batch, so none is made; no message passes for another."""
    packer = Packer(PRODUCER)
    events = [started(number, agent_id=f"a{number % 3}") for number in range(300)]
    messages = packer.pack(events) + packer.pack(events)
    assert [message.batch_number for message in messages] == list(range(1, len(messages) + 1))
    assert [decode(m.data).number for m in messages] == [m.batch_number for m in messages]
    again = Packer(PRODUCER).pack(events)
    ids = [message.message_id for message in messages + again]
    assert len(set(ids)) == len(ids)


@given(
    st.lists(
        st.tuples(st.sampled_from("pq"), st.sampled_from("ab"), st.integers(0, 60)), max_size=60
    )
)
def test_no_event_is_lost_doubled_or_moved_within_its_subject(
    shape: list[tuple[str, str, int]],
) -> None:
    """Whatever is packed comes out once, under its own subject, in its own order."""
    events: list[Event] = []
    for number, (project, agent_id, meters) in enumerate(shape, start=1):
        if meters < 50:
            events.append(started(number, project=project, agent_id=agent_id))
        else:
            events.append(replace(large(number, meters * 10), project=project, agent_id=agent_id))
    messages = Packer(PRODUCER).pack(events)
    for message in messages:
        assert 1 <= message.events <= MAX_EVENTS
        assert message.events == len(decode(message.data).events)
    for project in "pq":
        for agent_id in "ab":
            own = subject(project, agent_id, PRODUCER)
            assert unpacked([m for m in messages if m.subject == own]) == [
                event
                for event in events
                if (event.project, getattr(event, "agent_id", "")) == (project, agent_id)
            ]


def test_a_message_stays_within_its_bytes_with_all_that_is_around_the_events() -> None:
    """The bound holds for the whole message."""
    event = replace(started(1), labels={str(n): "l" * 250 for n in range(10, 19)})
    padded = (replace(event, worker_id="z" * n) for n in range(256))
    exact = next(each for each in padded if len(encode_event(each)) == 2560)
    messages = Packer("0123456789abcdef").pack([exact] * 100)
    assert max(len(message.data) for message in messages) <= MAX_BYTES
    assert len(unpacked(messages)) == 100


def test_an_event_that_cannot_be_encoded_does_not_take_the_others_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is counted as lost, which the log says, and all others are sent."""
    bad = replace(EVENTS["meter_reading"], model="\ud800")
    packer = Packer("0123456789abcdef")
    messages = packer.pack([EVENTS["session_started"], bad, EVENTS["session_ended"]])
    assert unpacked(messages) == [EVENTS["session_started"], EVENTS["session_ended"]]
    assert packer.unencodable == 1
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "an event cannot be encoded, and is lost"
    ]
    assert packer.pack([bad]) == []


def test_a_message_has_the_version_that_one_of_its_events_needs() -> None:
    """A class of requests raises the version of its own message, and of no other."""
    plain, classes = EVENTS["meter_reading"], LATER_EVENTS["meter_reading_class"]
    [first] = Packer(PRODUCER).pack([plain, plain])
    [second] = Packer(PRODUCER).pack([plain, classes])
    assert [decode(message.data).version for message in (first, second)] == [1, VERSION]
