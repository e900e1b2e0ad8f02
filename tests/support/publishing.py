"""Publishers that end with their test, and the outboxes that dead ones leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.load import START_US, Load
from tests.support.waiting import until
from voicecosts.producer.config import ProducerConfig
from voicecosts.producer.events import Event
from voicecosts.producer.outbox.file import Outbox
from voicecosts.producer.outbox.packing import Packer
from voicecosts.producer.outbox.row import destination_id, file_of
from voicecosts.producer.publishing.publisher import Publisher

NO_SERVER: Final = "nats://127.0.0.1:1"


@contextlib.contextmanager
def publishing(
    url: str | None, folder: Path | None = None, *, close_s: float = 0.2, **options: object
) -> Iterator[Publisher]:
    """A publisher to a server or to none, with an outbox or none, closed at the end."""
    config = ProducerConfig(
        project="faults",
        servers=(url,) if url else (),
        outbox_dir=folder,
        linger_s=0.02,
        **options,  # type: ignore[arg-type]  # options of the struct
    )
    publisher = Publisher(config)
    try:
        yield publisher
    finally:
        publisher.close(close_s)
        publisher._thread.join(15)
        assert not publisher._thread.is_alive()


async def flushed(publisher: Publisher, *, deadline_s: float = 60.0) -> None:
    """Wait until everything that was offered is acknowledged."""
    async with asyncio.timeout(deadline_s):
        await asyncio.wrap_future(publisher.flush())


async def adopted(url: str, folder: Path, *, deadline_s: float = 60.0) -> None:
    """Let one publisher take over everything that dead ones have left in a folder."""
    with publishing(url, folder):
        await until(lambda: not list(folder.glob("*.sqlite3")), deadline_s=deadline_s)


def files(folder: Path) -> list[str]:
    """Return the names of all files in an outbox."""
    return sorted(path.name for path in folder.iterdir())


def orphan(
    folder: Path, url: str, *, readings: int = 400, is_killed: bool = True
) -> tuple[Path, Load]:
    """Leave an outbox behind for workers of a server, and the oracle of what is in it.

    A killed process leaves its write-ahead log beside the file; one that ended in order does not.
    """
    destination = destination_id(ProducerConfig(project="faults", servers=(url,)))
    name = secrets.token_hex(8)
    aside = folder.parent / "made"
    events: list[Event] = []
    load = Load(events.append, sessions=8)
    load.offer(readings)
    load.end()
    packer = Packer(name)
    outbox = Outbox.create(file_of(aside, destination, name))
    for at in range(0, len(events), 10):
        outbox.add(packer.pack(events[at : at + 10]), now_us=START_US)
    if not is_killed:
        outbox.close(keep=True)
    folder.mkdir(parents=True, exist_ok=True)
    log = outbox.path.with_name(outbox.path.name + "-wal")
    for path in (outbox.lock.path, log, outbox.path):  # at last the one that is looked for
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(path, folder / path.name)
    if is_killed:
        outbox.close(keep=True)
    return folder / outbox.path.name, load
