"""Publish copies of the ledger that any number of readers may open, and say how fresh they are.

Nothing that fails here puts a booked row at risk. Only this module checkpoints: between two
checkpoints the ledger file does not change, so a plain copy of it is complete. A copy becomes a
snapshot only after all of it was read with its checksums, so that a block of the ledger that has
rotted never replaces a good one. A snapshot is written once and never changed. The link
`costs.duckdb` always points to a complete one, so a reader never finds half a file, and a snapshot
that is open stays as it was.
"""

from __future__ import annotations

import contextlib
import logging
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import duckdb

from voicecosts.consumer.booking.progress import Room
from voicecosts.consumer.errors import LedgerDamaged, SnapshotFailed
from voicecosts.consumer.store.clock import Clock, Pacing, micros
from voicecosts.consumer.store.faults import translated
from voicecosts.consumer.store.files import InPlace, copy_synced, sync_folder
from voicecosts.consumer.store.heartbeat import (
    Heartbeat,
    PricesTrouble,
    RunBy,
    file_of,
    read_heartbeat,
    utc_text,
    write_heartbeat,
)
from voicecosts.consumer.store.verify import damage_of
from voicecosts.consumer.store.write import write_state
from voicecosts.producer.settings import boot_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicecosts.consumer.store.layout import Layout

_log = logging.getLogger(__name__)

HEARTBEAT_INTERVAL_S: Final = 1.0

KEPT: Final = 3
"""Snapshots that are kept at least: the current one and two that readers may be about to open."""

GRACE_S: Final = 15.0
"""A younger snapshot is kept too: a reader may have followed the link to it a moment ago."""

KEPT_APART_S: Final = 86_400.0
"""How old the snapshot outside of the rotation may become before a newer one takes its place."""

MAX_LOG_BYTES: Final = 64 * 2**20
"""A longer write-ahead log is folded into the file between two snapshots: a start reads all of it."""

_COPIES: Final = 2
"""How often a copy is made before what is damaged in it is taken for damage of the ledger."""


class Snapshots:
    """The snapshots and the heartbeat of one open ledger.

    `changed` says whether the ledger may hold more than the published snapshot. It is set before a
    commit and when the ledger failed, and cleared after a publish, and nowhere else. `number` is the
    highest one that was ever used.

    `told_until` is until when the ledger holds all that was sent to it, where a source has to say so:
    then it moves by `heard` alone. Without it the ledger is its own source, and holds all it was given.

    `untold` is true while the ledger knows of a gap that no snapshot shows: the heartbeat then does
    not say that the broker has answered.
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
        for_a_moment: bool = False,
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
        self._for_a_moment = for_a_moment
        self._in_place = InPlace(layout.ledger)
        self._published: int | None = None
        self.changed = True
        self.number = number
        self.room: Room | None = None
        self.trimmed_to = 0
        self.run_by: RunBy | None = None
        self.prices: PricesTrouble | None = None
        self.operations = 0
        self.untold = False

    def resume(self) -> None:
        """Continue from the last snapshot, if its writer was closed in order: it holds everything.

        The heartbeat then says that a writer is at work, so that readers notice if it dies. After
        a death, or without a snapshot, `changed` stays true and the next close publishes. What the last
        reader of the stream said of it stays said: nobody asks the stream now.
        """
        last = read_heartbeat(self._layout.heartbeat)
        if last is not None and not self._embedded:
            self._recall_stream(last)
        if last is None or not last.is_final or last.snapshot != self.number:
            return
        if self._layout.snapshot(last.snapshot).exists():
            self._as_of, self._waiting, self.changed = last.moment, last.waiting, False
            self._published = last.snapshot
            self._write(self._as_of, running=True)

    def _recall_stream(self, last: Heartbeat) -> None:
        if last.answered_at is not None and not last.embedded:
            self._answered_at = datetime.fromisoformat(last.answered_at)
        if last.stream_bytes is not None:
            self.room = Room(
                bytes=last.stream_bytes,
                max_bytes=last.stream_max_bytes,
                messages=last.stream_messages or 0,
            )

    def heard(self, asked_at: datetime, waiting: int | None) -> None:
        """Note that the source was asked at that moment and answered how many messages wait.

        Everything that it answered with must have been applied before.
        """
        self._answered_at = None if self.untold else asked_at
        if waiting == 0:
            self._told_until = asked_at

    def until(self) -> datetime:
        """Return the moment until which the ledger holds everything that was sent to it."""
        return self._told_until or self._clock.now()

    def recall(self) -> None:
        """Speak of the snapshot that readers have, when no newer one could be published at first."""
        last = read_heartbeat(self._layout.heartbeat)
        if last is not None and self._layout.snapshot(last.snapshot).exists():
            self._as_of, self._published = last.moment, last.snapshot
            self.beat(last.waiting, running=True, at_once=True)

    def due(self) -> bool:
        """Return whether the next publish is due: something changed, or readers find no snapshot."""
        tick = self._clock.ticks()
        if self.changed and self._pacing.due(tick):
            return True
        return self._is_gone() and self._pacing.repair_due(tick)

    def publish(self, sequence: int) -> int:
        """Publish everything booked so far and return the number of the snapshot.

        `sequence` is the highest place in the stream that was applied.

        Raises:
            SnapshotFailed: The copy could not be written. What is booked is safe, and readers keep
                the last snapshot.
            LedgerWriteFailed: The ledger itself could not be written.
            LedgerDamaged: What the ledger holds cannot be read any more; readers keep the last
                snapshot.
        """
        number = self.number + 1
        now, until = self._clock.now(), self.until()
        began = self._clock.ticks()
        self._in_place.check()
        copy = _Copy(self._layout, number)
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
            copy.publish()
        finally:
            ended = self._clock.ticks()
            self._pacing.tried(ended, ended - began, copy.written)
        self.number = self._published = number
        self.changed = self.untold = False
        self._as_of = until
        self.beat(self._waiting, running=True, at_once=True)
        _remove_old(self._layout, now.timestamp())
        _keep_apart(self._layout, number, now.timestamp())
        return number

    def mend(self) -> None:
        """Put back the link that readers follow, and keep the write-ahead log short.

        Raises:
            SnapshotFailed: It cannot be done now. What is booked is safe.
        """
        if self._published is not None and not self._is_gone() and not self._is_linked():
            with _failing(self._layout):
                _link(self._layout, self._published)
            _log.warning("the link %s was put back", self._layout.current)
        self.shorten_log(MAX_LOG_BYTES)

    def shorten_log(self, most: int) -> None:
        """Put what is in the write-ahead log into the file, if the log is longer than `most` bytes.

        What only the log has on disk is in memory as well, in up to three times as many bytes.
        """
        with contextlib.suppress(FileNotFoundError):
            if self._layout.log.stat().st_size > most:
                with translated(self._layout.ledger):
                    self._connection.execute("CHECKPOINT")

    def check_in_place(self) -> None:
        """Raise `LedgerMoved` when the ledger's file is not the one under its name any more."""
        self._in_place.check()

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

    def _is_gone(self) -> bool:
        return self._published is not None and not self._layout.snapshot(self._published).is_file()

    def _is_linked(self) -> bool:
        assert self._published is not None  # noqa: S101 - asked by `mend`
        try:
            return self._layout.current.readlink() == Path(
                self._layout.snapshot(self._published).name
            )
        except OSError:
            return False

    def _write(self, as_of: datetime, *, running: bool) -> None:
        beat = Heartbeat(
            snapshot=self.number if self._published is None else self._published,
            as_of=utc_text(as_of),
            pid=os.getpid(),
            waiting=self._waiting,
            running=running,
            embedded=self._embedded,
            for_a_moment=self._for_a_moment and running,
            run_by=self.run_by,
            prices=self.prices,
            operations=self.operations,
            boot=boot_id(),
            whole=not self.changed,
            stream_bytes=self.room.bytes if self.room else None,
            stream_max_bytes=self.room.max_bytes if self.room else None,
            stream_messages=self.room.messages if self.room else None,
            trimmed_to=self.trimmed_to or None,
            answered_at=None if self._answered_at is None else utc_text(self._answered_at),
            ledger_file=None if running else file_of(self._layout.ledger),
        )
        write_heartbeat(self._layout.heartbeat, beat)

    def _check_complete(self) -> None:
        log = self._layout.log
        if log.exists() and log.stat().st_size > 0:
            raise SnapshotFailed(self._layout.data_dir, f"the checkpoint left rows in {log.name}")


class _Copy:
    """A copy of the ledger file, checkpointed just now, on its way to become snapshot `number`.

    `written` is how many bytes went to the disk for it, also where it failed.
    """

    def __init__(self, layout: Layout, number: int) -> None:
        self._layout = layout
        self._number = number
        self.written = 0

    def publish(self) -> None:
        """Copy the file, read the copy to its end, and link to it.

        Raises:
            SnapshotFailed: The copy could not be written or read; readers keep the last snapshot.
            LedgerDamaged: What is in the ledger cannot be read, copied once more as well.
        """
        target = self._layout.snapshot(self._number)
        draft = target.with_name(target.name + ".tmp")
        with _failing(self._layout, draft):
            # 1. A draft that nobody opens. If we die, the next open of the ledger removes it.
            self._write(draft)
            # 2. A complete snapshot without a link to it. If we die, the next number is one higher.
            draft.rename(target)
            sync_folder(self._layout.data_dir)
            # 3. Readers see it from here on.
            _link(self._layout, self._number)

    def _write(self, draft: Path) -> None:
        problem: str | None = None
        for _ in range(_COPIES):
            self.written += copy_synced(self._layout.ledger, draft)
            problem = damage_of(draft)
            if problem is None:
                return
            _log.error("a copy of %s cannot be read: %s", self._layout.ledger, problem)
        raise LedgerDamaged(self._layout.ledger, str(problem))


@contextlib.contextmanager
def _failing(layout: Layout, draft: Path | None = None) -> Iterator[None]:
    """Raise what the disk, or DuckDB on a draft, refuses as `SnapshotFailed`; remove the draft."""
    try:
        yield
    except BaseException as error:
        if draft is not None:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
        if isinstance(error, (OSError, duckdb.Error)):
            problem = str(error).partition("\n")[0]
            raise SnapshotFailed(layout.data_dir, problem) from error
        raise


def _link(layout: Layout, number: int) -> None:
    """Let the name that readers open point to snapshot `number`: a rename swaps it in one step."""
    link = layout.current.with_name(layout.current.name + ".tmp")
    link.unlink(missing_ok=True)
    link.symlink_to(layout.snapshot(number).name)
    link.replace(layout.current)
    sync_folder(layout.data_dir)


def _remove_old(layout: Layout, now_s: float) -> None:
    """Remove the snapshots that no reader can be about to open. Open ones stay readable (POSIX).

    The newest are those with the highest numbers, whatever the clock says. One that is of the far
    future was made before the clock was set back.
    """
    for path in list(layout.snapshots().values())[:-KEPT]:
        try:
            if abs(now_s - path.stat().st_mtime) >= GRACE_S:
                path.unlink()
        except OSError as error:
            _log.warning(
                "an old snapshot could not be removed: %s", error, extra={"path": str(path)}
            )


def _keep_apart(layout: Layout, number: int, now_s: float) -> None:
    """Keep a snapshot outside of the rotation, in blocks of its own; renew it about once a day.

    The snapshots of the rotation may share blocks with each other and with the ledger, and are all
    of the last minutes. The first snapshot of a ledger holds nothing that is worth it.
    """
    if number == 1:
        return
    draft = layout.verified.with_name(layout.verified.name + ".tmp")
    try:
        if layout.verified.exists():
            age_s = now_s - layout.verified.stat().st_mtime
            if abs(age_s) < KEPT_APART_S:
                return
        copy_synced(layout.snapshot(number), draft, may_share=False)
        draft.replace(layout.verified)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        _log.warning("no snapshot could be kept apart in %s: %s", layout.verified, error)
