"""Copy a database file that stands still, a part at a time, and only what is new in it.

What is new is known from the lists of free blocks that checkpoints left (`blocks`), and the checksums
of all other blocks have to agree with that; where they do not, or nothing is known, everything is
compared. A block is copied only when its checksum is right.

A copy is made in a file that nobody reads: in one that shares the blocks of its source where the file
system can, else in an old copy that nobody has open any more, else in a new one. Its headers are
written last, so that an unfinished copy cannot be opened, whatever becomes of us, or of the power.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Final

from voicecosts.consumer.store.blocks import (
    HEADERS,
    SIZE,
    BlockError,
    Blocks,
    is_whole,
    place_of,
    read_blocks,
)
from voicecosts.consumer.store.files import PRIVATE, require_room, share_blocks, take_unread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)

LOOKED_AT: Final = 16
"""Blocks that did not change, of which each copy compares the checksum: all of them in some time."""

_PAGE: Final = 4096
_SYNCED: Final = 2**24
_TRIES: Final = 2
"""How often a block is read before what is damaged in it is taken for damage of the file."""


class Versions:
    """What the checkpoints of one ledger left, and of which of them its snapshots are copies."""

    def __init__(self) -> None:
        self._left: dict[int, Blocks] = {}
        self._published: dict[int, int] = {}

    @property
    def first(self) -> int | None:
        """The first snapshot that is known."""
        return min(self._published, default=None)

    def note(self, blocks: Blocks) -> None:
        """Note what a checkpoint left."""
        self._left[blocks.iteration] = blocks

    def publish(self, number: int, blocks: Blocks) -> None:
        """Note that a snapshot is a copy of what this checkpoint left."""
        self.note(blocks)
        self._published[number] = blocks.iteration

    def keep(self, numbers: Iterable[int]) -> None:
        """Forget what was before the first of these snapshots."""
        known = self._published
        self._published = {number: known[number] for number in numbers if number in known}
        oldest = min(self._published.values(), default=0)
        self._left = {each: left for each, left in self._left.items() if each >= oldest}

    def changed(self, number: int, now: Blocks) -> list[int] | None:
        """Return the blocks that may differ from those of a snapshot; None where that is not known."""
        began = self._published.get(number)
        if began is None:
            return None
        since = [self._left.get(iteration) for iteration in range(began, now.iteration)]
        known = [left for left in since if left is not None]
        if len(known) < len(since):
            return None
        return [
            block
            for block in now.used()
            if block in now.metadata or not all(left.uses(block) for left in known)
        ]


class Copy:
    """A copy on its way from one open file to another.

    With `changed` only those blocks may differ, else all. With `shares` the target has the blocks of the
    source already, and they are looked at only.
    """

    def __init__(
        self,
        files: list[int],
        blocks: Blocks,
        changed: list[int] | None = None,
        *,
        shares: bool = False,
    ) -> None:
        self._source, self._target = files
        self._headers = os.pread(self._source, HEADERS, 0)
        self._shares = shares
        used = blocks.used()
        looked_at = [blocks.iteration * LOOKED_AT + each for each in range(LOOKED_AT)]
        self._to_look_at = [used[each % len(used)] for each in looked_at]
        self._to_move = [*reversed(used if changed is None else changed)]
        others = set() if changed is None or shares else {*used}.difference(changed)
        self._to_agree = sorted(others, reverse=True)
        self._unsynced = 0
        self._written = 0
        self._moved = 0
        self._is_new = not shares and os.fstat(self._target).st_size == 0
        self.blocks = blocks
        if not shares:
            os.pwrite(self._target, bytes(HEADERS), 0)
            if not self._is_new:
                os.fdatasync(
                    self._target
                )  # before any block: no power cut leaves an old header to new blocks

    @property
    def cost_bytes(self) -> int:
        """What was written so far: here, and where blocks differ, before that by the checkpoint."""
        return self._written + (0 if self._is_new else self._moved * SIZE)

    def advance(self, is_time: Callable[[], bool]) -> bool:
        """Copy until it is time for something else; return whether the copy is complete, and on disk.

        Raises:
            BlockError: A block of the source is not what was written.
            OSError: The copy could not be written, or its source was.
        """
        while self._to_agree:
            if not self._agree(self._to_agree.pop()):
                _log.warning("more than expected changed in the ledger: all of it is compared")
                self._to_agree = []
                self._to_move = self.blocks.used()[::-1]
            if is_time():
                return False
        while self._to_move:
            self._move(self._to_move.pop())
            if is_time():
                return False
        while self._to_look_at:
            self._read(self._to_look_at.pop())
        if os.pread(self._source, HEADERS, 0) != self._headers:
            raise OSError("the ledger was written while it was copied")
        if not self._shares:
            os.ftruncate(self._target, place_of(self.blocks.count))
            self._put(self._headers, 0)
        os.fsync(self._target)
        return True

    def close(self) -> None:
        """Close both files."""
        for file in (self._source, self._target):
            os.close(file)

    def _agree(self, block: int) -> bool:
        """Return whether the checksums are the same that the block begins with."""
        place = place_of(block)
        return os.pread(self._source, 8, place) == os.pread(self._target, 8, place)

    def _move(self, block: int) -> None:
        place = place_of(block)
        there = b"" if self._shares else os.pread(self._target, SIZE, place)
        found = self._read(block, there)
        if found == there:
            return
        self._moved += 1
        at = SIZE if self._shares else 0
        while at < SIZE:
            end = at
            while end < SIZE and found[end : end + _PAGE] != there[end : end + _PAGE]:
                end += _PAGE
            self._put(found[at:end], place + at)
            at = end + _PAGE

    def _read(self, block: int, there: bytes = b"") -> bytes:
        for _ in range(_TRIES):
            found = os.pread(self._source, SIZE, place_of(block))
            if found == there or is_whole(found):
                return found
        raise BlockError(f"block {block} is not what was written")

    def _put(self, data: bytes, place: int) -> None:
        while data:
            count = os.pwrite(self._target, data, place)
            data, place = data[count:], place + count
            self._written += count
            self._unsynced += count
        if self._unsynced > _SYNCED:  # so that none of many syncs takes long
            os.fdatasync(self._target)
            self._unsynced = 0


def copy_of(source: Path, draft: Path) -> Copy:
    """Begin a copy with blocks of its own.

    Raises:
        BlockError: The headers of the source or its lists cannot be read.
    """
    with _closed_on_error() as files:
        files.append(os.open(source, os.O_RDONLY | os.O_CLOEXEC))
        blocks = read_blocks(files[0])
        files.append(_new(draft))
        return Copy(files, blocks)


def next_copy(
    source: Path, draft: Path, versions: Versions, spares: dict[int, Path], newest: int
) -> Copy:
    """Begin the next copy of a ledger in the cheapest way that there is: a spare may become it.

    All that is in snapshot `newest` was looked at, so shared blocks that it has as well are not again.

    Raises:
        BlockError: The headers of the source or its lists cannot be read.
        OSError: There is no room for a new file, which is known before it fills the disk.
    """
    with _closed_on_error() as files:
        files.append(os.open(source, os.O_RDONLY | os.O_CLOEXEC))
        blocks = read_blocks(files[0])
        files.append(_new(draft))
        if share_blocks(*files):
            return Copy(files, blocks, versions.changed(newest, blocks), shares=True)
        os.close(files.pop())
        for number, path in spares.items():
            if (spare := take_unread(path, draft)) is not None:
                files.append(spare)
                return Copy(files, blocks, versions.changed(number, blocks))
        require_room(draft.parent, len(blocks.used()) * SIZE)
        files.append(_new(draft))
        return Copy(files, blocks)


def _new(draft: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(draft, flags, PRIVATE)


@contextlib.contextmanager
def _closed_on_error() -> Iterator[list[int]]:
    files: list[int] = []
    try:
        yield files
    except BaseException:
        for file in files:
            os.close(file)
        raise
