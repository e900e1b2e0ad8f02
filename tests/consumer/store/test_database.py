"""Closing a database while threads of DuckDB's own still run can end the process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from voicecosts.analytics.snapshot.connection import closing
from voicecosts.consumer.store.database import close


def threads() -> int:
    """Count the threads of this process."""
    return len(list(Path("/proc/self/task").iterdir()))


class Watched:
    """A connection that counts the process's threads after each statement."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self.fewest = threads()

    def execute(self, statement: str) -> Any:
        """Pass a statement on, and count."""
        done = self.connection.execute(statement)
        self.fewest = min(self.fewest, threads())
        return done

    def close(self) -> None:
        """Close."""
        self.connection.close()


@contextmanager
def closing_ledger(connection: Any) -> Any:
    """Close as the ledger does."""
    try:
        yield
    finally:
        close(connection)


@pytest.mark.parametrize("way", [closing_ledger, closing])
def test_duckdbs_own_threads_have_ended_before_a_database_is_closed(
    tmp_path: Path, way: Callable[[Any], AbstractContextManager[None]]
) -> None:
    """A thread that lets go of its last task while the database goes reads freed memory."""
    watched = Watched(duckdb.connect(tmp_path / "x.duckdb", config={"threads": 4}))
    with way(watched):
        watched.execute("SELECT count(*) FROM range(10)")
        watched.fewest = running = threads()
    assert watched.fewest == running - 3  # 2.0 has others that read and write files


def test_another_connection_to_the_same_snapshot_keeps_its_threads(tmp_path: Path) -> None:
    """Connections of one process to one file share DuckDB's threads; one that goes leaves them."""
    path = tmp_path / "x.duckdb"
    duckdb.connect(path).close()
    kept = duckdb.connect(path, read_only=True)
    threads_before = kept.execute("SELECT current_setting('threads')").fetchone()
    with closing(duckdb.connect(path, read_only=True)):
        pass
    assert kept.execute("SELECT current_setting('threads')").fetchone() == threads_before
    kept.close()


def test_a_database_that_failed_is_closed_all_the_same(tmp_path: Path) -> None:
    """A statement that is refused does not keep the file open."""
    connection = duckdb.connect(tmp_path / "x.duckdb")

    class Refusing(Watched):
        def execute(self, statement: str) -> Any:
            raise duckdb.FatalException(statement)

    close(Refusing(connection))  # type: ignore[arg-type]  # stands for a connection
    duckdb.connect(tmp_path / "x.duckdb").close()
