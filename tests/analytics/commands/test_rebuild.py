"""`costs rebuild`: what it says of a real ledger and stream."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import duckdb
from click.testing import Result
from msgspec.structs import replace
from typer.testing import CliRunner

from tests.support.booked import QUICK, consuming
from tests.support.broker import Broker
from tests.support.oracle import booked
from tests.support.processes import CostsProcess
from tests.support.stream import publish, settled
from tests.support.traffic import batches, bill, calls
from tests.support.waiting import until
from voicecosts.analytics.commands import rebuild
from voicecosts.analytics.errors import AnalyticsError, BadQuestion
from voicecosts.consumer.config import LedgerConfig
from voicecosts.consumer.errors import InvalidConfig, LedgerInUse
from voicecosts.consumer.store.layout import Layout

NEWEST = "(SELECT max(place) FROM bookings)"
A_CALL = "(SELECT min(session_id) FROM session_ends)"
STATES = "SELECT session_id, state, cause FROM completeness ORDER BY ALL"


def ran(data_dir: Path, *arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(rebuild.app, ["--data-dir", str(data_dir), *arguments])


def asked(data_dir: Path, statement: str) -> list[Any]:
    """Return what the newest snapshot answers."""
    with duckdb.connect((data_dir / "costs.duckdb").resolve(), read_only=True) as snapshot:
        return snapshot.execute(statement).fetchall()


async def process(data_dir: Path, *arguments: str) -> CostsProcess:
    """Run the command in a process of its own, to its end."""
    words = ["rebuild", "--data-dir", str(data_dir), *arguments]
    made = CostsProcess(words, data_dir.parent / "run").start()
    await asyncio.to_thread(made.wait)
    return made


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
        of_nothing = await asyncio.to_thread(ran, tmp_path, *words)
        assert json.loads(of_nothing.stdout)["not_compared"] == []
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


async def test_what_is_gone_comes_from_the_stream_and_booking_goes_on(
    broker: Broker, tmp_path: Path
) -> None:
    """A ledger that runs is refused; one that lost its last rows is whole again, and books what is new once."""
    data_dir = tmp_path / "data"
    first, more = calls(42, 4), calls(43, 3)
    config = LedgerConfig(data_dir=data_dir, servers=(broker.url,), snapshot_interval_s=0.05)
    words = ["--yes", "--servers", broker.url]
    async with consuming(config, waits=QUICK):
        await publish(broker.url, batches(first, seed=42))
        await until(lambda: booked(data_dir) == bill(first))
        refused = await asyncio.to_thread(ran, data_dir, *words)
    assert isinstance(refused.exception, LedgerInUse)
    states = asked(data_dir, STATES)
    changed(data_dir, f"DELETE FROM bookings WHERE place > {NEWEST} - 3")  # noqa: S608 - our own names
    changed(data_dir, f"DELETE FROM session_ends WHERE session_id = {A_CALL}")  # noqa: S608 - same
    done = await process(data_dir, *words)
    assert done.wait() == 0, done.log
    assert "it has taken the ledger's place; the old one is " in done.output
    assert "that it lacked came from the stream" in done.output
    assert done.output.rstrip().endswith("nothing differs")
    assert booked(data_dir) == bill(first)
    assert asked(data_dir, STATES) == states
    assert asked(data_dir, "FROM session_notes") == []
    assert asked(data_dir, "FROM dead_letters") == []
    [kept] = Layout(data_dir).kept()
    assert str(kept) in done.output.replace("\n", "")
    async with consuming(config, waits=QUICK):
        new = [replace(it, number=it.number + 1000) for it in batches(more, seed=43)]
        await publish(broker.url, new)
        await until(lambda: booked(data_dir) == bill([*first, *more]))


async def test_a_ledger_that_cannot_be_read_is_made_of_a_snapshot_and_the_stream(
    broker: Broker, tmp_path: Path
) -> None:
    """What was booked after the snapshot is read again when the ledger starts."""
    data_dir = tmp_path / "data"
    made = calls(44, 4)
    config = LedgerConfig(data_dir=data_dir, servers=(broker.url,), snapshot_interval_s=0.05)
    layout = Layout(data_dir)
    parts = list(batches(made, seed=44))
    async with consuming(config, waits=QUICK):
        await publish(broker.url, parts[: len(parts) // 2])
        await settled(broker.url)
    early = layout.current.resolve()
    aside = tmp_path / "aside"
    aside.write_bytes(early.read_bytes())
    async with consuming(config, waits=QUICK):
        await publish(broker.url, parts[len(parts) // 2 :])
        await until(lambda: booked(data_dir) == bill(made))
    for path in (*layout.snapshots().values(), layout.verified):
        path.unlink(missing_ok=True)
    aside.rename(early)
    with layout.ledger.open("r+b") as ledger:
        ledger.seek(12288)
        ledger.write(bytes(layout.ledger.stat().st_size - 12288))
    done = await process(data_dir, "--yes", "--servers", broker.url)
    assert done.wait() == 0, done.log
    assert f"it is made of {early}" in done.log
    async with consuming(config, waits=QUICK):
        await until(lambda: booked(data_dir) == bill(made))


def test_sums_are_not_made_of_rows_that_are_not_all_there(
    partly_sealed: Path, tmp_path: Path
) -> None:
    """Without being told to keep them it changes nothing, and says how to go on."""
    shutil.copytree(partly_sealed, tmp_path, symlinks=True, dirs_exist_ok=True)
    file = min(tmp_path.rglob("*.parquet"))
    whole = ran(tmp_path, "--verify").output
    [days] = re.findall(r"single rows with [\d,]+ sums of (\d+) days, and these with", whole)
    file.unlink()
    without = ran(tmp_path, "--verify").output
    assert "put 1 file of sealed days back from a backup first; then `costs rebuild" in without
    assert f" sums of {int(days) - 1} day" in without
    before = (tmp_path / "ledger" / "ledger.duckdb").read_bytes()
    refused = ran(tmp_path, "--yes")
    assert isinstance(refused.exception, AnalyticsError)
    assert file.name in str(refused.exception)
    assert "--keep-sums --data-dir" in str(refused.exception)
    assert (tmp_path / "ledger" / "ledger.duckdb").read_bytes() == before
    done = ran(tmp_path, "--yes", "--keep-sums", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["whole"], told["from_stream"], told["made_of"]) == (
        *(True, 0, str(tmp_path / "ledger" / "ledger.duckdb")),
    )
    assert Path(told["kept"]).is_file()
    assert isinstance(ran(tmp_path, "--json").exception, BadQuestion)


def test_a_directory_that_cannot_be_locked_is_named(partly_sealed: Path, tmp_path: Path) -> None:
    """As one that is mounted read-only, or with a link in place of the lock, which is not followed."""
    data_dir = Path(shutil.copytree(partly_sealed, tmp_path / "data", symlinks=True))
    lock = Layout(data_dir).lock
    lock.unlink(missing_ok=True)
    lock.symlink_to(tmp_path / "elsewhere")
    for words in (["--verify"], ["--yes"]):
        done = ran(data_dir, *words)
        assert isinstance(done.exception, InvalidConfig)
        assert f"{data_dir} cannot be used" in str(done.exception)
    assert not (tmp_path / "elsewhere").exists()
