"""`as_of` moves with the broker's answers, and with nothing else."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.booked import consuming
from tests.support.books import MemoryBooks
from tests.support.broker import Broker
from tests.support.oracle import booked, rate
from tests.support.stream import jetstream, publish
from tests.support.traffic import batches, bill, calls
from tests.support.waiting import until
from voicecosts import query
from voicecosts.consumer.broker.connection import Waits
from voicecosts.consumer.broker.feed import Feed
from voicecosts.consumer.config import LedgerConfig
from voicecosts.consumer.store.ledger import Ledger

QUICK = Waits(group_s=0.1, answer_s=0.5, connect_s=0.5)


def config_of(broker: Broker, data_dir: Path) -> LedgerConfig:
    """A ledger that publishes as soon as it may."""
    return LedgerConfig(
        data_dir=data_dir,
        servers=(broker.url,),
        stream_max_bytes=64 * 2**20,
        snapshot_interval_s=0.05,
    )


def told(data_dir: Path) -> dict[str, Any]:
    """Return what the ledger says of itself."""
    found: dict[str, Any] = json.loads((data_dir / "ledger.json").read_text())
    return found


def moment(data_dir: Path, name: str = "as_of") -> datetime:
    """Return a moment that it says."""
    return datetime.fromisoformat(told(data_dir)[name])


async def test_it_stands_still_while_the_broker_does_not_answer(
    broker: Broker, tmp_path: Path
) -> None:
    """The ledger lives and says so, but it claims nothing of a time in which it heard nothing."""
    folder = tmp_path / "d"
    async with consuming(config_of(broker, folder), waits=QUICK):
        await until(lambda: told(folder)["waiting"] == 0)
        broker.send(signal.SIGSTOP)
        stopped = datetime.now(UTC)
        await until(lambda: told(folder)["waiting"] is None)
        beat = (folder / "ledger.json").stat().st_mtime_ns
        await until(lambda: (folder / "ledger.json").stat().st_mtime_ns > beat)
        assert moment(folder) <= stopped
        assert moment(folder, "answered_at") <= stopped
        assert told(folder)["running"] is True
        broker.send(signal.SIGCONT)
        await until(lambda: told(folder)["waiting"] == 0)
        assert moment(folder) > stopped


async def test_a_ledger_that_starts_again_claims_no_more_than_before(
    broker: Broker, tmp_path: Path
) -> None:
    """Opening and publishing are no answer of the broker; what was known before is kept."""
    folder = tmp_path / "d"
    made = calls(1, 4)
    async with consuming(config_of(broker, folder), waits=QUICK):
        await publish(broker.url, batches(made, seed=1))
        await until(lambda: booked(folder) == bill(made))
        whole = datetime.now(UTC)
        await until(lambda: moment(folder) > whole)
    before = moment(folder)
    with Ledger.open(folder, rate, has_source=True) as ledger:
        ledger.heartbeat(waiting=None)
        assert (moment(folder), told(folder)["answered_at"]) == (before, None)
    assert moment(folder) == before


async def test_a_restored_file_does_not_claim_what_the_newer_one_held(
    broker: Broker, tmp_path: Path
) -> None:
    """The heartbeat is believed only where it speaks of this file's last snapshot."""
    folder = tmp_path / "d"
    with Ledger.open(folder, rate, has_source=True) as ledger:
        ledger.heard(datetime(2026, 11, 20, tzinfo=UTC), 0)
        ledger.publish_snapshot()
    backup = (folder / "ledger" / "ledger.duckdb").read_bytes()
    with Ledger.open(folder, rate, has_source=True) as ledger:
        ledger.heard(datetime(2026, 11, 21, tzinfo=UTC), 0)
        ledger.publish_snapshot()
    (folder / "ledger" / "ledger.duckdb").write_bytes(backup)
    with Ledger.open(folder, rate, has_source=True):
        assert moment(folder) == datetime(2026, 11, 20, tzinfo=UTC)


async def test_nothing_is_whole_as_of_no_moment(tmp_path: Path) -> None:
    """What the ledger says of a newer snapshot makes an older one, from before any answer, no better."""
    folder = tmp_path / "d"
    with Ledger.open(folder, rate, has_source=True) as ledger:
        ledger.publish_snapshot()
        first = (folder / "costs.duckdb").readlink()
        ledger.heard(datetime.now(UTC), 0)
        ledger.publish_snapshot()
        (folder / "costs.duckdb").unlink()
        (folder / "costs.duckdb").symlink_to(first)  # as if it was followed just before
        report = query(data_dir=folder)
        assert (report.as_of, report.completeness.whole) == (None, None)


async def test_it_waits_for_the_backlog(broker: Broker, tmp_path: Path) -> None:
    """A pull that leaves something in the stream says that the ledger lacks it."""
    folder = tmp_path / "d"
    began = datetime.now(UTC)
    with Ledger.open(folder, rate, has_source=True) as ledger:
        ledger.heard(began, 12)
        ledger.heartbeat(waiting=12)
        ledger.publish_snapshot()
        assert moment(folder) == datetime(1970, 1, 1, tzinfo=UTC)
        assert moment(folder, "answered_at") == began
        ledger.heard(began, 0)
        ledger.publish_snapshot()
        assert moment(folder) == began


@pytest.mark.parametrize("may_ask", [True, False])
async def test_what_a_dead_connection_was_sent_is_not_forgotten(
    broker: Broker, tmp_path: Path, *, may_ask: bool
) -> None:
    """Messages that nobody acknowledged wait without a pull telling of it, until they come again."""
    url = broker.url
    feed_config = LedgerConfig(data_dir=tmp_path, servers=(url,), stream_max_bytes=64 * 2**20)
    feed = Feed(feed_config, MemoryBooks(), asyncio.Event(), waits=QUICK, jitter=lambda: 0.0)
    await feed.open(deadline_s=10)
    async with jetstream(url) as js:
        await js.publish("costs.v1.p.a.00", b"1")
    while not (await feed.next_group()).messages:
        pass
    await feed.close()  # without an acknowledgement
    if not may_ask:
        broker.stop()
        broker.extra = """authorization { users = [ { user: u, password: p, permissions: {
            publish: ["$JS.API.CONSUMER.MSG.NEXT.COSTS.ledger", "$JS.ACK.COSTS.ledger.>"]
            subscribe: ["_INBOX_c.>"] } } ] }"""
        broker.start()
        url = url.replace("//", "//u:p@")
    feed_config = LedgerConfig(data_dir=tmp_path, servers=(url,), stream_max_bytes=64 * 2**20)
    feed = Feed(feed_config, MemoryBooks(), asyncio.Event(), waits=QUICK, jitter=lambda: 0.0)
    await feed.open(deadline_s=10)
    try:
        group = await feed.next_group()
        if may_ask:
            assert group.messages
        else:
            assert not group.messages
            assert (group.waiting, group.asked_at) == (None, None)
    finally:
        await feed.close()
