"""Publish copies of the ledger that any number of readers may open, and say how fresh they are.

Nothing that fails here puts a booked row at risk. Only this module checkpoints: between two
checkpoints the ledger file does not change, so a plain copy of it is complete. A snapshot is
written once and never changed. The link `costs.duckdb` always points to a complete one, so a
reader never finds half a file, and a snapshot that is open stays as it was.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from voicecosts.consumer.errors import SnapshotFailed
from voicecosts.consumer.store.clock import Clock, Pacing, micros
from voicecosts.consumer.store.faults import translated
from voicecosts.consumer.store.files import copy_synced, remove, sync_folder
from voicecosts.consumer.store.heartbeat import Heartbeat, read_heartbeat, utc_text, write_heartbeat
from voicecosts.consumer.store.write import write_state

if TYPE_CHECKING:
    from datetime import datetime

    import duckdb

    from voicecosts.consumer.store.layout import Layout

_log = logging.getLogger(__name__)

HEARTBEAT_INTERVAL_S: Final = 1.0

KEPT: Final = 3
"""Snapshots that are kept at least: the current one and two that readers may be about to open."""

GRACE_S: Final = 15.0
"""A younger snapshot is kept too: a reader may have followed the link to it a moment ago."""


class Snapshots:
    """The snapshots and the heartbeat of one open ledger.

    `changed` says whether the ledger may hold more than the published snapshot. It is set before a
    commit and when the ledger failed, and cleared after a publish, and nowhere else.

    `told_until` is until when the ledger holds all that was sent to it, where a source has to say so:
    then it moves by `heard` alone. Without it the ledger is its own source, and holds all it was given.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        layout: Layout,
        clock: Clock,
        pacing: Pacing,
        number: int,
        *,
        embedded: bool = False,
        told_until: datetime | None = None,
    ) -> None:
        self._connection = connection
        self._layout = layout
        self._clock = clock
        self._pacing = pacing
        self._as_of: datetime | None = None
        self._next_beat: float | None = None
        self._waiting: int | None = None
        self._told_until = told_until
        self._answered_at: datetime | None = None
        self._embedded = embedded
        self.changed = True
        self.number = number

    def resume(self) -> None:
        """Continue from the last snapshot, if its writer was closed in order: it holds everything.

        The heartbeat then says that a writer is at work, so that readers notice if it dies. After
        a death, or without a snapshot, `changed` stays true and the next close publishes.
        """
        last = read_heartbeat(self._layout.heartbeat)
        if last is None or not last.is_final or last.snapshot != self.number:
            return
        if self._layout.snapshot(last.snapshot).exists():
            self._as_of, self._waiting, self.changed = last.moment, last.waiting, False
            self._write(self._as_of, running=True)

    def heard(self, asked_at: datetime, waiting: int | None) -> None:
        """Note that the source was asked at that moment and answered how many messages wait.

        Everything that it answered with must have been applied before.
        """
        self._answered_at = asked_at
        if waiting == 0:
            self._told_until = asked_at

    def until(self) -> datetime:
        """Return the moment until which the ledger holds everything that was sent to it."""
        return self._told_until or self._clock.now()

    def due(self) -> bool:
        """Return whether something changed and the next publish is due."""
        return self.changed and self._pacing.due(self._clock.ticks())

    def publish(self, sequence: int) -> int:
        """Publish everything booked so far and return the number of the snapshot.

        `sequence` is the highest place in the stream that was applied.

        Raises:
            SnapshotFailed: The copy could not be written. What is booked is safe, and readers keep
                the last snapshot.
            LedgerWriteFailed: The ledger itself could not be written.
        """
        number = self.number + 1
        now, until = self._clock.now(), self.until()
        began = self._clock.ticks()
        try:
            with translated(self._layout.ledger):
                # 1. The file records its moment and number. If we die, the next publish does it again.
                self._connection.begin()
                write_state(
                    self._connection, as_of_us=micros(until), sequence=sequence, snapshot=number
                )
                self._connection.commit()
                # 2. Every committed row is in the one file. If we die, the ledger opens as it is.
                self._connection.execute("CHECKPOINT")
            self._check_complete()
            # 3. The copy appears under its number, then under the name that readers open.
            _copy(self._layout, number)
        finally:
            ended = self._clock.ticks()
            self._pacing.tried(ended, ended - began)
        self.number = number
        self.changed = False
        self._as_of = until
        self.beat(self._waiting, running=True, at_once=True)
        _remove_old(self._layout, now.timestamp())
        return number

    def beat(self, waiting: int | None, *, running: bool, at_once: bool = False) -> None:
        """Tell readers that the ledger lives, once a second at most.

        `as_of` advances while the snapshot holds everything booked, and stands still otherwise.
        """
        tick = self._clock.ticks()
        if not at_once and self._next_beat is not None and tick < self._next_beat:
            return
        if self._as_of is None:
            return  # nothing is published yet
        if not self.changed:
            self._as_of = self.until()
        self._waiting = waiting
        self._write(self._as_of, running=running)
        self._next_beat = tick + HEARTBEAT_INTERVAL_S

    def _write(self, as_of: datetime, *, running: bool) -> None:
        beat = Heartbeat(
            snapshot=self.number,
            as_of=utc_text(as_of),
            pid=os.getpid(),
            waiting=self._waiting,
            running=running,
            embedded=self._embedded,
            whole=not self.changed,
            answered_at=None if self._answered_at is None else utc_text(self._answered_at),
        )
        write_heartbeat(self._layout.heartbeat, beat)

    def _check_complete(self) -> None:
        log = self._layout.ledger.with_name(self._layout.ledger.name + ".wal")
        if log.exists() and log.stat().st_size > 0:
            raise SnapshotFailed(self._layout.data_dir, f"the checkpoint left rows in {log.name}")


def _copy(layout: Layout, number: int) -> None:
    """Copy the ledger file, checkpointed just now, to snapshot `number` and link to it.

    Raises:
        SnapshotFailed: The copy could not be written; readers keep the last snapshot.
    """
    target = layout.snapshot(number)
    draft = target.with_name(target.name + ".tmp")
    link = layout.current.with_name(layout.current.name + ".tmp")
    try:
        # 1. A draft that nobody opens. If we die, the next open of the ledger removes it.
        copy_synced(layout.ledger, draft)
        # 2. A complete snapshot without a link to it. If we die, the next number is one higher.
        draft.rename(target)
        sync_folder(layout.data_dir)
        # 3. Readers see it from here on: a rename swaps the link in one step.
        remove(link)
        link.symlink_to(target.name)
        link.replace(layout.current)
        sync_folder(layout.data_dir)
    except OSError as error:
        remove(draft)
        raise SnapshotFailed(layout.data_dir, str(error)) from error


def _remove_old(layout: Layout, now_s: float) -> None:
    """Remove the snapshots that no reader can be about to open. Open ones stay readable (POSIX)."""
    for path in list(layout.snapshots().values())[:-KEPT]:
        try:
            if path.stat().st_mtime < now_s - GRACE_S:
                remove(path)
        except OSError as error:
            _log.warning(
                "an old snapshot could not be removed: %s", error, extra={"path": str(path)}
            )
