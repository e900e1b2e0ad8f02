"""Opening a snapshot of the ledger. The only file of this package that knows DuckDB.

A connection is read-only, sees one unchanging snapshot for as long as it lives, and never waits for
or holds up the ledger. A ledger with a newer schema than this version knows is refused.
"""

from __future__ import annotations

import re
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from msgspec import structs

from voicecosts.analytics.errors import (
    AnalyticsError,
    LedgerInUse,
    LedgerNewer,
    NoRoom,
    NotALedger,
    SealedMissing,
    SnapshotDamaged,
    require,
)
from voicecosts.analytics.snapshot.files import Snapshot, locate

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    import duckdb

    Connection = duckdb.DuckDBPyConnection

SCHEMA_VERSION: Final = 18
"""The newest schema that this version can read."""

_OPEN_ATTEMPTS: Final = 3
_VERSION: Final = "SELECT max(version) FROM schema_migrations"

_HELD: Final = "Could not set lock"
_OF_DISK: Final = ("duckdb_temp_storage", "offload")
_DAMAGED: Final = ("Corrupt", "Could not read enough bytes")
SEALED: Final = "sealed"
"""The folder with the files of sealed days, in the data directory."""

_MISSING: Final = re.compile(
    r'(?:No files found that match the pattern|Cannot open file) "(.*/sealed/[^"]*)"'
)
_AT_ONCE: Final = 1_000
"""Rows that are in memory as Python's values at once."""

_AGAIN_S: Final = 0.05
_LOOK_BESIDE: Final = "SET VARIABLE costs_dir = ?"

T = TypeVar("T")


def connect(data_dir: str | Path | None = None) -> duckdb.DuckDBPyConnection:
    """Return a read-only connection to the newest snapshot.

    `data_dir` is a data directory or a snapshot file; without it `COSTS_DATA_DIR` and then the
    user's data folder are used. Connect again to see a newer snapshot. Money is DECIMAL, times are
    TIMESTAMP in UTC; docs/views.md describes the views. The rows of sealed days are read from the folder
    `sealed` beside the snapshot, where there is one (in this connection, not in cursors of it).

    Raises:
        NoLedger: There is no snapshot there.
        LedgerNewer: It was written by a newer version.
        LedgerInUse: The file named is the ledger's own, not a snapshot.
        SnapshotDamaged: The file is not what the ledger wrote.
        MissingExtra: duckdb is not installed.
    """
    require("duckdb", needed_by="`voicecosts.connect`")
    return open_newest(data_dir)[0]


def load() -> None:
    """Load DuckDB; that it is not installed is said where it is used."""
    with suppress(ImportError):
        import duckdb  # noqa: F401, PLC0415 - see `_open`


def open_newest(
    where: str | Path | None, *, spill: Path | None = None
) -> tuple[Connection, Snapshot]:
    """Return a checked connection together with the snapshot that it reads.

    With a folder `spill` it uses a bounded amount of memory, and the folder for what needs more. The bound is
    one of all connections of this process to the same snapshot.
    """
    for _ in range(_OPEN_ATTEMPTS - 1):
        snapshot = locate(where)
        try:
            return _open(snapshot, spill)
        except NotALedger:
            # The ledger may have removed this snapshot after we followed the link to it.
            if snapshot.path.exists():
                raise
    snapshot = locate(where)
    return _open(snapshot, spill)


@contextmanager
def closing(connection: Connection) -> Iterator[None]:
    """Close a connection at the end of the body, after DuckDB's own threads have ended.

    A thread that still lets go of the last task of a query while its database is closed reads freed
    memory and ends the process (seen with DuckDB 1.5.6 after a join). Other connections of this
    process to the same snapshot share the threads, so as many are started again.
    """
    try:
        yield
    finally:
        _close(connection)


@contextmanager
def beside(
    connection: Connection, snapshot: Snapshot, work: Callable[[Connection], T]
) -> Iterator[Callable[[], T]]:
    """Do some work with another connection to the same snapshot while the body runs, and yield what waits for its end.

    Most of what a small question takes is the planning of statements, which uses one core. Where the body fails, or is
    ended by Ctrl-C, the work is interrupted, and has ended when this returns.
    """
    with connection.cursor() as other, ThreadPoolExecutor(1) as thread:
        _look_beside(other, snapshot.path)
        done = thread.submit(work, other)
        try:
            yield done.result
        except BaseException:
            interrupt(other, done)
            raise


def interrupt(connection: Connection, doing: Future[T]) -> None:
    """End what a thread does with a connection, and wait until it has ended.

    What has not begun yet, and a thread that is between two statements, take no notice of one interruption.
    """
    while not doing.done():
        connection.interrupt()
        wait([doing], _AGAIN_S)


def read(
    connection: Connection,
    path: Path,
    sql: str,
    parameters: Sequence[object] = (),
    *,
    row: type[T],
) -> list[T]:
    """Return the rows of one of our own statements, each as a `row` (a tuple type).

    Raises:
        SealedMissing: It asks for rows whose files are not there.
        NotALedger: DuckDB cannot run it, or a value is not what the views promise.
    """
    with _translated(path):
        found = connection.execute(sql, list(parameters)).fetchall()
    try:
        return msgspec.convert(found, list[row])  # type: ignore[valid-type]  # a type made at run time
    except msgspec.ValidationError as error:
        raise NotALedger(path, str(error)) from error


def stream(
    connection: Connection, path: Path, sql: str, parameters: Sequence[object] = ()
) -> Generator[tuple[object, ...]]:
    """Yield the rows of one of our own statements, however many there are; raises as `read` does.

    It runs from the first row on, and other statements of the connection do not end it.
    """
    with _translated(path), connection.cursor() as cursor:
        _look_beside(cursor, path)
        cursor.execute(sql, list(parameters))
        while found := cursor.fetchmany(_AT_ONCE):
            yield from found


def _open(snapshot: Snapshot, spill: Path | None) -> tuple[Connection, Snapshot]:
    import duckdb  # noqa: PLC0415 - costs 60 ms and must not slow `costs --help`

    with _translated(snapshot.path):
        connection = duckdb.connect(snapshot.path, read_only=True)
    try:
        if spill is not None:
            connection.execute("SET memory_limit = '300MB'")
            connection.execute("SET temp_directory = ?", [str(spill)])
        schema = _version(connection, snapshot.path)
        _look_beside(connection, snapshot.path)
    except BaseException:
        _close(connection)
        raise
    return connection, structs.replace(snapshot, schema=schema)


def _look_beside(connection: Connection, path: Path) -> None:
    """Have a connection, or a cursor, read the rows of sealed days from beside the snapshot, where they are."""
    folder = path.parent
    if (folder / SEALED).is_dir():  # else they are where the ledger wrote them
        connection.execute(_LOOK_BESIDE, [str(folder)])


def _close(connection: Connection) -> None:
    import duckdb  # noqa: PLC0415 - see `_open`

    with suppress(duckdb.Error):  # a damaged file refuses everything but this
        found = connection.execute("SELECT current_setting('threads')").fetchone()
        connection.execute("SET threads = 1")
        if found is not None:
            connection.execute(f"SET threads = {int(found[0])}")
    connection.close()


def _version(connection: Connection, path: Path) -> int:
    """Return the version of the schema of a snapshot; raises `LedgerNewer`."""
    [(found,)] = read(connection, path, _VERSION, row=tuple[int])
    if found > SCHEMA_VERSION:
        raise LedgerNewer(path, found, SCHEMA_VERSION)
    return found


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    import duckdb  # noqa: PLC0415 - see `_open`

    try:
        yield
    except duckdb.Error as error:
        raise fault(path, error, str(error)) from error


def fault(path: Path, error: Exception, said: str) -> AnalyticsError:
    """Return what an error of DuckDB, which says this, means of the snapshot that it was reading."""
    import duckdb  # noqa: PLC0415 - see `_open`

    if _HELD in said:
        return LedgerInUse(path)
    if isinstance(error, duckdb.OutOfMemoryException) or is_of_disk(said):
        return NoRoom(_first_line(said), of_disk=is_of_disk(said))
    if missing := _MISSING.search(said):
        return SealedMissing(path, missing[1])
    if any(words in said for words in _DAMAGED):
        return SnapshotDamaged(path, _first_line(said))
    return NotALedger(path, _first_line(said))


def is_of_disk(said: str) -> bool:
    """Return whether an error of DuckDB says that its temporary folder is full, or that it has none."""
    return any(words in said for words in _OF_DISK)


def _first_line(said: str) -> str:
    return said.split("\n", 1)[0].rstrip(".")
