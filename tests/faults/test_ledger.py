"""The ledger's process is killed at exactly one line of its work, again and again, under load.

After each kill the test looks at what is on disk and at the broker, to see that it was that line.
In the end an ordinary `costs consume` books what is left, and every meter and all the money are
what the load counted.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Final

import duckdb
import pytest

from tests.support.broker import Broker
from tests.support.events import PRODUCER
from tests.support.faulty_ledger import FaultyLedger
from tests.support.load import Load, priced
from tests.support.outcome import money, say, shown
from tests.support.processes import CostsProcess
from tests.support.stream import publish, settled, standing
from tests.support.waiting import until
from voicecosts.producer.events import Batch, Event

pytestmark = pytest.mark.faults

KILLS: Final = (1, 2, 5, 9)
READINGS: Final = 4000
A_MESSAGE: Final = 4


class Place:
    """Up to where everything is, by the numbers of the stream, after a kill."""

    def __init__(self, data_dir: Path, aside: Path) -> None:
        aside.mkdir()
        for path in (data_dir / "ledger").glob("ledger.duckdb*"):
            shutil.copyfile(path, aside / path.name)
        self.booked = sequence_in(aside / "ledger.duckdb")
        self.published = sequence_in((data_dir / "costs.duckdb").resolve())


def sequence_in(database: Path) -> int:
    """Return up to which message a ledger, or a snapshot of one, has booked the stream."""
    with duckdb.connect(str(database)) as connection:
        [(sequence,)] = connection.execute("SELECT stream_sequence FROM ledger_state").fetchall()
    return int(sequence)


def parts() -> tuple[Load, list[list[Batch]]]:
    """Return a load, and its messages in as many parts as there will be ledgers."""
    events: list[Event] = []
    load = Load(events.append, sessions=40)
    load.offer(READINGS)
    load.end()
    by_agent: dict[str, list[Event]] = {}
    for event in events:
        by_agent.setdefault(load.agent(event.session_id), []).append(event)
    pieces = [
        piece
        for turn in zip_longest(*(in_pieces(its) for its in by_agent.values()))
        for piece in turn
        if piece
    ]
    made = [
        Batch(producer_id=PRODUCER, number=number, events=piece)
        for number, piece in enumerate(pieces, start=1)
    ]
    size = -(-len(made) // (len(KILLS) + 1))
    return load, [made[at : at + size] for at in range(0, len(made), size)]


def in_pieces(events: list[Event]) -> Iterator[list[Event]]:
    """Return the events of one agent by messages: each agent has a subject of its own."""
    return (events[at : at + A_MESSAGE] for at in range(0, len(events), A_MESSAGE))


Check = Callable[[Place, int, int], None]
"""Told: the place, the last message of the group in hand, and up to where all is acknowledged."""


async def killed_at(
    line: str, broker: Broker, folder: Path, check: Check, *, is_acknowledged: bool = False
) -> None:
    """Kill ledgers at a line, and let an ordinary one finish; everything is booked once."""
    data = folder / "data"
    arguments = ["consume", "--servers", broker.url, "--data-dir", str(data)]
    arguments += ["--snapshot-interval", "0.2"]
    load, offered = parts()
    waiting = list(offered)
    came_again = 0
    publishing: list[asyncio.Task[None]] = []

    def offer_more() -> None:
        publishing.append(asyncio.create_task(publish(broker.url, iter(waiting.pop(0)))))

    for at in KILLS:
        offer_more()
        killed = await asyncio.to_thread(FaultyLedger, line, at, folder, arguments)
        floor = await acknowledged(broker.url, at_least=killed.last if is_acknowledged else 0)
        place = Place(data, folder / f"after-{at}")
        check(place, killed.last, floor)
        came_again += max(0, place.booked - floor)
    offer_more()
    with CostsProcess(arguments, folder / "run") as ledger:
        await asyncio.to_thread(ledger.wait_ready)
        await asyncio.gather(*publishing)
        expected = priced(load.expected)
        await until(lambda: shown(data) == expected)
        await settled(broker.url)
        assert await asyncio.to_thread(ledger.stop) == 0, ledger.log
    assert "another reader" not in ledger.log
    assert shown(data) == expected
    say(
        f"consumer SIGKILL {line.replace('_', ' ')}, {len(KILLS)} times (at group {KILLS})",
        f"{load.offered:,} readings offered in {sum(map(len, offered)):,} messages, {came_again} "
        f"messages were booked and came again; {len(expected)} meters and {money(expected)} USD "
        "booked, as offered; lost: 0, doubled: 0",
    )


async def acknowledged(url: str, *, at_least: int) -> int:
    """Return up to which message everything is acknowledged, when the broker has come to rest."""
    before = None
    async with asyncio.timeout(30):
        while True:
            info = await standing(url)
            floor = int(info.ack_floor.stream_seq) if info.ack_floor else 0
            if floor >= at_least and (floor, info.num_ack_pending) == before:
                return floor
            before = (floor, info.num_ack_pending)
            await asyncio.sleep(0.2)


async def test_a_ledger_killed_before_commit_loses_and_doubles_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    """Nothing of the group is booked or acknowledged, and it comes again."""

    def check(place: Place, last: int, floor: int) -> None:
        assert place.booked < last
        assert floor < last

    await killed_at("before_commit", broker, tmp_path, check)


async def test_a_ledger_killed_between_two_pieces_of_a_group_loses_and_doubles_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    """What is written of the group is booked, what was worked out from it is not, and all comes again."""

    def check(place: Place, last: int, floor: int) -> None:
        assert floor < place.booked < last

    await killed_at("between_pieces", broker, tmp_path, check)


async def test_a_ledger_killed_after_commit_before_ack_loses_and_doubles_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    """The group is booked and not acknowledged: it comes again, and books nothing."""

    def check(place: Place, last: int, floor: int) -> None:
        assert place.booked == last
        assert floor < last

    await killed_at("after_commit", broker, tmp_path, check)


async def test_a_ledger_killed_between_two_acks_loses_and_doubles_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    """Half of the group is acknowledged: the other half comes again, and books nothing."""

    def check(place: Place, last: int, floor: int) -> None:
        assert place.booked == last
        assert floor < last

    await killed_at("between_acks", broker, tmp_path, check)


async def test_a_ledger_killed_between_ack_and_snapshot_loses_and_doubles_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    """The group never comes again, and readers see it when the next ledger publishes."""

    def check(place: Place, last: int, floor: int) -> None:
        assert place.booked == last == floor
        assert place.published < last

    await killed_at("between_ack_and_snapshot", broker, tmp_path, check, is_acknowledged=True)
