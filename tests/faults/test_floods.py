"""One project floods, or sends what kills: other projects' calls are booked, and no loop is endless."""

from __future__ import annotations

import resource
import signal
import subprocess
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Final

import duckdb
import pytest

from tests.support.booked import ledger
from tests.support.broker import Broker
from tests.support.deadly_ledger import BODY
from tests.support.events import SUBJECT, message, reading
from tests.support.flood import SUBJECT as FLOOD
from tests.support.flood import large_ends
from tests.support.processes import CostsProcess, program
from tests.support.raw_wire import RawMessage, raw_publisher
from tests.support.stream import settled
from tests.support.waiting import until
from voicecosts import connect, query
from voicecosts.consumer.store.folding import FOLD_ROWS

pytestmark = pytest.mark.faults

MEMORY: Final = 2**30
CALLS: Final = 20


def calls() -> Iterator[RawMessage]:
    """Yield the readings of calls of another project than the one that floods."""
    for number in range(1, CALLS + 1):
        data = message(number, reading(1, of=number, input_tokens=5), number=number).data
        yield RawMessage(SUBJECT.encode(), data)


FLOODS: Final = {
    "ends of a thousand meters": lambda: large_ends(24_000_000),
    "messages of one byte": lambda: repeat(RawMessage(FLOOD, b"x"), 40_000),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_fits_into_a_gigabyte(flood: str, broker: Broker, tmp_path: Path) -> None:
    """What one project floods the stream with is read within 1 GB, and the calls behind it are booked.

    All the memory that the process may ask for is bounded, which is more than it uses.
    """
    data = tmp_path / "data"
    async with ledger(broker.url, data):  # declares the stream
        pass
    with raw_publisher(broker.url) as publisher:
        for part in chain(FLOODS[flood](), calls()):
            publisher.send(part)
    arguments = ["consume", "--servers", broker.url, "--data-dir", str(data)]
    with CostsProcess(arguments, tmp_path / "run") as consume:
        resource.prlimit(consume.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
        consume.wait_ready()
        await settled(broker.url, deadline_s=200)
        assert not consume.ended(), consume.log
        assert consume.stop(signal.SIGTERM) == 0, consume.log
    assert query(where=("project=prod",), data_dir=data).total.sessions == CALLS


async def test_a_million_rows_are_added_up_within_a_gigabyte(
    broker: Broker, tmp_path: Path
) -> None:
    """However many rows wait, and however many meters a call has, adding up takes no more memory."""
    data = tmp_path / "data"
    async with ledger(broker.url, data):
        with raw_publisher(broker.url) as publisher:
            for part in large_ends(2_000_000):
                publisher.send(part)
        await settled(broker.url)
    calls = multiplied(data, 26)
    arguments = ["consume", "--servers", broker.url, "--data-dir", str(data)]
    arguments += ["--snapshot-bytes-per-day", str(10**13)]  # it is seen in snapshots
    with CostsProcess(arguments, tmp_path / "run") as consume:
        resource.prlimit(consume.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
        await until(lambda: consume.ended() or kept(data) == calls, deadline_s=200)
        assert not consume.ended(), consume.log
        assert consume.stop(signal.SIGTERM) == 0, consume.log
    assert "not added up" not in consume.log
    assert query(data_dir=data).total.sessions == calls


async def test_no_loop_of_deaths_is_endless(broker: Broker, tmp_path: Path) -> None:
    """A message that kills the ledger is found, kept as a dead letter and stepped over.

    Each start takes half as many messages; those beside the deadly one are all booked.
    """
    data = tmp_path / "data"
    async with ledger(broker.url, data):  # declares the stream
        pass
    with raw_publisher(broker.url) as publisher:
        made = list(calls())
        for part in (*made[:7], RawMessage(FLOOD, BODY), *made[7:]):
            publisher.send(part)
    starts = 1
    while not await booked_all(broker, data, tmp_path / "log"):
        starts += 1
        assert starts < 10
    with connect(data) as reader:
        letters = reader.execute("SELECT subject, reason FROM dead_letters").fetchall()
    assert letters == [(FLOOD.decode(), "deadly")]
    assert "message 8 of stream COSTS is set aside" in (tmp_path / "log").read_text()


async def booked_all(broker: Broker, data: Path, log: Path) -> bool:
    """Run the ledger until it dies of the message, or has booked every call and is ended."""
    arguments = ["consume", "--servers", broker.url, "--data-dir", data]
    with log.open("wb") as file:
        process = program("deadly_ledger", *arguments, stdin=subprocess.DEVNULL, stderr=file)
    try:
        await until(lambda: process.poll() is not None or shown(data) == CALLS)
        is_alive = process.poll() is None
        process.terminate()
        assert process.wait(60) == (0 if is_alive else -signal.SIGKILL)
    finally:
        process.kill()
        process.wait(60)
    return is_alive


def shown(data: Path) -> int:
    """Return how many sessions readers see."""
    return query(data_dir=data).total.sessions


def multiplied(data: Path, copies: int) -> int:
    """Make so many of each call in a ledger, which ended an hour ago; return how many calls it has."""
    with duckdb.connect(data / "ledger" / "ledger.duckdb") as file:
        for table in ("bookings", "session_ends", "session_identities", "pending_sessions"):
            file.execute(
                """
                CREATE TEMP TABLE copies AS
                SELECT * EXCLUDE (copy) REPLACE (
                    (left(session_id::VARCHAR, 32) || printf('%04x', copy))::UUID AS session_id
                )
                FROM query_table($1), range($2) AS numbers (copy)
                """,
                [table, copies],
            )
            file.execute(f"TRUNCATE {table}")
            file.execute(f"INSERT INTO {table} SELECT * FROM copies ORDER BY session_id")  # noqa: S608
            file.execute("DROP TABLE copies")
        file.execute("UPDATE session_ends SET received_at = received_at - INTERVAL 1 HOUR")
        file.execute("UPDATE bookings SET place = rowid + 1")
        rows, calls = file.execute(
            "SELECT count(*), count(DISTINCT session_id) FROM bookings"
        ).fetchone() or (0, 0)
    assert rows > 10 * FOLD_ROWS >= 1_000_000
    return int(calls)


def kept(data: Path) -> int:
    """Return how many sessions are settled in the last snapshot."""
    with connect(data) as reader:
        [(count,)] = reader.execute("SELECT count(*) FROM settled_sessions").fetchall()
    return int(count)
