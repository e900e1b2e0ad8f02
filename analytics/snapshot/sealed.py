"""The files of sealed days, compared with their checksums before an answer reads single rows of them.

DuckDB believes what a file says: a bit that has rotted may be another amount, and nothing tells. Sums need none of
these files. A file is read once for it and remembered as it was then, so that a page that answers again and again does
not read all of them each time.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from voicecosts.analytics.errors import SealedDamaged, SealedMissing
from voicecosts.analytics.snapshot.connection import SEALED, read

if TYPE_CHECKING:
    from pathlib import Path

    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

FIRST_SCHEMA: Final = 13
"""Ledgers before it have no sealed days."""

_FILES: Final = "SELECT file, sha256 FROM sealed_files"
_SHOWS_COLUMNS: Final = (
    "file IN (SELECT arg_min(file, (day, first_place)) FROM sealed_files GROUP BY version)"
)
_sound: Final[dict[str, tuple[str, int, int, int, int]]] = {}
"""The files that were as they should be: checksum, inode, size and times of the last changes, by path."""


def check_sealed(
    connection: Connection,
    snapshot: Snapshot,
    which: str | None = None,
    *,
    all_there: bool = False,
) -> None:
    """Compare the files of sealed days that are beside a snapshot with their checksums.

    With `which`, a condition on `day` in our own words, only those that DuckDB opens for it: those of these days, and the
    first of each version, which shows the columns. (Below a folder with `=` in its name it opens all.) A file that may not
    be opened is left to whoever reads it, and so is one that is not there, unless `all_there` is set. Where no folder
    `sealed` is beside the snapshot, rows are read from where the ledger wrote them, and nothing is compared.

    Raises:
        SealedDamaged: A file is not what the ledger wrote.
        SealedMissing: A file is not there, and `all_there` is set.
    """
    folder = snapshot.path.parent
    if (snapshot.schema or 0) < FIRST_SCHEMA or not (folder / SEALED).is_dir():
        return
    if which is not None and "=" not in str(folder):
        statement = f"{_FILES} WHERE {which} OR {_SHOWS_COLUMNS} ORDER BY file"
    else:
        statement = f"{_FILES} ORDER BY file"
    for name, sha256 in read(connection, snapshot.path, statement, row=tuple[str, str]):
        try:
            is_sound = _is_sound(folder / name, sha256)
        except FileNotFoundError:
            if all_there:
                raise SealedMissing(snapshot.path, str(folder / name)) from None
        except PermissionError:
            pass
        else:
            if not is_sound:
                raise SealedDamaged(snapshot.path, folder / name)


def _is_sound(path: Path, sha256: str) -> bool:
    stat = path.stat()
    if not path.is_file():  # to open a pipe would wait for whoever writes to it
        return False
    seen = (sha256, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    if _sound.get(str(path)) == seen:
        return True
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            return False
    _sound[str(path)] = seen
    return True
