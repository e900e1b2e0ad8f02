"""`costs rebuild`: what it says of a real ledger and stream."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import duckdb
from click.testing import Result
from typer.testing import CliRunner

from tests.support.booked import QUICK, consuming
from tests.support.broker import Broker
from tests.support.oracle import booked
from tests.support.stream import publish
from tests.support.traffic import batches, bill, calls
from tests.support.waiting import until
from voicecosts.analytics.commands import rebuild
from voicecosts.consumer.config import LedgerConfig

NEWEST = "(SELECT max(place) FROM bookings)"


def ran(data_dir: Path, *arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(rebuild.app, ["--data-dir", str(data_dir), *arguments])


def changed(data_dir: Path, statement: str) -> None:
    """Change the file of a ledger that does not run."""
    with duckdb.connect(data_dir / "ledger" / "ledger.duckdb") as ledger:
        ledger.execute(statement)


async def test_what_is_booked_is_compared_with_the_stream(broker: Broker, tmp_path: Path) -> None:
    """While the ledger runs its snapshot is, and afterwards the ledger itself.

    Only the stream tells that the last row is gone, which was in no sum yet.
    """
    made = calls(41, 4)
    words = ["--verify", "--servers", broker.url, "--json"]
    config = LedgerConfig(data_dir=tmp_path, servers=(broker.url,), snapshot_interval_s=0.05)
    async with consuming(config, waits=QUICK):
        await publish(broker.url, batches(made, seed=41))
        await until(lambda: booked(tmp_path) == bill(made))
        while_it_runs = await asyncio.to_thread(ran, tmp_path, *words)
    assert while_it_runs.exit_code == 0, while_it_runs.output
    found = json.loads(while_it_runs.stdout)
    assert (found["running"], found["whole"]) == (True, True)
    assert found["messages"] > 0

    found = json.loads((await asyncio.to_thread(ran, tmp_path, *words)).stdout)
    assert (found["running"], found["whole"], found["not_compared"]) == (False, True, [])
    assert found["file"] == str(tmp_path / "ledger" / "ledger.duckdb")

    changed(tmp_path, f"DELETE FROM bookings WHERE place = {NEWEST}")  # noqa: S608 - our own names
    without = await asyncio.to_thread(ran, tmp_path, "--verify")
    assert without.exit_code == 0, without.output
    assert "not compared: the stream: name its servers with --servers" in without.output
    result = await asyncio.to_thread(ran, tmp_path, *words)
    assert result.exit_code == 1
    [*differences] = json.loads(result.stdout)["differences"]
    assert {it["in"] for it in differences} == {"stream"}
    for it in differences:
        assert int(it["expected"]) > int(it["found"] or 0)
    said = await asyncio.to_thread(ran, tmp_path, *words[:-1])
    assert said.exit_code == 1
    assert differences[0]["session_id"] in said.output
    assert "differ" in said.output
