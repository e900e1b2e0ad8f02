"""SQL that a person typed, run on a snapshot: it reads the ledger, and can do nothing else.

One SELECT at a time. No file and no address can be read but the ledger's own sealed files, nothing can be
written, attached, loaded or set, also not by a function. DuckDB's memory is bounded; that of the process, and the end of what
DuckDB does not interrupt, are the command's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec import Struct

from voicecosts.analytics.errors import BadSql, TooMuchMemory
from voicecosts.analytics.snapshot.connection import fault, interrupt, is_of_disk, read
from voicecosts.analytics.snapshot.sealed import FIRST_SCHEMA, check_sealed

if TYPE_CHECKING:
    from pathlib import Path

    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

_AT_ONCE: Final = 1_000
"""Rows that are in memory as Python's values at once."""
_FIRST: Final = 10
_ROOM: Final = 10_000_000
"""So many bytes they take at most, as far as those before them tell."""
_OF_AN_ITEM: Final = 50

_FUNCTIONS: Final = (
    "range", "generate_series", "unnest", "json_each", "json_tree", "duckdb_columns", "duckdb_functions",
    "duckdb_tables", "duckdb_views", "pragma_table_info",
)  # fmt: skip
"""What may stand behind FROM, beside the ledger's own. Others read files, or change how DuckDB works: some
that a SELECT may call write a log or a profile to a file of any name."""

OF_ROWS: Final = frozenset(("all_bookings", "usage", "waste_of_requests"))
"""The views that read single rows, of the files of sealed days too, and what they read them by."""

_SET: Final = (
    "SET enable_external_access = false",
    "SET python_enable_replacements = false",  # else a name may be a variable of this program
    "SET errors_as_json = true",  # they say where
    "SET TimeZone = 'UTC'",
    "SET enable_progress_bar = false",  # else a program without a file has it in the midst of its output
)
_OWN: Final = """
SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'table_macro' AND NOT internal
"""
_VIEWS: Final = "SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY view_name"
_NO_TABLE: Final = re.compile(r"Table with name (\S+) does not exist!")
_NEAR: Final = 0.7
"""How much of two names is the same where one may be meant by the other."""
_PARSED: Final = "SELECT json_serialize_sql(?::VARCHAR)"
_PATTERN: Final = re.compile(r"[*?[]")
_PLAIN: Final = re.compile(r"\w*")
_WITH_ZONE: Final = "WITH TIME ZONE"
_NOT_A_SELECT: Final = "not implemented"
_ADVICE: Final = re.compile(
    r'(?:\* |Use )"?(?:SET|PRAGMA) \w+.*$'
    r"|^Please try installing and loading .*$|^(?:INSTALL|LOAD) \w+;$|^Cannot access directory .*$",
    re.MULTILINE,
)
"""What DuckDB advises and may not be done here."""
_TOO_DEEP: Final = "Max expression depth limit"
_NESTED: Final = "the statement is nested too deeply: take it apart with WITH"

T = TypeVar("T")


class Found(Struct, frozen=True):
    """The answer: the name and the type of each column, no two names alike, and the rows as they are read."""

    columns: list[tuple[str, str]]
    rows: Generator[tuple[Any, ...]]


def run(connection: Connection, snapshot: Snapshot, text: str, *, spill: Path | None) -> Found:
    """Run a statement; the connection is good for nothing else from here on, and has to be closed.

    `spill` is a folder for what needs more memory than an answer may use: it takes half of what is free there.

    Raises:
        BadSql: It cannot be run, or not here.
        NoRoom: It needs more temporary disk than there is.
        TooMuchMemory: It needs more memory than it may use, and a disk is of no use to it.
        SealedMissing: It asks for rows whose files are not there.
        SealedDamaged: One of them is not what the ledger wrote.
    """
    _restrict(connection, snapshot, spill)
    names = _check(connection, snapshot, text)
    if any(name in OF_ROWS or not _PLAIN.fullmatch(name) for name in names):  # else it is a file
        # to a view, one that is not there is a file that may not be read
        check_sealed(connection, snapshot, all_there=not OF_ROWS.isdisjoint(names))
    pool = ThreadPoolExecutor(1)
    with _told(snapshot, text):
        _execute(pool, connection, snapshot, text)
    columns = [(str(it[0]), str(it[1])) for it in connection.description or ()]
    for name, kind in columns:
        if _WITH_ZONE in kind:
            raise BadSql(
                f"column {name!r} is a {kind}: write it as a time in UTC, {name}::TIMESTAMP"
            )
    return Found(_no_two_alike(columns), _rows(pool, connection, snapshot, text))


def _execute(
    pool: ThreadPoolExecutor, connection: Connection, snapshot: Snapshot, text: str
) -> None:
    """Have a statement run; a name that is no view is told with views alone, where DuckDB suggests tables of its own."""
    import duckdb  # noqa: PLC0415 - costs 60 ms and must not slow `costs --help`

    try:
        _wait_for(pool, connection, lambda: connection.execute(text))
    except duckdb.CatalogException as error:
        said, position = _said(error)
        missing = _NO_TABLE.match(said)
        if missing is None:
            raise
        views = [view for (view,) in read(connection, snapshot.path, _VIEWS, row=tuple[str])]
        raise _placed(_no_view(missing[1], views), position, text) from error


def _rows(
    pool: ThreadPoolExecutor, connection: Connection, snapshot: Snapshot, text: str
) -> Generator[tuple[Any, ...]]:
    with pool, _told(snapshot, text):
        at_once = _FIRST
        while found := _wait_for(pool, connection, partial(connection.fetchmany, at_once)):
            at_once = max(1, min(_AT_ONCE, _ROOM * len(found) // sum(map(_size, found))))
            yield from found
            found.clear()


def _size(row: tuple[Any, ...]) -> int:
    """Return about how many bytes a row takes."""
    size = _OF_AN_ITEM
    for cell in row:
        if isinstance(cell, str | bytes):
            size += len(cell)
        elif isinstance(cell, list | dict):
            size += _OF_AN_ITEM * len(cell)
    return size


def _wait_for(pool: ThreadPoolExecutor, connection: Connection, work: Callable[[], T]) -> T:
    """Have DuckDB work in a thread: while it fetches, it does not look whether Ctrl-C was pressed."""
    doing = pool.submit(work)
    try:
        return doing.result()
    except KeyboardInterrupt:
        interrupt(connection, doing)
        raise


def _restrict(connection: Connection, snapshot: Snapshot, spill: Path | None) -> None:
    """Take from a connection whatever reading the ledger does not need. None of it can be given back."""
    folder = snapshot.path.parent
    files: list[str] = []
    if (snapshot.schema or 0) >= FIRST_SCHEMA:
        found = read(connection, snapshot.path, "SELECT file FROM sealed_files", row=tuple[str])
        # a view reads them by patterns
        roots = (str(folder), _PATTERN.sub(r"[\g<0>]", str(folder)))
        files = [f"{root}/{name}" for root in dict.fromkeys(roots) for (name,) in found]
    with _told(snapshot, ""):
        connection.execute("SET VARIABLE costs_dir = ?", [str(folder)])
        connection.execute("SET memory_limit = '300MB'")
        connection.execute("SET temp_directory = ?", [str(spill or "")])
        if spill is not None:
            disk = os.statvfs(spill)
            room = f"{disk.f_bavail * disk.f_frsize // 2}B"
            connection.execute("SET max_temp_directory_size = ?", [room])
        connection.execute("SET allowed_paths = ?", [files])
        for statement in _SET:
            connection.execute(statement)


def _check(connection: Connection, snapshot: Snapshot, text: str) -> set[str]:
    """Return the names of what a text reads; raise `BadSql` unless it is one SELECT with functions that only read."""
    with _told(snapshot, text):
        [(answer,)] = connection.execute(_PARSED, [text]).fetchall()
    try:
        parsed = msgspec.json.decode(answer)
    except RecursionError:
        raise BadSql(_NESTED) from None
    if parsed["error"]:
        if parsed["error_type"] == _NOT_A_SELECT:
            raise BadSql(
                "only what reads can be run: SELECT, FROM, WITH, VALUES, DESCRIBE, SHOW or SUMMARIZE; nothing can be "
                "changed, written, attached, loaded or set"
            )
        raise _placed(parsed["error_message"], parsed.get("position"), text)
    statements = parsed["statements"]
    if not statements:
        raise BadSql("there is no statement: write one, such as FROM sessions LIMIT 10")
    if len(statements) > 1:
        raise BadSql(f"there are {len(statements)} statements: run one at a time")
    own = {
        *_FUNCTIONS,
        *(name for (name,) in read(connection, snapshot.path, _OWN, row=tuple[str])),
    }
    asked = set(_behind_from(parsed))
    for name, is_function in sorted(asked):
        if is_function and name not in own:
            raise BadSql(
                f"{name} cannot stand behind FROM here: only the ledger can be read, by its views, and {', '.join(_FUNCTIONS)}"
            )
    return {name for name, _ in asked}


def _behind_from(parsed: object) -> Iterator[tuple[str, bool]]:
    """Yield the names of all that a statement has behind FROM, however deep, and whether each is a function."""
    left = [parsed]
    while left:
        part = left.pop()
        if isinstance(part, list):
            left += part
        elif isinstance(part, dict):
            left += part.values()
            if part.get("type") == "TABLE_FUNCTION":
                yield str(part["function"]["function_name"]).lower(), True
            elif part.get("type") == "BASE_TABLE":
                yield str(part["table_name"]).lower(), False


def _no_two_alike(columns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return columns with another name where one is there already: `cost`, `cost_1`."""
    given = {name for name, _ in columns}
    found: dict[str, str] = {}
    for name, kind in columns:
        other, count = name, 0
        while other in found or (count and other in given):
            count += 1
            other = f"{name}_{count}"
        found[other] = kind
    return list(found.items())


@contextmanager
def _told(snapshot: Snapshot, text: str) -> Iterator[None]:
    """Say in words what is wrong with a statement, and where."""
    import duckdb  # noqa: PLC0415 - costs 60 ms and must not slow `costs --help`

    not_of_it = (
        duckdb.OutOfMemoryException,
        duckdb.IOException,
        duckdb.InternalException,
        duckdb.FatalException,
    )
    try:
        yield
    except duckdb.PermissionException as error:
        raise BadSql("only the ledger can be read: no other file, and no address") from error
    except duckdb.Error as error:
        said, position = _said(error)
        if isinstance(error, duckdb.OutOfMemoryException) and not is_of_disk(said):
            raise TooMuchMemory from error
        if isinstance(error, not_of_it):
            raise fault(snapshot.path, error, said) from error
        raise _placed(said, position, text) from error


def _said(error: Exception) -> tuple[str, str | None]:
    """Return what DuckDB says of an error, and at which byte of the statement."""
    kind, _, rest = str(error).partition("{")
    with suppress(msgspec.MsgspecError, KeyError):
        document = msgspec.json.decode("{" + rest)
        return document["exception_message"], document.get("position")
    return kind + rest, None


def _no_view(name: str, views: list[str]) -> str:
    """Return what is wrong with a name that is neither a view nor a table, and which view may have been meant."""
    close = get_close_matches(name.lower(), views, n=1, cutoff=_NEAR)
    meant = f"did you mean {close[0]}" if close else f"the views are {', '.join(views)}"
    return f"there is no view {name}: {meant}"


def _placed(said: str, position: str | None, text: str) -> BadSql:
    if said.startswith(_TOO_DEEP):
        return BadSql(_NESTED)
    lines = map(str.strip, _ADVICE.sub("", said).splitlines())
    message = "; ".join(line for line in lines if line).removesuffix(":")
    if position is None:
        return BadSql(message)
    before = text.encode()[: int(position)].decode(errors="ignore")
    line, column = before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
    return BadSql(message, line=line, column=column)
