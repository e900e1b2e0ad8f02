"""Compare what a ledger says twice: single rows with sums, sums with calls, files with their checksums.

Rows that were booked are taken to be right: sums, and what calls came to, are made of them. Nothing is
written. The work is done in slices of bounded size, so that years are compared in a few hundred megabytes.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import duckdb
import msgspec
from msgspec import Struct

from voicecosts.consumer.booking.difference import MeterState
from voicecosts.consumer.booking.packing import is_of_this_version, unpack
from voicecosts.consumer.booking.prices import PricesUsed
from voicecosts.consumer.booking.sessions import SessionKey
from voicecosts.consumer.errors import LedgerNewer, RebuildFailed
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.database import close
from voicecosts.consumer.store.folding import QUIET_DAYS
from voicecosts.consumer.store.load import load_sessions

if TYPE_CHECKING:
    from pathlib import Path

    from voicecosts.consumer.store.layout import Layout
    from voicecosts.producer.events import Meter

LISTED: Final = 1_000
"""Differences that are listed, at most; what is beyond is counted by the slice that has it."""

SLICE_ROWS: Final = 100_000
"""Single rows that are compared at a time, about."""

SLICE_SESSIONS: Final = 5_000
"""Calls that are compared at a time."""

_MEMORY: Final = "300MB"
_SPILL: Final = "proof.tmp"

METER: Final = ("agent_label", "modality", "provider", "model", "size_tier", "service_tier")
_WHICH: Final = (
    *("project", "session_id", "day", "agent_id", "tenant", *METER, "estimated"),
    *("operation", "price_id", "corrects", "provider_raw"),
)
_OF_MONTHS: Final = tuple(
    name for name in _WHICH if name not in ("session_id", "size_tier", "price_id", "provider_raw")
)
_UNUSED: Final = MeterState()
_MISSING: Final = ("rows", "number", "cost")
"""What is told of sums that only one side has."""


class Difference(Struct, frozen=True, kw_only=True):
    """One value that is in the ledger twice and differs: `expected` by what was booked, and `found`.

    `what` is where it was found: `sealed file`, `rows`, `sums`, `months` (by their first
    days), `calls`, `views` or `stream`. What does not
    apply is None. `expected` is None where there should be nothing.
    """

    what: str
    quantity: str
    expected: str | None
    found: str | None
    day: date | None = None
    project: str | None = None
    session_id: str | None = None
    meter: str | None = None
    file: str | None = None


class Proof(Struct, kw_only=True):
    """What was compared, what was not and why, and what differs.

    `days` is how many had their sums compared.
    """

    rows: int = 0
    files: int = 0
    bytes: int = 0
    days: int = 0
    sums: int = 0
    calls: int = 0
    messages: int | None = None
    left_out: list[str] = []
    differences: list[Difference] = []
    more: bool = False
    bad_files: set[str] = set()
    bad_days: set[date] = set()

    @property
    def is_whole(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def add(self, found: Iterable[Difference]) -> None:
        """List what differs, as far as there is room."""
        for each in found:
            if len(self.differences) >= LISTED:
                self.more = True
                return
            self.differences.append(each)


@contextlib.contextmanager
def reading(path: Path, layout: Layout) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a ledger file or a snapshot to compare what is in it; nothing of it is changed.

    Raises:
        LedgerNewer: A newer version wrote it.
        RebuildFailed: An older one did.
    """
    spill = layout.ledger_dir.joinpath(_SPILL)
    connection = duckdb.connect(
        path,
        read_only=True,
        config={"memory_limit": _MEMORY, "threads": 1, "temp_directory": str(spill)},
    )
    try:
        _require_version(connection, path)
        connection.execute("SET VARIABLE costs_dir = $folder", {"folder": str(layout.data_dir)})
        yield connection
    finally:
        close(connection)
        with contextlib.suppress(OSError):
            spill.rmdir()


def _require_version(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    (found,) = connection.execute(sql.LOAD_VERSION).fetchone() or (0,)
    known = max(sql.migrations())
    if found > known:
        raise LedgerNewer(path, found, known)
    if found < known:
        raise RebuildFailed(
            f"{path} is of an older version: start the ledger once with this one, and stop it. Where it cannot be read "
            "any more, run `costs rebuild` of the version that wrote it, or put a backup in its place"
        )


def prove(connection: duckdb.DuckDBPyConnection, layout: Layout, now_us: int) -> Proof:
    """Compare all that a ledger says twice; the stream is compared by others."""
    proof = Proof(left_out=[], differences=[], bad_files=set(), bad_days=set())
    _Files(connection, layout, proof).compare()
    _Sums(connection, layout, proof).compare()
    _Calls(connection, proof, now_us).compare()
    return proof


def compare_files(connection: duckdb.DuckDBPyConnection, layout: Layout) -> Proof:
    """Compare the files of sealed days alone."""
    proof = Proof(left_out=[], differences=[], bad_files=set(), bad_days=set())
    _Files(connection, layout, proof).compare()
    return proof


class _Files:
    """The files of sealed days, and what is recorded of them."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, layout: Layout, proof: Proof) -> None:
        self._proof = proof
        self._layout = layout
        self._recorded = connection.execute(sql.LOAD_SEALED).fetchall()

    def compare(self) -> None:
        of_digest = {digest: name for _, name, _, _, digest in self._recorded}
        for day, name, _, size, digest in self._recorded:
            self._proof.files += 1
            self._proof.bytes += size
            found = self._look(name, size, digest, of_digest)
            if found is not None:
                self._proof.bad_files.add(name)
                self._proof.bad_days.add(day)
                quantity, expected, is_there = found
                self._proof.add(
                    [
                        Difference(
                            what="sealed file",
                            quantity=quantity,
                            expected=expected,
                            found=is_there,
                            day=day,
                            file=name,
                        )
                    ]
                )

    def _look(
        self, name: str, size: int, digest: str, of_digest: Mapping[str, str]
    ) -> tuple[str, str, str | None] | None:
        """Return what of a file is not as it was recorded."""
        try:
            with self._layout.data_dir.joinpath(name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
                there = file.tell()
        except OSError as error:
            why = None if isinstance(error, FileNotFoundError) else str(error)
            return "bytes", str(size), why
        if found == digest:
            return None
        if found in of_digest:
            return "content", "its own", f"that of {of_digest[found]}"
        if there != size:
            return "bytes", str(size), str(there)
        return "sha256", digest, found


class _Day(Struct, frozen=True):
    day: date
    folded: int
    hot: int
    sealed: int
    removed: int
    is_erased: bool


class _Sums:
    """Sums of rows, day by day."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, layout: Layout, proof: Proof) -> None:
        self._connection = connection
        self._layout = layout
        self._proof = proof
        self._files: dict[date, list[str]] = {}
        for day, name, *_ in connection.execute(sql.LOAD_SEALED).fetchall():
            self._files.setdefault(day, []).append(name)

    def compare(self) -> None:
        days = [_Day(*row) for row in self._connection.execute(sql.DETAIL_BY_DAY).fetchall()]
        self._proof.rows = sum(it.hot + it.sealed for it in days)
        gone = [it.day for it in days if it.removed]
        if gone:
            self._proof.left_out.append(
                f"sums of {len(gone):,} days, {min(gone)} to {max(gone)}: single rows of them were removed"
                if len(gone) > 1
                else f"sums of {gone[0]}: single rows of that day were removed"
            )
        if self._proof.bad_days:
            self._proof.left_out.append(
                "sums of days whose files differ: their single rows cannot be read"
            )
        left_out = {*gone, *self._proof.bad_days}
        compared = [it for it in days if it.day not in left_out]
        self._proof.days = len(compared)
        for slice_ in _slices(compared):
            self._compare(slice_, left_out)
        self._compare_months()
        self._count_rows(days)
        if not self._proof.bad_files:
            self._compare_view()

    def _compare(self, days: Sequence[_Day], left_out: set[date]) -> None:
        rows = sum(max(it.hot + it.sealed, it.folded) for it in days)
        names = [name for it in days for name in self._files.get(it.day, [])]
        paths = [str(self._layout.data_dir.joinpath(name)) for name in names]
        first, last = days[0].day, days[-1].day
        parts = rows // SLICE_ROWS + 1 if len(days) == 1 else 1
        for part in range(parts):
            span = {
                "first": first,
                "last": last,
                "parts": parts,
                "part": part,
                "left_out": sorted(left_out),
            }
            self._connection.execute(sql.detail_of_days(paths), span)
            self._connection.execute(sql.FOLDED_OF_DAYS, span)
            self._connection.execute(sql.add_up("detail", "booked"))
            self._connection.execute(sql.add_up("folded", "added"))
            count = self._connection.execute("SELECT count(*) FROM added").fetchone() or (0,)
            self._proof.sums += count[0]
            self._proof.add(
                differing("sums", *_unlike(self._connection, "booked", "added"), which=_WHICH)
            )
            self._proof.add(self._readings())
            self._proof.add(self._unknown())
        for name in ("detail", "folded", "booked", "added"):
            self._connection.execute(f"DROP TABLE temp.{name}")

    def _compare_months(self) -> None:
        """Compare the sums of months with those of their sessions."""
        self._connection.execute(sql.months_of_sessions("booked"))
        self._connection.execute(sql.months_as_kept("added"))
        self._proof.add(
            differing("months", *_unlike(self._connection, "booked", "added"), which=_OF_MONTHS)
        )
        for name in ("booked", "added"):
            self._connection.execute(f"DROP TABLE temp.{name}")

    def _readings(self) -> Iterator[Difference]:
        """Yield the readings that are among the rows, and not noted as such."""
        for project, session_id, number in self._connection.execute(
            sql.READINGS_NOT_NOTED, {"most": LISTED}
        ).fetchall():
            yield Difference(
                what="calls",
                quantity="reading that came",
                expected=str(number),
                found=None,
                project=project,
                session_id=session_id,
            )

    def _unknown(self) -> Iterator[Difference]:
        """Yield the sessions that have rows and no identity."""
        for project, session_id, agent_id in self._connection.execute(
            sql.ROWS_OF_NOBODY, {"most": LISTED}
        ).fetchall():
            yield Difference(
                what="calls",
                quantity="agent_id",
                expected=agent_id,
                found=None,
                project=project,
                session_id=session_id,
            )

    def _count_rows(self, days: Sequence[_Day]) -> None:
        """Compare how many rows there are with how many were booked: they were numbered."""
        for it in days:
            kept = it.hot + it.sealed + it.removed
            if it.removed and not it.is_erased and kept != it.folded:
                self._proof.add([_rows(kept, it.folded, it.day)])
        missing = self._connection.execute(sql.ROWS_NOT_THERE, {"most": LISTED}).fetchall()
        self._proof.add(
            Difference(what="rows", quantity="row", expected=f"number {place}", found=None)
            for (place,) in missing
        )
        (unfolded,) = self._connection.execute(sql.COUNT_UNFOLDED).fetchone() or (0,)
        self._proof.rows += unfolded

    def _compare_view(self) -> None:
        """Compare what the view of single rows has of each day with the rows that there are."""
        seen, there = (
            dict(self._connection.execute(each).fetchall())
            for each in (sql.ROWS_OF_VIEW, sql.ROWS_OF_TABLES)
        )
        for day in sorted({*seen, *there}):
            if seen.get(day, 0) != there.get(day, 0):
                self._proof.add(
                    [
                        Difference(
                            what="views",
                            quantity="rows of usage",
                            expected=str(there.get(day, 0)),
                            found=str(seen.get(day, 0)),
                            day=day,
                        )
                    ]
                )


class _Calls:
    """What settled sessions came to, and what their rows add up to."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, proof: Proof, now_us: int) -> None:
        self._connection = connection
        self._proof = proof
        self._now_us = now_us
        self._prices = PricesUsed(connection.execute(sql.LOAD_PRICES_USED).fetchall())

    def compare(self) -> None:
        for project, session_id, times in self._connection.execute(
            sql.CALLS_NOT_KEPT_ONCE, {"most": LISTED}
        ).fetchall():
            self._proof.add(
                [
                    Difference(
                        what="calls",
                        quantity="times that it is kept",
                        expected="1",
                        found=str(times),
                        project=project,
                        session_id=session_id,
                    )
                ]
            )
        (self._proof.calls,) = self._connection.execute(sql.COUNT_CALLS).fetchone() or (0,)
        spans = self._connection.execute(sql.SPANS_OF_SETTLED, {"every": SLICE_SESSIONS}).fetchall()
        for first_id, last_id in spans:
            self._compare(first_id, last_id)

    def _compare(self, first_id: str, last_id: str) -> None:
        """Compare the sessions from the first id to the last."""
        span = {"first_id": first_id, "last_id": last_id}
        self._connection.execute(sql.TAKE_SETTLED, span)
        try:
            moment = {"moment": self._now_us, "quiet_days": QUIET_DAYS}
            for worked_out, as_kept, more in (
                (sql.FACTS_WORKED_OUT, sql.FACTS_KEPT, {}),
                (sql.STATES_WORKED_OUT, sql.STATES_KEPT, moment),
            ):
                self._connection.execute(
                    f"CREATE OR REPLACE TEMP TABLE booked AS {worked_out}", {**span, **more}
                )
                self._connection.execute(f"CREATE OR REPLACE TEMP TABLE added AS {as_kept}", span)
                self._proof.add(
                    differing(
                        "calls",
                        *_unlike(self._connection, "booked", "added"),
                        which=("project", "session_id"),
                    )
                )
            settled = self._connection.execute(sql.KEPT_OF_SETTLED).fetchall()
        finally:
            self._connection.execute("DROP TABLE temp.pending_sessions")
        kept = {SessionKey(project, session_id): packed for project, session_id, packed in settled}
        for key, state in load_sessions(self._connection, kept, self._prices).items():
            packed = kept[key]
            if packed is None or not is_of_this_version(packed):
                continue  # it is derived from rows when it is needed
            found = unpack(key, packed, self._prices)
            self._proof.add(
                [_unreadable(key)]
                if found is None
                else _meters_differ(key, state.meters, found.meters)
            )


def _unreadable(key: SessionKey) -> Difference:
    return Difference(
        what="calls",
        quantity="kept for booking",
        expected="what its rows add up to",
        found="nothing that can be read",
        project=key.project,
        session_id=key.session_id,
    )


def _meters_differ(
    key: SessionKey, expected: Mapping[Meter, MeterState], found: Mapping[Meter, MeterState]
) -> Iterator[Difference]:
    """Yield what is kept of meters for booking and differs from their sums.

    The number of a reading that moved nothing is kept, and in no row.
    """
    for meter in {**expected, **found}:
        mine, other = expected.get(meter, _UNUSED), found.get(meter, _UNUSED)
        if _money_of(mine) == _money_of(other) and mine.totals == other.totals:
            continue
        sides = [_money_of(it) | msgspec.structs.asdict(it.totals) for it in (mine, other)]
        for name in sides[0]:
            if sides[0][name] != sides[1][name]:
                yield Difference(
                    what="calls",
                    quantity=f"kept {name}",
                    expected=_said(sides[0][name]),
                    found=_said(sides[1][name]),
                    project=key.project,
                    session_id=key.session_id,
                    meter=meter_name(msgspec.structs.asdict(meter)),
                )


def _money_of(state: MeterState) -> dict[str, object]:
    return {
        "cost": state.cost,
        "list_cost": state.list_cost,
        "billed": state.billed,
        "reported_cost": state.reported_cost,
    }


def _slices(days: Sequence[_Day]) -> Iterator[list[_Day]]:
    """Yield days that follow each other with about as many rows together as are compared at a time."""
    taken: list[_Day] = []
    rows = 0
    for it in days:
        own = max(it.hot + it.sealed, it.folded)
        if taken and rows + own > SLICE_ROWS:
            yield taken
            taken, rows = [], 0
        taken.append(it)
        rows += own
    if taken:
        yield taken


def _rows(expected: int, found: int, day: date) -> Difference:
    return Difference(
        what="sums", quantity="rows", expected=str(expected), found=str(found), day=day
    )


def _unlike(
    connection: duckdb.DuckDBPyConnection, expected: str, found: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of two tables that the other one has not, by the names of their columns."""
    return (
        _named(connection.execute(sql.unlike(expected, found), {"most": LISTED})),
        _named(connection.execute(sql.unlike(found, expected), {"most": LISTED})),
    )


def _named(found: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def differing(
    what: str,
    expected: Iterable[Mapping[str, Any]],
    found: Iterable[Mapping[str, Any]],
    *,
    which: Sequence[str],
) -> Iterator[Difference]:
    """Yield the values in which rows of the same key differ; a row that only one side has as its main ones."""
    sides = [
        {tuple(row[name] for name in which): row for row in rows} for rows in (expected, found)
    ]
    for key in {**sides[0], **sides[1]}:
        mine, other = (side.get(key) for side in sides)
        some = mine if mine is not None else other
        assert some is not None  # noqa: S101 - it is the key of one of them
        names = [name for name in some if name not in which]
        if mine is None or other is None:
            names = [name for name in names if name in _MISSING] or names
        for name in names:
            values = [_said(None if row is None else row[name]) for row in (mine, other)]
            if values[0] != values[1] or (mine is None) != (other is None):
                yield Difference(
                    what=what,
                    quantity=name,
                    expected=values[0],
                    found=values[1],
                    day=some.get("day"),
                    project=some["project"],
                    session_id=_said(some["session_id"]),
                    meter=meter_name(some) if "modality" in some else None,
                )


def meter_name(of: Mapping[str, Any]) -> str:
    """Return a meter as a person reads it: `llm openai/gpt-4.1-mini (Greeter)`."""
    more = [of["agent_label"]]
    more += ["estimated"] if of["estimated"] else []
    more += [f"from {of['size_tier']:,} tokens"] if of["size_tier"] else []
    more += [of["service_tier"]] if of["service_tier"] else []
    more += [f"operation {of['operation']}"] if of.get("operation") else []
    return f"{of['modality']} {of['provider']}/{of['model']} ({', '.join(more)})"


def _said(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value)
