"""The broker is absent, dies, stands still: every reading arrives, and is booked once.

Where the ledger has a part in it, a real `costs consume` reads the stream through the accident.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support import stream
from tests.support.broker import Broker
from tests.support.load import Load, priced
from tests.support.outcome import assert_exact, shown
from tests.support.processes import CostsProcess
from tests.support.publishing import files, flushed, publishing
from tests.support.waiting import until
from voicecosts.producer.outbox.late import NAME
from voicecosts.producer.publishing.publisher import Publisher

pytestmark = pytest.mark.faults

STOPPED_S: Final = 8.0


@contextlib.contextmanager
def ledger(url: str, folder: Path) -> Iterator[CostsProcess]:
    """`costs consume`, which publishes a snapshot as often as it may; ended in order."""
    arguments = ["consume", "--servers", url, "--data-dir", str(folder / "data")]
    with CostsProcess([*arguments, "--snapshot-interval", "0.2"], folder / "ledger") as process:
        yield process.wait_ready()
        assert process.stop() == 0, process.log


async def ended_exactly(
    fault: str, url: str, folder: Path, publisher: Publisher, load: Load
) -> None:
    """End the load; the stream and the ledger that was there all the while show all of it."""
    load.end()
    await flushed(publisher)
    expected = priced(load.expected)
    await until(lambda: shown(folder / "data") == expected)
    retried = publisher.stats().retried
    more = f"{retried} sendings unanswered; `costs consume` was there and shows the same"
    await assert_exact(fault, url, folder / "again", load, more=more)


async def test_a_broker_that_is_absent_at_the_start_gets_everything(
    tmp_path: Path, outbox: Path
) -> None:
    """What is captured before there is a server waits on disk, and nothing of it is lost."""
    late = Broker(tmp_path / "late")
    with publishing(late.url, outbox) as publisher:
        load = Load(publisher.put)
        await load.offer_for(2000)
        load.end()
        await until(lambda: publisher.stats().outbox_rows > 0 and len(publisher.buffer) == 0)
        waited = publisher.stats().outbox_rows
        with late:
            await stream.declare(late.url)
            await flushed(publisher)
            assert publisher.stats().outbox_rows == 0
            more = f"{waited} messages waited on disk"
            await assert_exact("broker absent at start", late.url, tmp_path, load, more=more)
    assert set(files(outbox)) <= {NAME}  # it may have waited for more than ten seconds


async def test_a_broker_that_is_killed_twice_in_mid_run_costs_nothing(
    broker: Broker, tmp_path: Path, outbox: Path
) -> None:
    """What was in flight at a crash is sent again under the same id, and booked once."""
    with ledger(broker.url, tmp_path), publishing(broker.url, outbox) as publisher:
        load = Load(publisher.put)
        async with load.going_on():
            for _ in range(2):
                published = publisher.stats().published
                await until(lambda before=published: publisher.stats().published > before + 300)  # type: ignore[misc]  # a lambda in a loop
                broker.kill()
                retried = publisher.stats().retried
                await until(lambda before=retried: publisher.stats().retried > before)  # type: ignore[misc]  # same
                broker.start()
            published = publisher.stats().published
            await until(lambda: publisher.stats().published > published)
        fault = "broker SIGKILL twice in mid-run"
        await ended_exactly(fault, broker.url, tmp_path, publisher, load)


async def test_a_broker_that_stands_still_for_eight_seconds_costs_nothing(
    broker: Broker, tmp_path: Path, outbox: Path
) -> None:
    """A stopped server keeps its sockets open and answers nothing; the disk takes what comes."""
    with ledger(broker.url, tmp_path), publishing(broker.url, outbox) as publisher:
        load = Load(publisher.put)
        async with load.going_on():
            await until(lambda: publisher.stats().published > 300)
            before = load.offered
            broker.send(signal.SIGSTOP)
            stopped_at = time.monotonic()
            try:
                await asyncio.sleep(STOPPED_S)  # the length of the fault
                # A stalled server is noticed from outside; a slow machine may need longer for that.
                await until(lambda: publisher.stats().connection != "connected")
                assert publisher.stats().outbox == "on disk"
            finally:
                broker.send(signal.SIGCONT)
            stood_s = time.monotonic() - stopped_at
            during = load.offered - before
            published = publisher.stats().published
            await until(lambda: publisher.stats().published > published)
        assert stood_s >= STOPPED_S  # it was the fault that its name says
        fault = f"broker SIGSTOP {stood_s:.0f} s ({during:,} readings meanwhile)"
        await ended_exactly(fault, broker.url, tmp_path, publisher, load)


async def test_a_stream_that_is_missing_is_waited_for(
    broker: Broker, tmp_path: Path, outbox: Path
) -> None:
    """A server without the stream is no reason to lose anything."""
    with publishing(broker.url, outbox) as publisher:
        load = Load(publisher.put)
        await load.offer_for(1000)
        await until(lambda: "no stream" in publisher.stats().connection_problem)
        await load.offer_for(200)
        retried = publisher.stats().retried
        await stream.declare(broker.url)
        load.end()
        await flushed(publisher)
        assert publisher.stats().connection == "connected"
        more = f"{retried} sendings refused before"
        await assert_exact("stream missing", broker.url, tmp_path, load, more=more)
