"""The heartbeat in `ledger.json`: it tells a reader how far an old snapshot can be trusted.

While nothing is booked no snapshot is published, and the heartbeat shows that the writer is alive.
`as_of` is the moment until which the published snapshot holds everything that had been sent to the
ledger: it moves when what feeds the ledger answers that nothing waits, and stands still otherwise.
A ledger that is opened only to book what waits on its host says so: it does not have to run. One that
ever read a stream is no such ledger, whoever opens it: what waits in the stream is not known then.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from voicecosts.consumer.errors import LedgerInUse, SnapshotFailed
from voicecosts.consumer.store.files import WriterLock, write_private
from voicecosts.consumer.store.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path


class RunBy(Struct, frozen=True):
    """How the ledger is run that reads a stream: the word after `costs`, and its servers, masked."""

    command: str
    servers: tuple[str, ...] = ()


class PricesTrouble(Struct, frozen=True):
    """That the operator's file of prices has mistakes, how many, and since when the ledger knows.

    `content` names what the file held (`price_file.content_of`); a corrected file has another name. Without `uses_last_good` the ledger had no good prices before, and uses list prices alone.
    """

    file: str
    problems: int
    since: str
    uses_last_good: bool
    content: str = ""


class Heartbeat(Struct, frozen=True):
    """One heartbeat. `waiting` counts messages not yet fetched, if the writer knows.

    `answered_at` is when the broker was last asked and answered; absent where there is none.
    `stream_bytes` of `stream_max_bytes` are taken in the stream, by `stream_messages`; booked messages
    up to number `trimmed_to` were removed from it to make room. All are absent where that is unknown.
    `embedded` is true when the writer was opened to book what waited, and closed again, and the ledger
    never read a stream; `for_a_moment` is true when the ledger has one, and a command has it open for what it
    does itself: nobody reads the stream. `run_by` is how it is run that did. `whole` says that the snapshot holds
    everything that the ledger holds, as far as the writer knows. `ledger_file` is the time (in nanoseconds)
    and the size of the ledger's file when the writer had closed it: another file is another ledger.
    `boot` is the start of the host's kernel that the writer ran on: there a free lock means that it has
    ended, at once. `prices` is there while the file of own prices has mistakes. `operations` is the number of the newest
    operation on the books, 0 without any. `known_from` is the first snapshot that is known to be of this ledger.
    """

    snapshot: int
    as_of: str
    pid: int
    waiting: int | None
    running: bool
    embedded: bool = False
    for_a_moment: bool = False
    whole: bool = False
    answered_at: str | None = None
    stream_bytes: int | None = None
    stream_max_bytes: int | None = None
    stream_messages: int | None = None
    trimmed_to: int | None = None
    run_by: RunBy | None = None
    ledger_file: tuple[int, int] | None = None
    prices: PricesTrouble | None = None
    operations: int = 0
    known_from: int | None = None
    boot: str = ""

    @property
    def is_final(self) -> bool:
        """Whether the writer was closed in order: the snapshot holds all of its work."""
        return self.whole and not self.running

    @property
    def moment(self) -> datetime:
        """`as_of` as a time in UTC."""
        return datetime.fromisoformat(self.as_of)


def utc_text(moment: datetime) -> str:
    """Return `moment` (UTC) as ISO text with microseconds and a Z."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def read_heartbeat(path: Path) -> Heartbeat | None:
    """Return the last heartbeat, or None when there is none that can be read."""
    try:
        beat = msgspec.json.decode(path.read_bytes(), type=Heartbeat)
        has_zone = beat.moment.tzinfo is not None
    except (OSError, ValueError):  # msgspec's own errors are ValueErrors
        return None
    return beat if has_zone else None


def write_heartbeat(path: Path, beat: Heartbeat) -> None:
    """Replace the heartbeat by a rename: a reader sees the old one or the new one."""
    try:
        write_private(path, msgspec.json.encode(beat))
    except OSError as error:
        raise SnapshotFailed(path.parent, str(error)) from error


def file_of(path: Path) -> tuple[int, int] | None:
    """Return what tells a ledger's file from a copy that was put in its place; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def confirm(data_dir: Path, asked_at: datetime) -> bool:
    """Advance `as_of` to the moment at which nothing waited for an embedded ledger.

    Only the holder of the writer's lock may do that, and only after an embedded ledger that was
    closed in order; after any other end the ledger has to be opened. Return whether it was done.

    Raises:
        SnapshotFailed: The heartbeat could not be written; readers see the older moment.
    """
    layout = Layout(data_dir)
    if not layout.ledger.exists():
        return False
    try:
        lock = WriterLock.acquire(layout.lock)
    except LedgerInUse:  # its holder writes the heartbeat
        return False
    try:
        last = read_heartbeat(layout.heartbeat)
        if last is None or not (last.is_final and last.embedded):
            return False
        write_heartbeat(layout.heartbeat, replace(last, as_of=utc_text(asked_at), pid=os.getpid()))
        return True
    finally:
        lock.release()
