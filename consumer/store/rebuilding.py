"""Make a ledger anew of its rows: beside the old one, which is read and never written.

What was booked and what was noted is copied: rows, sessions, operations, prices, dead letters, how far the stream is
booked. What follows from rows is made of them by the same statements that the ledger uses: sums, readings that came,
what calls came to. Days whose single rows are not all there keep the sums that the old one has. The new one is
compared with its rows, and then takes the old one's place; the old one keeps another name.
"""

from __future__ import annotations

import contextlib
import os
from datetime import date
from typing import TYPE_CHECKING, Final

import duckdb
from msgspec import Struct

from voicecosts.consumer.booking.packing import pack
from voicecosts.consumer.booking.prices import PricesUsed
from voicecosts.consumer.errors import LedgerDamaged, LedgerMissing, RebuildFailed
from voicecosts.consumer.store import months, sql
from voicecosts.consumer.store.database import close, finish_draft, make_draft, write_views
from voicecosts.consumer.store.faults import is_damage, translated
from voicecosts.consumer.store.files import sync_folder, write_private
from voicecosts.consumer.store.folding import LOG_BYTES, Folding
from voicecosts.consumer.store.load import load_sessions
from voicecosts.consumer.store.places import Places
from voicecosts.consumer.store.proof import Proof, compare_files, prove, reading

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from voicecosts.consumer.booking.sessions import SessionKey
    from voicecosts.consumer.store.layout import Layout

SLICE_ROWS: Final = 50_000
"""Single rows that are added up at a time, about."""

MADE_ANEW: Final = frozenset(
    (
        "bookings",
        "folded_usage",
        "folded_months",
        "session_readings",
        "settled_sessions",
        "pending_sessions",
        "fold_state",
    )
)
"""The tables that are not copied as they are; rows of `bookings` are, when the others are made."""


class Lost(Struct, frozen=True):
    """A day whose single rows are not all there: how many are not, and the files that cannot be read."""

    day: date
    rows: int
    files: tuple[str, ...]

    def __str__(self) -> str:
        if self.files:
            return f"{self.day}: {', '.join(self.files)}"
        return f"{self.day}: {self.rows:,} single rows are gone"


class Found(Struct, frozen=True):
    """What a ledger can be made of: its own file or a snapshot, and what is wrong there.

    `problem` is why it is not the ledger's own file; `proof` is None where sums cannot be read.
    """

    source: Path
    problem: str
    proof: Proof | None
    lost: tuple[Lost, ...]


def find_source(layout: Layout, now_us: int) -> Found:
    """Find what the ledger can be made of: its own file where that can be read, else the newest snapshot.

    Raises:
        LedgerDamaged: None of them can be read; it is about the first one.
        LedgerMissing: There is nothing.
    """
    candidates = [layout.ledger, *reversed(layout.snapshots().values()), layout.verified]
    first: Exception | None = None
    for path in candidates:
        if not path.is_file():
            continue
        try:
            return _look(
                path, layout, now_us, "" if first is None else str(first).partition("\n")[0]
            )
        except duckdb.Error as error:
            if not is_damage(str(error)):
                with translated(path):
                    raise
            first = first or error
    if first is None:
        raise LedgerMissing(layout.ledger, None)
    raise LedgerDamaged(layout.ledger, str(first).partition("\n")[0])


def _look(path: Path, layout: Layout, now_us: int, problem: str) -> Found:
    if not problem and not layout.ledger.exists():
        problem = "it is gone"
    with reading(path, layout) as books:
        _read_kept(books)
        try:
            proof: Proof | None = prove(books, layout, now_us)
        except duckdb.Error as error:
            if not is_damage(str(error)):
                raise
            proof = None
        files = compare_files(books, layout) if proof is None else proof
        try:
            lost = _lost(books, files.bad_files)
        except duckdb.Error as error:
            if not is_damage(str(error)) or files.bad_files:
                raise
            lost = ()
    return Found(path, problem, proof, lost)


def _read_kept(books: duckdb.DuckDBPyConnection) -> None:
    """Read all that is copied, so that what is damaged there is known before anything is made."""
    for table in _kept_tables(books):
        books.execute(sql.sum_of_table(table)).fetchall()
    books.execute(sql.sum_of_table("bookings")).fetchall()


def _kept_tables(books: duckdb.DuckDBPyConnection) -> list[str]:
    [(_, tables)] = books.execute(sql.TABLES).fetchall()
    return [table for table in tables if table not in MADE_ANEW]


def _lost(books: duckdb.DuckDBPyConnection, bad_files: Collection[str]) -> tuple[Lost, ...]:
    """Return the days whose single rows are not all there.

    Rows are numbered as they are booked, so it is known how many there were; where a tenant was erased, what the
    sums say counts.
    """
    (missing,) = books.execute(sql.COUNT_MISSING_ROWS).fetchone() or (0,)
    files: dict[date, list[str]] = {}
    for day, name, *_ in books.execute(sql.LOAD_SEALED).fetchall():
        if name in bad_files:
            files.setdefault(day, []).append(name)
    found = []
    for day, folded, hot, sealed, removed, _ in books.execute(sql.DETAIL_BY_DAY).fetchall():
        gone = max(0, folded - hot - sealed - removed) if missing else 0
        if gone or day in files:
            found.append(Lost(day, gone, tuple(files.get(day, ()))))
    return tuple(found)


class Rebuilding:
    """A ledger that is being made anew of what was found. Its holder has the writer's lock."""

    def __init__(self, layout: Layout, found: Found, now_us: int) -> None:
        self._layout = layout
        self._found = found
        self._now_us = now_us
        self._taken_over: set[date] = set()

    def make(self) -> Proof:
        """Write the new ledger beside the old one, and return what came of its comparison with its rows.

        Raises:
            RebuildFailed: It is not what it should be; the old one is as it was.
            OSError: There is no room for it.
        """
        layout = self._layout
        self.drop()
        # 1. A draft under another name. If we die, the next opening removes it.
        connection = make_draft(layout.rebuilt, self._now_us)
        try:
            self._write(connection)
            finish_draft(connection, layout.rebuilt)
        finally:
            close(connection)
        with reading(layout.rebuilt, layout) as books:
            proof = prove(books, layout, self._now_us)
        if not proof.is_whole:
            self.drop()
            first = proof.differences[0]
            raise RebuildFailed(
                f"what was made of {self._found.source} is not whole: {first.what} {first.quantity} should be "
                f"{first.expected} and is {first.found}"
            )
        return proof

    def drop(self) -> None:
        """Remove what was made."""
        for path in (self._layout.rebuilt, self._layout.rebuilt_log):
            path.unlink(missing_ok=True)

    def swap(self, name: str) -> Path | None:
        """Put the new ledger in the old one's place; return where the old one is kept, if there was one."""
        layout = self._layout
        kept = layout.before(name)
        for lost in self._found.lost:
            for each in lost.files:
                path = layout.data_dir.joinpath(each)
                # 2. A file that nobody can read has another name. If we die, the old ledger lacks it as before.
                with contextlib.suppress(FileNotFoundError):
                    path.rename(path.with_name(path.name + ".damaged"))
        # 3. The old one has another name as well. If we die, the next opening removes that.
        for path, other in ((layout.ledger, kept), (layout.log, layout.log_of(kept))):
            if path.exists():
                os.link(path, other)
        sync_folder(layout.ledger_dir)
        # 4. It is said that the new one is to take the place. If we die from here on, the next opening goes on.
        write_private(layout.swap, b"", synced=True)
        finish_swap(layout)
        return kept if kept.exists() else None

    def _write(self, connection: duckdb.DuckDBPyConnection) -> None:
        quoted = str(self._found.source).replace("'", "''")
        connection.execute(f"ATTACH '{quoted}' AS old (READ_ONLY)")
        self._copy_kept(connection)
        self._forget_lost(connection)
        self._add_up(connection)
        connection.begin()
        connection.execute(sql.COPY_BOOKINGS)
        connection.execute(sql.CLEAR_FOLDED)
        last = connection.execute(sql.LAST_OF_OLD).fetchone()
        connection.execute(sql.WRITE_FOLDED, {"folded_to": (last and last[0]) or 0})
        connection.execute(sql.ALL_PENDING)
        connection.commit()
        _require_same(connection, "bookings")
        connection.execute("DETACH old")
        connection.execute("CHECKPOINT")
        write_views(connection, self._layout)
        self._settle(connection)
        connection.execute("CHECKPOINT")

    def _copy_kept(self, connection: duckdb.DuckDBPyConnection) -> None:
        [(_, old), (_, new)] = connection.execute(sql.TABLES).fetchall()
        if new != old:
            raise RebuildFailed(f"its tables are {', '.join(old)}, not {', '.join(new)}")
        kept = [table for table in new if table not in MADE_ANEW]
        connection.begin()
        for table in kept:
            connection.execute(sql.clear_table(table))
            connection.execute(sql.copy_table(table))
        connection.commit()
        for table in kept:
            _require_same(connection, table)
        connection.execute("CHECKPOINT")

    def _forget_lost(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Note that single rows are gone, as if they had been removed by age: answers say so then."""
        removed = connection.execute(sql.DAYS_OF_REMOVED).fetchall()
        self._taken_over = {day for (day,) in removed} | {it.day for it in self._found.lost}
        connection.begin()
        for lost in self._found.lost:
            sizes = connection.execute(sql.SIZE_OF_FILES, {"files": list(lost.files)}).fetchone()
            rows, size = sizes or (0, 0)
            connection.execute(sql.FORGET_FILES, {"files": list(lost.files)})
            connection.execute(
                sql.NOTE_REMOVED_DETAIL,
                {
                    "day": lost.day,
                    "rows": lost.rows + rows,
                    "bytes": size,
                    "removed_at": self._now_us,
                },
            )
        connection.commit()

    def _add_up(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Add up the rows of one day after the other, all rows of a session at once."""
        files: dict[date, list[str]] = {}
        for day, name, *_ in connection.execute(sql.LOAD_SEALED).fetchall():
            files.setdefault(day, []).append(str(self._layout.data_dir.joinpath(name)))
        every = [path for paths in files.values() for path in paths]
        taken_over = sorted(self._taken_over)
        connection.execute(sql.late_rows(every))
        days = connection.execute(sql.DAYS_TO_FOLD, {"taken_over": taken_over}).fetchall()
        for day, rows in days:
            if day in self._taken_over:
                connection.execute(sql.TAKE_SUMS_OVER, {"day": day})
                connection.execute(sql.TAKE_READINGS_OVER, {"day": day})
            statement = sql.rows_of_day(files.get(day, []))
            parts = rows // SLICE_ROWS + 1
            for part in range(parts):
                span = {"day": day, "parts": parts, "part": part, "taken_over": taken_over}
                connection.execute(statement, span)
                self._fold(connection)
                connection.execute("DROP TABLE temp.bookings")
        connection.execute("DROP TABLE temp.late_rows")
        connection.begin()
        months.add_all(connection)
        connection.commit()

    def _fold(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Add up the rows that were taken, as the ledger adds up those of its own."""
        span = {"after": 0, "upto": 2**62}
        connection.begin()
        connection.execute(sql.FOLD_USAGE, span)
        connection.execute(sql.FOLD_READINGS, span)
        connection.commit()
        self._shorten_log(connection)

    def _settle(self, connection: duckdb.DuckDBPyConnection) -> None:
        prices = PricesUsed(connection.execute(sql.LOAD_PRICES_USED).fetchall())

        def packed(keys: Collection[SessionKey]) -> Mapping[SessionKey, bytes]:
            found = load_sessions(connection, keys, prices)
            return {key: pack(found[key], prices) for key in keys}

        folding = Folding(connection, Places(connection), packed)
        while folding.is_due and (folding.settle(self._now_us) or folding.is_due):
            self._shorten_log(connection)

    def _shorten_log(self, connection: duckdb.DuckDBPyConnection) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._layout.rebuilt_log.stat().st_size > LOG_BYTES:
                connection.execute("CHECKPOINT")


def finish_swap(layout: Layout) -> None:
    """Go on with what takes the place of the ledger, where that was begun; the lock's holder may ask."""
    if not layout.swap.exists():
        return
    if layout.rebuilt.exists():
        # 5. What the log has is of the old file, which has it by its other name.
        layout.log.unlink(missing_ok=True)
        sync_folder(layout.ledger_dir)
        # 6. The new ledger has the name.
        layout.rebuilt.rename(layout.ledger)
        sync_folder(layout.ledger_dir)
    # 7. Nothing is left to do.
    layout.swap.unlink()
    sync_folder(layout.ledger_dir)


def _require_same(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    rows, kept = connection.execute(sql.compare_table(table)).fetchall()
    if rows != kept:
        raise RebuildFailed(f"the copy of {table} differs")
