"""What dead workers left: of two that could take it over, exactly one does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from tests.support import stream
from tests.support.adopter import Adopter
from tests.support.broker import Broker
from tests.support.outboxes import execute
from tests.support.outcome import assert_exact
from tests.support.publishing import orphan
from tests.support.waiting import wait_until

pytestmark = pytest.mark.faults

ORPHANS: Final = 6


def contents(path: Path) -> tuple[int, int]:
    """Return how many messages an outbox holds, and how many events."""
    [(messages, events)] = execute(path, "SELECT count(*), sum(events) FROM messages")
    return messages, events


@pytest.mark.parametrize("orphans", [1, 2, ORPHANS])
def test_an_orphan_is_adopted_by_exactly_one_of_two_processes(
    broker: Broker, tmp_path: Path, outbox: Path, orphans: int
) -> None:
    """Two workers that start at once do not both send what a dead one left."""
    # With so short a window the broker would store what is sent twice.
    asyncio.run(stream.declare(broker.url, duplicate_window=0.1))
    adopters = [Adopter(broker.url, outbox) for _ in range(2)]
    left = [orphan(outbox, broker.url) for _ in range(orphans)]
    messages, events = (sum(column) for column in zip(*(contents(p) for p, _ in left), strict=True))
    for each in adopters:
        assert each.heard() == "ready"
    for each in adopters:
        each.tell()
    wait_until(lambda: not list(outbox.glob("*.sqlite3")))
    published = [each.published() for each in adopters]

    fault = f"two processes adopting {orphans} orphan{'s' * (orphans > 1)}"
    more = f"{published[0]} and {published[1]} of {events} events sent by the two"
    loads = [load for _, load in left]
    found = asyncio.run(assert_exact(fault, broker.url, tmp_path, *loads, more=more))
    assert sum(published) == events
    assert len(found.messages) == messages
