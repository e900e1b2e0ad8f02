"""A ledger that reads a stream, stopped: whoever opens it in between, what waits there stays unknown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.booked import consuming
from tests.support.broker import Broker
from tests.support.outboxes import orphan
from tests.support.processes import CostsProcess
from tests.support.stream import publish, settled
from tests.support.traffic import batches, calls
from voicecosts import query
from voicecosts.analytics.answers.report import Report, Source
from voicecosts.analytics.commands import dead_letters
from voicecosts.consumer.broker.connection import Waits
from voicecosts.consumer.config import LedgerConfig
from voicecosts.consumer.consume import consume
from voicecosts.consumer.errors import AnotherStream
from voicecosts.producer.outbox.packing import Packer
from voicecosts.producer.outbox.row import EMBEDDED

QUICK = Waits(group_s=0.1, answer_s=2.0)
PARTS = list(batches(calls(61, 4), seed=61))


def requeue(home: Path) -> None:
    """Ask for dead letters, of which there are none."""
    done = CliRunner().invoke(dead_letters.app, ["requeue", "--all", "--data-dir", str(home)])
    assert done.exit_code == 0, done.output


def purge(home: Path) -> None:
    """Give all of none up."""
    arguments = ["purge", "--all", "--yes", "--data-dir", str(home)]
    done = CliRunner().invoke(dead_letters.app, arguments)
    assert done.exit_code == 0, done.output


def book_a_call_without_a_server(home: Path) -> None:
    """A worker of this host has no server, and its call is booked by the next question."""
    events = [event for call in calls(62, 1) for event in call.events]
    orphan(home / "outbox", "worker", Packer("worker").pack(events), destination=EMBEDDED)
    before = query(data_dir=home).total.sessions
    assert before == 5


@pytest.fixture
async def stopped(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, str]:
    """A ledger that has ended, and messages that came to its stream afterwards."""
    home = tmp_path / "home"
    monkeypatch.delenv("COSTS_OUTBOX_DIR")
    config = LedgerConfig(data_dir=home, servers=(broker.url,), snapshot_interval_s=0.05)
    async with consuming(config, waits=QUICK):
        await publish(broker.url, PARTS)
        await settled(broker.url)
    await publish(broker.url, list(batches(calls(63, 1), seed=63)))
    return home, broker.url


def of_the_ledger(report: Report) -> list[str]:
    """What an answer says of the ledger itself."""
    return [it.text for it in report.completeness.findings if it.source is Source.LEDGER]


@pytest.mark.parametrize("open_it", [requeue, purge, book_a_call_without_a_server])
def test_what_waits_in_the_stream_is_unknown_whoever_opened_the_ledger(
    stopped: tuple[Path, str], open_it: Callable[[Path], None]
) -> None:
    """Neither an operator's command nor the outbox of this host stands for the stream."""
    home, url = stopped
    before = query(data_dir=home)
    open_it(home)
    after = query(data_dir=home)
    again = query(data_dir=home)
    assert before.as_of == after.as_of == again.as_of
    for report in (before, after, again):
        assert report.completeness.whole is not True
        [said] = of_the_ledger(report)
        assert said == (
            "the ledger is not running and books nothing new: start it with "
            f"`costs consume --servers {url} --data-dir {home}`"
        )
    audit = CostsProcess(["audit", "--strict", "--data-dir", str(home)], home.parent / "run")
    assert audit.start().wait() == 1
    assert "no usage is missing" not in audit.output


async def test_a_ledger_goes_on_with_its_own_stream_unless_it_is_told_to_leave_it(
    stopped: tuple[Path, str],
) -> None:
    """`costs up` on the ledger of `costs consume` would give up what waits: refused, with the option."""
    home, url = stopped
    up = ["up", "--snapshot-interval", "0.1", "--data-dir", str(home)]
    with CostsProcess(up, home.parent / "run") as refused:
        assert refused.wait() == 2
        assert f"The ledger in {home} reads the stream of `costs consume`" in refused.log
        assert f"`costs up --new-stream --data-dir {home}`" in refused.log
    assert json.loads((home / "ledger.json").read_text())["run_by"]["servers"] == [url]
    with CostsProcess([*up, "--new-stream"], home.parent / "run") as leaving:
        leaving.wait_ready()
        assert leaving.stop() == 0
    [said] = of_the_ledger(query(data_dir=home))
    assert said.endswith(f"start it with `costs up --data-dir {home}`")
    assert query(data_dir=home).completeness.gaps != ()


async def test_the_way_back_is_refused_alike(tmp_path: Path, broker: Broker) -> None:
    """A ledger with a broker of its own is not moved to another one by chance."""
    servers = (broker.url,)
    config = LedgerConfig(data_dir=tmp_path, servers=servers, own_broker=True)
    async with consuming(config, waits=QUICK):
        await publish(broker.url, PARTS[:1])
        await settled(broker.url)
    other = LedgerConfig(data_dir=tmp_path, servers=servers)
    with pytest.raises(AnotherStream, match="`costs consume --new-stream`"):
        await consume(other, asyncio.Event(), waits=QUICK)
