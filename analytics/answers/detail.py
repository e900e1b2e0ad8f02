"""Of which days there are single rows, and of which they were removed; sums are kept for ever."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from voicecosts.analytics.answers.states import schema_of
from voicecosts.analytics.numbers import counted
from voicecosts.analytics.question.columns import Group
from voicecosts.analytics.question.relation import FIRST_FORGETTING_SCHEMA
from voicecosts.analytics.snapshot.connection import closing, open_newest, read
from voicecosts.analytics.snapshot.sealed import check_sealed

if TYPE_CHECKING:
    from voicecosts.analytics.question.columns import Column
    from voicecosts.analytics.question.times import Period
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

_DAYS: Final = (
    "SELECT day, rows, files, bytes, removed_rows, removed_bytes FROM detail ORDER BY day"
)


class Day(Struct, frozen=True):
    """The detail of one accounting day: rows, and the files and bytes that sealed ones take."""

    day: date
    rows: int
    files: int
    bytes: int
    removed_rows: int
    removed_bytes: int


class Amount(Struct, frozen=True):
    """The detail of some days together; `first` and `last` are `None` where there is none."""

    days: int
    first: date | None
    last: date | None
    rows: int
    files: int
    bytes: int


def days(data_dir: str | Path | None) -> list[Day]:
    """Return the detail of every day of the newest snapshot, the oldest first."""
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        return _days(connection, snapshot)


def kept(found: Sequence[Day], before: date | None = None) -> Amount:
    """Return what there is of all days, or of those before one."""
    chosen = [it for it in found if it.rows and (before is None or it.day < before)]
    return Amount(
        len(chosen),
        chosen[0].day if chosen else None,
        chosen[-1].day if chosen else None,
        sum(it.rows for it in chosen),
        sum(it.files for it in chosen),
        sum(it.bytes for it in chosen),
    )


def removed(found: Sequence[Day]) -> Amount:
    """Return what was removed."""
    chosen = [it for it in found if it.removed_rows]
    return Amount(
        len(chosen),
        chosen[0].day if chosen else None,
        chosen[-1].day if chosen else None,
        sum(it.removed_rows for it in chosen),
        0,
        sum(it.removed_bytes for it in chosen),
    )


def check_turns(connection: Connection, snapshot: Snapshot, columns: Iterable[Column]) -> bool:
    """Return whether turns are among the columns of a question: then it reads single rows of all days.

    Raises:
        SealedDamaged: A file with such rows is not what the ledger wrote.
    """
    is_of_turns = Group.TURN in columns
    if is_of_turns:
        check_sealed(connection, snapshot)
    return is_of_turns


def say_removed(connection: Connection, snapshot: Snapshot, period: Period) -> Iterator[str]:
    """Yield of which days of a period there are no single rows any more."""
    gone = [
        it.day
        for it in _days(connection, snapshot)
        if it.removed_rows
        and (period.since is None or it.day >= period.since.date())
        and (period.until is None or datetime.combine(it.day, time(), UTC) < period.until)
    ]
    if gone:
        yield (
            f"sums are whole, and the single rows of {counted(len(gone), 'day')} up to {gone[-1]} were removed "
            "by age: the view `usage` lacks them (`costs retention`)"
        )


def _days(connection: Connection, snapshot: Snapshot) -> list[Day]:
    if schema_of(connection, snapshot) < FIRST_FORGETTING_SCHEMA:
        return []
    found = read(connection, snapshot.path, _DAYS, row=tuple[date, int, int, int, int, int])
    return [Day(*row) for row in found]
