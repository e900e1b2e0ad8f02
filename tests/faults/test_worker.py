"""The worker is killed, or is gone before anybody looks: how much of it does not arrive.

What a killed process had not handed to its outbox is lost, and that is all that may be lost. Each
test prints how much it was.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Final

import duckdb
import pytest

from tests.support import stream
from tests.support.broker import Broker
from tests.support.faulty_worker import FaultyWorker
from tests.support.load import Key, Totals, priced, totals
from tests.support.loss import loss
from tests.support.outcome import Stored, book, say, stored
from tests.support.processes import ROOT
from tests.support.publishing import adopted, files
from tests.support.waiting import wait_until
from voicecosts.producer.events import SessionEnded

pytestmark = pytest.mark.faults

WORKERS: Final = 3
CALLS: Final = 20
SHORT_WINDOW: Final = {"duplicate_window": 0.1}
"""So short that the broker does not hide what is sent twice: booking it once is our own doing."""


def check_loss(fault: str, workers: list[FaultyWorker], found: Stored, data_dir: Path) -> None:
    """Nothing is missing but the last linger of each, and what is there is booked exactly."""
    last: dict[Key, Totals] = {}
    arrived = set(found.readings)
    losses = []
    for worker in workers:
        diary = worker.lines()
        losses.append(loss(diary, found))
        for kind, *fields in diary:
            if kind == "reading":
                key, shown = (fields[0], fields[1]), (fields[2], fields[3])
                if (key, shown) in arrived:
                    last[key] = shown
                    arrived.discard((key, shown))
    assert not arrived, "nothing else may be in the stream"
    assert totals(found.events) == last
    booked = book(found.messages, data_dir)
    assert booked == priced(last)
    for each in losses:
        say(fault, str(each))
    say(fault, f"{found.repeated:,} readings stored twice, booked once")


@pytest.mark.parametrize("is_up", [True, False], ids=["broker up", "broker down"])
def test_a_killed_worker_loses_only_what_it_had_not_handed_over(
    broker: Broker, tmp_path: Path, outbox: Path, *, is_up: bool
) -> None:
    """What is in the outboxes of killed workers is published by the next one."""
    asyncio.run(stream.declare(broker.url, **SHORT_WINDOW))
    if not is_up:
        broker.kill()
    workers = [
        FaultyWorker(broker.url, outbox, tmp_path / f"diary-{number}") for number in range(WORKERS)
    ]
    # All are at work before the first one dies: one that only begins would adopt its outbox.
    wait_until(lambda: all(worker.kept() > 300 for worker in workers))
    for worker in workers:
        worker.kill()
    left = [name for name in files(outbox) if name.endswith(".sqlite3")]
    assert len(left) == WORKERS
    if not is_up:
        broker.start()

    asyncio.run(adopted(broker.url, outbox))
    found = asyncio.run(stored(broker.url))
    fault = f"worker SIGKILL, broker {'up' if is_up else 'down'}"
    check_loss(fault, workers, found, tmp_path / "data")


@pytest.mark.parametrize("write", [2, 3, 5, 8])
def test_a_worker_killed_in_the_middle_of_an_outbox_write_leaves_a_whole_outbox(
    broker: Broker, tmp_path: Path, outbox: Path, write: int
) -> None:
    """A torn write is none: what was committed before it is published, and nothing else."""
    asyncio.run(stream.declare(broker.url, **SHORT_WINDOW))
    broker.kill()
    worker = FaultyWorker(broker.url, outbox, tmp_path / "diary", "--die-in-write", str(write))
    log = worker.finish()
    assert worker.process.returncode == -signal.SIGKILL, log
    [(in_transaction, written)] = [line[1:] for line in worker.lines() if line[0] == "dying"]
    assert in_transaction
    assert written > 0
    broker.start()

    asyncio.run(adopted(broker.url, outbox))
    found = asyncio.run(stored(broker.url))
    fault = f"worker SIGKILL in the middle of outbox write {write}"
    check_loss(fault, [worker], found, tmp_path / "data")


@pytest.mark.parametrize("window", [1, 3])
def test_what_a_killed_worker_had_sent_and_not_forgotten_is_booked_once(
    broker: Broker, tmp_path: Path, outbox: Path, window: int
) -> None:
    """Killed between JetStream's acknowledgement and the outbox, its messages are sent again."""
    asyncio.run(stream.declare(broker.url, **SHORT_WINDOW))
    worker = FaultyWorker(
        broker.url, outbox, tmp_path / "diary", "--die-before-forgetting", str(window)
    )
    log = worker.finish()
    assert worker.process.returncode == -signal.SIGKILL, log

    time.sleep(5 * SHORT_WINDOW["duplicate_window"])  # the broker's memory has to end first
    asyncio.run(adopted(broker.url, outbox))
    found = asyncio.run(stored(broker.url))
    assert found.repeated > 0
    fault = f"worker SIGKILL between ack and outbox, window {window}"
    check_loss(fault, [worker], found, tmp_path / "data")


@pytest.mark.parametrize("is_up", [True, False], ids=["broker up", "broker down"])
def test_a_process_that_exits_50_ms_after_the_close_event_loses_nothing(
    broker: Broker, tmp_path: Path, outbox: Path, *, is_up: bool
) -> None:
    """The process ends right after its last call; that is still an end in order."""
    asyncio.run(stream.declare(broker.url))
    if not is_up:
        broker.kill()
    arguments = ["-m", "tests.support.brief_call", broker.url, str(outbox), str(CALLS)]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert "are lost" not in done.stderr
    waiting = [name for name in files(outbox) if name.endswith(".sqlite3")]
    if not is_up:
        assert len(waiting) == 1
        broker.start()
        asyncio.run(adopted(broker.url, outbox))
    else:
        assert waiting == []

    found = asyncio.run(stored(broker.url))
    bills = json.loads(done.stdout)
    assert len(bills) == CALLS
    data = tmp_path / "data"
    book(found.messages, data)
    assert by_tenant(data) == {
        tenant: (
            *(bill[name] for name in ("requests", "input_tokens", "output_tokens")),
            # What was read from the cache is part of the input, and cheaper.
            (bill["input_tokens"] - bill["cache_read_input_tokens"]) * Decimal("0.40e-6")
            + bill["cache_read_input_tokens"] * Decimal("0.10e-6")
            + bill["output_tokens"] * Decimal("1.60e-6"),
        )
        for tenant, bill in bills.items()
    }
    ends = sum(isinstance(event, SessionEnded) for event in found.events)
    assert ends == CALLS
    requests = sum(bill["requests"] for bill in bills.values())
    say(
        f"process exit 50 ms after the close event, broker {'up' if is_up else 'down'}",
        f"{CALLS} calls of {requests} requests billed by the provider, {ends} ends and all "
        f"{requests} requests booked, money as billed; lost: 0",
    )


def by_tenant(data_dir: Path) -> dict[str, tuple[int, int, int, Decimal]]:
    """Return by tenant what readers see: requests, tokens in and out, money."""
    with duckdb.connect(
        str(data_dir / "costs.duckdb"), read_only=True, config={"threads": 1}
    ) as connection:
        rows = connection.execute(
            "SELECT tenant, sum(requests)::INT, sum(input_tokens)::INT, sum(output_tokens)::INT,"
            " sum(cost) FROM usage GROUP BY ALL"
        ).fetchall()
    return {row[0]: row[1:] for row in rows}
