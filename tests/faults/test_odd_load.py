"""Odd input from the worker itself: a clock set back, a payload too large, everybody at once."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb
import pytest
from msgspec.structs import replace

import voicecosts.producer.publishing.publisher
from tests.support import stream
from tests.support.broker import Broker
from tests.support.load import START_US, Load, priced
from tests.support.outboxes import execute
from tests.support.outcome import assert_exact, say, shown
from tests.support.publishing import flushed, publishing
from tests.support.waiting import until
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import MeterReading, SessionEnded

pytestmark = pytest.mark.faults

DAY_US: Final = 86_400_000_000
THREADS: Final = 4


async def test_a_clock_that_is_set_back_between_two_readings_changes_no_total(
    broker: Broker, tmp_path: Path, outbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readings are ordered by their number; their time is only a fact about them."""
    now = START_US + DAY_US
    monkeypatch.setattr(voicecosts.producer.publishing.publisher, "now_us", lambda: now)
    with publishing(broker.url, outbox) as publisher:
        load = Load(publisher.put, clock=lambda: now)
        load.offer(600)
        await until(lambda: publisher.stats().outbox_rows > 0 and len(publisher.buffer) == 0)
        now -= DAY_US
        load.offer(600)
        load.end()
        await until(lambda: len(publisher.buffer) == 0)
        assert publisher.stats().oldest_age_us == 0
        await stream.declare(broker.url)
        await flushed(publisher)
    fault = "clock set back by a day between two readings"
    found = await assert_exact(fault, broker.url, tmp_path / "data", load)
    times = {event.occurred_at for event in found.events if isinstance(event, MeterReading)}
    assert times == {START_US, START_US + DAY_US}

    half = len(found.messages) // 2
    at = datetime.fromtimestamp(START_US / 1e6, UTC)
    for part, moment in ((found.messages[:half], at), (found.messages[half:], at - timedelta(1))):
        clock = Clock(now=lambda moment=moment: moment)  # type: ignore[misc]  # a lambda in a loop
        with Ledger.open(tmp_path / "back", rate_by(ListPrices()), clock=clock) as ledger:
            ledger.apply(part)
    assert shown(tmp_path / "back") == priced(load.expected)
    say(fault, "the ledger's own clock set back as well: the same sums")


async def test_a_payload_over_max_payload_is_split_and_only_the_impossible_is_quarantined(
    tmp_path: Path, outbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch above `max_payload` goes in parts; one event above it is kept with the reason."""
    with Broker(tmp_path / "small", max_payload="4096") as small:
        await stream.declare(small.url)
        with publishing(small.url, outbox) as publisher:
            load = Load(publisher.put)
            load.offer(1200)
            huge = replace(load.reading(), provider_raw="x" * 5000)
            publisher.put(huge)
            load.end()
            await flushed(publisher)
            stats = publisher.stats()
            assert (stats.quarantined, stats.refused) == (1, 1)
        more = "one reading of 5 kB quarantined with the reason, its total in its session's end"
        fault = "payload over max_payload (4 kB)"
        found = await assert_exact(fault, small.url, tmp_path / "data", load, more=more)
    assert len(set(found.readings)) == load.offered - 1
    assert len(found.messages) > 1200 // 200
    rows = execute(outbox / "quarantine.db", "SELECT events, reason FROM messages")
    assert rows == [(1, "larger than the server's max_payload of 4096 bytes")]
    assert "refused for good" in caplog.text


async def test_a_thousand_sessions_that_end_at_once_are_all_stored(
    broker: Broker, tmp_path: Path, outbox: Path
) -> None:
    """A burst of ends from several threads fits through, and the ledger calls each one complete."""
    await stream.declare(broker.url)
    with publishing(broker.url, outbox) as publisher:
        loads = [Load(publisher.put, sessions=1000 // THREADS) for _ in range(THREADS)]
        for load in loads:
            load.offer(3 * len(load.sessions))
        at_once = threading.Barrier(THREADS)

        def end(load: Load) -> None:
            at_once.wait()
            load.end()

        threads = [threading.Thread(target=end, args=(load,)) for load in loads]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        await flushed(publisher)
    fault = "1,000 sessions ending at once"
    found = await assert_exact(fault, broker.url, tmp_path / "data", *loads)
    assert sum(isinstance(event, SessionEnded) for event in found.events) == 1000
    with duckdb.connect(
        str(tmp_path / "data" / "costs.duckdb"), read_only=True, config={"threads": 1}
    ) as connection:
        states = connection.execute(
            "SELECT state, count(*) FROM completeness GROUP BY 1"
        ).fetchall()
    assert states == [("complete", 1000)]
    say(fault, "1,000 ends stored, 1,000 sessions complete")
