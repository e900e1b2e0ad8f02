"""Fuzzed outboxes: bytes flipped, pages overwritten, files cut off, in the file and in its log.

A damaged outbox may have lost readings, and nobody can say which. It never blocks a start, never
books a number that was not offered, and no session with a gap in it is called complete.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import duckdb
import pytest

from tests.support import stream
from tests.support.broker import Broker
from tests.support.load import Booked, Load, priced, totals
from tests.support.outcome import book, say, stored
from tests.support.publishing import files, flushed, orphan, publishing
from tests.support.waiting import until

pytestmark = pytest.mark.faults

FUZZED: Final = 30
READINGS: Final = 400
PAGE: Final = 4096

Harm = Callable[[bytearray, random.Random], None]


def bytes_flipped(data: bytearray, chance: random.Random) -> None:
    """Flip some bytes anywhere."""
    for _ in range(chance.choice([1, 8, 64])):
        data[chance.randrange(len(data))] ^= chance.randrange(1, 256)


def page_overwritten(data: bytearray, chance: random.Random) -> None:
    """Spoil as much as a page, anywhere."""
    start = chance.randrange(max(1, len(data) - PAGE))
    data[start : start + PAGE] = chance.randbytes(PAGE)


def truncated(data: bytearray, chance: random.Random) -> None:
    """Cut the file off anywhere."""
    del data[chance.randrange(len(data)) :]


def garbage(data: bytearray, chance: random.Random) -> None:
    """Leave nothing of it."""
    data[:] = chance.randbytes(len(data))


def fuzzed(outbox: Path, url: str, harm: Harm, seed: int) -> Load:
    """Leave an outbox behind, do harm to one of its files, and return what was in it.

    Of a process that ended in order there is one file; a killed one leaves its log beside it.
    """
    chance = random.Random(seed)  # noqa: S311 - the same for the same seed
    is_killed = chance.random() < 0.5
    path, load = orphan(outbox, url, readings=READINGS, is_killed=is_killed)
    log = path.with_name(path.name + "-wal")
    victims = [path, log] if is_killed and harm is garbage else [chance.choice([path, log])]
    for victim in victims if is_killed else [path]:
        data = bytearray(victim.read_bytes())
        harm(data, chance)
        victim.write_bytes(data)
    return load


@pytest.mark.parametrize("harm", [bytes_flipped, page_overwritten, truncated, garbage])
async def test_a_corrupted_outbox_never_books_a_wrong_number(
    broker: Broker, tmp_path: Path, outbox: Path, harm: Harm
) -> None:
    """What can be read of damaged files is published as it was offered, the rest is not invented."""
    await stream.declare(broker.url)
    loads = [fuzzed(outbox, broker.url, harm, seed) for seed in range(FUZZED)]
    with publishing(broker.url, outbox) as publisher:
        own = Load(publisher.put)
        await own.offer_for(50)
        own.end()
        await until(lambda: is_worked_off(outbox, publisher.producer_id), deadline_s=90)
        await flushed(publisher)
    found = await stored(broker.url)

    loads.append(own)
    offered = set().union(*(load.history for load in loads))
    expected = {key: each for load in loads for key, each in load.expected.items()}
    last = totals(found.events)
    assert set(found.readings) <= offered  # nothing that was never offered
    assert all((key, each) in offered or expected[key] == each for key, each in last.items())
    assert own.expected.items() <= last.items()  # the worker itself has lost nothing
    booked = book(found.messages, tmp_path / "data")
    assert booked == priced(last)
    whole = whole_sessions(tmp_path / "data")
    assert_whole(whole, booked, priced(expected))
    recovered = len(set(found.readings)) - own.offered
    assert recovered > 0 or harm is garbage
    aside = sum(name.endswith(".damaged") for name in files(outbox))
    say(
        f"corrupted outbox, {harm.__name__.replace('_', ' ')}",
        f"{FUZZED} damaged files with {FUZZED * READINGS:,} readings: {recovered:,} recovered, "
        f"0 wrong; {aside} files set aside; of "
        f"{sum(len(load.sessions) for load in loads)} sessions {len(whole)} are called whole, and "
        f"are; the adopting worker's own {own.offered} readings: all booked",
    )


def is_worked_off(outbox: Path, producer_id: str) -> bool:
    """Tell whether every file of others is published or set aside."""
    return all(f"-{producer_id}." in path.name for path in outbox.glob("*.sqlite3"))


def whole_sessions(data_dir: Path) -> set[str]:
    """Return the sessions of which the ledger says that nothing is missing."""
    with duckdb.connect(
        str(data_dir / "costs.duckdb"), read_only=True, config={"threads": 1}
    ) as connection:
        rows = connection.execute(
            "SELECT session_id::VARCHAR FROM completeness WHERE state IN ('complete', 'repaired')"
        ).fetchall()
    return {row[0] for row in rows}


def assert_whole(sessions: set[str], booked: Booked, expected: Booked) -> None:
    """Of these sessions every meter shows what was offered, to the last digit."""
    for key, shown in expected.items():
        if key[0] in sessions:
            assert booked[key] == shown
