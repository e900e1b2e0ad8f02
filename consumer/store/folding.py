"""Keep answers independent of history: add up the rows of meters, and settle sessions that have ended.

Folding adds rows to `folded_usage`, `folded_months` and `session_readings` and moves `folded_to`; settling moves sessions
from `pending_sessions` to `settled_sessions`. Neither changes an answer: the views `session_usage`, `sessions` and
`completeness` have what is done and what is not yet. Both work in slices, each a transaction, so that a
ledger with years of rows that are not folded is folded between two groups of messages.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import duckdb
from msgspec import Struct

from voicecosts.consumer.booking.sessions import SessionKey
from voicecosts.consumer.store import months, sql
from voicecosts.consumer.store.write import texts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import date

    from voicecosts.consumer.store.places import Places

FOLD_ROWS: Final = 100_000
"""Rows that are not folded before it is worth it: an answer reads so many in some hundredths of a second."""

SLICE_ROWS: Final = 25_000
"""Rows that one transaction folds, or settles the sessions of, at most: about a tenth of a second, and some
tens of megabytes."""

LOG_BYTES: Final = 32 * 2**20
"""A write-ahead log that is longer is put into the file before a step: what it has is in memory too."""

LEAST_ROWS: Final = 1_000
"""Where not even so many can be folded for want of memory, none are until the ledger is opened again."""

SLICE_SESSIONS: Final = 2_500
"""Sessions that are settled in one transaction, at most: about a third of a second."""

SETTLE_AFTER_US: Final = 600 * 1_000_000
"""How long after its end a session is settled: until then late readings are nothing special."""

QUIET_DAYS: Final = 31
"""A session without an end is settled when it began so long ago and is not open."""

_DAY_US: Final = 86_400 * 1_000_000


class Done(Struct, frozen=True):
    """What a step did: whether it wrote anything, and the sessions that it settled."""

    has_written: bool
    settled: Sequence[SessionKey] = ()


class Folding:
    """What is folded and settled of one ledger. Each method is a transaction of its own."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        places: Places,
        packed: Callable[[Collection[SessionKey]], Mapping[SessionKey, bytes]],
    ) -> None:
        self._connection = connection
        self._packed = packed  # what is kept of sessions, to be found again when they are settled
        self._places = places
        row = connection.execute(sql.LOAD_FOLDED).fetchone()
        self._folded_to = 0 if row is None else int(row[0])
        self._is_settling = True  # what was left when the ledger was closed
        self._months: list[date | None] = []  # to be added up anew
        self._most = SLICE_ROWS
        self._rests = False

    def __repr__(self) -> str:
        return f"<Folding: {self._folded_to} of {self._places.last} rows>"

    @property
    def folded_to(self) -> int:
        """The place of the last row that is folded."""
        return self._folded_to

    @property
    def is_due(self) -> bool:
        """Whether there is enough to do for a `step`."""
        if self._rests:
            return False
        return (
            self._is_settling
            or bool(self._months)
            or self._places.last - self._folded_to >= FOLD_ROWS
        )

    def step(self, now_us: int) -> Done:
        """Fold a slice of rows, add up a month anew, or settle a slice of sessions."""
        if self._places.last - self._folded_to >= FOLD_ROWS:
            self.fold()
            self._is_settling = True
            return Done(has_written=True)
        if self._months:
            months.add_up(self._connection, self._months.pop())
            return Done(has_written=True)
        settled = self.settle(now_us)
        return Done(has_written=bool(settled), settled=settled)

    def ease(self) -> None:
        """Do less at a time, or nothing: the last step had too little memory, and booking goes first.

        Answers do not need what was not done; they take longer.
        """
        with contextlib.suppress(duckdb.TransactionException):  # none is open
            self._connection.rollback()
        self._months.clear()
        self._most //= 2
        self._rests = self._most < LEAST_ROWS

    def fold(self) -> None:
        """Fold the rows that follow, a slice at most."""
        upto = min(self._folded_to + min(self._most, SLICE_ROWS), self._places.last)
        span = {"after": self._folded_to, "upto": upto}
        # 1. All of it or nothing: a row is in `folded_usage` or behind `folded_to`, never in both.
        self._connection.begin()
        self._connection.execute(sql.FOLD_USAGE, span)
        self._connection.execute(sql.FOLD_READINGS, span)
        months.add(self._connection, self._folded_to)
        self._connection.execute(sql.CLEAR_FOLDED)
        self._connection.execute(sql.WRITE_FOLDED, {"folded_to": upto})
        self._connection.commit()
        self._folded_to = upto
        self._months = months.to_add_up(self._connection)

    def settle(self, now_us: int) -> list[SessionKey]:
        """Settle sessions, a slice at most; return their keys. Those that are open all the same come last."""
        self._connection.begin()
        self._connection.execute(
            sql.FIND_TO_SETTLE,
            {
                "ended_before": now_us - SETTLE_AFTER_US,
                "begun_before": now_us - QUIET_DAYS * _DAY_US,
                "most": SLICE_SESSIONS,
            },
        )
        there, first_id, last_id = self._settling()
        if not there:
            self._connection.rollback()
            self._is_settling = False
            return []
        self._connection.execute(
            sql.LIMIT_TO_SETTLE, {"first_id": first_id, "last_id": last_id, "rows": self._most}
        )
        chosen, first_id, last_id = self._settling()
        settling = self._connection.execute(sql.LOAD_SETTLING).fetchall()
        packed = self._packed([SessionKey(*row) for row in settling])
        kept = [(*key, session) for key, session in packed.items()]
        found = self._connection.execute(
            sql.SETTLE_SESSIONS,
            {
                "kept": "\n".join(texts(kept)),
                "moment": now_us,
                "quiet_days": QUIET_DAYS,
                "first_id": first_id,
                "last_id": last_id,
            },
        ).fetchall()
        self._connection.execute(sql.REMOVE_SETTLED)
        self._connection.commit()
        is_slice = there == SLICE_SESSIONS or chosen < there
        self._is_settling = is_slice and bool(found)
        return [SessionKey(*row) for row in found]

    def _settling(self) -> tuple[int, str, str]:
        """Return how many sessions are about to be settled, and the first and the last of their ids."""
        return self._connection.execute(sql.SPAN_TO_SETTLE).fetchone() or (0, "", "")


def unsettle_of(
    connection: duckdb.DuckDBPyConnection, producers: Collection[tuple[str, str]]
) -> None:
    """Do the same of the sessions without an end of some producers, each after its project.

    A producer that has live sessions, or lost something, may have had them in mind.
    """
    for lines in texts(sorted(producers)):
        found = connection.execute(sql.FIND_ENDLESS, {"lines": lines}).fetchall()
        if found:
            unsettle(connection, [SessionKey(*row) for row in found])


def unsettle(connection: duckdb.DuckDBPyConnection, keys: Collection[SessionKey]) -> None:
    """Note in the open transaction that something came for some sessions: they are settled anew later."""
    ids = sorted(key.session_id for key in keys)
    for lines in texts(sorted(keys)):
        connection.execute(sql.NOTE_PENDING, {"lines": lines})
        connection.execute(
            sql.UNSETTLE_SESSIONS, {"lines": lines, "first_id": ids[0], "last_id": ids[-1]}
        )
