"""Outboxes on disk, and the messages in them, as the tests of one host need them."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any, Final

from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.outbox.backlog import Backlog
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.outbox.row import destination_id, file_of

NOW: Final = 1_790_000_000_000_000
DESTINATION: Final = destination_id(ProducerConfig(project="tests", servers=("nats://h:1",)))


def messages(count: int, *, first: int = 1, size: int = 50) -> list[Packed]:
    """Return numbered messages."""
    return [
        Packed(
            subject=f"costs.v1.tests.agent-{number % 2}.00",
            message_id=f"id-{number}",
            data=bytes([number % 256]) * size,
            events=2,
            batch_number=number,
        )
        for number in range(first, first + count)
    ]


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        self.at += 0.001
        return self.at

    def now_us(self) -> int:
        """Return the time in microseconds."""
        return NOW + int(self.at * 1e6)


def backlog(folder: Path | None, clock: Clock, max_bytes: int = 1 << 20) -> Backlog:
    """Return the backlog of one process."""
    config = ProducerConfig(
        project="tests", servers=("nats://h:1",), outbox_dir=folder, outbox_max_bytes=max_bytes
    )
    return Backlog(config, "producer", monotonic=clock, now_us=clock.now_us)


def orphan(
    folder: Path, producer: str, stored: list[Packed], *, destination: str = DESTINATION
) -> Path:
    """Leave messages behind, as a process that was killed does."""
    path = file_of(folder, destination, producer)
    outbox = Outbox.create(path)
    outbox.add(stored, now_us=NOW)
    outbox.close()
    return path


def execute(path: Path, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements on a file behind its owner's back; return the rows of the last one."""
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as db, db:
        return [db.execute(statement).fetchall() for statement in statements][-1]
