"""The files of sealed days, compared with their checksums before an answer reads single rows of them.

DuckDB believes what a file says: a bit that has rotted may be another amount, and nothing tells. Sums need none of
these files. A file is read once for it and remembered as it was then, so that a page that answers again and again does
not read all of them each time.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from voicecosts.analytics.errors import SealedDamaged
from voicecosts.analytics.snapshot.connection import SEALED, read

if TYPE_CHECKING:
    from pathlib import Path

    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

FIRST_SCHEMA: Final = 13
"""Ledgers before it have no sealed days."""

_FILES: Final = "SELECT file, sha256 FROM sealed_files WHERE {which} ORDER BY file"
_sound: Final[dict[str, tuple[str, int, int, int]]] = {}
"""The files that were as they should be: checksum, inode, size and time of the last change, by path."""


def check_sealed(connection: Connection, snapshot: Snapshot, which: str = "TRUE") -> None:
    """Compare the files of sealed days that are beside a snapshot with their checksums.

    `which` is a condition on `day` in our own words. A file that is not there, or cannot be opened, is left to whoever
    reads it. Where no folder `sealed` is beside the snapshot, rows are read from where the ledger wrote them, and nothing
    is compared.

    Raises:
        SealedDamaged: A file is not what the ledger wrote.
    """
    folder = snapshot.path.parent
    if (snapshot.schema or 0) < FIRST_SCHEMA or not (folder / SEALED).is_dir():
        return
    statement = _FILES.format(which=which)
    for name, sha256 in read(connection, snapshot.path, statement, row=tuple[str, str]):
        with suppress(OSError):
            if not _is_sound(folder / name, sha256):
                raise SealedDamaged(snapshot.path, folder / name)


def _is_sound(path: Path, sha256: str) -> bool:
    with path.open("rb") as file:
        stat = path.stat()
        seen = (sha256, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if _sound.get(str(path)) == seen:
            return True
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            return False
    _sound[str(path)] = seen
    return True
