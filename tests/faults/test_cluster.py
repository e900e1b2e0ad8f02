"""Three brokers: the leader, two of three and all of them are killed, and nothing is lost."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Final

import pytest

from tests.support.booked import consuming
from tests.support.cluster import Cluster
from tests.support.oracle import booked
from tests.support.stream import publish
from tests.support.traffic import batches, bill, calls
from tests.support.waiting import until
from voicecosts.consumer.broker.connection import Waits
from voicecosts.consumer.config import LedgerConfig

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

ROUNDS: Final = 10
KILLED: Final = (1, 2, 3)
SEED: Final = 61


async def test_ten_rounds_of_kills_of_three_brokers_end_with_the_exact_totals(
    tmp_path: Path,
) -> None:
    """With three copies, `sync_interval: always` and no compression, every acknowledged batch is booked."""
    chance = random.Random(SEED)  # noqa: S311 - the same for the same seed
    made = calls(SEED, 18 * ROUNDS)
    parts = list(batches(made, seed=SEED))
    each = len(parts) // ROUNDS + 1
    with Cluster(tmp_path) as cluster:
        config = LedgerConfig(
            data_dir=tmp_path / "d",
            servers=tuple(cluster.urls),
            replicas=3,
            stream_max_bytes=2**20,  # small, so that its files are closed and compressed on the way
            snapshot_interval_s=0.2,
        )
        waits = Waits(group_s=0.2, answer_s=2.0)
        async with consuming(config, waits=waits, start_deadline_s=90):
            for number in range(ROUNDS):
                mine = parts[number * each : (number + 1) * each]
                publishing = asyncio.create_task(publish(cluster.urls, mine))  # type: ignore[arg-type]  # one of several
                count = KILLED[number % len(KILLED)]
                first = await cluster.leader()
                others = [name for name in cluster.nodes if name != first]
                victims = [first, *chance.sample(others, count - 1)]
                for name in victims:
                    cluster.nodes[name].kill()
                for name in victims:
                    cluster.nodes[name].start()
                async with asyncio.timeout(90):
                    await publishing
            await until(lambda: booked(tmp_path / "d") == bill(made), deadline_s=90)
    assert booked(tmp_path / "d") == bill(made)
