"""Who holds an outbox file, and how many bytes all processes of a host hold together.

Beside each outbox file lies a lock file. Its flock is the right to the file: it lives exactly as
long as the process that took it, however that ends. Its content is one number, the bytes of the
messages in the outbox, so that every process can add up what its neighbours hold without opening
their databases. Nothing here refuses to keep a message; it only counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from producer.errors import OutboxUnavailable

DATABASE: Final = ".sqlite3"
LOCK: Final = ".lock"
_NUMBER: Final = struct.Struct("<q")

_inherited: set[int] = set()
"""The descriptors of all locks of this process; changed by `Claim` only."""


class Claim:
    """The right to one outbox file.

    Raises:
        OutboxUnavailable: Another process has it, or the lock file cannot be made.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_suffix(LOCK)
        try:
            self._descriptor = self._lock()
        except OSError as error:
            reason = "another process has it" if isinstance(error, BlockingIOError) else str(error)
            raise OutboxUnavailable(self.path, reason) from error
        _inherited.add(self._descriptor)

    def __repr__(self) -> str:
        return f"<Claim {self.path.name}>"

    def say(self, held_bytes: int) -> None:
        """Tell the other processes how many bytes are held here."""
        with contextlib.suppress(OSError):  # a number that is a little old does no harm
            os.pwrite(self._descriptor, _NUMBER.pack(held_bytes), 0)

    def release(self, *, remove: bool) -> None:
        """Give the file up to whoever comes first, or remove the lock with what it locked."""
        _inherited.discard(self._descriptor)
        if remove:
            # Removed while still locked: nobody can take a lock that no name leads to.
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(self._descriptor)

    def _lock(self) -> int:
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The name may have been removed between opening and locking; then the lock is
                # on a file that nobody else will ever find.
                if os.fstat(descriptor).st_nlink and self.path.stat().st_ino == (
                    os.fstat(descriptor).st_ino
                ):
                    return descriptor
            except FileNotFoundError:
                pass
            except OSError:
                os.close(descriptor)
                raise
            os.close(descriptor)


def held_elsewhere(folder: Path, own: set[Path]) -> int:
    """Return the bytes that the outboxes in `folder` hold, without those of `own` locks."""
    total = 0
    with contextlib.suppress(OSError):
        for path in folder.glob(f"*{LOCK}"):
            if path in own:
                continue
            with contextlib.suppress(OSError, struct.error):
                total += max(0, _NUMBER.unpack(path.read_bytes()[: _NUMBER.size])[0])
    return total


def _let_go() -> None:
    """In a forked child: the parent's locks are not the child's, and must end with the parent."""
    for descriptor in _inherited:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _inherited.clear()


os.register_at_fork(after_in_child=_let_go)
