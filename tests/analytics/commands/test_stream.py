"""`costs stream`: what it says of a real stream and ledger, and what it removes."""

from __future__ import annotations

import json
from pathlib import Path

from msgspec.structs import replace

from tests.support.booked import consuming
from tests.support.broker import Broker
from tests.support.oracle import booked
from tests.support.processes import CostsProcess
from tests.support.stream import jetstream, publish
from tests.support.traffic import batches, bill, calls
from tests.support.waiting import until
from voicecosts.consumer.broker.connection import Waits
from voicecosts.consumer.config import LedgerConfig
from voicecosts.producer.subjects import STREAM

QUICK = Waits(group_s=0.1, answer_s=1.0)


def costs(folder: Path, *arguments: str) -> CostsProcess:
    """Run `costs stream …` to its end."""
    process = CostsProcess(["stream", *arguments], folder / "run").start()
    process.wait()
    return process


async def filled(broker: Broker, data_dir: Path) -> None:
    """Book some calls and end the ledger, which leaves a snapshot of all of them."""
    made = calls(41, 4)
    config = LedgerConfig(data_dir=data_dir, servers=(broker.url,), snapshot_interval_s=0.05)
    async with consuming(config, waits=QUICK):
        await publish(broker.url, batches(made, seed=41))
        await until(lambda: booked(data_dir) == bill(made))


async def test_it_says_how_full_the_stream_is_who_reads_it_and_what_can_go(
    broker: Broker, tmp_path: Path
) -> None:
    """One command answers what an operator asks when a stream fills."""
    data_dir = tmp_path / "d"
    await filled(broker, data_dir)
    arguments = ["--servers", broker.url, "--data-dir", str(data_dir)]
    said = costs(tmp_path, "status", *arguments, "--keep", "0").output
    assert "the stream is 0% full" in said
    assert f"in {data_dir} on host" in said
    assert "can be removed with `costs stream trim --keep 0`" in said
    found = json.loads(costs(tmp_path, "status", *arguments, "--format", "json").output)
    assert found["ledger"]["booked_to"] == found["stream"]["last"]
    assert found["reader"]["claim"]["released"] is True
    assert (found["removable"], found["ledger"]["gaps"]) == (None, [])  # all of it is young


async def test_it_trims_what_is_booked_and_nothing_else(broker: Broker, tmp_path: Path) -> None:
    """What came after the snapshot stays, and the ledger goes on without a gap."""
    data_dir = tmp_path / "d"
    await filled(broker, data_dir)
    more = calls(42, 2)
    later = [replace(batch, number=batch.number + 1000) for batch in batches(more, seed=42)]
    await publish(broker.url, later)
    arguments = ["--servers", broker.url, "--data-dir", str(data_dir), "--keep", "0"]
    trimmed = costs(tmp_path, "trim", *arguments, "--yes")
    assert "removed" in trimmed.output, trimmed.log
    async with jetstream(broker.url) as js:
        assert (await js.stream_info(STREAM)).state.messages == len(later)
    config = LedgerConfig(data_dir=data_dir, servers=(broker.url,), snapshot_interval_s=0.05)
    everything = bill([*calls(41, 4), *more])
    async with consuming(config, waits=QUICK):
        await until(lambda: booked(data_dir) == everything)
    assert "never reached" not in costs(tmp_path, "status", *arguments).output
    assert "nothing can be removed" not in costs(tmp_path, "trim", *arguments, "--yes").output
    assert "nothing can be removed" in costs(tmp_path, "trim", *arguments, "--yes").output


async def test_without_an_answer_to_its_question_it_removes_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    """A purge cannot be undone, so it is asked for."""
    await filled(broker, tmp_path / "d")
    arguments = ["--servers", broker.url, "--data-dir", str(tmp_path / "d"), "--keep", "0"]
    asked = CostsProcess(["stream", "trim", *arguments], tmp_path / "run").start()
    assert asked.wait() == 1
    assert asked.log.strip() == (
        "error: nobody answered, so nothing was changed: pass --yes where nobody can answer"
    )
    async with jetstream(broker.url) as js:
        assert (await js.stream_info(STREAM)).state.first_seq == 1


def test_credentials_that_may_not_look_are_an_error_with_the_permissions_that_lack(
    broker: Broker, tmp_path: Path
) -> None:
    """A worker's credentials see nothing, and nothing is said in the place of an answer."""
    broker.stop()
    broker.extra = (
        'authorization { users = [{ user: u, password: p, permissions: {publish: "x"}}] }'
    )
    broker.start()
    url = broker.url.replace("//", "//u:p@")
    process = costs(tmp_path, "--servers", url, "--data-dir", str(tmp_path / "d"))
    assert (process.wait(), process.output) == (1, "")
    assert process.log.startswith(
        "error: these credentials may not inspect the stream: allow them to publish to "
        "$JS.API.STREAM.INFO.COSTS and $JS.API.CONSUMER.INFO.COSTS.ledger"
    )


def test_where_nothing_runs_it_says_what_to_start(tmp_path: Path) -> None:
    """No server is named and `costs up` does not run here: no setting is wrong."""
    process = costs(tmp_path, "status", "--data-dir", str(tmp_path / "d"))
    assert process.wait() == 2
    assert process.log == (
        "error: there is no stream to ask: no servers are named, and `costs up` does not run on "
        f"{tmp_path / 'd'}. Name the servers with --servers, or start it with `costs up --data-dir "
        f"{tmp_path / 'd'}`; workers without a server use no stream, and `costs outbox status "
        f"--data-dir {tmp_path / 'd'}` shows what waits of theirs\n"
    )


def test_without_a_server_it_is_one_line(tmp_path: Path) -> None:
    """A missing address and a dead server are errors that say what to do."""
    arguments = ["--servers", "nats://127.0.0.1:1", "--data-dir", str(tmp_path / "d")]
    process = CostsProcess(["stream", "status", *arguments], tmp_path / "run").start()
    assert process.wait() == 5
    assert len(process.log.splitlines()) == 1
