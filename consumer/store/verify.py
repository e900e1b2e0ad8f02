"""Read a database file to its end, so that a block that has rotted is noticed.

DuckDB stores a checksum with each block and compares it when it reads the block from the file, not
before: a plain copy of a rotten file looks like a good one. So every column of every table is read
once. Two million rows of 50 columns take about half a second of one core; blocks that no row uses are
not read.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

import duckdb

from voicecosts.consumer.store.faults import is_damage

if TYPE_CHECKING:
    from pathlib import Path

_MEMORY: Final = "256MB"
_TABLES: Final = "SELECT table_name FROM duckdb_tables() WHERE estimated_size > 0"
_READ_ALL: Final = "SELECT bit_xor(hash(COLUMNS(*))) FROM query_table(?)"


def damage_of(path: Path) -> str | None:
    """Return what is wrong with the file at `path`, or None when all of it can be read.

    Raises:
        duckdb.Error: It could not be read for another reason, such as too little memory.
    """
    try:
        with closing(_open(path)) as connection:
            for (table,) in connection.execute(_TABLES).fetchall():
                connection.execute(_READ_ALL, [table]).fetchall()
    except duckdb.Error as error:
        if is_damage(str(error)):
            return str(error).partition("\n")[0].rstrip(".")
        raise
    return None


def _open(path: Path) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        path,
        read_only=True,
        config={"threads": 1, "memory_limit": _MEMORY, "temp_directory": ""},
    )
