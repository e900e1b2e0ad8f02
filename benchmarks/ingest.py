"""Events per second from JetStream to committed rows, beside the floors of the same run.

A private nats-server holds packed batches of meter readings: sessions of several meters, in arrival
order. Then, one after the other: fetch and decode only; DuckDB insert and commit only, of the rows
that those events become; and the whole ledger, from the stream to committed rows (fetch, decode,
book, rate, a transaction for each piece of a group, acknowledge, snapshots). More wait behind
those that are measured: else how long the ledger waits whether its last group fills would be measured
too. It also says what one thread writes while the others work the next piece out: on a busy machine two
threads share a core, so what two free cores would do follows from the thread that used more CPU.

    python benchmarks/ingest.py [--events 100000] [--batch 50]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nats

from voicecosts.consumer.booking.decode import read
from voicecosts.consumer.booking.entries import Entries
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.booking.sessions import SessionKey, SessionState
from voicecosts.consumer.broker.connection import GROUP_MESSAGES, Connection, Waits
from voicecosts.consumer.broker.requests import Api
from voicecosts.consumer.broker.server import STREAM_MAX_BYTES, PrivateBroker
from voicecosts.consumer.broker.stream import declaration, ensure
from voicecosts.consumer.config import LedgerConfig, from_env
from voicecosts.consumer.consume import consume
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.database import open_database
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.overlap import Beside, Worked, Written
from voicecosts.consumer.store.places import Places
from voicecosts.consumer.store.write import write_entries
from voicecosts.producer.capture.identity import new_session_id
from voicecosts.producer.events import Batch, MeterReading, Quantities, encode
from voicecosts.producer.subjects import subject

PRODUCER = "0123456789abcdef"
MODELS = (
    ("llm", "openai", "api.openai.com", "gpt-4.1-mini"),
    ("stt", "deepgram", "Deepgram", "nova-3"),
    ("tts", "cartesia", "Cartesia", "sonic-3"),
)


def readings(count: int, per_session: int = 24) -> Iterator[MeterReading]:
    """Return readings of sessions that follow one another, three meters each."""
    for session in itertools.count():
        started = 1_790_000_000_000_000 + session * 50_000
        session_id = new_session_id(started)
        for number in range(1, per_session + 1):
            at = session * per_session + number
            if at > count:
                return
            modality, provider, raw, model = MODELS[number % len(MODELS)]
            yield MeterReading(
                session_id=session_id,
                number=number,
                project="bench",
                agent_id=f"agent-{session // 100 % 20}",
                agent_label="front",
                tenant=f"tenant-{session % 200}",
                modality=modality,
                provider=provider,
                provider_raw=raw,
                model=model,
                occurred_at=started + number * 1_000_000,
                totals=Quantities(
                    requests=number,
                    input_tokens=900 * number if modality == "llm" else 0,
                    cache_read_input_tokens=500 * number if modality == "llm" else 0,
                    output_tokens=40 * number if modality == "llm" else 0,
                    characters=120 * number if modality == "tts" else 0,
                    audio_us=2_400_000 * number if modality != "llm" else 0,
                ),
            )


@contextmanager
def measured(what: str) -> Iterator[Callable[[int], None]]:
    """Print what a block took, per event; it says how many it had."""
    told: list[int] = []
    before, began = _cpu_s(), time.perf_counter()
    yield told.append
    took, cpu, events = time.perf_counter() - began, _cpu_s() - before, sum(told)
    print(f"{what:<42} {events / took:>10,.0f} events/s {cpu / events * 1e6:>8.1f} µs CPU/event")
    sys.stdout.flush()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def publish(config: LedgerConfig, events: int, batch: int) -> int:
    """Fill the stream; return how many messages it holds."""
    client = await nats.connect(list(config.servers))
    stream = client.jetstream()
    await ensure(Api(client), declaration(config))
    every = readings(events)
    numbers = itertools.count(1)
    gate = asyncio.Semaphore(64)

    async def send(part: list[MeterReading]) -> None:
        data = encode(Batch(producer_id=PRODUCER, number=next(numbers), events=list(part)))
        async with gate:
            await stream.publish(subject("bench", part[0].agent_id, PRODUCER), data, timeout=30)

    async with asyncio.TaskGroup() as group:
        for _, of_agent in itertools.groupby(every, key=lambda event: event.agent_id):
            while part := list(itertools.islice(of_agent, batch)):
                group.create_task(send(part))
    await client.close()
    return next(numbers) - 1


async def fetch(config: LedgerConfig, messages: int) -> list[Message]:
    """Fetch so many messages, and the rest of the last group, and decode them."""
    link = Connection(asyncio.Event(), Waits())
    await link.open(config)
    fetched: list[Message] = []
    while len(fetched) < messages:
        group = await link.pull()
        fetched += group.messages
        for message in group.messages:
            assert read(message)[0] is not None
        await link.acknowledge(group)
    await link.close()
    return fetched


def insert_only(messages: list[Message], folder: Path, group: int = 500) -> None:
    """Write the rows of all messages, group by group. Only this is timed."""
    rate = rate_by(ListPrices())
    prepared = []
    sessions: dict[SessionKey, SessionState] = {}
    for start in range(0, len(messages), group):
        entries = Entries(sessions, rate)
        for message in messages[start : start + group]:
            delivery = read(message)[0]
            assert delivery is not None
            for _, event in delivery.events:
                assert isinstance(event, MeterReading)
                key = SessionKey(event.project, event.session_id)
                sessions.setdefault(key, SessionState())
            entries.add(delivery)
        prepared.append(entries)
    layout = Layout(folder)
    layout.ledger_dir.mkdir(parents=True)
    connection = open_database(layout, 0)
    rows = sum(len(entries.bookings) for entries in prepared)
    with measured("floor: DuckDB insert and commit only") as tell:
        tell(rows)
        for entries in prepared:
            connection.begin()
            write_entries(connection, entries, entries.new_prices(), Places(connection), 0)
            connection.commit()
    connection.close()


async def whole(config: LedgerConfig, messages: int) -> tuple[int, float]:
    """Run the ledger until so many messages are booked, and the rest of their group.

    Returns how many it booked, and the CPU seconds of what was written beside.
    """
    stop = asyncio.Event()
    applied, beside_s = 0, 0.0
    original, write = Ledger.apply, Ledger._write_and_work

    def timing(self: Ledger, beside: Beside, worked: Worked) -> Written:
        nonlocal beside_s
        before = time.thread_time()
        try:
            return write(self, beside, worked)
        finally:
            beside_s += time.thread_time() - before

    def counting(self: Ledger, group: list[Message]) -> object:
        nonlocal applied
        result = original(self, group)
        applied += len(group)
        if applied >= messages:
            loop.call_soon_threadsafe(stop.set)
        return result

    loop = asyncio.get_running_loop()
    Ledger.apply = counting  # type: ignore[assignment,method-assign]  # to know when all is booked
    Ledger._write_and_work = timing  # type: ignore[method-assign]  # listened to, not changed
    try:
        await consume(config, stop)
    finally:
        Ledger.apply = original  # type: ignore[method-assign]  # as above
        Ledger._write_and_work = write  # type: ignore[method-assign]  # same
    return applied, beside_s


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=50, help="events per message")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voicecosts-bench-") as folder:
        data = Path(folder)
        with PrivateBroker(data / "broker") as broker:
            config = from_env(
                servers=broker.url,
                data_dir=data / "ledger",
                stream_max_bytes=STREAM_MAX_BYTES,
                environ={},
            )
            more = 2 * GROUP_MESSAGES * chosen.batch
            messages = asyncio.run(publish(config, chosen.events + more, chosen.batch))
            messages -= 2 * GROUP_MESSAGES
            print(f"{chosen.events:,} events in {messages:,} messages of {chosen.batch}")
            with measured("floor: fetch and decode only") as tell:
                fetched = asyncio.run(fetch(config, messages))
                tell(len(fetched) * chosen.batch)
            insert_only(fetched, data / "insert")
            # The new ledger is behind what was acknowledged, so it reads all of it again.
            before = _cpu_s()
            with measured("from JetStream to committed rows") as tell:
                booked, beside_s = asyncio.run(whole(config, messages))
                tell(booked * chosen.batch)
            rest_s, events = _cpu_s() - before - beside_s, booked * chosen.batch
            print(
                f"of it {beside_s / events * 1e6:.1f} µs in the thread that writes, and "
                f"{rest_s / events * 1e6:.1f} in the others: "
                f"{events / max(beside_s, rest_s):,.0f} events/s where two cores are free"
            )


if __name__ == "__main__":
    main()
