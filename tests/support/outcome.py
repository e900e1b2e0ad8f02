"""What came of a fault: the stream's content and the ledger's books, held against the oracle.

The stream is read message by message. A real ledger books it, and is read as its readers read it.
Each comparison prints one line, so that `pytest -m faults -rP` shows what every fault has cost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

import duckdb

from tests.support import stream
from tests.support.load import Booked, Key, Load, Totals, amount_of, priced, totals
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.producer.events import Event, MeterReading, decode

_SUMS: Final = (
    "SELECT session_id::VARCHAR, model, (sum(input_tokens) + sum(audio_us))::BIGINT, sum(cost)"
    " FROM usage GROUP BY ALL"
)


class Stored:
    """What a stream holds."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages
        self.events: list[Event] = [
            event for message in messages for event in decode(message.data).events
        ]
        self.readings: list[tuple[Key, Totals]] = [
            ((event.session_id, event.model), (event.number, amount_of(event.model, event.totals)))
            for event in self.events
            if isinstance(event, MeterReading)
        ]

    @property
    def repeated(self) -> int:
        """How many readings it holds more than once."""
        return len(self.readings) - len(set(self.readings))


async def stored(url: str) -> Stored:
    """Return everything in the stream, in its order."""
    return Stored(await stream.messages(url))


def book(messages: Sequence[Message], data_dir: Path) -> Booked:
    """Let a ledger book messages, and return what its readers see."""
    with Ledger.open(data_dir, rate_by(ListPrices())) as ledger:
        for place in range(0, len(messages), 50):
            ledger.apply(messages[place : place + 50])
    return shown(data_dir)


def shown(data_dir: Path) -> Booked:
    """Return what readers of a ledger see: of every meter the amount and the money."""
    snapshot = (data_dir / "costs.duckdb").resolve()
    with contextlib.closing(
        duckdb.connect(str(snapshot), read_only=True, config={"threads": 1})
    ) as connection:
        [(refused,)] = connection.execute("SELECT count(*) FROM dead_letters").fetchall()
        assert refused == 0, connection.execute("SELECT * FROM dead_letters").fetchall()
        return {(row[0], row[1]): (row[2], row[3]) for row in connection.execute(_SUMS).fetchall()}


def money(booked: Booked) -> Decimal:
    """Return all the money."""
    return sum((cost for _, cost in booked.values() if cost is not None), Decimal(0))


async def assert_exact(
    fault: str, url: str, data_dir: Path, *loads: Load, more: str = ""
) -> Stored:
    """The stream, and a ledger that books it, show what the loads counted, to the last digit."""
    found = await stored(url)
    expected = {key: value for load in loads for key, value in load.expected.items()}
    assert totals(found.events) == expected
    assert set(found.readings) <= set().union(*(load.history for load in loads))
    booked = book(found.messages, data_dir)
    assert booked == priced(expected)
    offered, arrived = sum(load.offered for load in loads), len(set(found.readings))
    covered = f"{offered - arrived:,} covered by a later one, " if offered > arrived else ""
    say(
        fault,
        f"{offered:,} readings offered, {arrived:,} stored, {covered}"
        f"{found.repeated:,} stored twice; {len(booked)} meters and {money(booked)} USD booked, "
        f"as offered; lost: 0{more and '; '}{more}",
    )
    return found


def say(fault: str, outcome: str) -> None:
    """Print what a fault has cost."""
    print(f"{fault}: {outcome}")  # noqa: T201 - the outcome is read by people
