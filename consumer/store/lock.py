"""The lock of the one writer: held by the operating system, so a killed holder lets go of it."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Self

from voicecosts.consumer.errors import LedgerInUse

if TYPE_CHECKING:
    from pathlib import Path


class WriterLock:
    """An exclusive lock on a file, with the holder's pid inside for whoever comes second."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, path: Path) -> Self:
        """Take the lock, or raise `LedgerInUse` and say who has it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).strip()
            os.close(descriptor)
            raise LedgerInUse(path.parent, int(holder) if holder.isdigit() else None) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Let go. The file stays: removing it would let two processes hold two files."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
