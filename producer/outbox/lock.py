"""The lock file beside each outbox file: who holds the outbox, and what others may know of it.

Its flock is the right to the outbox file, and lasts exactly as long as the process that took it,
however that ends. Its content is a label: the bytes of the messages, so that every process can add
up what its neighbours hold without opening their databases; the last message that was stored, so
that a loss is noticed; the last one that a ledger of this host has booked; the process; and the
destination.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from msgspec import Struct

from voicecosts.producer.errors import OutboxHeld, OutboxUnavailable

DATABASE: Final = ".sqlite3"
LOCK_SUFFIX: Final = ".lock"
_NUMBER: Final = struct.Struct("<q")
_LABEL: Final = struct.Struct("<qqqq")  # as the fields of `Label`
_HELD_AT, _, _BOOKED_AT, _PID_AT = (place * _NUMBER.size for place in range(4))
_LONGEST_TEXT: Final = 4096

_descriptors: set[int] = set()
"""The descriptors of all locks of this process; changed by `Lock` only."""


class Label(Struct, frozen=True):
    """What a lock file tells of its outbox.

    `last` is the number of the last message that was stored, `booked` of the last one that a ledger
    of this host has booked, `pid` the last holder's, and `destination` says in words where the
    messages go.
    """

    held_bytes: int
    last: int
    booked: int
    pid: int
    destination: str


class Lock:
    """The right to one outbox file. `last` is the highest number that its label ever had.

    Raises:
        OutboxHeld: Another process has it.
        OutboxUnavailable: The lock file cannot be made.
    """

    def __init__(self, database: Path, *, destination: str = "") -> None:
        self.path = database.with_suffix(LOCK_SUFFIX)
        try:
            self._descriptor = self._acquire()
        except BlockingIOError:
            raise OutboxHeld(self.path) from None
        except OSError as error:
            raise OutboxUnavailable(self.path, str(error)) from error
        _descriptors.add(self._descriptor)
        self.last = label(database).last
        with contextlib.suppress(OSError):  # the lock counts, the label only informs others
            os.pwrite(self._descriptor, _NUMBER.pack(os.getpid()), _PID_AT)
            if destination:
                text = destination.encode("utf-8", "replace")[:_LONGEST_TEXT]
                os.pwrite(self._descriptor, text, _LABEL.size)

    def __repr__(self) -> str:
        return f"<Lock {self.path.name}>"

    def write_label(self, held_bytes: int, last: int) -> None:
        """Tell the other processes how many bytes are held here, and up to which message.

        The last number never falls: a file that ends before it has lost messages.
        """
        self.last = max(self.last, last)
        numbers = _NUMBER.pack(held_bytes) + _NUMBER.pack(self.last)
        with contextlib.suppress(OSError):  # a number that is a little old does no harm
            os.pwrite(self._descriptor, numbers, _HELD_AT)

    def booked(self) -> int:
        """Return the number of the last message that a ledger of this host has booked."""
        try:
            return int(_NUMBER.unpack(os.pread(self._descriptor, _NUMBER.size, _BOOKED_AT))[0])
        except (OSError, struct.error):
            return 0

    def is_in_place(self) -> bool:
        """Whether the file that is locked still has its name: without it others take the lock."""
        with contextlib.suppress(OSError):
            return os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        return False

    def release(self, *, remove: bool) -> None:
        """Release the lock to any other process; with `remove` the lock file is deleted too."""
        _descriptors.discard(self._descriptor)
        if remove:
            # Removed while still locked: nobody can lock a file that has no name.
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(self._descriptor)

    def _acquire(self) -> int:
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The file may have been removed between opening and locking; then others would
                # lock another file under this name.
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


def held_elsewhere(folder: Path, own: set[Path]) -> tuple[int, int]:
    """Return the bytes of the outboxes in `folder`, and how many outboxes that are.

    Those whose lock files are `own` are left out. What cannot be read counts as nothing.
    """
    left_out = {path.name for path in own}
    total = count = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(LOCK_SUFFIX) and entry.name not in left_out:
                count += 1
                total += max(0, _held_bytes(entry.path))
    return total, count


def _held_bytes(path: str) -> int:
    with contextlib.suppress(OSError, struct.error):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(_NUMBER.unpack(os.read(descriptor, _NUMBER.size))[0])
        finally:
            os.close(descriptor)
    return 0


def label(database: Path) -> Label:
    """Return what is known of an outbox without opening it; zeros where there is no label."""
    raw = b""
    with contextlib.suppress(OSError), database.with_suffix(LOCK_SUFFIX).open("rb") as file:
        raw = file.read(_LABEL.size + _LONGEST_TEXT)
    held_bytes, last, booked, pid = _LABEL.unpack(raw[: _LABEL.size].ljust(_LABEL.size, b"\0"))
    return Label(held_bytes, last, booked, pid, raw[_LABEL.size :].decode("utf-8", "replace"))


def mark_booked(database: Path, number: int) -> None:
    """Tell the process that holds an outbox that a ledger has booked messages up to `number`.

    Raises:
        OutboxUnavailable: The lock file is gone or cannot be written.
    """
    try:
        descriptor = os.open(database.with_suffix(LOCK_SUFFIX), os.O_RDWR | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, _NUMBER.pack(number), _BOOKED_AT)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OutboxUnavailable(database, error.strerror or str(error)) from error


def is_held(database: Path) -> bool:
    """Whether a living process has the right to an outbox file."""
    try:
        descriptor = os.open(database.with_suffix(LOCK_SUFFIX), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _close_inherited() -> None:
    """In a forked child: the locks are the parent's, and must end with the parent."""
    for descriptor in _descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _descriptors.clear()


os.register_at_fork(after_in_child=_close_inherited)
