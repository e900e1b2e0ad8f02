"""Reading messages: whatever the bytes are, the good events come out and the rest is kept."""

from __future__ import annotations

from typing import Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.events import PRODUCER, SUBJECT, message, reading
from tests.support.traffic import MADE_UP
from voicecosts.consumer.booking import decode as booking_decode
from voicecosts.consumer.booking.decode import (
    LAST_SESSION_ID,
    MAX_UNREADABLE_BATCH,
    Delivery,
    read,
)
from voicecosts.consumer.booking.message import WHOLE_MESSAGE, DeadLetter, Message, Reason
from voicecosts.producer.events import VERSION, encode_event, version_of
from voicecosts.producer.subjects import subject

GOOD: Final = encode_event(reading(1, input_tokens=5))


def packed(*events: bytes, **header: object) -> Message:
    """Return a message whose events are given as bytes, good or bad."""
    batch = {"version": VERSION, "producer_id": PRODUCER, "number": 1, **header}
    batch["events"] = [msgspec.Raw(event) for event in events]
    return Message(SUBJECT, 7, msgspec.msgpack.encode(batch))


def changed(**fields: object) -> bytes:
    """Return a good reading with some fields set to something else."""
    return msgspec.msgpack.encode(msgspec.msgpack.decode(GOOD) | fields)


def only_letter(broken: Message) -> DeadLetter:
    """Return the one dead letter of a message that has no good event."""
    delivery, [letter] = read(broken)
    assert delivery is None or not delivery.events
    assert (letter.subject, letter.sequence) == (broken.subject, broken.sequence)
    return letter


def whole(good: Message) -> Delivery:
    """Return the delivery of a message that has no dead letter."""
    delivery, letters = read(good)
    assert letters == []
    assert delivery is not None
    return delivery


def in_part(mixed: Message) -> tuple[Delivery, list[DeadLetter]]:
    """Return what is good and what is not of a message that can be read."""
    delivery, letters = read(mixed)
    assert delivery is not None
    return delivery, letters


class TestGoodMessages:
    def test_events_come_with_their_places(self) -> None:
        """A good message is read whole."""
        first, second = reading(1, input_tokens=5), reading(2, input_tokens=9)
        delivery = whole(message(7, first, second, number=3))
        assert delivery.events == [(0, first), (1, second)]
        assert (delivery.producer_id, delivery.number) == (PRODUCER, 3)

    def test_a_batch_without_events_is_nothing_wrong(self) -> None:
        """An empty batch is read and forgotten."""
        assert whole(message(7)).events == []

    def test_unknown_fields_are_ignored(self) -> None:
        """A newer producer may say more than this ledger knows."""
        delivery = whole(packed(changed(new_field={"a": 1}), another=2))
        assert delivery.events == [(0, reading(1, input_tokens=5))]


class TestWholeMessages:
    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"\xc1", id="reserved byte"),
            pytest.param(b"not msgpack at all", id="text"),
            pytest.param(packed().data[:-1], id="truncated"),
            pytest.param(packed().data + b"more", id="trailing bytes"),
            pytest.param(packed(number=0).data, id="number zero"),
            pytest.param(msgspec.msgpack.encode({"number": 1, "events": []}), id="no producer"),
            pytest.param(packed(version="1").data, id="version is text"),
            pytest.param(b"\x81\xabproducer_id\xa2\xff\xfe", id="invalid UTF-8"),
        ],
    )
    def test_what_is_no_batch_is_kept_whole(self, data: bytes) -> None:
        """An unreadable message is one dead letter with all its bytes."""
        letter = only_letter(Message(SUBJECT, 7, data))
        assert (letter.reason, letter.index) == (Reason.NOT_A_BATCH, WHOLE_MESSAGE)
        assert letter.payload == data
        assert letter.detail

    @pytest.mark.parametrize("event", [GOOD, MADE_UP, b"\xc0"], ids=["good", "unknown", "nil"])
    def test_a_newer_version_is_kept_for_a_later_ledger(self, event: bytes) -> None:
        """A batch of a version that we might misread is not read at all, even where we could."""
        newer = packed(event, version=VERSION + 1)
        letter = only_letter(newer)
        assert (letter.reason, letter.index) == (Reason.NEWER_VERSION, WHOLE_MESSAGE)
        assert letter.payload == newer.data
        assert f"version {VERSION + 1}" in letter.detail

    def test_an_older_ledger_keeps_a_batch_with_classes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A ledger that knows no classes would mix their meters: it keeps the bytes for later."""
        event = reading(1, input_tokens=130_000, size_tier=128_000)
        batch = packed(encode_event(event), version=version_of(event))
        monkeypatch.setattr(booking_decode, "VERSION", 1)
        letter = only_letter(batch)
        assert (letter.reason, letter.payload) == (Reason.NEWER_VERSION, batch.data)
        monkeypatch.undo()
        assert whole(batch).events == [(0, event)]

    @pytest.mark.parametrize("name", ["costs.v1.prod.dental", "costs.v2.prod.dental.00", "x", ""])
    def test_a_foreign_subject_is_kept_whole(self, name: str) -> None:
        """Nothing is believed that did not come over a subject of ours."""
        letter = only_letter(msgspec.structs.replace(packed(GOOD), subject=name))
        assert (letter.reason, letter.index) == (Reason.FOREIGN_SUBJECT, WHOLE_MESSAGE)

    def test_a_subject_that_is_no_text_can_still_be_stored(self) -> None:
        """A dead letter must never be the thing that cannot be written."""
        [letter] = read(Message("\ud800", 7, b""))[1]
        assert letter.subject == "\\ud800"

    def test_of_a_long_subject_only_a_part_is_kept(self) -> None:
        """The ledger keeps a dead letter for ever, and whoever publishes chooses the subject."""
        kept = {
            read(Message(f"costs.v1.prod.{'é' * 3000}{number}.00", 7, b""))[1][0].subject
            for number in range(3)
        }
        assert len(kept) == 3
        assert all(subject.startswith("costs.v1.prod.éé") for subject in kept)
        assert max(len(subject.encode()) for subject in kept) < 250

    def test_a_subject_of_ours_is_kept_whole(self) -> None:
        """The longest that a worker can make, so that its letter can be read again."""
        longest = subject("p" * 48, "a" * 48, PRODUCER)
        [letter] = read(Message(longest, 7, b""))[1]
        assert letter.subject == longest


class TestBadEvents:
    def test_good_events_of_the_batch_survive(self) -> None:
        """One bad event costs that event only."""
        delivery, [letter] = in_part(packed(GOOD, MADE_UP, changed(number=2)))
        assert [(index, event.number) for index, event in delivery.events] == [(0, 1), (2, 2)]  # type: ignore[union-attr]  # both are readings
        assert (letter.index, letter.payload) == (1, MADE_UP)

    def test_an_unknown_kind_of_event_is_called_so(self) -> None:
        """A kind that this ledger does not know is told apart from a broken event."""
        assert only_letter(packed(MADE_UP)).reason is Reason.UNKNOWN_EVENT

    @pytest.mark.parametrize(
        "event",
        [
            changed(number="1"),
            changed(number=0),
            changed(totals={"input_tokens": -1}),
            changed(totals={"input_tokens": 2**53}),
            changed(totals={"input_tokens": 1.5}),
            changed(model="m" * 129),
            changed(session_id="019ad7f2-57d8-4abc-8abc-00000000c15c"),
            changed(session_id="ffffffff-ffff-7abc-8abc-00000000c15c"),
            changed(reported_cost="1e3"),
            changed(tenant=""),
            msgspec.msgpack.encode({"type": "meter_reading"}),
            msgspec.msgpack.encode({"number": 1}),
            msgspec.msgpack.encode({"type": 5}),
            b"\xc0",
            b"\x90",
        ],
    )
    def test_a_broken_event_is_kept_as_it_came(self, event: bytes) -> None:
        """Wrong types, negative or huge numbers, long texts and missing fields are dead letters."""
        letter = only_letter(packed(event))
        assert (letter.reason, letter.index) == (Reason.INVALID_EVENT, 0)
        assert letter.payload == event
        assert 0 < len(letter.detail) <= 400

    def test_a_session_id_with_a_date_is_accepted_to_the_last(self) -> None:
        """The bound on session ids is the end of the calendar, to the millisecond."""
        assert len(whole(packed(changed(session_id=LAST_SESSION_ID))).events) == 1

    def test_a_project_that_the_subject_denies_is_refused(self) -> None:
        """Credentials pin the subject, so the subject is believed and not the body."""
        foreign = changed(project="other", new_field=1)
        delivery, [letter] = in_part(packed(GOOD, foreign))
        assert [index for index, _ in delivery.events] == [0]
        assert (letter.reason, letter.index) == (Reason.PROJECT_MISMATCH, 1)
        assert letter.payload == foreign
        assert "'other'" in letter.detail

    def test_a_project_with_any_name_matches_its_own_subject(self) -> None:
        """A name that cannot stand in a subject is compared by its token."""
        name = "Zahnarzt Müller. 2"
        good = msgspec.structs.replace(
            packed(changed(project=name)), subject=subject(name, "dental", PRODUCER)
        )
        assert len(whole(good).events) == 1


class TestHugeMessages:
    def test_bottomless_nesting_is_refused(self) -> None:
        """Depth is a property of the bytes, not of our stack."""
        deep = b"\x91" * 5_000_000 + b"\xc0"
        assert only_letter(Message(SUBJECT, 7, deep)).reason is Reason.NOT_A_BATCH
        assert only_letter(packed(changed(nested=msgspec.Raw(deep)))).reason is Reason.NOT_A_BATCH

    def test_a_long_text_is_refused_with_a_short_detail(self) -> None:
        """Ten megabytes of model name are kept as payload and not quoted in the detail."""
        event = changed(type="x" * 10_000_000)
        letter = only_letter(packed(event))
        assert letter.reason is Reason.UNKNOWN_EVENT
        assert len(letter.detail) <= 400
        assert letter.payload == event

    def test_a_message_of_millions_of_empty_events_is_one_dead_letter(self) -> None:
        """A cheap message must not become a million rows."""
        data = msgspec.msgpack.encode(
            {"producer_id": "p", "number": 1, "events": [None] * 5_000_000}
        )
        assert only_letter(Message(SUBJECT, 7, data)).reason is Reason.NOT_A_BATCH

    def test_an_array_that_only_claims_to_be_long_is_refused(self) -> None:
        """Room is made for what is there, not for what a header says."""
        data = packed().data[:-1] + b"\xdd\xff\xff\xff\xff"
        assert only_letter(Message(SUBJECT, 7, data)).reason is Reason.NOT_A_BATCH

    def test_refusing_a_long_batch_takes_one_more_look_at_it(self) -> None:
        """Thousands of refused events in one message are cut out of it together."""
        count = MAX_UNREADABLE_BATCH
        delivery, letters = in_part(packed(*[changed(project="other")] * count))
        assert delivery.events == []
        assert {letter.reason for letter in letters} == {Reason.PROJECT_MISMATCH}
        assert [letter.index for letter in letters] == list(range(count))

    def test_beyond_that_the_events_are_kept_as_understood(self) -> None:
        """A batch too long to be cut up is still refused event by event."""
        count = MAX_UNREADABLE_BATCH + 1
        _, letters = read(packed(*[changed(project="other", new_field=1)] * count))
        assert len(letters) == count
        assert letters[-1].payload == encode_event(reading(1, input_tokens=5, project="other"))


GARBAGE: Final = st.one_of(st.binary(max_size=200), st.just(packed(GOOD, MADE_UP).data))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a good batch with some bytes changed, cut out or put in."""
    data = bytearray(packed(GOOD, changed(number=2), GOOD).data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 3))
        data[place : place + length] = draw(st.binary(max_size=3))
    return bytes(data)


@settings(max_examples=400)
@given(st.one_of(GARBAGE, mutated()))
def test_no_bytes_at_all_raise_and_nothing_is_lost(data: bytes) -> None:
    """Every message ends as events, as dead letters that can be stored, or as an empty batch."""
    delivery, letters = read(Message(SUBJECT, 7, data))

    msgspec.json.encode(letters)
    if delivery is None:
        assert [letter.payload for letter in letters] == [data]
    else:
        places = [index for index, _ in delivery.events] + [each.index for each in letters]
        assert sorted(places) == list(range(len(places)))
