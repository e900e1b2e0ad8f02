"""Accidents: a ledger that has no room, and readers that never wait for it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import IO, Final

import duckdb
import pytest

from tests.support.oracle import booked, count, expected, rate
from tests.support.processes import program
from tests.support.traffic import Traffic, traffic
from voicecosts.consumer.errors import LedgerClosed, LedgerWriteFailed
from voicecosts.consumer.store.ledger import Ledger

GROUP: Final = 3


def start(folder: Path, seed: int, *options: object) -> subprocess.Popen[str]:
    """Start a ledger that applies the traffic of a seed."""
    return program("ledger_process", folder, seed, *options, stdout=subprocess.PIPE)


def lines(process: subprocess.Popen[str]) -> IO[str]:
    """Return what the ledger says."""
    assert process.stdout is not None
    return process.stdout


def acked(said: str, before: int) -> int:
    """Return up to which message everything is acknowledged after a line of output."""
    word, _, number = said.strip().partition(" ")
    return int(number) if word == "acked" else before


def check_whole(folder: Path, day: Traffic) -> None:
    """Compare a ledger with the traffic that it was given: nothing twice, nothing missing."""
    snapshot = folder / "costs.duckdb"
    assert booked(snapshot) == expected(day.events)
    assert count(snapshot, "session_starts") == day.calls
    assert count(snapshot, "dead_letters") == day.dead_letters
    assert count(snapshot, "producer_reports") == 5


@pytest.mark.parametrize("interval_s", [0, 1000], ids=["while publishing", "while booking"])
def test_a_full_disk_stops_the_ledger_loudly_and_costs_nothing(
    tmp_path: Path, interval_s: int
) -> None:
    """Without room the ledger stops before it acknowledges; with room again it goes on exactly."""
    day = traffic(5)
    options = ["--group", GROUP, "--max-file-bytes", 60_000, "--interval-s", interval_s]
    with start(tmp_path, 5, *options) as process:
        said = lines(process).read().splitlines()
        assert process.wait(60) == 3
    assert said[-1] in ("failed LedgerDiskFull", "failed SnapshotFailed")
    done = acked(said[-2], 0)
    assert 0 < done < len(day.messages)

    with Ledger.open(tmp_path, rate) as ledger:
        for place in range(done, len(day.messages), 50):
            ledger.apply(day.messages[place : place + 50])
    check_whole(tmp_path, day)


def test_after_a_failed_write_the_ledger_must_be_opened_anew(tmp_path: Path) -> None:
    """Only the file knows what of a failed write is in it, so nothing is booked on a guess."""
    day = traffic(6, calls=3)
    with Ledger.open(tmp_path, rate) as ledger:
        ledger._connection.execute("ALTER TABLE bookings RENAME TO hidden")
        with pytest.raises(LedgerWriteFailed, match="messages stay in the stream"):
            ledger.apply(day.messages)
        ledger._connection.execute("ALTER TABLE hidden RENAME TO bookings")
        with pytest.raises(LedgerClosed, match="it failed"):
            ledger.apply(day.messages)
        with pytest.raises(LedgerClosed, match="it failed"):
            ledger.publish_if_due()
    with Ledger.open(tmp_path, rate) as ledger:
        ledger.apply(day.messages)
    check_whole(tmp_path, day)


def test_readers_never_fail_while_the_ledger_writes(tmp_path: Path) -> None:
    """Opening the newest snapshot works at every moment, and an open one stays what it was."""
    link = tmp_path / "costs.duckdb"
    seen: set[int] = set()
    with start(tmp_path, 9, "--group", 1, "--rounds", 20) as process:
        assert lines(process).readline() == "open\n"
        with duckdb.connect(link.resolve(), read_only=True, config={"threads": 1}) as held:
            first = snapshot_number(held)
            while len(seen) < 12:
                with duckdb.connect(link, read_only=True, config={"threads": 1}) as connection:
                    seen.add(snapshot_number(connection))
                    assert len(connection.table("usage")) >= len(held.table("usage"))
                assert snapshot_number(held) == first
        assert process.poll() is None, "the ledger must have been writing all the while"
        process.terminate()
    assert max(seen) > first


def snapshot_number(connection: duckdb.DuckDBPyConnection) -> int:
    """Return which snapshot a reader has open."""
    [(number,)] = connection.execute("SELECT snapshot FROM ledger_state").fetchall()
    return int(number)
