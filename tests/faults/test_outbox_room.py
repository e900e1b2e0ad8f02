"""The outbox has no room: its own bound, or the disk. Detail goes before money, and never quietly."""

from __future__ import annotations

import asyncio
import resource
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support import stream
from tests.support.broker import Broker
from tests.support.faulty_worker import FaultyWorker
from tests.support.load import Key, Load, Totals, priced, totals
from tests.support.outcome import assert_exact, book, say, stored
from tests.support.publishing import flushed, publishing
from tests.support.waiting import until, wait_until
from voicecosts.producer.events import ProducerReport

pytestmark = pytest.mark.faults

BOUND: Final = 60_000
OWN_MOUNTS: Final = ("unshare", "--user", "--map-root-user", "--mount")
READINGS: Final = 6000


def reports(events: list[object]) -> list[ProducerReport]:
    """Return what producers say of themselves."""
    return [event for event in events if isinstance(event, ProducerReport)]


async def test_an_outbox_at_its_bound_loses_detail_and_no_total(
    tmp_path: Path, outbox: Path
) -> None:
    """At the bound older readings make way for newer ones of their meters."""
    late = Broker(tmp_path / "late")
    with publishing(late.url, outbox, outbox_max_bytes=BOUND) as publisher:
        load = Load(publisher.put, sessions=4)
        for _ in range(20):
            await load.offer_for(200, each=50)
            await until(lambda: len(publisher.buffer) == 0)
        load.end()
        await until(lambda: len(publisher.buffer) == 0)
        stats = publisher.stats()
        assert stats.coalesced > 1000
        assert stats.dropped == 0
        assert stats.outbox_bytes < 2 * BOUND
        with late:
            await stream.declare(late.url)
            await flushed(publisher)
            more = f"{stats.outbox_bytes:,} bytes on disk at a bound of {BOUND:,}"
            fault = "outbox bound reached"
            found = await assert_exact(fault, late.url, tmp_path, load, more=more)
        arrived = len(set(found.readings))
        assert reports([*found.events])[-1].coalesced == publisher.stats().coalesced
        assert arrived + publisher.stats().coalesced == load.offered
        assert reports([*found.events])[-1].dropped == 0


async def test_what_no_bound_can_hold_is_dropped_counted_and_reported(
    tmp_path: Path, outbox: Path
) -> None:
    """When every meter is a new one the oldest go, and the report says exactly how many."""
    late = Broker(tmp_path / "late")
    with publishing(late.url, outbox, outbox_max_bytes=BOUND) as publisher:
        loads = [Load(publisher.put, sessions=50) for _ in range(10)]
        for load in loads:
            load.offer(100)
            await until(lambda: len(publisher.buffer) == 0)
        with late:
            await stream.declare(late.url)
            await flushed(publisher)
            publisher.put(loads[0].reading())
            await flushed(publisher)
            found = await stored(late.url)
        stats = publisher.stats()
    said = reports([*found.events])
    arrived = len(found.events) - len(said)
    assert stats.dropped > 0
    assert arrived + stats.dropped + stats.coalesced == stats.captured == 10 * 150 + 1
    assert max(report.dropped for report in said) == stats.dropped
    shown = totals(found.events)
    expected = {key: each for load in loads for key, each in load.expected.items()}
    assert all(expected[key] == each for key, each in shown.items())
    assert book(found.messages, tmp_path / "data") == priced(shown)
    say(
        "outbox bound reached, and every meter a new one",
        f"{stats.captured:,} events offered, {arrived:,} stored, {stats.coalesced} coalesced; "
        f"lost: {stats.dropped:,}, and {stats.dropped:,} reported as dropped; "
        f"{len(shown)} meters booked as offered",
    )


async def test_a_disk_that_refuses_keeps_the_worker_running_and_is_recovered_from(
    tmp_path: Path, outbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While nothing can be written events wait in memory; then they go to disk by themselves."""
    late = Broker(tmp_path / "late")
    caplog.set_level("INFO", logger="voicecosts.producer.outbox.backlog")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with publishing(late.url, outbox) as publisher:
        load = Load(publisher.put)
        await load.offer_for(100)
        await until(lambda: publisher.stats().outbox == "on disk")
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        try:
            for _ in range(100):
                await load.offer_for(100, each=50)
                if publisher.stats().outbox == "in memory":
                    break
            assert publisher.stats().outbox == "in memory"
            await load.offer_for(2000, each=50)
            waited = publisher.stats().waiting
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        load.end()
        await until(lambda: publisher.stats().outbox == "on disk")
        with late:
            await stream.declare(late.url)
            await flushed(publisher)
            more = f"{waited:,} events waited while no file could grow"
            await assert_exact("disk refuses the outbox", late.url, tmp_path, load, more=more)
    said = [record for record in caplog.records if "cannot be used" in record.getMessage()]
    assert len(said) == 1


def test_a_full_disk_costs_nothing(tmp_path: Path, outbox: Path) -> None:
    """On a real file system without space (ENOSPC) events wait in memory until the broker is there."""
    if subprocess.run([*OWN_MOUNTS, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a file system of its own needs user namespaces")
    outbox.mkdir()
    mount = f'mount -t tmpfs -o size=256k tmpfs "{outbox}" && exec "$@"'
    broker = Broker(tmp_path / "late")
    options = ("--readings", str(READINGS), "--end", "--flush-timeout", "60")
    within = (*OWN_MOUNTS, "sh", "-c", mount, "sh")
    worker = FaultyWorker(broker.url, outbox, tmp_path / "diary", *options, within=within)
    wait_until(lambda: "in memory" in worker.states())
    full_at = sum(line[0] == "reading" for line in worker.lines())
    wait_until(lambda: sum(line[0] == "reading" for line in worker.lines()) == READINGS)
    with broker:
        asyncio.run(stream.declare(broker.url))
        log = worker.finish(deadline_s=90)
        assert worker.process.returncode == 0, log
        found = asyncio.run(stored(broker.url))
    assert "database or disk is full" in log
    assert "are lost" not in log

    expected: dict[Key, Totals] = {}
    for kind, *fields in worker.lines():
        if kind == "reading":
            expected[fields[0], fields[1]] = (fields[2], fields[3])
    amounts = {key: amount for key, (_, amount) in totals(found.events).items()}
    assert amounts == {key: amount for key, (_, amount) in expected.items()}
    assert book(found.messages, tmp_path / "data") == priced(expected)
    assert max((report.dropped for report in reports([*found.events])), default=0) == 0
    arrived = len(set(found.readings))
    say(
        "disk full at the outbox (ENOSPC)",
        f"{READINGS:,} readings offered, the disk full from about the {full_at:,}th; {arrived:,} "
        f"stored, {READINGS - arrived:,} covered by a later one, {len(expected)} meters booked as offered; lost: 0",
    )


async def test_a_folder_that_cannot_be_written_is_said_once_and_costs_nothing(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without an outbox the worker publishes from memory, as if there were none."""
    (tmp_path / "file").write_text("this is not a folder")
    await stream.declare(broker.url)
    with publishing(broker.url, tmp_path / "file" / "outbox") as publisher:
        load = Load(publisher.put)
        await load.offer_for(1000)
        load.end()
        await flushed(publisher)
        assert publisher.stats().outbox == "in memory"
        await assert_exact("no outbox can be made", broker.url, tmp_path / "data", load)
    assert len([r for r in caplog.records if "cannot be used" in r.getMessage()]) == 1
