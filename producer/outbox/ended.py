"""Which producers of this host have ended: whoever adopts an outbox without a server notes its name.

The file of an ended process is moved or removed by whoever adopts it, and the ledger of this host
would not see that there was one. One line a producer, until a ledger has noted it. Where the file is
full or lost, the ledger learns it later, because the producer is silent.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from voicecosts.producer.outbox.row import EMBEDDED

_NOTED: Final = "ended"
_TAKEN: Final = "ended.taken"
_MOST_BYTES: Final = 2**16


def producer_of(database: Path) -> str:
    """Return the producer that made an outbox file, by the file's name."""
    return database.stem.partition("-")[2]


def note_ended(database: Path) -> None:
    """Note that the process which made an outbox file has ended, if a ledger of this host reads it."""
    if not database.name.startswith(f"{EMBEDDED}-"):
        return
    with contextlib.suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(database.with_name(_NOTED), flags, 0o600)
        try:
            if os.fstat(descriptor).st_size < _MOST_BYTES:
                os.write(descriptor, f"{producer_of(database)}\n".encode())
        finally:
            os.close(descriptor)


def is_noted(folder: Path) -> bool:
    """Whether there is anything to take."""
    return (folder / _NOTED).exists() or (folder / _TAKEN).exists()


def take_ended(folder: Path) -> list[str]:
    """Return the producers that are noted; they are returned again until `forget_ended` is called."""
    taken = folder / _TAKEN
    with contextlib.suppress(OSError):
        if not taken.exists():
            (folder / _NOTED).rename(taken)
        return taken.read_text("utf-8", "replace").split()
    return []


def forget_ended(folder: Path) -> None:
    """Forget what was taken: a ledger has noted it."""
    with contextlib.suppress(OSError):
        (folder / _TAKEN).unlink()
