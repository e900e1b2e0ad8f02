"""Damage that SQLite does not see, or not for what it is: it is noticed, counted and got over.

That no damage books a wrong number is for `test_corruption` to see.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support import stream
from tests.support.broker import Broker
from tests.support.outboxes import execute
from tests.support.outcome import Stored, stored
from tests.support.publishing import orphan, publishing
from tests.support.waiting import until
from voicecosts.producer.publishing.publisher import Publisher

pytestmark = pytest.mark.faults

READINGS: Final = 400


async def published(url: str, folder: Path, is_done: Callable[[Publisher], bool]) -> Stored:
    """Let a publisher work off a folder, and return what the stream has then."""
    await stream.declare(url)
    with publishing(url, folder) as publisher:
        await until(lambda: is_done(publisher))
    return await stored(url)


async def test_an_outbox_without_its_table_is_set_aside(broker: Broker, outbox: Path) -> None:
    """However much of a file is gone, it leaves the place where it would be looked for again."""
    path, _ = orphan(outbox, broker.url, is_killed=False)
    path.write_bytes(path.read_bytes()[:3000])
    await published(broker.url, outbox, lambda _: not path.exists())
    assert path.with_name(path.name + ".damaged").exists()


async def test_a_message_whose_number_is_damaged_does_not_stay_for_ever(
    broker: Broker, outbox: Path
) -> None:
    """A number is not part of the checksum, but it must not keep a file from being worked off."""
    path, _ = orphan(outbox, broker.url, is_killed=False)
    execute(path, "UPDATE messages SET number = 0 WHERE number = 1")
    await published(broker.url, outbox, lambda _: not path.exists())


async def test_what_is_left_out_by_its_checksum_is_counted_as_dropped(
    broker: Broker, outbox: Path
) -> None:
    """Every event of a damaged message is dropped, and the report says so."""
    paths = [orphan(outbox, broker.url, readings=READINGS, is_killed=False)[0] for _ in range(2)]
    lost = 0
    for path in paths:
        [(events,)] = execute(path, "SELECT events FROM messages WHERE number = 5")
        lost += events
        execute(path, "UPDATE messages SET data = zeroblob(length(data)) WHERE number = 5")
    dropped = 0

    def is_done(publisher: Publisher) -> bool:
        nonlocal dropped
        dropped = publisher.stats().dropped
        return not any(path.exists() for path in paths)

    found = await published(broker.url, outbox, is_done)
    assert len(set(found.readings)) == len(paths) * READINGS - lost
    assert dropped == lost


async def test_a_damaged_log_of_a_killed_process_is_said_and_kept(
    broker: Broker, outbox: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One flipped byte in `-wal` costs all that follows it, so it must not do so silently."""
    path, _ = orphan(outbox, broker.url, is_killed=True)
    log = path.with_name(path.name + "-wal")
    data = bytearray(log.read_bytes())
    data[len(data) // 4] ^= 0xFF
    log.write_bytes(data)
    await published(broker.url, outbox, lambda _: not path.exists())
    assert "damaged" in caplog.text
    assert list(outbox.glob("*.damaged*"))  # noqa: ASYNC240 - nothing else runs
