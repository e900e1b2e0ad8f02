"""What opening a ledger begins with: the lock of its one writer, what a killed one left, and where it stood."""

from __future__ import annotations

import contextlib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from voicecosts.consumer.errors import InvalidConfig, SnapshotFailed
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.clock import micros
from voicecosts.consumer.store.faults import translated
from voicecosts.consumer.store.files import WriterLock, make_folder, tighten
from voicecosts.consumer.store.heartbeat import read_heartbeat
from voicecosts.consumer.store.rebuilding import finish_swap
from voicecosts.consumer.store.snapshots import PART_S

if TYPE_CHECKING:
    import duckdb

    from voicecosts.consumer.store.clock import Clock
    from voicecosts.consumer.store.layout import Layout
    from voicecosts.consumer.store.snapshots import Snapshots

_log = logging.getLogger(__name__)


def take_lock(layout: Layout) -> WriterLock:
    """Become the one writer of the data directory, and remove what a killed one left unfinished."""
    if "?" in str(layout.data_dir.absolute()):
        raise InvalidConfig(
            [
                f"{layout.data_dir} has a ? in its path, where DuckDB ends a name: move it to another path"
            ]
        )
    with contextlib.ExitStack() as undo:
        try:
            make_folder(layout.ledger_dir)
            lock = WriterLock.acquire(layout.lock)
            undo.callback(lock.release)
            finish_swap(layout)
            tighten(layout.private())
            _clear(layout)
        except OSError as error:
            raise InvalidConfig([f"{layout.data_dir} cannot be used ({error})"]) from error
        undo.pop_all()
        return lock


def _clear(layout: Layout) -> None:
    """Remove what a killed writer left unfinished, and DuckDB's own folders where they are empty."""
    for path in layout.leftovers():
        path.unlink(missing_ok=True)
    for folder in layout.spill_dirs():
        with contextlib.suppress(OSError):  # somebody else's files are in it
            folder.rmdir()


def load_state(connection: duckdb.DuckDBPyConnection, layout: Layout) -> tuple[int, int, datetime]:
    """Return the highest sequence applied, the highest snapshot number ever used, and `as_of`.

    While nothing is booked only the heartbeat moves on. It is believed where it speaks of the
    snapshot that this file published last: else the file is a restored one, and holds less.
    """
    with translated(layout.ledger):
        row = connection.execute(sql.LOAD_STATE).fetchone()
    sequence, number, as_of = (0, 0, datetime(1970, 1, 1)) if row is None else row  # noqa: DTZ001
    until = as_of.replace(tzinfo=UTC)
    last = read_heartbeat(layout.heartbeat)
    if last is not None and last.snapshot == number and (last.embedded or last.answered_at):
        until = max(until, last.moment)
    return sequence, max(number, *layout.snapshots(), 0), until


def last_at_work_us(layout: Layout, clock: Clock) -> int:
    """Return when the last heartbeat was written; now where there is none."""
    with contextlib.suppress(OSError):
        return layout.heartbeat.stat().st_mtime_ns // 1000
    return micros(clock.now())


def publish_first(snapshots: Snapshots, sequence: int) -> None:
    """Publish at the start, or warn: what cannot be copied now must not keep anybody from booking.

    A large copy goes on between the bookings, by `publish_if_due`.
    """
    try:
        snapshots.begin(sequence)
        is_done = snapshots.go_on(PART_S)
    except SnapshotFailed as error:
        _log.warning("%s", error)
        is_done = False
    if not is_done:
        snapshots.recall()
