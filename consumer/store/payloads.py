"""The bytes of dead letters, in append-only files beside the ledger, with a cap in bytes.

There is a file per reason, and a new one when it is full, so that a flood of one reason makes room at
its own cost: over the cap the oldest file of the reason that holds the most is dropped. Bytes are
synced before the transaction that records their place, and a file is removed after the one that records
that it is gone. A death in between leaves bytes that no row names, or a file that the next opening
removes.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from voicecosts.consumer.store.files import PRIVATE, make_folder, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MAX_BYTES: Final = 256 * 2**20
"""What the payloads of a ledger may take on disk together, where nobody says otherwise."""

_FILES: Final = 32
"""Into about how many files the cap is divided: what is dropped at once is one of them."""

_NAME: Final = re.compile(r"([a-z_]+)-([0-9]+)\.bin")


class Place(Struct, frozen=True):
    """Where bytes are: the name of a file in the folder, and the place in it."""

    file: str
    offset: int


class Payloads:
    """The files of one ledger. Only the holder of the writer's lock may add to them.

    `used` are the names that rows have ever had: none is used again.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int = MAX_BYTES, used: Iterable[str] = ()
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._last: dict[str, int] = defaultdict(int)
        for name in (*used, *self._sizes()):
            if match := _NAME.fullmatch(name):
                self._last[match[1]] = max(self._last[match[1]], int(match[2]))

    def add(self, reason: str, payloads: list[bytes]) -> list[Place | None]:
        """Append payloads, and return their places when they are on the disk.

        None stands for one that is larger than all files together may be.
        """
        if not payloads:
            return []
        make_folder(self._folder)
        places: list[Place | None] = []
        rest = list(reversed(payloads))
        while rest:
            self._append(reason, rest, places)
        sync_folder(self._folder)
        return places

    def names(self) -> list[str]:
        """Return the names of the files that are there."""
        return sorted(self._sizes())

    def add_apart(self, reason: str, payloads: list[bytes]) -> list[Place | None]:
        """Append payloads to a file that holds nothing else yet."""
        self._last[reason] += 1
        return self.add(reason, payloads)

    def too_many(self) -> list[str]:
        """Return the names of the files that have to be dropped to be below the cap again."""
        sizes = self._sizes()
        dropped: list[str] = []
        while sizes and sum(sizes.values()) > self._max_bytes:
            held: dict[str, int] = defaultdict(int)
            for name, size in sizes.items():
                held[_reason(name)] += size
            largest = max(held, key=lambda reason: held[reason])
            oldest = min((name for name in sizes if _reason(name) == largest), key=_number)
            dropped.append(oldest)
            del sizes[oldest]
        return dropped

    def remove(self, names: Iterable[str]) -> None:
        """Remove files that the ledger has recorded as gone."""
        for name in names:
            if _NAME.fullmatch(name):
                (self._folder / name).unlink(missing_ok=True)

    def _append(self, reason: str, rest: list[bytes], places: list[Place | None]) -> None:
        """Append from the end of `rest` to the newest file of a reason, until that is full."""
        full = max(1, self._max_bytes // _FILES)
        path = self._folder / f"{reason}-{self._last[reason]}.bin"
        if not path.exists() or path.stat().st_size >= full:
            self._last[reason] += 1
            path = self._folder / f"{reason}-{self._last[reason]}.bin"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, PRIVATE), "ab") as file:
            size = file.seek(0, os.SEEK_END)
            while rest:
                payload = rest.pop()
                if len(payload) > self._max_bytes:
                    places.append(None)
                    continue
                file.write(payload)
                places.append(Place(path.name, size))
                size += len(payload)
                if size >= full:
                    break
            file.flush()
            os.fsync(file.fileno())

    def _sizes(self) -> dict[str, int]:
        with contextlib.suppress(FileNotFoundError):
            return {
                path.name: path.stat().st_size
                for path in self._folder.iterdir()
                if _NAME.fullmatch(path.name) and path.is_file()
            }
        return {}


def read_payload(folder: Path, file: str | None, place: int | None, size: int) -> bytes | None:
    """Return the bytes at a place, or None where they are not kept any more."""
    if file is None or place is None or not _NAME.fullmatch(file):
        return None
    try:
        with (folder / file).open("rb") as opened:
            opened.seek(place)
            found = opened.read(size)
    except FileNotFoundError:
        return None
    return found if len(found) == size else None


def _reason(name: str) -> str:
    return name.rpartition("-")[0]


def _number(name: str) -> int:
    return int(name.rpartition("-")[2].removesuffix(".bin"))
