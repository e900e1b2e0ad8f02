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
import math
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from voicecosts.consumer.booking.progress import Room
from voicecosts.consumer.errors import LedgerDamaged, SnapshotFailed
from voicecosts.consumer.store.blocks import BlockError, blocks_of
from voicecosts.consumer.store.clock import Clock, Pacing, micros
from voicecosts.consumer.store.copying import Copy, Versions, copy_of, next_copy
from voicecosts.consumer.store.faults import translated
from voicecosts.consumer.store.files import InPlace, require_room, sync_folder, tighten
from voicecosts.consumer.store.heartbeat import (
    Heartbeat,
    PricesTrouble,
    RunBy,
    file_of,
    read_heartbeat,
    utc_text,
    write_heartbeat,
)
from voicecosts.consumer.store.write import write_state
from voicecosts.producer.settings import boot_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import duckdb

    from voicecosts.consumer.store.layout import Layout

_log = logging.getLogger(__name__)

HEARTBEAT_INTERVAL_S: Final = 1.0

KEPT: Final = 3
"""Snapshots that are kept at least: the current one and two that readers may be about to open."""

GRACE_S: Final = 15.0
"""A younger snapshot is kept too: a reader may have followed the link to it a moment ago."""

SPARE_S: Final = 5.0
"""An older one may become the next, if it would be removed after it, and nobody reads it."""

KEPT_APART_S: Final = 86_400.0
"""How old the snapshot outside of the rotation may become before a newer one takes its place."""

APART_AGAIN_S: Final = 3_600.0
"""How long that is not tried again after it failed."""

LEFT_BYTES: Final = 64 * 2**20
"""Room that the copy kept apart leaves to others: it is not begun where it would fill the disk."""

MAX_LOG_BYTES: Final = 64 * 2**20
"""A longer write-ahead log is folded into the file between two snapshots: a start reads all of it."""

PART_S: Final = 0.2
"""How long a copy keeps anybody from booking, about: then it goes on after the next bookings."""


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
        self._versions = Versions()
        self._copy: Copy | None = None
        self._apart: Copy | None = None
        self._next_apart = -math.inf
        self._copied_until: datetime | None = None
        self._took_s = 0.0
        self.changed = True
        self.number = number
        self.room: Room | None = None
        self.trimmed_to = 0
        self.run_by: RunBy | None = None
        self.prices: PricesTrouble | None = None
        self.operations = 0
        self.untold = False
        self._recall_versions()

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
        if self._apart is not None:  # it is read: it could not become the next one
            return False
        tick = self._clock.ticks()
        if self.changed and self._pacing.due(tick):
            return True
        return self._is_gone() and self._pacing.repair_due(tick)

    @property
    def is_under_way(self) -> bool:
        """Whether a publish has begun and is not finished."""
        return self._copy is not None

    @property
    def published(self) -> int:
        """The number of the snapshot that readers open, 0 while this writer knows of none."""
        return self._published or 0

    @property
    def newest(self) -> int:
        """The highest number of a snapshot that has, or will have, what the ledger held until now."""
        return self.number + self.is_under_way

    @property
    def is_at_work(self) -> bool:
        """Whether `go_on` or `keep_apart` has something to do."""
        return self.is_under_way or self._apart is not None

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
        self._give_up()
        self.begin(sequence)
        self.go_on(at_most_s=math.inf)
        self.keep_apart()
        return self.number

    def begin(self, sequence: int) -> None:
        """Begin to publish everything booked so far; `go_on` is to be called until it is done.

        What is booked meanwhile does not come into this snapshot: the file stands still until the
        next checkpoint. Raises what `publish` does.
        """
        self._took_s = 0.0
        self._in_place.check()
        with self._trying():
            until = self.until()
            with translated(self._layout.ledger):
                # 1. The file records its moment and number. If we die, the next publish does it again.
                self._connection.begin()
                write_state(
                    self._connection,
                    as_of_us=micros(until),
                    sequence=sequence,
                    snapshot=self.number + 1,
                )
                self._connection.commit()
                # 2. Every committed row is in the one file. If we die, the ledger opens as it is.
                self._checkpoint()
            if self._has_log():
                problem = f"the checkpoint left rows in {self._layout.log.name}"
                raise SnapshotFailed(self._layout.data_dir, problem)
            self._copied_until = until
            # 3. A draft that nobody opens. If we die, the next open of the ledger removes it.
            self._copy = next_copy(
                self._layout.ledger, self._draft(), self._versions, self._spares(), self.number
            )

    def go_on(self, at_most_s: float) -> bool:
        """Go on with a publish that has begun, for so long, about; return whether it is done.

        Raises what `publish` does.
        """
        assert self._copy is not None  # noqa: S101 - who calls this has begun
        with self._trying():
            if not self._copy.advance(self._after(at_most_s)):
                return False
            written = self._copy.cost_bytes
            self._appear(self._copy)
        self._pacing.tried(self._clock.ticks(), self._took_s, written)
        return True

    def _appear(self, copy: Copy) -> None:
        number = self.number + 1
        copy.close()
        self._copy = None
        # 4. A complete snapshot without a link to it. If we die, the next number is one higher.
        self._draft().rename(self._layout.snapshot(number))
        sync_folder(self._layout.data_dir)
        # 5. Readers see it from here on.
        _link(self._layout, number)
        self._versions.publish(number, copy.blocks)
        self.number = self._published = number
        self.changed, self.untold = self._has_log(), False
        self._as_of = self._copied_until
        self.beat(self._waiting, running=True, at_once=True)
        _remove_old(self._layout, self._clock.now().timestamp())
        self._versions.keep(self._layout.snapshots())
        is_time = self._clock.ticks() >= self._next_apart
        if number > 1 and is_time and self._is_old(self._layout.verified, KEPT_APART_S):
            self._begin_apart()

    def replaced(self) -> None:
        """Note that the file under the ledger's name is another one, of which no snapshot has a block."""
        self._in_place = InPlace(self._layout.ledger)
        self._versions = Versions()
        current = self.number if self._published is None else self._published
        for number, path in self._layout.snapshots().items():
            if number != current:  # none of them may become the next one
                path.unlink(missing_ok=True)

    def forget_older(self) -> None:
        """Remove every copy of the ledger but the newest: what they hold was erased.

        Raises:
            OSError: One could not be removed.
        """
        for number, path in self._layout.snapshots().items():
            if number != self._published:
                path.unlink(missing_ok=True)
        self._layout.verified.unlink(missing_ok=True)
        for path in self._layout.kept():
            path.unlink()
        sync_folder(self._layout.data_dir)
        self._begin_apart()
        self.keep_apart()

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

    def shorten_log(self, most: int) -> bool:
        """Put what is in the write-ahead log into the file, if the log is longer than `most` bytes.

        What only the log has on disk is in memory as well, in up to three times as many bytes. While
        the file is copied, it has to stand still. Return whether the log is short.
        """
        try:
            is_short = self._layout.log.stat().st_size <= most
        except FileNotFoundError:
            return True
        if not is_short and not self.is_under_way:
            with translated(self._layout.ledger), _failing(self._layout):
                self._checkpoint()
            return True
        return is_short

    def keep_apart(self, at_most_s: float = math.inf) -> None:
        """Go on for so long, about, with a copy of a snapshot that is kept outside of the rotation.

        It is begun about once a day. The snapshots of the rotation may share blocks with the ledger,
        and are all of the last minutes. The first snapshot of a ledger holds nothing that is worth it.
        """
        if self._apart is None:
            return
        draft = self._apart_draft()
        try:
            if self._apart.advance(self._after(at_most_s)):
                draft.replace(self._layout.verified)
                self._give_up_apart()
        except (OSError, BlockError) as error:
            self._give_up_apart(error)

    def close(self) -> None:
        """Leave off what is under way. What is published stays."""
        self._give_up()
        self._give_up_apart()

    def _begin_apart(self) -> None:
        self._give_up_apart()
        source = self._layout.snapshot(self.number)
        try:
            require_room(self._layout.data_dir, source.stat().st_size + LEFT_BYTES)
            self._apart = copy_of(source, self._apart_draft())
        except (OSError, BlockError) as error:
            self._give_up_apart(error)

    def _give_up_apart(self, problem: Exception | None = None) -> None:
        if self._apart is not None:
            self._apart.close()
            self._apart = None
        with contextlib.suppress(OSError):
            self._apart_draft().unlink(missing_ok=True)
        if problem is not None:
            self._next_apart = self._clock.ticks() + APART_AGAIN_S
            _log.warning(
                "no snapshot could be kept apart in %s, which is tried again in an hour: %s",
                self._layout.verified,
                problem,
            )

    def _apart_draft(self) -> Path:
        return self._layout.verified.with_name(self._layout.verified.name + ".tmp")

    def _draft(self) -> Path:
        target = self._layout.snapshot(self.number + 1)
        return target.with_name(target.name + ".tmp")

    def _spares(self) -> dict[int, Path]:
        """Return the old snapshots that may become the next one: those that would be removed after it."""
        old = [*self._layout.snapshots().items()][: 1 - KEPT]
        return {
            number: path
            for number, path in reversed(old)
            if number != self._published and self._is_old(path, SPARE_S)
        }

    def _is_old(self, path: Path, age_s: float) -> bool:
        """Whether it is so old, or of the far future: made before the clock was set back; or not there."""
        try:
            return abs(self._clock.now().timestamp() - path.stat().st_mtime) >= age_s
        except FileNotFoundError:
            return True

    def _after(self, seconds: float) -> Callable[[], bool]:
        end = self._clock.ticks() + seconds
        return lambda: self._clock.ticks() >= end

    def _checkpoint(self) -> None:
        self._connection.execute("CHECKPOINT")
        with self._reading():
            self._versions.note(blocks_of(self._layout.ledger))

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except BlockError as error:
            _log.error("a copy of %s cannot be read: %s", self._layout.ledger, error)
            raise LedgerDamaged(self._layout.ledger, str(error)) from error

    def _give_up(self) -> None:
        if self._copy is not None:
            self._copy.close()
            self._copy = None
        with contextlib.suppress(OSError):
            self._draft().unlink(missing_ok=True)

    @contextlib.contextmanager
    def _trying(self) -> Iterator[None]:
        """Count what a publish takes; after a failure, leave it off and rest as after any other."""
        began = self._clock.ticks()
        try:
            with _failing(self._layout), self._reading():
                yield
        except BaseException:
            written = self._copy.cost_bytes if self._copy is not None else 0
            self._give_up()
            ended = self._clock.ticks()
            self._pacing.tried(ended, self._took_s + ended - began, written)
            raise
        self._took_s += self._clock.ticks() - began

    def _recall_versions(self) -> None:
        """Know the snapshots of a writer that was closed in order, if its file is still the same."""
        last = read_heartbeat(self._layout.heartbeat)
        if (
            last is None
            or not last.is_final
            or last.snapshot != self.number
            or last.known_from is None
            or last.ledger_file != file_of(self._layout.ledger)
        ):
            return
        with contextlib.suppress(OSError, BlockError):
            versions = Versions()
            for number, path in self._layout.snapshots().items():
                if last.known_from <= number <= self.number:
                    versions.publish(number, blocks_of(path))
            newest = blocks_of(self._layout.snapshot(self.number))
            if newest.iteration == blocks_of(self._layout.ledger).iteration:
                self._versions = versions

    def check_in_place(self) -> None:
        """Raise `LedgerMoved` when the ledger's file is not the one under its name any more.

        The log is for its owner alone as well: DuckDB makes it anew, with the rights that the process gives.
        """
        self._in_place.check()
        tighten([self._layout.log])

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
            known_from=None if running else self._versions.first,
        )
        write_heartbeat(self._layout.heartbeat, beat)

    def _has_log(self) -> bool:
        log = self._layout.log
        return log.exists() and log.stat().st_size > 0


@contextlib.contextmanager
def _failing(layout: Layout) -> Iterator[None]:
    """Raise what the disk refuses as `SnapshotFailed`."""
    try:
        yield
    except OSError as error:
        raise SnapshotFailed(layout.data_dir, str(error)) from error


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
