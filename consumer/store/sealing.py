"""Seal days: move the rows of days that are over from the ledger file into files that never change.

What a snapshot costs then depends on what is new, not on all that ever was. No number changes: sums are
of folded rows, and the view `usage` has the rows of the ledger file and of the sealed files together.
Rows that come late for a sealed day are booked as always, and sealed later as a further file of it.
The work is done in slices, so that a ledger with years of rows is sealed between two groups of messages.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
from typing import TYPE_CHECKING, Final

import duckdb
from msgspec import Struct

from voicecosts.consumer.store import sql
from voicecosts.consumer.store.faults import is_damage
from voicecosts.consumer.store.files import PRIVATE, make_folder, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date
    from pathlib import Path

    from voicecosts.consumer.store.folding import Folding
    from voicecosts.consumer.store.layout import Layout

_log = logging.getLogger(__name__)

GRACE_US: Final = 24 * 3_600 * 1_000_000
"""How long a day is over before it is sealed, by the clock of the ledger."""

QUIET_US: Final = 6 * 3_600 * 1_000_000
"""How long no row of a day was booked before it is sealed."""

SEAL_ROWS: Final = 100_000
"""Rows of quiet days in the ledger file before it is worth it: less is read in ten milliseconds, and
a small ledger stays one file."""

LEAST_ROWS: Final = 1_000
"""Rows of one day in the ledger file before they become a file: what comes late, some rows at a time, would make
a file each time, and the views name all of them."""

SLICE_ROWS: Final = 50_000
"""Rows of one file, at most: it takes about 0.2 s to write, and then 0.1 s to move them."""

LOOK_S: Final = 600.0
"""How often it is looked for quiet days: all rows of the ledger file are counted then."""

_DAY_US: Final = 86_400 * 1_000_000
_PATTERN: Final = frozenset("*?[\\")


class Span(Struct, frozen=True):
    """Some rows of a day that follow each other in the ledger file."""

    day: date
    first: int
    last: int
    rows: int

    @property
    def values(self) -> dict[str, object]:
        """What the statements call it."""
        return {"day": self.day, "first": self.first, "last": self.last}


class Written(Struct, frozen=True):
    """A file that is complete and under its name, whose rows are still in the ledger file."""

    span: Span
    name: str
    digest: str


class Sealing:
    """The days of one ledger that wait to be sealed."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        layout: Layout,
        folding: Folding,
        ticks: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._layout = layout
        self._folding = folding
        self._ticks = ticks
        self._next_look = ticks()
        self._days: list[date] = []  # the newest first
        self._written: Written | None = None

    def __repr__(self) -> str:
        return f"<Sealing: {len(self._days)} days wait>"

    @property
    def is_due(self) -> bool:
        """Whether there are days to seal."""
        return bool(self._days)

    def look(self, now_us: int) -> None:
        """Look for days to seal, when it is time to. Cheap to call often."""
        if not self._days and self._ticks() >= self._next_look:
            self._look(now_us)

    def step(self, now_us: int) -> bool:
        """Do a bounded part; return whether the ledger has changed.

        That is to write a file of rows of the oldest day, or to move the rows that were written. Where there
        is no room for it, on the disk or in memory, that is a warning: the rows stay where they are, and it
        is tried again later.
        """
        if self._written is not None:
            return self._move(self._written, now_us)
        try:
            return self._seal()
        except (OSError, duckdb.IOException, duckdb.OutOfMemoryException) as error:
            if is_damage(str(error)):
                raise
            self._give_up(error)
        return False

    def drop(self) -> None:
        """Remove the file whose rows were not moved, if there is one. Safe to call twice."""
        written, self._written = self._written, None
        if written is not None:
            (self._layout.data_dir / written.name).unlink(missing_ok=True)

    def _look(self, now_us: int) -> None:
        self._next_look = self._ticks() + LOOK_S
        found = self._connection.execute(
            sql.FIND_SEALABLE,
            {
                "begun_before": now_us - GRACE_US - _DAY_US,
                "booked_before": now_us - QUIET_US,
                "least": LEAST_ROWS,
            },
        ).fetchall()
        if sum(rows for _, rows in found) < SEAL_ROWS:
            return
        if _PATTERN & set(str(self._layout.data_dir.absolute())):
            self._next_look = math.inf
            _log.warning(
                "%s has a character that DuckDB takes for a pattern (*, ?, [ or \\), so no day is sealed: "
                "move the data directory to a path without it",
                self._layout.data_dir,
            )
            return
        self._days = [day for day, _ in reversed(found)]

    def _seal(self) -> bool:
        """Write a file of rows of the oldest day that waits; return whether the ledger has changed."""
        span = self._span(self._days[-1])
        if span is None:
            day = self._days.pop()
            _log.info("day %s is sealed; %d days are left to seal", day, len(self._days))
            return False
        # 1. All of its rows are in sums. If we die, they are in the ledger file as well.
        if span.last > self._folding.folded_to:
            self._folding.fold()
            return True
        name = self._layout.sealed_name(span.day, span.first, span.last)
        path = self._layout.data_dir / name
        try:
            digest = self._write(span, path)
        except BaseException:
            for left in (path.with_name(path.name + ".tmp"), path):  # nobody knows of either
                with contextlib.suppress(OSError):
                    left.unlink()
            raise
        self._written = Written(span, name, digest)
        return False

    def _give_up(self, error: Exception) -> None:
        """Leave everything as it is until it is next looked for days."""
        with contextlib.suppress(duckdb.TransactionException):  # none is open
            self._connection.rollback()
        day = self._days[-1]
        self._days.clear()
        problem = str(error).partition("\n")[0]
        _log.warning("day %s cannot be sealed, and is kept as it is: %s", day, problem)

    def _span(self, day: date) -> Span | None:
        found = self._connection.execute(
            sql.SPAN_TO_SEAL, {"day": day, "most": SLICE_ROWS}
        ).fetchone()
        if found is None or not found[2]:
            return None
        return Span(day, *found)

    def _write(self, span: Span, path: Path) -> str:
        """Write the file of some rows, and return its checksum when it is on the disk under its name."""
        make_folder(path.parent)
        draft = path.with_name(path.name + ".tmp")
        # 2. A draft that nobody reads. If we die, the next opening removes it.
        self._connection.execute(sql.SEAL_ROWS, {**span.values, "file": str(draft)})
        draft.chmod(PRIVATE)
        rows = self._connection.execute(sql.SUM_OF_ROWS, span.values).fetchone()
        if self._connection.execute(sql.SUM_OF_FILE, {"file": str(draft)}).fetchone() != rows:
            raise OSError(f"{draft} does not hold what was written to it")
        with draft.open("rb") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        # 3. A complete file that no row names. If we die, the next opening finds its rows in the
        #    ledger file, and removes it.
        draft.rename(path)
        for folder in (path.parent, *path.parent.parents):
            sync_folder(folder)
            if folder == self._layout.data_dir:
                break
        return digest

    def _move(self, written: Written, now_us: int) -> bool:
        """Have the rows of a file in it alone; return whether that was done."""
        try:
            self._prepare(written, now_us)
        except (OSError, duckdb.OutOfMemoryException) as error:
            self._give_up(error)
            self.drop()
            return False
        # 4. All or nothing: the rows are in the file alone, and the views name it. Whether this fails or not,
        #    the ledger's file alone says who has the rows, so from here on nobody removes the other one.
        self._written = None
        self._connection.commit()
        return True

    def _prepare(self, written: Written, now_us: int) -> None:
        span, values = written.span, written.span.values
        self._connection.begin()
        self._connection.execute(sql.FIND_MERGED, values)
        self._connection.execute(
            sql.RECORD_SEALED,
            {
                **values,
                "file": written.name,
                "rows": span.rows,
                "bytes": (self._layout.data_dir / written.name).stat().st_size,
                "sha256": written.digest,
                "version": max(sql.migrations()),
                "sealed_at": now_us,
            },
        )
        removed = self._connection.execute(sql.REMOVE_SEALED, values).fetchone()
        if removed != (span.rows,):
            raise duckdb.DataError(f"{removed} rows of {span} were removed")
        # The sums of a meter that were folded at different times become one row.
        self._connection.execute(sql.REMOVE_MERGED)
        self._connection.execute(sql.INSERT_MERGED)
        self._connection.execute(sql.DROP_MERGED)
        name_sealed(self._connection, self._layout)


def name_sealed(
    connection: duckdb.DuckDBPyConnection, layout: Layout, *, may_be_last: bool = False
) -> None:
    """Have the view `usage` read the files that are recorded, in the open transaction.

    None of them needs to be there for this. Where none is recorded it does nothing, unless `may_be_last`.
    """
    found = connection.execute(sql.SEALED_FILES).fetchall()
    if found or may_be_last:
        folder = str(layout.data_dir.absolute())
        connection.execute(sql.all_bookings(folder, [files for _, files in found]))


def remove_unrecorded(connection: duckdb.DuckDBPyConnection, layout: Layout) -> None:
    """Remove the files of sealed days that a killed writer did not come to record.

    All of their rows are in the ledger file. One that has others is of a ledger that was newer than
    this one, an older copy that was restored: it may be the only one that has them, and stays. One that
    waits to be removed is left to `Removal`.
    """
    recorded = {name for (name,) in connection.execute(sql.RECORDED_FILES).fetchall()}
    recorded |= {name for name, *_ in connection.execute(sql.LOAD_REMOVED_FILES).fetchall()}
    for name, path in layout.sealed_files().items():
        if name in recorded:
            continue
        try:
            read = {"file": sql.literal(str(path))}
            kept, rows = connection.execute(sql.UNSEALED_ROWS, read).fetchone() or (0, 1)
        except duckdb.Error as error:
            if is_damage(str(error)) and path.name not in str(error):  # the ledger itself
                raise
            kept, rows = 0, 1
        if kept == rows:
            try:
                path.unlink()
            except OSError as error:
                _log.warning(
                    "%s, all of whose rows the ledger has, cannot be removed: %s", path, error
                )
        else:
            _log.warning(
                "%s has rows that this ledger has neither recorded nor booked: was an older copy of the "
                "ledger put in its place? The file is in no answer, and is kept",
                path,
            )
