"""While one piece is written, the next is worked out: DuckDB lets Python run meanwhile.

Nothing that the ledger keeps in memory changes before the commit that says so. A piece is worked out
from copies: of what the one before it leaves behind, else of memory, else of what is on disk, which
says the same of any other session before that commit and after it. One piece is written at a time.
Where it is on disk before the next one is worked out, days are sealed and rows added up meanwhile.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Lock
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from voicecosts.consumer.booking.entries import Entries
from voicecosts.consumer.booking.prices import PriceRow
from voicecosts.consumer.booking.progress import Mark
from voicecosts.consumer.booking.sessions import SessionKey

if TYPE_CHECKING:
    from collections.abc import Callable

    import duckdb


class Worked(Struct, frozen=True, kw_only=True):
    """What one transaction is to write, and the sessions as they will be after it."""

    entries: Entries
    prices: list[PriceRow]
    now_us: int
    sequences: list[int]
    newest: Mark | None = None
    requeued: list[str] = []
    messages: int = 0
    events: int = 0


class Written(Struct, frozen=True):
    """What a transaction added, by kind, the sessions that are pending since, and those settled since."""

    added: dict[str, int]
    pending: list[SessionKey]
    settled: list[SessionKey] = []


class Beside:
    """A thread in which one piece is written. On leaving it, nothing is being written any more.

    `is_awaited` says that somebody waits for it. `reading` is held while something is read that the
    other thread must not move.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._open = contextlib.ExitStack()
        self._thread: ThreadPoolExecutor | None = None
        self._second: duckdb.DuckDBPyConnection | None = None
        self._writing: Future[Written] | None = None
        self._awaited = Event()
        self.reading = Lock()

    def write(self, work: Callable[[Worked], Written], worked: Worked) -> None:
        """Begin to write a piece. The one before it must have been waited for."""
        if self._thread is None:
            thread = ThreadPoolExecutor(1, thread_name_prefix="writing")
            self._thread = self._open.enter_context(thread)
        self._awaited.clear()
        self._writing = self._thread.submit(work, worked)

    def written(self) -> Written:
        """Wait for the piece that is being written. Raises what its writing raised.

        Whoever is interrupted in it knows nothing of the piece, but that leaving waits for its end.
        """
        assert self._writing is not None  # noqa: S101 - nothing was begun
        writing, self._writing = self._writing, None
        self._awaited.set()
        return writing.result()

    @property
    def is_awaited(self) -> bool:
        """Whether nothing is worked out any more while a piece is written."""
        return self._awaited.is_set()

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """A connection that has what is committed, for as long as the ledger's own is writing."""
        if self._writing is None:
            return self._connection
        if self._second is None:
            self._second = self._open.enter_context(self._connection.cursor())
        return self._second

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
