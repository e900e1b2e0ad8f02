"""Who holds an outbox file, and how many bytes all processes of a host hold together.

Beside each outbox file lies a lock file. Its flock is the right to the file: it lives exactly as
long as the process that took it, however that ends. Its content is a label: the bytes of the
messages in the outbox, so that every process can add up what its neighbours hold without opening
their databases; up to which message it was filled, so that a loss is noticed; up to which one a
ledger of this host has booked it; whose the file is and where its messages go. Nothing here refuses to keep a message; it only counts.
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
LOCK: Final = ".lock"
_NUMBER: Final = struct.Struct("<q")
_LABEL: Final = struct.Struct("<qqqq")  # as the fields of `Label`
_HELD_AT, _, _BOOKED_AT, _PID_AT = (place * _NUMBER.size for place in range(4))
_LONGEST_LABEL: Final = 4096

_inherited: set[int] = set()
"""The descriptors of all locks of this process; changed by `Claim` only."""


class Label(Struct, frozen=True):
    """What a lock file tells of its outbox.

    `last` is the number of the last message that was stored, `booked` of the last one that a ledger
    of this host has booked, `pid` the last holder's, and `target` says where the messages go, for
    people.
    """

    held_bytes: int
    last: int
    booked: int
    pid: int
    target: str


class Claim:
    """The right to one outbox file. `last` is the number of the last message it was ever said to hold.

    Raises:
        OutboxHeld: Another process has it.
        OutboxUnavailable: The lock file cannot be made.
    """

    def __init__(self, database: Path, *, target: str = "") -> None:
        self.path = database.with_suffix(LOCK)
        try:
            self._descriptor = self._lock()
        except BlockingIOError:
            raise OutboxHeld(self.path) from None
        except OSError as error:
            raise OutboxUnavailable(self.path, str(error)) from error
        _inherited.add(self._descriptor)
        self.last = label(database).last
        with contextlib.suppress(OSError):  # a label is for others to read, the lock is the right
            os.pwrite(self._descriptor, _NUMBER.pack(os.getpid()), _PID_AT)
            if target:
                os.pwrite(self._descriptor, target.encode()[:_LONGEST_LABEL], _LABEL.size)

    def __repr__(self) -> str:
        return f"<Claim {self.path.name}>"

    def say(self, held_bytes: int, last: int) -> None:
        """Tell the other processes how many bytes are held here, and up to which message.

        What was told of the last message is not taken back: a file that has less has lost it.
        """
        self.last = max(self.last, last)
        told = _NUMBER.pack(held_bytes) + _NUMBER.pack(self.last)
        with contextlib.suppress(OSError):  # a number that is a little old does no harm
            os.pwrite(self._descriptor, told, _HELD_AT)

    def booked(self) -> int:
        """Return up to which message a ledger of this host says that it has booked them."""
        try:
            return int(_NUMBER.unpack(os.pread(self._descriptor, _NUMBER.size, _BOOKED_AT))[0])
        except (OSError, struct.error):
            return 0

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


def label(database: Path) -> Label:
    """Return what is known of an outbox without opening it; a label that is not there is empty."""
    raw = b""
    with contextlib.suppress(OSError), database.with_suffix(LOCK).open("rb") as file:
        raw = file.read(_LABEL.size + _LONGEST_LABEL)
    held_bytes, last, booked, pid = _LABEL.unpack(raw[: _LABEL.size].ljust(_LABEL.size, b"\0"))
    return Label(held_bytes, last, booked, pid, raw[_LABEL.size :].decode("utf-8", "replace"))


def mark_booked(database: Path, number: int) -> None:
    """Tell the holder of an outbox that a ledger has booked its messages up to `number`.

    Raises:
        OutboxUnavailable: The lock file is gone or cannot be written.
    """
    try:
        descriptor = os.open(database.with_suffix(LOCK), os.O_RDWR | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, _NUMBER.pack(number), _BOOKED_AT)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OutboxUnavailable(database, error.strerror or str(error)) from error


def is_held(database: Path) -> bool:
    """Whether a living process has the right to an outbox file."""
    try:
        descriptor = os.open(database.with_suffix(LOCK), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _let_go() -> None:
    """In a forked child: the parent's locks are not the child's, and must end with the parent."""
    for descriptor in _inherited:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _inherited.clear()


os.register_at_fork(after_in_child=_let_go)
