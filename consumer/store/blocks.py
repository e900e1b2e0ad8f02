"""The blocks of a DuckDB file: which hold something, and whether one is what DuckDB wrote.

A file is three headers and blocks of 256 kB. Each checkpoint writes what is new into blocks that its
predecessor had free, and then the one of two headers that is older: what was in use stays as it was
until the next checkpoint, so that a kill in between changes nothing. Only metadata is written into
blocks in use. The header leads to the list of free blocks and of those with metadata. Each block
begins with a checksum of the rest. (DuckDB, `single_file_block_manager.cpp`,
`metadata_manager.cpp`, `checksum.cpp`, storage of 1.5.)
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from pathlib import Path

SIZE: Final = 262_144
"""Bytes of a block, with its checksum."""

_HEADER_SIZE: Final = 4096
HEADERS: Final = 3 * _HEADER_SIZE
"""Bytes before the first block: the file's header, and two that checkpoints write in turn."""

_HEADER: Final = struct.Struct(
    "<8Q"
)  # checksum, iteration, tables, free list, blocks, their size, …
_NOTHING: Final = 2**64 - 1
_PIECE: Final = (
    (SIZE - 8) // 64 // 8 * 8
)  # metadata lies in pieces, each with the place of the next
_U64: Final = struct.Struct("<Q")

_LANES: Final = SIZE // 16
_LOW: Final = int.from_bytes((b"\xff" * 8 + b"\0" * 8) * _LANES, "little")
_HALVES: Final = [(bits, (1 << bits) - 1) for bits in (_LANES * 64 >> i for i in range(14))]


class Blocks(Struct, frozen=True):
    """What one checkpoint left: its number, how many blocks there are, and which are free.

    Those in `metadata` may have been written where they were.
    """

    iteration: int
    count: int
    free: frozenset[int]
    metadata: frozenset[int]

    def uses(self, block: int) -> bool:
        """Return whether the block holds something."""
        return block < self.count and block not in self.free

    def used(self) -> list[int]:
        """Return the blocks that hold something."""
        return [block for block in range(self.count) if block not in self.free]


class BlockError(ValueError):
    """A file whose headers or lists are not what they should be."""


def place_of(block: int) -> int:
    """Return where a block begins in the file."""
    return HEADERS + block * SIZE


def read_blocks(file: int) -> Blocks:
    """Return what the last checkpoint left in the open file.

    Raises:
        BlockError: It is no DuckDB file, or one with blocks of another size.
    """
    headers = [os.pread(file, _HEADER_SIZE, _HEADER_SIZE * number) for number in (1, 2)]
    good = [
        _HEADER.unpack_from(each)
        for each in headers
        if len(each) == _HEADER_SIZE and _is_sound(each)
    ]
    if not good:
        raise BlockError("no header is whole")
    _, iteration, _, place, count, size, *_ = max(good, key=lambda each: each[1])
    if size != SIZE:
        raise BlockError(f"its blocks have {size} bytes")
    if place == _NOTHING:  # no list was written: nothing is free, and anything may be metadata
        return Blocks(iteration, count, frozenset(), frozenset(range(count)))
    lists = _Chain(file, place)
    free = [lists.number() for _ in range(lists.number())]
    for _ in range(lists.number()):  # blocks that several columns share, and how many: not needed
        lists.take(12)
    metadata = [struct.unpack("<QQ", lists.take(16))[0] for _ in range(lists.number())]
    return Blocks(iteration, count, frozenset(free), frozenset(metadata))


def blocks_of(path: Path) -> Blocks:
    """Return what the last checkpoint left in a file. Raises what `read_blocks` does."""
    with path.open("rb") as file:
        return read_blocks(file.fileno())


def is_whole(block: bytes) -> bool:
    """Return whether a block is as DuckDB wrote it."""
    return len(block) == SIZE and _is_sound(block)


def _is_sound(block: bytes) -> bool:
    return int(_U64.unpack_from(block)[0]) == _checksum(block[8:])


def _checksum(payload: bytes) -> int:
    """Return DuckDB's checksum: 5381 and each word times a number, all combined by exclusive or.

    The words are lanes of one large integer, so that none is handled by itself (0.8 ms for a block).
    """
    words = int.from_bytes(payload, "little")
    lanes = ((words & _LOW) * 0xBF58476D1CE4E5B9) ^ ((words >> 64 & _LOW) * 0xBF58476D1CE4E5B9)
    for bits, low in _HALVES:
        lanes = (lanes >> bits) ^ (lanes & low)
    return 5381 ^ (lanes & _NOTHING)


class _Chain:
    """Reads what is written over pieces of metadata."""

    def __init__(self, file: int, place: int) -> None:
        self._file = file
        self._next = place
        self._rest = b""
        self._number = -1
        self._block = b""

    def number(self) -> int:
        return int(_U64.unpack(self.take(8))[0])

    def take(self, size: int) -> bytes:
        while len(self._rest) < size:
            number, piece = self._next & (2**56 - 1), self._next >> 56
            if self._next == _NOTHING:
                raise BlockError("the list of free blocks is cut short")
            if number != self._number:
                self._number, self._block = number, os.pread(self._file, SIZE, place_of(number))
                if not is_whole(self._block):
                    raise BlockError(f"block {number} is not what was written")
            found = self._block[8 + piece * _PIECE :][:_PIECE]
            self._next = _U64.unpack_from(found)[0]
            self._rest += found[8:]
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken
