"""Open the ledger file and bring its tables and views up to the version that this code knows.

A migration is a numbered file, applied in one transaction with its row in `schema_migrations`, so
a kill leaves it done or not begun. A new ledger takes all of them in one, gets its name only when it
is complete, and is made only where no snapshot speaks of another one. A ledger of a newer version is
not touched: not even its write-ahead log is replayed.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import duckdb

from voicecosts.consumer.errors import LedgerMissing, LedgerNewer
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.faults import translated
from voicecosts.consumer.store.files import PRIVATE, sync_folder

if TYPE_CHECKING:
    from pathlib import Path

    from voicecosts.consumer.store.layout import Layout

_FORMAT = "v1.5.0"  # the oldest format that has what we use: 1.5 and 2.0 both read and write it
_MEMORY = "400MB"
_THREADS = 1  # each more has memory of its own, and adds up no quicker than it costs
_NEVER = "1TB"  # only `snapshots` checkpoints: the file must not change while it is copied


def open_database(layout: Layout, now_us: int) -> duckdb.DuckDBPyConnection:
    """Return a connection to the ledger, created or migrated if it must be."""
    with translated(layout.ledger):
        if layout.ledger.exists():
            _refuse_newer(layout.ledger)
        else:
            _refuse_lost(layout)
            _create(layout, now_us)
        connection = _connect(layout.ledger)
        try:
            _migrate(connection, now_us)
            connection.begin()  # one commit for all of them
            connection.execute(sql.VIEWS)
            connection.commit()
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
    connection = _connect(layout.draft)
    connection.begin()
    for version, migration in sql.migrations().items():
        _apply(connection, version, migration, now_us)
    connection.commit()
    close(connection)
    # 2. All of it is in the one file, and on disk.
    layout.draft.chmod(PRIVATE)
    with layout.draft.open("rb") as file:
        os.fsync(file.fileno())
    # 3. Now it is the ledger: there is never an incomplete one under this name.
    layout.draft.rename(layout.ledger)
    sync_folder(layout.ledger_dir)


def _refuse_lost(layout: Layout) -> None:
    """Raise `LedgerMissing` where snapshots of a ledger are: a new one would publish over them."""
    snapshots = [*reversed(layout.snapshots().values()), layout.verified]
    if (found := next((path for path in snapshots if path.is_file()), None)) is not None:
        raise LedgerMissing(layout.ledger, found)


def _refuse_newer(path: Path) -> None:
    known = max(sql.migrations())
    connection = duckdb.connect(path, read_only=True)
    try:
        found = _version(connection)
    finally:
        close(connection)
    if found > known:
        raise LedgerNewer(path, found, known)


def _version(connection: duckdb.DuckDBPyConnection) -> int:
    has_history = connection.execute(sql.HAS_HISTORY).fetchone()
    if has_history is None or not has_history[0]:
        return 0
    row = connection.execute(sql.LOAD_VERSION).fetchone()
    return 0 if row is None else int(row[0])


def _migrate(connection: duckdb.DuckDBPyConnection, now_us: int) -> None:
    done = _version(connection)
    for version, migration in sql.migrations().items():
        if version > done:
            connection.begin()
            _apply(connection, version, migration, now_us)
            connection.commit()


def _apply(
    connection: duckdb.DuckDBPyConnection, version: int, migration: tuple[str, str], now_us: int
) -> None:
    name, text = migration
    connection.execute(sql.CREATE_HISTORY)
    connection.execute(text)
    connection.execute(sql.MARK_MIGRATION, {"version": version, "name": name, "applied_at": now_us})
