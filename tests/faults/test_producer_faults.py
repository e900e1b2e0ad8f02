"""What happens to the readings when a part of the road from a worker to JetStream fails.

Every test offers a load that keeps its own count, does its damage, and then compares the totals in
the stream with that count. No test looks at a clock: they wait for conditions.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import nkeys
import pytest
from nats.js import api

from producer.adoption import destination
from producer.config import ProducerConfig
from producer.events import MeterReading, ProducerReport, SessionEnded
from producer.publisher import Publisher
from tests.support import stream
from tests.support.broker import Broker
from tests.support.faulty_worker import FaultyWorker, Key, Load, Totals, totals
from tests.support.waiting import until, wait_until

long = pytest.mark.faults
leaves_sockets = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""nats-py leaves the socket of a connection that was refused to the garbage collector."""

Found = dict[Key, Totals]

NO_SERVER: Final = "nats://127.0.0.1:1"


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    """Return the folder of the outboxes of one host."""
    return tmp_path / "outbox"


@contextlib.contextmanager
def publishing(url: str, folder: Path | None, **options: object) -> Iterator[Publisher]:
    """A publisher with an outbox, closed at the end."""
    config = ProducerConfig(
        project="faults",
        servers=(url,),
        outbox_dir=folder,
        linger_s=0.02,
        **options,  # type: ignore[arg-type]  # options of the struct
    )
    publisher = Publisher(config)
    try:
        yield publisher
    finally:
        publisher.close(0.2)
        publisher._thread.join(15)
        assert not publisher._thread.is_alive()


async def flushed(publisher: Publisher, *, deadline_s: float = 60.0) -> None:
    """Wait until everything that was offered is acknowledged."""
    async with asyncio.timeout(deadline_s):
        await asyncio.wrap_future(publisher.flush())


async def assert_exact(url: str, load: Load) -> None:
    """The stream shows what the oracle counted, meter by meter."""
    assert totals(await stream.events(url)) == load.expected


def files(folder: Path) -> list[str]:
    """Return the names of all files in the outbox."""
    return sorted(path.name for path in folder.iterdir())


def test_a_broker_that_is_absent_at_the_start_gets_everything(tmp_path: Path, outbox: Path) -> None:
    """What is captured before there is a server waits on disk, and nothing of it is lost."""

    async def scenario() -> None:
        late = Broker(tmp_path / "late")
        with publishing(late.url, outbox) as publisher:
            load = Load(publisher.put)
            await load.offer_for(300)
            load.end()
            await until(lambda: publisher.stats().outbox_rows > 0 and len(publisher.buffer) == 0)
            with late:
                await stream.declare(late.url)
                await flushed(publisher)
                await assert_exact(late.url, load)
                assert publisher.stats().outbox_rows == 0

    asyncio.run(scenario())
    assert files(outbox) == []


@long
async def test_a_broker_that_is_killed_twice_loses_nothing(broker: Broker, outbox: Path) -> None:
    """What was in flight at a crash is sent again under the same id."""
    await stream.declare(broker.url)
    with publishing(broker.url, outbox) as publisher:
        load = Load(publisher.put)
        for _ in range(2):
            await load.offer_for(1000)
            broker.kill()
            retried = publisher.stats().retried
            await load.offer_for(200)
            await until(lambda before=retried: publisher.stats().retried > before)  # type: ignore[misc]  # a lambda in a loop
            broker.start()
        load.end()
        await flushed(publisher)
        await assert_exact(broker.url, load)


@long
async def test_a_broker_that_stands_still_is_noticed_from_outside(
    broker: Broker, outbox: Path
) -> None:
    """A stopped server keeps its sockets open and answers nothing; the disk takes what comes."""
    await stream.declare(broker.url)
    with publishing(broker.url, outbox) as publisher:
        load = Load(publisher.put)
        await load.offer_for(100)
        await flushed(publisher)
        broker.send(signal.SIGSTOP)
        try:
            await load.offer_for(2000)
            await until(lambda: "lost" in publisher.stats().connection, deadline_s=30)
            await asyncio.sleep(8)  # the length of the fault
            await load.offer_for(100)
            await until(lambda: len(publisher.buffer) == 0)
            assert publisher.stats().outbox == "on disk"
        finally:
            broker.send(signal.SIGCONT)
        load.end()
        await flushed(publisher)
        await assert_exact(broker.url, load)


async def test_a_stream_that_is_missing_is_waited_for(broker: Broker, outbox: Path) -> None:
    """A server without the stream is no reason to lose anything."""
    with publishing(broker.url, outbox) as publisher:
        load = Load(publisher.put)
        await load.offer_for(200)
        await until(lambda: "no stream" in publisher.stats().connection)
        await stream.declare(broker.url)
        load.end()
        await flushed(publisher)
        await assert_exact(broker.url, load)
        assert publisher.stats().connection == "connected"


async def test_a_stream_that_is_full_is_waited_for(broker: Broker, outbox: Path) -> None:
    """A stream that refuses new messages gets them when its limit is raised."""
    await stream.declare(broker.url, max_bytes=4000, discard=api.DiscardPolicy.NEW)
    with publishing(broker.url, outbox) as publisher:
        load = Load(publisher.put)
        await load.offer_for(400)
        await until(lambda: "full" in publisher.stats().connection)
        await stream.declare(broker.url, max_bytes=1 << 26, discard=api.DiscardPolicy.NEW)
        load.end()
        await flushed(publisher)
        await assert_exact(broker.url, load)


def users(**passwords: str) -> str:
    """Return a configuration with these users and their passwords."""
    listed = ", ".join(f"{{ user: {name}, password: {word} }}" for name, word in passwords.items())
    return f"authorization {{ users: [ {listed} ] }}"


def reload(broker: Broker, extra: str) -> None:
    """Change the configuration of a running server."""
    broker.extra = extra
    config = broker.directory / "nats.conf"
    lines = config.read_text().splitlines()
    kept = [line for line in lines if not line.startswith("authorization")]
    config.write_text("\n".join([*kept, extra]) + "\n")
    broker.send(signal.SIGHUP)


def with_user(url: str, user: str, password: str) -> str:
    """Return a server's address with a user's name and password."""
    return url.replace("//", f"//{user}:{password}@")


@leaves_sockets
async def test_a_worker_that_is_denied_publishes_when_it_is_granted(
    tmp_path: Path, outbox: Path
) -> None:
    """Wrong credentials keep everything on disk until the server accepts them."""
    with Broker(tmp_path / "guarded", extra=users(admin="secret")) as broker:
        admin = with_user(broker.url, "admin", "secret")
        await stream.declare(admin)
        with publishing(with_user(broker.url, "worker", "word"), outbox) as publisher:
            load = Load(publisher.put)
            await load.offer_for(200)
            await until(lambda: "Authorization" in publisher.stats().connection)
            reload(broker, users(admin="secret", worker="word"))
            load.end()
            await flushed(publisher)
            await assert_exact(admin, load)


@leaves_sockets
@long
async def test_one_forbidden_subject_does_not_hold_up_the_others(
    tmp_path: Path, outbox: Path
) -> None:
    """What may not be published is kept and said; what may be published goes on."""
    limited = (
        "authorization { users: [ { user: admin, password: secret }, { user: worker, password: word,"
        ' permissions: { publish: "costs.v1.faults.agent-1.>", subscribe: "_INBOX.>" } } ] }'
    )
    with Broker(tmp_path / "guarded", extra=limited) as broker:
        admin = with_user(broker.url, "admin", "secret")
        await stream.declare(admin)
        with publishing(with_user(broker.url, "worker", "word"), outbox) as publisher:
            load = Load(publisher.put, sessions=2)
            await load.offer_for(100)
            load.end()
            allowed = {
                key: value for key, value in load.expected.items() if "1" in load.agent(key[0])
            }
            await until(lambda: publisher.stats().published >= len(allowed) // 2 * 52, deadline_s=40)
            assert totals(await stream.events(admin)) == allowed
            assert publisher.stats().waiting > 0
            reload(broker, users(admin="secret", worker="word"))
            publisher._sending._aside.clear()  # as half a minute does
            await flushed(publisher)
            await assert_exact(admin, load)


@leaves_sockets
@long
async def test_credentials_that_are_rotated_are_taken_up(tmp_path: Path, outbox: Path) -> None:
    """A reload throws the client out for good; a new one reads the new credentials."""

    def seed() -> tuple[str, str]:
        made = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        return made.decode(), nkeys.from_seed(made).public_key.decode()

    def guarded(public: str) -> str:
        return f"authorization {{ users: [ {{ nkey: {public} }}, {{ user: a, password: b }} ] }}"

    (first, first_public), (second, second_public) = seed(), seed()
    secret = tmp_path / "user.nk"
    secret.write_text(first)
    with Broker(tmp_path / "guarded", extra=guarded(first_public)) as broker:
        admin = with_user(broker.url, "a", "b")
        await stream.declare(admin)
        with publishing(broker.url, outbox, credentials=str(secret)) as publisher:
            load = Load(publisher.put)
            await load.offer_for(200)
            await flushed(publisher)
            reload(broker, guarded(second_public))
            await load.offer_for(200)
            await until(lambda: publisher.stats().connection.startswith("not connected"))
            secret.write_text(second)
            load.end()
            await flushed(publisher)
            await assert_exact(admin, load)


def assert_only_the_last_linger_is_missing(worker: FaultyWorker, found: Found) -> None:
    """Everything up to the last mark is there, and every total is one that was offered."""
    offered = worker.offered()
    assert set(found) <= set(offered)
    arrived = sum(offered[key].index(shown) + 1 for key, shown in found.items())
    missing = sum(map(len, offered.values())) - arrived
    print(f"offered {arrived + missing}, lost with the process {missing}, safe {worker.safe()}")  # noqa: T201 - the loss that is allowed
    assert arrived >= worker.safe() > 0


@pytest.mark.parametrize("is_up", [True, pytest.param(False, marks=long)], ids=["up", "down"])
def test_a_killed_worker_loses_only_what_it_had_not_handed_over(
    broker: Broker, tmp_path: Path, outbox: Path, *, is_up: bool
) -> None:
    """What is in the outbox of a killed worker is published by the next one."""
    asyncio.run(stream.declare(broker.url))
    if not is_up:
        broker.kill()
    worker = FaultyWorker(broker.url, outbox, tmp_path / "oracle")
    wait_until(lambda: worker.safe() > 200)
    worker.kill()
    if not is_up:
        broker.start()

    async def adopt() -> None:
        with publishing(broker.url, outbox) as second:
            await until(lambda: second.stats().outbox_rows > 0 or files(outbox) == [])
            await until(lambda: files(outbox) == [])
            found = totals(await stream.events(broker.url))
        assert_only_the_last_linger_is_missing(worker, found)

    asyncio.run(adopt())


@long
@pytest.mark.parametrize("transaction", [3, 4, 7])
def test_a_worker_killed_in_the_middle_of_a_write_leaves_a_whole_outbox(
    broker: Broker, tmp_path: Path, outbox: Path, transaction: int
) -> None:
    """A torn write is none: what was committed before it is published, and nothing else."""
    asyncio.run(stream.declare(broker.url))
    broker.kill()
    worker = FaultyWorker(
        broker.url, outbox, tmp_path / "oracle", "--die-in-write", str(transaction)
    )
    worker.finish()
    assert worker.process.returncode == -signal.SIGKILL
    broker.start()

    async def adopt() -> None:
        with publishing(broker.url, outbox):
            await until(lambda: files(outbox) == [])
        found = totals(await stream.events(broker.url))
        assert_only_the_last_linger_is_missing(worker, found)

    asyncio.run(adopt())


async def test_an_outbox_at_its_bound_loses_detail_and_no_total(
    tmp_path: Path, outbox: Path
) -> None:
    """At the bound older readings make way for newer ones of their meters."""
    late = Broker(tmp_path / "late")
    with publishing(late.url, outbox, outbox_max_bytes=60_000) as publisher:
        load = Load(publisher.put, sessions=4)
        for _ in range(20):
            await load.offer_for(200, each=50)
            await until(lambda: len(publisher.buffer) == 0)
        load.end()
        await until(lambda: len(publisher.buffer) == 0)
        assert publisher.stats().coalesced > 1000
        assert publisher.stats().dropped == 0
        assert publisher.stats().outbox_bytes < 120_000
        with late:
            await stream.declare(late.url)
            await flushed(publisher)
            await assert_exact(late.url, load)
            stored = await stream.events(late.url)
    reports = [event for event in stored if isinstance(event, ProducerReport)]
    assert reports[-1].coalesced == publisher.stats().coalesced
    assert reports[-1].dropped == 0


@long
async def test_what_no_bound_can_hold_is_dropped_counted_and_reported(
    tmp_path: Path, outbox: Path
) -> None:
    """When every meter is a new one the oldest go, and the report says exactly how many."""
    late = Broker(tmp_path / "late")
    with publishing(late.url, outbox, outbox_max_bytes=60_000) as publisher:
        loads = [Load(publisher.put, sessions=50) for _ in range(10)]
        for load in loads:
            load.offer(100)
            await until(lambda: len(publisher.buffer) == 0)
        with late:
            await stream.declare(late.url)
            await flushed(publisher)
            publisher.put(loads[0].reading())
            await flushed(publisher)
            stored = await stream.events(late.url)
        stats = publisher.stats()
    arrived = [event for event in stored if not isinstance(event, ProducerReport)]
    assert stats.dropped > 0
    assert len(arrived) + stats.dropped + stats.coalesced == stats.captured == 10 * 150 + 1
    reports = [event for event in stored if isinstance(event, ProducerReport)]
    assert max(report.dropped for report in reports) == stats.dropped
    found = totals(arrived)
    for load in loads:
        for key, expected in load.expected.items():
            assert found.get(key, expected) == expected


async def test_a_full_disk_keeps_the_worker_running_and_is_recovered_from(
    tmp_path: Path, outbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While nothing can be written events wait in memory; then they go to disk by themselves."""
    late = Broker(tmp_path / "late")
    caplog.set_level("INFO", logger="producer.backlog")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with publishing(late.url, outbox) as publisher:
        load = Load(publisher.put)
        await load.offer_for(100)
        await until(lambda: publisher.stats().outbox == "on disk")
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        try:
            for _ in range(100):
                await load.offer_for(100, each=50)
                if publisher.stats().outbox == "in memory":
                    break
            assert publisher.stats().outbox == "in memory"
            await load.offer_for(1000, each=50)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        load.end()
        await until(lambda: publisher.stats().outbox == "on disk")
        with late:
            await stream.declare(late.url)
            await flushed(publisher)
            await assert_exact(late.url, load)
    said = [record for record in caplog.records if "cannot be used" in record.getMessage()]
    assert len(said) == 1


async def test_a_folder_that_cannot_be_written_is_said_once_and_costs_nothing(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without an outbox the worker publishes from memory, as if there were none."""
    (tmp_path / "file").write_text("this is no folder")
    await stream.declare(broker.url)
    with publishing(broker.url, tmp_path / "file" / "outbox") as publisher:
        load = Load(publisher.put)
        await load.offer_for(500)
        load.end()
        await flushed(publisher)
        await assert_exact(broker.url, load)
        assert publisher.stats().outbox == "in memory"
    assert len([r for r in caplog.records if "cannot be used" in r.getMessage()]) == 1


def orphan(folder: Path, load_readings: int = 400) -> tuple[Path, Load]:
    """Leave an outbox behind, as a killed process does, and return the oracle of what is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder.parent / "made"

    async def fill() -> Load:
        with publishing(NO_SERVER, aside) as publisher:
            load = Load(publisher.put, sessions=8)
            for _ in range(load_readings // 10):
                load.offer(10)
                await until(lambda: len(publisher.buffer) == 0)
            load.end()
            await until(lambda: len(publisher.buffer) == 0)
        return load

    load = asyncio.run(fill())
    (made,) = aside.glob("*.sqlite3")
    return made, load


def placed(made: Path, folder: Path, url: str) -> Path:
    """Put an orphan where workers of a server look for it."""
    place = destination(ProducerConfig(project="faults", servers=(url,)))
    target = folder / f"{place}-{made.stem.partition('-')[2]}.sqlite3"
    made.rename(target)
    return target


@pytest.mark.parametrize(
    "harm",
    ["flipped", pytest.param("truncated", marks=long), pytest.param("garbage", marks=long)],
)
def test_a_damaged_outbox_is_set_aside_and_what_can_be_read_is_published(
    broker: Broker, outbox: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Damage never blocks a start and never books a wrong number."""
    made, load = orphan(outbox)
    path = placed(made, outbox, broker.url)
    data = bytearray(path.read_bytes())
    if harm == "flipped":
        for place in range(len(data) // 2, len(data) // 2 + 6000, 50):
            data[place] ^= 0x55
    elif harm == "truncated":
        del data[len(data) // 2 :]
    else:
        data[:] = os.urandom(len(data))
    path.write_bytes(data)

    async def scenario() -> Found:
        await stream.declare(broker.url)
        with publishing(broker.url, outbox) as publisher:
            await until(lambda: not list(outbox.glob("*.sqlite3")))
            own = Load(publisher.put)
            await own.offer_for(50)
            await flushed(publisher)
            found = totals(await stream.events(broker.url))
        for key, expected in own.expected.items():
            assert found.pop(key) == expected
        return found

    found = asyncio.run(scenario())
    for key, value in found.items():
        assert value[0] <= load.expected[key][0]
    if harm == "garbage":
        assert found == {}
    else:
        assert len(found) > 0
    assert "damaged" in caplog.text


def test_one_orphan_is_adopted_by_exactly_one_of_two(broker: Broker, outbox: Path) -> None:
    """Two workers that start at once do not both send what a dead one left."""
    made, load = orphan(outbox)
    path = placed(made, outbox, broker.url)
    with sqlite3.connect(path) as db:
        (rows,) = db.execute("SELECT count(*) FROM messages").fetchone()
    db.close()

    async def scenario() -> None:
        await stream.declare(broker.url)
        with (
            publishing(broker.url, outbox) as first,
            publishing(broker.url, outbox) as second,
        ):
            await until(lambda: not list(outbox.glob("*.sqlite3")))
            sent = sorted([first.stats().published, second.stats().published])
            assert sent == [0, load.offered + 2 * len(load.sessions)]
            assert len(await stream.batches(broker.url)) == rows
            await assert_exact(broker.url, load)

    asyncio.run(scenario())


async def test_a_clock_that_is_set_back_changes_no_total(broker: Broker, outbox: Path) -> None:
    """Readings are ordered by their number; their time is only a fact about them."""
    now = 1_790_000_100_000_000
    with publishing(broker.url, outbox) as publisher:
        load = Load(publisher.put, clock=lambda: now)
        load.offer(60)
        await until(lambda: publisher.stats().outbox_rows > 0)
        now -= 86_400_000_000
        publisher.backlog._now_us = lambda: now
        load.offer(60)
        load.end()
        await until(lambda: len(publisher.buffer) == 0)
        assert publisher.stats().oldest_age_us == 0
        await stream.declare(broker.url)
        await flushed(publisher)
        await assert_exact(broker.url, load)


async def test_a_payload_over_the_servers_limit_is_split_and_only_the_impossible_is_put_away(
    tmp_path: Path, outbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch above `max_payload` goes in parts; one event above it is kept with the reason."""
    with Broker(tmp_path / "small", max_payload="4096") as small:
        await stream.declare(small.url)
        with publishing(small.url, outbox) as publisher:
            load = Load(publisher.put)
            load.offer(600)
            huge = load.reading_of(load.sessions[0], "small")
            publisher.put(_padded(huge))
            load.end()
            await flushed(publisher)
            await assert_exact(small.url, load)
            assert publisher.stats().quarantined == 1
            assert publisher.stats().refused == 1
    with sqlite3.connect(outbox / "quarantine.db") as db:
        rows = db.execute("SELECT events, reason FROM messages").fetchall()
    db.close()
    assert rows == [(1, "larger than the server's max_payload of 4096 bytes")]
    assert "refused for good" in caplog.text


def _padded(reading: MeterReading) -> MeterReading:
    return MeterReading(
        **{
            name: getattr(reading, name)
            for name in MeterReading.__struct_fields__
            if name not in ("provider_raw", "number")
        },
        number=reading.number,
        provider_raw="x" * 5000,
    )


async def test_a_thousand_sessions_that_end_at_once_are_all_stored(
    broker: Broker, outbox: Path
) -> None:
    """A burst of ends fits through, none is lost and none is late for good."""
    await stream.declare(broker.url)
    with publishing(broker.url, outbox) as publisher:
        load = Load(publisher.put, sessions=1000)
        load.offer(2000)
        load.end()
        await flushed(publisher)
        stored = await stream.events(broker.url)
    assert totals(stored) == load.expected
    assert sum(isinstance(event, SessionEnded) for event in stored) == 1000


@pytest.mark.parametrize("is_up", [True, False], ids=["up", "down"])
def test_a_process_that_exits_right_after_the_end_of_its_calls_loses_nothing(
    broker: Broker, tmp_path: Path, outbox: Path, *, is_up: bool
) -> None:
    """Fifty milliseconds after the last close event the process ends; its end is still orderly."""
    asyncio.run(stream.declare(broker.url))
    if not is_up:
        broker.kill()
    options = ("--readings", "200", "--end", "--exit-after", "0.05", "--flush-timeout", "0.5")
    worker = FaultyWorker(broker.url, outbox, tmp_path / "oracle", *options)
    log = worker.finish()
    assert worker.process.returncode == 0, log
    assert "are lost" not in log
    if not is_up:
        assert [name for name in files(outbox) if name.endswith(".sqlite3")]
        broker.start()

    async def scenario() -> None:
        with publishing(broker.url, outbox):
            await until(lambda: not list(outbox.glob("*.sqlite3")))
        found = totals(await stream.events(broker.url))
        for key, readings in worker.offered().items():
            assert found[key][1:] == readings[-1][1:]

    asyncio.run(scenario())
