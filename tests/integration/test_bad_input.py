"""Bad input over a real broker: dead letters with reasons, good events booked, and on it goes."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
import pytest
from nats.js.errors import APIError

from tests.support.booked import ledger
from tests.support.broker import Broker
from tests.support.events import PRODUCER, SUBJECT, reading
from tests.support.raw_wire import RawMessage, RawPublisher, fuzzed, raw_publisher
from tests.support.stream import jetstream, settled, standing
from tests.support.waiting import until
from voicecosts import connect, query
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.payloads import read_payload
from voicecosts.producer.capture.identity import new_session_id
from voicecosts.producer.events import (
    VERSION,
    Batch,
    MeterReading,
    encode,
    encode_event,
    now_us,
)
from voicecosts.producer.subjects import STREAM


def fresh() -> MeterReading:
    """Return a good reading of a session of its own, of today."""
    return reading(1, session_id=new_session_id(now_us()), occurred_at=now_us())


def with_event(event: object, *, version: int = 1) -> bytes:
    """Return a batch of a good reading and something else."""
    other = event if isinstance(event, msgspec.Raw) else msgspec.Raw(msgspec.msgpack.encode(event))
    return msgspec.msgpack.encode(
        {
            "version": version,
            "producer_id": PRODUCER,
            "number": 1,
            "events": [msgspec.Raw(encode_event(fresh())), other],
        }
    )


def changed(**fields: Any) -> dict[str, Any]:
    """Return a reading as a plain map, with fields that no `MeterReading` would take."""
    return {**msgspec.msgpack.decode(encode_event(fresh())), **fields}


WHOLE = encode(Batch(producer_id=PRODUCER, number=1, events=[fresh()]))
HUGE = "x" * 900_000

CASES: dict[str, tuple[bytes, str, int, int]] = {
    "a truncated batch": (WHOLE[:-7], "not_a_batch", 1, 0),
    "garbage": (b"\xc1 nonsense", "not_a_batch", 1, 0),
    "a wrong type": (with_event(changed(number="seven")), "invalid_event", 1, 1),
    "an unknown event": (with_event({"type": "wire_transfer", "amount": 7}), "unknown_event", 1, 1),
    "a newer version": (with_event(changed(), version=VERSION + 1), "newer_version", 2, 0),
    "negative totals": (with_event(changed(totals={"input_tokens": -5})), "invalid_event", 1, 1),
    "a string of 900 kB": (with_event(changed(model=HUGE)), "invalid_event", 1, 1),
    "a foreign project": (with_event(changed(project="other")), "project_mismatch", 1, 1),
}
"""What is published, the reason it gets, how many events its letter stands for (1 where they cannot
be counted), and how many good readings stand beside it."""


async def test_bad_input_is_a_dead_letter_and_good_events_are_booked(
    broker: Broker, tmp_path: Path
) -> None:
    """Nothing is thrown away, nothing good is held up, and the ledger keeps running."""
    case_of: dict[int, str] = {}
    async with ledger(broker.url, tmp_path / "data") as data_dir:
        async with jetstream(broker.url) as js:
            for case, (data, *_) in CASES.items():
                case_of[(await js.publish(SUBJECT, data)).seq] = case
                after = encode(Batch(producer_id=PRODUCER, number=1, events=[fresh()]))
                await js.publish(SUBJECT, after)
        good = sum(beside + 1 for *_, beside in CASES.values())
        await until(lambda: query(data_dir=data_dir).total.sessions == good)
        with connect(data_dir) as reader:
            letters = reader.execute(
                "SELECT stream_sequence, reason, events, detail, sha256, file, place, bytes "
                "FROM dead_letters ORDER BY ALL"
            ).fetchall()
        said = query(data_dir=data_dir).completeness.dead_letters
        assert said == sum(lost for _, _, lost, _ in CASES.values())
    assert [case_of[sequence] for sequence, *_ in letters] == list(CASES)  # one letter each
    for sequence, letter_reason, events, detail, digest, file, place, size in letters:
        data, reason, lost, _ = CASES[case_of[sequence]]
        assert (letter_reason, events) == (reason, lost), case_of[sequence]
        assert detail
        payload = read_payload(Layout(data_dir).dead_letters, file, place, size)
        assert payload
        assert payload in data
        assert hashlib.sha256(payload).hexdigest() == digest


async def test_a_message_of_10_mb_never_gets_into_the_stream(tmp_path: Path) -> None:
    """The stream refuses it at the door, with an error that says so."""
    with Broker(tmp_path / "broker", max_payload="32MB") as broker:
        async with ledger(broker.url, tmp_path / "data"), jetstream(broker.url) as js:
            with pytest.raises(APIError, match="message size exceeds maximum allowed"):
                await js.publish(SUBJECT, with_event(changed(model="x" * 10**7)))


GOOD_EVERY: Final = 50


def publish_fuzzed(publisher: RawPublisher, choose: random.Random, count: int) -> None:
    """Publish fuzzed messages with a good one after each `GOOD_EVERY`."""
    for number in range(1, count + 1):
        publisher.send(fuzzed(choose, WHOLE))
        if number % GOOD_EVERY == 0:
            good = encode(Batch(producer_id=PRODUCER, number=number, events=[fresh()]))
            publisher.send(RawMessage(SUBJECT.encode(), good))


@pytest.mark.parametrize("messages", [400, pytest.param(5_000, marks=pytest.mark.slow)])
async def test_no_message_stops_booking(messages: int, broker: Broker, tmp_path: Path) -> None:
    """Whatever bytes a subject, a header and a body are: all good messages between them are booked.

    Half of them wait when the ledger starts, half come while it runs, and it starts again in
    between. The stream forbids deletion, so nobody could help it over one.
    """
    good = messages // GOOD_EVERY
    choose = random.Random(5)  # noqa: S311 - the same messages each time
    async with ledger(broker.url, tmp_path / "data"), jetstream(broker.url) as js:
        config = (await js.stream_info(STREAM)).config
    assert config.deny_delete
    with raw_publisher(broker.url) as publisher:
        publish_fuzzed(publisher, choose, messages // 2)
        async with ledger(broker.url, tmp_path / "data"):
            await until(lambda: query(data_dir=tmp_path / "data").total.sessions > 0)
        async with ledger(broker.url, tmp_path / "data"):
            publish_fuzzed(publisher, choose, messages // 2)
            await until(lambda: query(data_dir=tmp_path / "data").total.sessions == good)
            await settled(broker.url)
    stored = (await standing(broker.url)).delivered
    assert stored is not None
    assert stored.stream_seq > messages  # the broker refused next to none
    with duckdb.connect(
        tmp_path / "data" / "costs.duckdb", read_only=True, config={"threads": 1}
    ) as snapshot:
        kept = snapshot.execute(
            "SELECT count(DISTINCT stream_sequence) FROM dead_letters"
        ).fetchone()
    assert kept == (stored.stream_seq - good,)


async def test_a_subject_that_is_no_text_is_a_dead_letter_that_names_it(
    broker: Broker, tmp_path: Path
) -> None:
    """Bytes that are not UTF-8 stand in the name of a dead letter as people write them."""
    async with ledger(broker.url, tmp_path / "data") as data_dir:
        with raw_publisher(broker.url) as publisher:
            publisher.send(
                RawMessage(b"costs.v1.p.\xff\x0b", b"x"), RawMessage(SUBJECT.encode(), WHOLE)
            )
        await until(lambda: query(data_dir=data_dir).total.sessions == 1)
        with connect(data_dir) as reader:
            letters = reader.execute("SELECT subject, reason FROM dead_letters").fetchall()
    assert letters == [("costs.v1.p.\\xff\x0b", "foreign_subject")]
