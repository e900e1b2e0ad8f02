"""Backups, other readers and streams made anew: the totals are equal again, or it is said."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import duckdb
import pytest
from msgspec.structs import replace

from tests.support.booked import consuming
from tests.support.broker import Broker
from tests.support.late import late
from tests.support.oracle import booked
from tests.support.processes import CostsProcess
from tests.support.stream import jetstream, publish, settled
from tests.support.traffic import batches, bill, calls
from tests.support.waiting import until
from voicecosts.consumer.broker.connection import Waits
from voicecosts.consumer.broker.stream import DURABLE
from voicecosts.consumer.config import LedgerConfig
from voicecosts.consumer.consume import consume
from voicecosts.consumer.errors import StreamClaimed
from voicecosts.producer.subjects import STREAM

QUICK = Waits(group_s=0.1, answer_s=2.0, renew_s=1.0)
MADE = calls(51, 6)
PARTS = list(batches(MADE, seed=51))


def config_of(broker: Broker, data_dir: Path) -> LedgerConfig:
    """A ledger that publishes as soon as it may."""
    servers = (broker.url,)
    return LedgerConfig(data_dir=data_dir, servers=servers, snapshot_interval_s=0.05)


async def half_booked(broker: Broker, data_dir: Path, backup: Path) -> None:
    """Book half of the calls, back the data directory up as a snapshot, and book the rest."""
    half = len(PARTS) // 2
    async with consuming(config_of(broker, data_dir), waits=QUICK):
        await publish(broker.url, PARTS[:half])
        await settled(broker.url)
    shutil.copyfile((data_dir / "costs.duckdb").resolve(), backup)
    async with consuming(config_of(broker, data_dir), waits=QUICK):
        await publish(broker.url, PARTS[half:])
        await until(lambda: booked(data_dir) == bill(MADE))


def restored(backup: Path, data_dir: Path) -> Path:
    """Put a snapshot in the place of a ledger, as the error of a damaged ledger says."""
    (data_dir / "ledger").mkdir(parents=True, exist_ok=True)
    for old in (data_dir / "ledger").glob("ledger.duckdb*"):
        old.unlink()
    shutil.copyfile(backup, data_dir / "ledger" / "ledger.duckdb")
    return data_dir


def gaps(data_dir: Path) -> list[tuple[object, ...]]:
    """Return what readers are told is missing."""
    with duckdb.connect(
        (data_dir / "costs.duckdb").resolve(), read_only=True, config={"threads": 1}
    ) as snapshot:
        return snapshot.execute(
            "SELECT first_sequence, last_sequence, messages, why FROM gaps ORDER BY ALL"
        ).fetchall()


@pytest.mark.slow
async def test_an_older_snapshot_that_is_put_back_is_completed(
    broker: Broker, tmp_path: Path
) -> None:
    """What was booked after the backup is read again from the stream."""
    await half_booked(broker, tmp_path / "d", tmp_path / "backup")
    restored(tmp_path / "backup", tmp_path / "d")
    async with consuming(config_of(broker, tmp_path / "d"), waits=QUICK):
        await until(lambda: booked(tmp_path / "d") == bill(MADE))
    assert gaps(tmp_path / "d") == []


async def test_a_ledger_that_is_lost_is_filled_again(broker: Broker, tmp_path: Path) -> None:
    """A new folder reads the whole stream."""
    await half_booked(broker, tmp_path / "d", tmp_path / "backup")
    async with consuming(config_of(broker, tmp_path / "new"), waits=QUICK):
        await until(lambda: booked(tmp_path / "new") == bill(MADE))


async def test_a_stream_made_anew_is_read_from_its_start_by_a_backup(
    broker: Broker, tmp_path: Path
) -> None:
    """The numbers of the new stream are below what the backup booked of the old one."""
    half = len(PARTS) // 2
    async with consuming(config_of(broker, tmp_path / "d"), waits=QUICK):
        await publish(broker.url, PARTS[:half])
        await until(lambda: bool(booked(tmp_path / "d")))
        await settled(broker.url)
    async with jetstream(broker.url) as js:
        await js.delete_stream(STREAM)
    async with consuming(config_of(broker, tmp_path / "d"), waits=QUICK):
        await publish(broker.url, PARTS[half:])
        await until(lambda: booked(tmp_path / "d") == bill(MADE))
    [(first, last, messages, why)] = gaps(tmp_path / "d")
    assert (first, last, messages, why) == (half + 1, None, None, "stream_gone")


@pytest.mark.slow
async def test_a_deleted_consumer_while_the_ledger_is_away_costs_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    """It is made again and offers everything; booking by difference adds only what is new."""
    half = len(PARTS) // 2
    async with consuming(config_of(broker, tmp_path / "d"), waits=QUICK):
        await publish(broker.url, PARTS[:half])
        await settled(broker.url)
    await publish(broker.url, PARTS[half:])
    async with jetstream(broker.url) as js:
        await js.delete_consumer(STREAM, DURABLE)
    async with consuming(config_of(broker, tmp_path / "d"), waits=QUICK):
        await until(lambda: booked(tmp_path / "d") == bill(MADE))


@pytest.mark.slow
async def test_an_answer_that_is_late_does_not_keep_a_backup_incomplete(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker takes long over the one question that tells the backup from the ledger."""
    await half_booked(broker, tmp_path / "d", tmp_path / "backup")
    restored(tmp_path / "backup", tmp_path / "d")
    waits = replace(QUICK, answer_s=0.5)
    async with late(broker.port, b"$JS.API.STREAM.INFO", 0.8) as url:
        config = replace(config_of(broker, tmp_path / "d"), servers=(url,))
        async with consuming(config, waits=waits):
            await until(lambda: booked(tmp_path / "d") == bill(MADE))
    assert "may not" not in caplog.text


async def test_what_left_the_stream_is_a_gap_that_readers_see(
    broker: Broker, tmp_path: Path
) -> None:
    """Purged before they were booked: said in the ledger itself, for every answer."""
    async with consuming(config_of(broker, tmp_path / "d"), waits=QUICK):
        await publish(broker.url, PARTS[:1])
        await settled(broker.url)
    await publish(broker.url, PARTS[1:])
    async with jetstream(broker.url) as js:
        await js.purge_stream(STREAM, seq=10)
    async with consuming(config_of(broker, tmp_path / "d"), waits=QUICK):
        await settled(broker.url)
        await until(lambda: bool(gaps(tmp_path / "d")))
    assert gaps(tmp_path / "d") == [(2, 9, 8, "left_the_stream")]


async def test_a_second_ledger_is_refused_and_takes_over_as_its_error_says(
    broker: Broker, tmp_path: Path
) -> None:
    """The refusal names the option; with it the second one has everything, and the first one ends."""
    async with consuming(config_of(broker, tmp_path / "first"), waits=QUICK):
        await publish(broker.url, PARTS[:10])
        await settled(broker.url)
        with pytest.raises(StreamClaimed, match="`costs consume --take-over`"):
            await consume(config_of(broker, tmp_path / "second"), asyncio.Event(), waits=QUICK)
        await publish(broker.url, PARTS[10:])
        await until(lambda: booked(tmp_path / "first") == bill(MADE))


@pytest.mark.slow
def test_the_option_is_there_and_the_first_one_ends_with_its_code(
    broker: Broker, tmp_path: Path
) -> None:
    """By command, as an operator does it."""
    asyncio.run(publish_declared(broker))
    arguments = ["consume", "--servers", broker.url, "--snapshot-interval", "0.1", "--data-dir"]
    first = CostsProcess([*arguments, str(tmp_path / "first")], tmp_path / "one")
    second = [*arguments, str(tmp_path / "second")]
    with first:
        first.wait_ready()
        with CostsProcess(second, tmp_path / "two") as refused:
            assert refused.wait() == 7
            assert f"in {tmp_path / 'first'} on host" in refused.log
        with CostsProcess([*second, "--take-over"], tmp_path / "two") as taking:
            taking.wait_ready()
            assert first.wait(deadline_s=60) == 7, first.log
            assert "was taken over by" in first.log
            assert taking.stop() == 0
    assert booked(tmp_path / "second") == bill(MADE)


async def publish_declared(broker: Broker) -> None:
    """Fill a stream that a ledger has declared and left."""
    async with consuming(config_of(broker, Path(broker.directory / "made")), waits=QUICK):
        await publish(broker.url, PARTS)
        await settled(broker.url)
