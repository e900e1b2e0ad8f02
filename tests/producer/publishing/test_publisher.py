"""The publisher's thread against a real nats-server, and against one that is not there."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from pathlib import Path

import nkeys
import pytest
from msgspec.structs import replace
from nats.js import api

from tests.support import stream
from tests.support.broker import Broker
from tests.support.events import ended, reading, session_id, started
from tests.support.publishing import NO_SERVER, files, flushed, publishing
from tests.support.waiting import until
from voicecosts.producer.config import BufferLimits, ProducerConfig
from voicecosts.producer.counts import Usage
from voicecosts.producer.events import MeterReading, ProducerReport
from voicecosts.producer.publishing.publisher import Publisher, close_all


async def test_what_is_flushed_is_stored_in_packed_messages(broker: Broker) -> None:
    """A flush is done when JetStream has acknowledged everything put before it."""
    await stream.declare(broker.url)
    with publishing(broker.url) as publisher:
        for number in range(1, 501):
            publisher.put(reading(number))
        await flushed(publisher)
        stored = await stream.batches(broker.url)
    assert [event.number for batch in stored for event in batch.events] == list(range(1, 501))
    assert max(len(batch.events) for batch in stored) <= 200
    assert len(stored) < 20
    assert publisher.stats().published == 500


async def test_each_agent_has_its_own_subject(broker: Broker) -> None:
    """Events of different agents never share a message: permissions are per subject."""
    await stream.declare(broker.url)
    with publishing(broker.url) as publisher:
        for number in range(1, 11):
            publisher.put(reading(number, agent_id=f"agent {number % 2}"))
        await flushed(publisher)
        stored = await stream.batches(broker.url)
    assert {frozenset(e.agent_id for e in batch.events) for batch in stored} == {
        frozenset({"agent 0"}),
        frozenset({"agent 1"}),
    }


async def test_a_broker_that_comes_late_gets_everything(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Events wait in memory until there is a server, and are then published once."""
    late = Broker(tmp_path_factory.mktemp("late"))
    with publishing(late.url) as publisher:
        for number in range(1, 101):
            publisher.put(reading(number))
        await until(lambda: publisher.stats().retried > 0)
        with late:
            await stream.declare(late.url)
            await flushed(publisher)
            stored = await stream.events(late.url)
    assert [event.number for event in stored] == list(range(1, 101))


async def test_a_missing_stream_is_waited_for(broker: Broker) -> None:
    """A server without the stream refuses; the events are kept until it is there."""
    with publishing(broker.url) as publisher:
        publisher.put(reading(1))
        await until(lambda: publisher.stats().retried > 0)
        await stream.declare(broker.url)
        await flushed(publisher)
        assert len(await stream.events(broker.url)) == 1


async def test_a_full_stream_is_waited_for(broker: Broker) -> None:
    """A stream that discards new messages gets them again when it has room."""
    await stream.declare(broker.url, max_bytes=400, discard=api.DiscardPolicy.NEW)
    with publishing(broker.url) as publisher:
        for number in range(1, 6):
            publisher.put(reading(number))
            await asyncio.wait([asyncio.wrap_future(publisher.flush())], timeout=0.3)
        await until(lambda: publisher.stats().retried > 0)
        await stream.declare(broker.url, max_bytes=1 << 20, discard=api.DiscardPolicy.NEW)
        await flushed(publisher)
        stored = await stream.events(broker.url)
    assert [event.number for event in stored] == [1, 2, 3, 4, 5]


async def test_a_broker_that_is_killed_twice_gets_everything_once(broker: Broker) -> None:
    """Messages in flight at a crash are sent again under the same id."""
    await stream.declare(broker.url)
    total = 0
    with publishing(broker.url) as publisher:
        for _ in range(2):
            for _ in range(300):
                total += 1
                publisher.put(reading(total))
                if total % 20 == 0:
                    await asyncio.sleep(0.005)
            broker.kill()
            total += 1
            publisher.put(reading(total))
            broker.start()
        await flushed(publisher)
        stored = await stream.events(broker.url)
    assert sorted(event.number for event in stored) == list(range(1, total + 1))


async def test_an_outage_coalesces_detail_and_keeps_the_totals() -> None:
    """While nothing is accepted memory stays bounded, and the newest totals survive."""
    limits = BufferLimits(detail=100, meters=50)
    with publishing(NO_SERVER, limits=limits) as publisher:
        for number in range(1, 5001):
            publisher.put(reading(number, model=f"model {number % 20}"))
        await until(lambda: publisher.stats().retried > 0)
        assert publisher.stats().waiting < 2000
        assert publisher.stats().dropped == 0
        assert publisher.stats().coalesced > 3000


async def test_a_merge_is_reported_to_the_ledger(broker: Broker) -> None:
    """What was coalesced or dropped travels as a report, with running totals."""
    await stream.declare(broker.url)
    with publishing(broker.url, limits=BufferLimits(detail=1, meters=1)) as publisher:
        burst = [reading(n, model=f"model {n % 3}") for n in range(1, 200)]
        for event in burst:
            publisher.buffer.put(event)
        await flushed(publisher)
        stored = await stream.events(broker.url)
    reports = [event for event in stored if isinstance(event, ProducerReport)]
    assert reports
    assert reports[-1].dropped == publisher.buffer.dropped > 0
    assert reports[-1].producer_id == publisher.producer_id


@pytest.mark.parametrize("is_dropped", [True, False], ids=["dropped", "overtaken"])
async def test_a_session_that_has_ended_is_not_live_whatever_the_buffer_does(
    broker: Broker, *, is_dropped: bool
) -> None:
    """An end that is dropped, or that leaves before its start, claims no live call for ever."""
    await stream.declare(broker.url)
    limits = BufferLimits(detail=1, meters=1 if is_dropped else 9)
    with publishing(broker.url, limits=limits) as publisher:
        for number in range(1, 100 if is_dropped else 2):
            publisher.put(started(number))
            publisher.buffer.coalesce_oldest()
            publisher.put(ended(1, of=number))
        publisher.count_unmeasured()
        await flushed(publisher)
        stored = await stream.events(broker.url)
    assert (publisher.stats().dropped > 0) == is_dropped
    reports = [event for event in stored if isinstance(event, ProducerReport)]
    assert [report.live_sessions for report in reports[-1:]] == [0]


async def test_a_worker_logs_the_id_of_a_session_when_it_begins_and_ends(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever reads the worker's log can ask for the call; the thread logs it, not the voice loop."""
    caplog.set_level(logging.INFO, logger="voicecosts.producer.publishing.publisher")
    await stream.declare(broker.url)
    with publishing(broker.url) as publisher:
        for event in (started(), reading(1), ended(2)):
            publisher.put(event)
        await flushed(publisher)
    known = session_id(1)
    told = [record for record in caplog.records if record.getMessage().startswith("session ")]
    assert [record.getMessage() for record in told] == [
        f"session {known} of agent 'dental' is metered",
        f"session {known} has ended (closed): `costs call {known}` shows what it cost",
    ]
    assert {record.thread for record in told}.isdisjoint({threading.get_ident()})


async def test_a_session_whose_start_was_dropped_is_live(broker: Broker) -> None:
    """Else a report would prove that a call has ended which goes on."""
    await stream.declare(broker.url)
    with publishing(broker.url, limits=BufferLimits(detail=1, meters=1)) as publisher:
        for number in range(1, 100):
            publisher.put(started(number))
        for number in range(1, 90):
            publisher.put(ended(1, of=number))
        publisher.count_unmeasured()
        await flushed(publisher)
        stored = await stream.events(broker.url)
    assert publisher.stats().dropped > 0
    reports = [event for event in stored if isinstance(event, ProducerReport)]
    assert [report.live_sessions for report in reports[-1:]] == [10]


async def test_what_is_in_no_session_is_reported_while_calls_run(broker: Broker) -> None:
    """Nothing has to end and nobody has to flush: the ledger hears of it, in amounts."""
    await stream.declare(broker.url)
    usage = Usage(
        modality="llm", provider_raw="x", model="m", occurred_at=1, quantities={"requests": 1}
    )
    with publishing(broker.url) as publisher:
        for count in (1, 2):
            publisher.count_unattributed(usage)
            publisher.count_unmeasured()
            stats = publisher.stats()
            assert (stats.unattributed, stats.unmeasured) == (count, count)
            await until(lambda number=count: publisher.stats().published == number)
        reports = await stream.events(broker.url)
    assert [
        (it.unattributed, it.unmeasured, [meter.totals.requests for meter in it.unattributed_usage])
        for it in reports
        if isinstance(it, ProducerReport)
    ] == [(1, 1, [1]), (2, 2, [2])]


async def test_what_is_in_no_session_is_reported_before_the_thread_rests(broker: Broker) -> None:
    """A count that comes when the thread is about to rest does not wait until it has rested."""
    await stream.declare(broker.url)
    with publishing(broker.url) as publisher:
        publisher.put(reading(1))
        await flushed(publisher)
        publisher._rest_at = 0.0  # as after a while without events
        publisher.count_unmeasured()
        await until(lambda: publisher.stats().published == 2, deadline_s=15)


async def test_a_message_over_max_payload_is_refused_once_and_does_not_block(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """What the server can never accept is given up with an error; what follows goes through."""
    with Broker(tmp_path_factory.mktemp("small"), max_payload="2048") as small:
        await stream.declare(small.url)
        with publishing(small.url) as publisher, caplog.at_level(logging.ERROR):
            publisher.put(replace(reading(1), provider_raw="x" * 3000))
            await flushed(publisher)
            publisher.put(reading(2))
            await flushed(publisher)
            stored = await stream.events(small.url)
        assert [e.number for e in stored if isinstance(e, MeterReading)] == [2]
        assert publisher.stats().refused == 1
    assert "refused for good" in caplog.text


def test_put_never_raises_and_never_waits_for_the_thread() -> None:
    """Even with no thread and no server an event is taken at once."""
    config = ProducerConfig(project="tests", servers=(NO_SERVER,))
    publisher = Publisher(config)
    publisher.close(0.2)
    for number in range(1, 100):
        publisher.put(reading(number))
    assert publisher.stats().captured == 99


async def test_a_worker_signs_in_with_an_nkey(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """The seed file that `COSTS_CREDENTIALS` names opens a server that knows its public key."""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    public = nkeys.from_seed(seed).public_key.decode()
    (tmp_path / "user.nk").write_bytes(seed + b"\n")
    users = f"authorization {{ users: [ {{ nkey: {public} }}, {{ user: test, password: test }} ] }}"
    with Broker(tmp_path_factory.mktemp("nkey"), extra=users) as guarded:
        await stream.declare(guarded.url.replace("//", "//test:test@"))
        with publishing(guarded.url, credentials=str(tmp_path / "user.nk")) as publisher:
            publisher.put(reading(1))
            await flushed(publisher)
        assert publisher.stats().published == 1


async def test_the_end_of_a_session_does_not_wait_for_a_server_that_is_away(
    tmp_path: Path,
) -> None:
    """The outbox is enough then; a patient flush goes on waiting for the acknowledgement."""
    with publishing(NO_SERVER, tmp_path) as publisher:
        publisher.put(reading(1))
        assert await publisher.wait_until_safe(30, patient=False)
        assert publisher.stats().outbox_rows == 1
        assert not publisher.flush().done()


async def test_a_silent_server_is_waited_for_once_until_it_answers_again(
    broker: Broker, tmp_path: Path
) -> None:
    """After one timeout the outbox is enough for all that wait; an answer makes them wait again."""
    await stream.declare(broker.url)
    with publishing(broker.url, tmp_path) as publisher:
        publisher.put(reading(1))
        await flushed(publisher)
        broker.send(signal.SIGSTOP)
        publisher.put(reading(2))
        other = publisher.flush(patient=False)
        await until(lambda: publisher.stats().outbox_rows == 1)
        assert not other.done()
        assert not await publisher.wait_until_safe(0.1, patient=False)
        await asyncio.wait_for(asyncio.wrap_future(other), 10)
        publisher.put(reading(3))
        assert await publisher.wait_until_safe(10, patient=False)
        assert publisher.stats().published == 1
        broker.send(signal.SIGCONT)
        await flushed(publisher)
        publisher.put(reading(4))
        assert await publisher.wait_until_safe(20, patient=False)
        assert publisher.stats().published == 4


async def test_where_nothing_can_become_safe_no_end_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No server and a folder that cannot be made: the log says it once, and every end is told."""
    (tmp_path / "file").touch()
    with publishing(None, tmp_path / "file" / "outbox") as publisher:
        for number in range(1, 4):
            publisher.put(reading(number))
            assert await publisher.wait_until_safe(60, patient=False) is False
    assert sum("events wait in memory" in it.getMessage() for it in caplog.records) == 1


async def test_without_a_folder_a_worker_runs_in_memory_and_says_so(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """A user without a home directory: one line says what to set, and calls are published."""
    await stream.declare(broker.url)
    with publishing(broker.url) as publisher:
        publisher.put(reading(1))
        await flushed(publisher)
    said = [it.getMessage() for it in caplog.records if it.levelname == "WARNING"]
    assert len(said) == 1
    assert "COSTS_OUTBOX_DIR" in said[0]


@pytest.mark.parametrize("events", ["reading", "unattributed", "flush", "close"])
async def test_a_publisher_at_rest_is_woken_by_what_comes(
    events: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing comes the thread sleeps; nothing that comes waits for that to end."""
    monkeypatch.setattr("voicecosts.producer.publishing.publisher._REST_AFTER_S", 0.0)
    monkeypatch.setattr("voicecosts.producer.publishing.publisher._REST_S", 3600.0)
    monkeypatch.setattr("voicecosts.producer.publishing.publisher._IDLE_S", 0.0)
    with publishing(NO_SERVER, tmp_path) as publisher:
        await until(lambda: publisher._is_resting)
        if events == "reading":
            publisher.put(reading(1))
            await until(lambda: publisher.stats().outbox_rows == 1)
        elif events == "unattributed":
            publisher.count_unmeasured()
            await until(lambda: publisher.stats().outbox_rows == 1)
        elif events == "flush":
            assert await publisher.wait_until_safe(60, patient=False)


async def test_a_new_call_tries_a_server_at_once_that_was_away(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process with nothing new tries rarely; what comes next does not wait for that."""
    late = Broker(tmp_path_factory.mktemp("late"))
    sender = "voicecosts.producer.publishing.sender"
    monkeypatch.setattr(f"{sender}._AT_REST_AFTER_S", -1.0)
    monkeypatch.setattr(f"{sender}._FIRST_BACKOFF_S", 3600.0)
    monkeypatch.setattr(f"{sender}._LAST_BACKOFF_AT_REST_S", 3600.0)
    with publishing(late.url) as publisher:
        publisher.put(reading(1))
        await until(lambda: publisher.stats().retried > 0)
        with late:
            await stream.declare(late.url)
            publisher.put(reading(2))
            await until(lambda: publisher.stats().published == 2)


async def test_a_thread_that_hangs_costs_one_wait(tmp_path: Path) -> None:
    """A disk that does not answer holds the thread; the ends of calls wait for that once."""
    with publishing(None, tmp_path) as publisher:
        hang, hangs = threading.Event(), threading.Event()

        def tend() -> None:
            hangs.set()
            hang.wait(60)

        publisher.backlog.tend = tend  # type: ignore[method-assign]  # the disk that hangs
        try:
            publisher.put(reading(1))
            await until(hangs.is_set)
            assert not await publisher.wait_until_safe(0.2, patient=False)
            # Given an hour, the next ends would not return before the disk does.
            async with asyncio.timeout(60):
                for _ in range(3):
                    assert not await publisher.wait_until_safe(3600, patient=False)
        finally:
            del publisher.backlog.tend
            hang.set()


async def test_publishers_of_one_process_end_in_one_time(tmp_path: Path) -> None:
    """The exit of a process waits once, however many servers stand still."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
    publishers = [
        Publisher(
            ProducerConfig(
                project="tests",
                servers=(f"nats://127.0.0.1:{listener.getsockname()[1]}",),
                outbox_dir=tmp_path,
            )
        )
        for listener in listeners
    ]
    for publisher in publishers:
        publisher.put(reading(1))
    began = time.monotonic()
    assert not await asyncio.to_thread(close_all, publishers, 2.0)
    assert time.monotonic() - began < 3 * 2.0
    for publisher, listener in zip(publishers, listeners, strict=True):
        await asyncio.to_thread(publisher._thread.join, 30)
        assert not publisher._thread.is_alive()
        listener.close()
    assert len([name for name in files(tmp_path) if name.endswith(".sqlite3")]) == 4


async def test_nobody_waits_for_a_publisher_that_has_ended(tmp_path: Path) -> None:
    """Whoever waits when the process ends is told how it stands, and so is who asks later."""
    with publishing(NO_SERVER, tmp_path) as publisher:
        publisher.put(reading(1))
        waiting = publisher.flush()
        await asyncio.to_thread(publisher.close, 5)
        assert await asyncio.wait_for(asyncio.wrap_future(waiting), 60) is False
        for patient in (True, False):
            async with asyncio.timeout(60):
                assert await publisher.wait_until_safe(3600, patient=patient) is False
