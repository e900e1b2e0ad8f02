"""The loop from the broker to the snapshot: nothing lost, nothing doubled, whatever dies."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import subprocess
from functools import partial
from pathlib import Path

import duckdb
import pytest

from tests.support.booked import consuming
from tests.support.broker import Broker
from tests.support.oracle import booked
from tests.support.processes import CostsProcess
from tests.support.stream import jetstream, publish, settled, standing
from tests.support.traffic import batches, bill, calls
from tests.support.waiting import until
from voicecosts.consumer.broker.connection import Waits
from voicecosts.consumer.broker.stream import DURABLE, declaration, stream_config
from voicecosts.consumer.config import LedgerConfig
from voicecosts.consumer.consume import consume
from voicecosts.consumer.errors import (
    BrokerUnreachable,
    LedgerInUse,
    LedgerWriteFailed,
    StreamDrift,
)
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.subjects import STREAM

QUICK = Waits(group_s=0.1, answer_s=1.0)


def config_of(broker: Broker, data_dir: Path) -> LedgerConfig:
    """A ledger that publishes as soon as it may."""
    return LedgerConfig(
        data_dir=data_dir,
        servers=(broker.url,),
        stream_max_bytes=64 * 2**20,
        snapshot_interval_s=0.05,
    )


class TestBooking:
    async def test_events_come_out_as_booked_totals_and_money(
        self, broker: Broker, tmp_path: Path
    ) -> None:
        """What was published is in the snapshot to the last token and the last nano-dollar."""
        made = calls(1, 8)
        async with consuming(config_of(broker, tmp_path / "d"), waits=QUICK):
            await publish(broker.url, batches(made, seed=1))
            await until(lambda: booked(tmp_path / "d") == bill(made))
        assert booked(tmp_path / "d") == bill(made)

    @pytest.mark.slow  # it looks once a second
    async def test_a_file_of_prices_that_changes_is_noticed(
        self, broker: Broker, tmp_path: Path
    ) -> None:
        """A ledger that runs reads own prices again, and tells readers of mistakes in them."""
        folder = tmp_path / "d"
        async with consuming(config_of(broker, folder), waits=QUICK):
            (folder / "prices.toml").write_text("[[cost]]\n")
            await until(lambda: '"problems":1' in (folder / "ledger.json").read_text())
            (folder / "prices.toml").write_text('[[cost]]\nprovider = "openai"\ndiscount = "5 %"\n')
            await until(lambda: '"prices":null' in (folder / "ledger.json").read_text())

    async def test_a_restart_goes_on_where_it_was(self, broker: Broker, tmp_path: Path) -> None:
        """Stopping finishes the group in hand and publishes; starting again books the rest."""
        made = calls(2, 6)
        config = config_of(broker, tmp_path / "d")
        parts = list(batches(made, seed=2))
        async with consuming(config, waits=QUICK):
            await publish(broker.url, iter(parts[:7]))
        between = booked(tmp_path / "d")
        async with consuming(config, waits=QUICK):
            await publish(broker.url, iter(parts[7:]))
            await until(lambda: booked(tmp_path / "d") == bill(made))
        assert between != bill(made)

    async def test_a_repeated_stream_books_nothing(self, broker: Broker, tmp_path: Path) -> None:
        """A consumer that starts again from the first message changes no total and adds no row."""
        made = calls(3, 4)
        config = config_of(broker, tmp_path / "d")
        async with consuming(config, waits=QUICK):
            await publish(broker.url, batches(made, seed=3))
            await until(lambda: booked(tmp_path / "d") == bill(made))
        async with jetstream(broker.url) as js:
            await js.delete_consumer(STREAM, DURABLE)
        async with consuming(config, waits=QUICK):
            await settled(broker.url)
        assert booked(tmp_path / "d") == bill(made)

    async def test_an_empty_folder_is_filled_from_the_stream(
        self, broker: Broker, tmp_path: Path
    ) -> None:
        """A ledger that lost its disk reads what the stream still holds and has the same totals."""
        made = calls(4, 4)
        async with consuming(config_of(broker, tmp_path / "lost"), waits=QUICK):
            await publish(broker.url, batches(made, seed=4))
            await until(lambda: booked(tmp_path / "lost") == bill(made))
        async with consuming(config_of(broker, tmp_path / "new"), waits=QUICK):
            await until(lambda: booked(tmp_path / "new") == bill(made))

    async def test_garbage_beside_good_batches_does_not_stop_it(
        self, broker: Broker, tmp_path: Path
    ) -> None:
        """What cannot be read becomes a dead letter and is acknowledged like everything else."""
        made = calls(5, 2)
        async with consuming(config_of(broker, tmp_path / "d"), waits=QUICK):
            async with jetstream(broker.url) as js:
                await js.publish("costs.v1.test.dental.00", b"\xc1 garbage")
            await publish(broker.url, batches(made, seed=5))
            await until(lambda: booked(tmp_path / "d") == bill(made))
        await settled(broker.url)
        with duckdb.connect(
            tmp_path / "d" / "costs.duckdb", read_only=True, config={"threads": 1}
        ) as snapshot:
            letters = snapshot.execute("SELECT subject, reason, bytes FROM dead_letters")
            assert letters.fetchall() == [("costs.v1.test.dental.00", "not_a_batch", 9)]

    async def test_the_heartbeat_tells_that_nothing_waits(
        self, broker: Broker, tmp_path: Path
    ) -> None:
        """A quiet ledger says that it lives and that it has everything."""
        async with consuming(config_of(broker, tmp_path / "d"), waits=QUICK):
            await until(lambda: heartbeat(tmp_path / "d")["waiting"] == 0)
            assert heartbeat(tmp_path / "d")["running"] is True
        assert heartbeat(tmp_path / "d")["running"] is False

    async def test_work_is_summed_up_in_the_log(
        self, broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The log says how much was booked: once in a while and at the end, not per message."""
        caplog.set_level(logging.INFO, "voicecosts.consumer")
        made = calls(6, 5)
        async with consuming(config_of(broker, tmp_path / "d"), waits=QUICK):
            await publish(broker.url, batches(made, seed=6))
            await until(lambda: booked(tmp_path / "d") == bill(made))
        lines = [line for line in caplog.messages if line.startswith("booked ")]
        numbers = [int(line.split()[2].rstrip(";")) for line in lines]
        assert len(lines) in (1, 2)
        assert sum(numbers) == sum(call.number - 1 for call in made)


class TestAccidents:
    @pytest.mark.slow
    async def test_a_broker_killed_in_mid_stream_costs_nothing(
        self, broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The ledger and the producers wait for the broker; totals and money end exact."""
        made = calls(7, 120)
        parts = list(batches(made, seed=7, size=1))
        third = len(parts) // 3
        async with consuming(config_of(broker, tmp_path / "d"), waits=QUICK):
            for start in range(0, len(parts), third):
                before = booked_requests(tmp_path / "d")
                some = iter(parts[start : start + third])
                publishing = asyncio.create_task(publish(broker.url, some))
                await until(partial(books_more_than, tmp_path / "d", before))
                broker.kill()
                broker.start()
                await publishing
            await until(lambda: booked(tmp_path / "d") == bill(made))
        assert "another reader" not in caplog.text

    @pytest.mark.slow
    async def test_a_consumer_deleted_in_mid_stream_costs_nothing(
        self, broker: Broker, tmp_path: Path
    ) -> None:
        """It is made again, reads the stream from its start, and books only what is new."""
        made = calls(8, 10)
        parts = list(batches(made, seed=8))
        async with consuming(config_of(broker, tmp_path / "d"), waits=QUICK):
            await publish(broker.url, iter(parts[:10]))
            await until(lambda: bool(booked(tmp_path / "d")))
            async with jetstream(broker.url) as js:
                await js.delete_consumer(STREAM, DURABLE)
            await publish(broker.url, iter(parts[10:]))
            await until(lambda: booked(tmp_path / "d") == bill(made))

    async def test_a_failed_write_stops_loudly_and_acknowledges_nothing(
        self, broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A ledger that cannot write must not tell the broker that it has."""
        made = calls(9, 3)
        config = config_of(broker, tmp_path / "d")

        def refuse(ledger: Ledger, messages: object) -> None:
            raise LedgerWriteFailed(tmp_path, "no room")

        with monkeypatch.context() as broken:
            broken.setattr(Ledger, "apply", refuse)
            running = asyncio.create_task(consume(config, asyncio.Event(), waits=QUICK))
            await publish(broker.url, batches(made, seed=9))
            with pytest.raises(LedgerWriteFailed, match="no room"):
                await asyncio.wait_for(running, 20)
        assert (await standing(broker.url)).num_ack_pending
        async with consuming(config, waits=QUICK):
            await until(lambda: booked(tmp_path / "d") == bill(made))

    async def test_two_ledgers_do_not_share_a_folder(self, broker: Broker, tmp_path: Path) -> None:
        """The second one says who has it, before it takes a message from the stream."""
        config = config_of(broker, tmp_path / "d")
        async with consuming(config, waits=QUICK):
            with pytest.raises(LedgerInUse):
                await consume(config, asyncio.Event(), waits=QUICK)

    async def test_a_start_without_a_broker_releases_the_ledger(
        self, broker: Broker, tmp_path: Path
    ) -> None:
        """A start that fails leaves nothing locked behind."""
        broker.stop()
        config = config_of(broker, tmp_path / "d")
        for _ in range(2):
            with pytest.raises(BrokerUnreachable):
                await consume(config, asyncio.Event(), waits=QUICK, start_deadline_s=0.1)

    async def test_drift_is_refused_before_anything_is_read(
        self, broker: Broker, tmp_path: Path
    ) -> None:
        """A stream with another limit stops the ledger at its start."""
        config = config_of(broker, tmp_path / "d")
        async with jetstream(broker.url) as js:
            await js.add_stream(stream_config(declaration(config)).evolve(max_age=3600.0))
        with pytest.raises(StreamDrift, match="max_age"):
            await consume(config, asyncio.Event(), waits=QUICK)


@pytest.mark.faults
@pytest.mark.timeout(300)
async def test_a_ledger_killed_many_times_loses_and_doubles_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    """SIGKILLed two dozen times, at random moments of its work, it ends with the exact totals."""
    kills, seed = 24, 12
    chance = random.Random(seed)  # noqa: S311 - the same for the same seed
    made = calls(seed, 60 * kills)  # more than the ledger can book between two kills
    arguments = ["consume", "--servers", broker.url, "--data-dir", str(tmp_path / "d")]
    ledger = CostsProcess([*arguments, "--snapshot-interval", "0.2"], tmp_path / "run")
    publishing = asyncio.create_task(publish(broker.url, batches(made, seed=seed, size=1)))
    caught_at_work = 0
    for _ in range(kills):
        with ledger:
            if chance.random() < 0.75:  # else: killed while it starts
                await asyncio.to_thread(ledger.wait_ready)
            with pytest.raises(subprocess.TimeoutExpired):
                await asyncio.to_thread(ledger.wait, deadline_s=chance.random() / 2)
        caught_at_work += bool((await standing(broker.url)).num_ack_pending)
    with ledger:
        await asyncio.to_thread(ledger.wait_ready)
        await publishing
        await until(lambda: booked(tmp_path / "d") == bill(made))
        assert await asyncio.to_thread(ledger.stop) == 0, ledger.log
    assert "another reader" not in ledger.log
    assert caught_at_work > 0  # else the kills proved nothing
    assert booked(tmp_path / "d") == bill(made)


def books_more_than(data_dir: Path, requests: int) -> bool:
    """Tell whether readers see more requests than that."""
    return booked_requests(data_dir) > requests


def booked_requests(data_dir: Path) -> int:
    """Return how many requests readers see by now."""
    return sum(total.totals.requests for total in booked(data_dir).values())


def heartbeat(data_dir: Path) -> dict[str, object]:
    """Return what the ledger says of itself."""
    path = data_dir / "ledger.json"
    return json.loads(path.read_text()) if path.exists() else {"waiting": None}
