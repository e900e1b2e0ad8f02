"""Open the ledger file and bring its tables and views up to the version that this code knows.

A migration is a numbered file, applied in one transaction with its row in `schema_migrations`, so
a kill leaves it done or not begun. A new ledger takes all of them in one, gets its name only when it
is complete, and is made only where no snapshot speaks of another one. A ledger of a newer version is
not touched: not even its write-ahead log is replayed.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from typing import TYPE_CHECKING

import duckdb

from voicecosts.consumer.errors import LedgerMissing, LedgerNewer
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.faults import translated
from voicecosts.consumer.store.files import PRIVATE, sync_folder
from voicecosts.consumer.store.sealing import name_sealed

if TYPE_CHECKING:
    from pathlib import Path

    from voicecosts.consumer.store.layout import Layout

_log = logging.getLogger(__name__)

_FORMAT = "v1.5.0"  # the oldest format that has what we use: 1.5 and 2.0 both read and write it
_MEMORY = "400MB"
_THREADS = 1  # each more has memory of its own, and adds up no quicker than it costs
_HOLLOW_BYTES = 64 * 2**20  # a smaller file costs little, whatever is in it
_NEVER = "1TB"  # only `snapshots` checkpoints: the file must not change while it is copied
_WITHOUT_LOG = (
    "SET wal_autocheckpoint = '1KB'"  # larger transactions: their log is many times as large
)


def open_database(layout: Layout, now_us: int) -> duckdb.DuckDBPyConnection:
    """Return a connection to the ledger, created or migrated if it must be."""
    with translated(layout.ledger):
        if layout.ledger.exists():
            _refuse_newer(layout)
        else:
            _refuse_lost(layout)
            _create(layout, now_us)
        connection = _connect(layout.ledger)
        try:
            if not _version(connection, layout):  # an empty file
                _refuse_lost(layout)
            _migrate(connection, layout, now_us)
            if _is_hollow(connection, layout.ledger):
                close(connection)
                _rewrite(layout, now_us)
                connection = _connect(layout.ledger)
            write_views(connection, layout)
        except BaseException:
            close(connection)
            raise
        return connection


def close(connection: duckdb.DuckDBPyConnection) -> None:
    """Close a connection after DuckDB's own threads have ended.

    A thread that still lets go of the last task of a query while its database is closed reads freed
    memory and ends the process (seen with DuckDB 1.5.6 after a join). With one thread there is only
    the caller's.
    """
    with contextlib.suppress(duckdb.Error):  # a database that failed refuses everything but this
        connection.execute("SET threads = 1")
    connection.close()


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        path,
        config={
            "storage_compatibility_version": _FORMAT,
            "wal_autocheckpoint": _NEVER,
            "memory_limit": _MEMORY,
            "threads": _THREADS,
        },
    )


def _create(layout: Layout, now_us: int) -> None:
    # 1. A draft under another name. If we die, the next open removes it and starts over.
    connection = make_draft(layout.draft, now_us)
    try:
        finish_draft(connection, layout.draft)
    finally:
        close(connection)
    # 2. Now it is the ledger: there is never an incomplete one under this name.
    layout.draft.rename(layout.ledger)
    sync_folder(layout.ledger_dir)


def make_draft(path: Path, now_us: int) -> duckdb.DuckDBPyConnection:
    """Return a connection to an empty ledger under another name; it has no views yet."""
    connection = _connect(path)
    connection.begin()
    for version, migration in sql.migrations().items():
        _apply(connection, version, migration, now_us)
    connection.commit()
    return connection


def finish_draft(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Have all of a draft in its one file, for its owner alone, and on the disk.

    Closing a database does this as well, and says nothing when it fails: what is in the log would be lost.

    Raises:
        duckdb.Error: There is no room for it, or the disk fails.
    """
    connection.execute("CHECKPOINT")
    path.chmod(PRIVATE)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _is_hollow(connection: duckdb.DuckDBPyConnection, path: Path) -> bool:
    """Return whether most of a large file is free: what days left that were sealed, many at once.

    DuckDB fills free blocks again and gives none back, and a snapshot is a copy of all of them.
    """
    if path.stat().st_size < _HOLLOW_BYTES:
        return False
    row = connection.execute(sql.FREE_BLOCKS).fetchone()
    return row is not None and bool(row[0])


def _rewrite(layout: Layout, now_us: int) -> None:
    """Put a copy of the ledger in its place that has no free blocks; where it cannot, the ledger stays.

    Views are not copied: opening writes them.
    """
    before = layout.ledger.stat().st_size
    try:
        _write_anew(layout, now_us)
    except (duckdb.Error, OSError) as error:
        _log.warning("%s has free space that was not reclaimed: %s", layout.ledger, error)
        return
    after = layout.ledger.stat().st_size
    _log.info("%s takes %d MB now, %d MB before", layout.ledger, after >> 20, before >> 20)


def rewrite_open(connection: duckdb.DuckDBPyConnection, layout: Layout, now_us: int) -> None:
    """Put a copy of an open ledger in its place that has nothing of what was removed; the connection stays.

    Raises:
        OSError: There is no room for it, or the disk fails. The ledger is as it was.
    """
    name = layout.ledger.stem
    # 1. Everything is in the one file, and nobody has it open. If we die, it opens as it is.
    connection.execute("CHECKPOINT")
    connection.execute("ATTACH ':memory:' AS nothing")
    connection.execute("USE nothing")
    connection.execute(f"DETACH {name}")
    problem: Exception | None = None
    try:
        # 2. As for a hollow file.
        _write_anew(layout, now_us)
    except (duckdb.Error, OSError) as error:
        problem = error
    quoted = str(layout.ledger).replace("'", "''")
    connection.execute(f"ATTACH '{quoted}' AS {name}")
    connection.execute(f"USE {name}")
    connection.execute("DETACH nothing")
    if problem is not None:
        raise OSError(str(problem).partition("\n")[0]) from problem
    write_views(connection, layout)


def _write_anew(layout: Layout, now_us: int) -> None:
    """Write the ledger to another file, which takes its name."""
    try:
        # 1. A draft under another name. If we die, the next open removes it and starts over.
        connection = make_draft(layout.draft, now_us)
        try:
            connection.execute(_WITHOUT_LOG)
            _copy_tables(connection, layout)
            finish_draft(connection, layout.draft)
        finally:
            close(connection)
    except (duckdb.Error, OSError):
        for path in (layout.draft, layout.draft.with_name(layout.draft.name + ".wal")):
            path.unlink(missing_ok=True)
        raise
    # 2. It has every row. If we die before or after, there is one whole ledger under this name.
    layout.draft.rename(layout.ledger)
    sync_folder(layout.ledger_dir)


def _copy_tables(connection: duckdb.DuckDBPyConnection, layout: Layout) -> None:
    """Copy all rows of a ledger into an empty one of the same version, and compare the two."""
    if layout.log.exists() and layout.log.stat().st_size:  # it would be read into the new file
        raise OSError(f"{layout.log.name} has rows that are not in the file")
    quoted = str(layout.ledger).replace("'", "''")
    connection.execute(f"ATTACH '{quoted}' AS old (READ_ONLY)")
    [(_, old), (_, new)] = connection.execute(sql.TABLES).fetchall()
    if new != old:
        raise OSError(f"its tables are {', '.join(old)}, not {', '.join(new)}")
    connection.begin()
    for table in new:
        connection.execute(sql.clear_table(table))
        connection.execute(sql.copy_table(table))
    connection.commit()
    for table in new:
        rows, kept = connection.execute(sql.compare_table(table)).fetchall()
        if rows != kept:
            raise OSError(f"the copy of {table} differs")
    connection.execute("DETACH old")


def _refuse_lost(layout: Layout) -> None:
    """Raise `LedgerMissing` where snapshots of a ledger are: a new one would publish over them."""
    snapshots = [*reversed(layout.snapshots().values()), layout.verified]
    if (found := next((path for path in snapshots if path.is_file()), None)) is not None:
        raise LedgerMissing(layout.ledger, found)


def _refuse_newer(layout: Layout) -> None:
    """Raise `LedgerNewer` before a write-ahead log is replayed; without one, opening changes nothing."""
    if not layout.log.exists():
        return
    connection = duckdb.connect(layout.ledger, read_only=True)
    try:
        _version(connection, layout)
    finally:
        close(connection)


def _version(connection: duckdb.DuckDBPyConnection, layout: Layout) -> int:
    """Return the version of a ledger. Raises `LedgerNewer` if this code does not know it."""
    try:
        row = connection.execute(sql.LOAD_VERSION).fetchone()
    except duckdb.CatalogException:  # it has no tables yet
        return 0
    found, known = 0 if row is None else int(row[0]), max(sql.migrations())
    if found > known:
        raise LedgerNewer(layout.ledger, found, known)
    return found


def _migrate(connection: duckdb.DuckDBPyConnection, layout: Layout, now_us: int) -> None:
    done = _version(connection, layout)
    for version, migration in sql.migrations().items():
        if version > done:
            name, _ = migration
            _log.info("%s is brought to version %d (%s)", layout.ledger, version, name)
            # 1. All of it or nothing. If we die, the next open begins with this one.
            connection.begin()
            _apply(connection, version, migration, now_us)
            connection.commit()
            # 2. What only the write-ahead log has is in memory as well, until it is in the file.
            connection.execute("CHECKPOINT")


def write_views(connection: duckdb.DuckDBPyConnection, layout: Layout) -> None:
    """Write the views, unless they are those that this code wrote with this DuckDB for these tables."""
    written = f"{max(sql.migrations())} {duckdb.__version__} {sql.VIEWS}"
    mark = hashlib.sha256(written.encode()).hexdigest()
    connection.begin()  # one commit for all of them
    if (mark,) not in connection.execute(sql.MARK_OF_VIEWS).fetchall():
        connection.execute(sql.VIEWS)
        connection.execute(sql.mark_views(mark))
    name_sealed(connection, layout)
    connection.commit()


def _apply(
    connection: duckdb.DuckDBPyConnection, version: int, migration: tuple[str, str], now_us: int
) -> None:
    name, text = migration
    connection.execute(sql.CREATE_HISTORY)
    connection.execute(text)
    connection.execute(sql.MARK_MIGRATION, {"version": version, "name": name, "applied_at": now_us})
