"""Files of the data directory: the lock of the one writer, and steps that a kill cannot spoil.

The operating system holds the lock, so it is free as soon as its holder has ended, however it ended.
Everything made here is for its owner alone: 0600, and folders 0700.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from voicecosts.consumer.errors import LedgerInUse, LedgerMoved

if TYPE_CHECKING:
    from collections.abc import Iterable

PRIVATE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700

_TRIES: Final = 3
_BETWEEN_TRIES_S: Final = 0.01

_OF_OTHERS: Final = 0o077
_FICLONE: Final = 0x40049409
"""The request of Linux that makes one file share the blocks of another (XFS, Btrfs, bcachefs)."""

_LOCAL: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "f2fs", "tmpfs"})
"""File systems whose files nobody opens but through this kernel."""


class WriterLock:
    """An exclusive lock on a file, which holds the pid of its holder."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, path: Path) -> Self:
        """Take the lock, or raise `LedgerInUse` with the pid of its holder.

        A link in its place is refused (`OSError`): whoever may write in the folder could have any file emptied.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
        if not _locked(descriptor):
            holder = os.pread(descriptor, 32, 0).strip()
            os.close(descriptor)
            raise LedgerInUse(path.parent, int(holder) if holder.isdigit() else None)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Release the lock. The file stays: removed, two processes could hold two files."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class InPlace:
    """Whether the file that was opened is still the one under its name.

    What is written to a file that was removed, or replaced by a rename, is lost when it is closed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = _identity(path)

    def check(self) -> None:
        """Raise `LedgerMoved` when another file, or none, has the name now."""
        if self._opened is None or _identity(self._path) != self._opened:
            raise LedgerMoved(self._path)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_room(folder: Path, size: int) -> None:
    """Raise `OSError` where so many bytes do not fit on the disk: it would be full before that was noticed."""
    found = os.statvfs(folder)
    if found.f_bavail * found.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, for its owner alone where it is new."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def tighten(paths: Iterable[Path]) -> None:
    """Take from files and folders of ours what others may do with them.

    Earlier versions made them with the rights that the process gives by default. What belongs to
    another user stays as it is, and what a link leads to.
    """
    for path in paths:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            if path.is_symlink():
                continue
            mode = path.stat().st_mode
            if mode & _OF_OTHERS:
                path.chmod(mode & 0o7777 & ~_OF_OTHERS)


def share_blocks(source: int, target: int) -> bool:
    """Let a file share the blocks of another until one of them changes; return whether it can.

    Then it is a copy, and nothing was written.
    """
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:  # another file system, or one that cannot
        return False
    return True


def take_unread(path: Path, name: Path) -> int | None:
    """Open a file to write it, under another name, if nobody else has it open; else return None.

    Nobody else can open it until it is closed: a lease says so, for every process that this kernel
    knows of. Where others may read it past this kernel, and where it has a second name, it is not taken.
    """
    if sys.platform != "linux" or _kind_of(path) not in _LOCAL:
        return None
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(file).st_nlink == 1:
            # 1. Nobody has it open. Who opens it from here on has to wait, and we are asked to hurry,
            #    by a signal that does nothing. If we die, nobody has the lease, and the file is whole.
            fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            # 2. Nobody finds it any more, also not after a power cut in the middle of what is written into it. If we
            #    die, it is a draft, which the next ledger removes.
            path.rename(name)
            sync_folder(name.parent)
            # 3. Who opened it in between waits until we close it, and reads it as it is.
            if fcntl.fcntl(file, fcntl.F_GETLEASE) == fcntl.F_WRLCK:
                return file
            name.unlink()
    except OSError:  # it is in use, or the file system knows no leases
        pass
    os.close(file)
    return None


def _kind_of(path: Path) -> str:
    """Return the kind of file system that a file is on, as Linux calls it; "" where it does not say."""
    try:
        found = path.stat().st_dev
        text = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return ""
    device = f"{os.major(found)}:{os.minor(found)}"
    for line in text.splitlines():
        here, _, there = line.partition(" - ")
        if here.split()[2] == device:
            return there.split()[0]
    return ""


def write_private(path: Path, data: bytes, *, synced: bool = False) -> None:
    """Replace a file by a rename, so that a reader sees the old one or the new one.

    With `synced` the new one is on the disk when this returns. Where it cannot be written, nothing of it stays.
    A link in place of the draft is removed, not followed.
    """
    draft = path.with_name(path.name + ".tmp")
    if draft.is_symlink():
        draft.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(draft, flags, PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), PRIVATE)
            file.write(data)
            if synced:
                file.flush()
                os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    if synced:
        sync_folder(path.parent)


def _locked(descriptor: int) -> bool:
    """Take a lock; return whether it could be had. A reader that looks at it holds it for a moment."""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_BETWEEN_TRIES_S)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
