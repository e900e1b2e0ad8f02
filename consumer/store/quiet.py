"""A ledger that nobody runs and for which nothing waits: its snapshot is all there is, as of now.

Only the holder of the writer's lock may say that, and only after an embedded ledger that was closed
in order; after any other end somebody has to open the ledger and look.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec.structs import replace

from voicecosts.consumer.errors import LedgerInUse
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.heartbeat import read_heartbeat, utc_text, write_heartbeat
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.lock import WriterLock

if TYPE_CHECKING:
    from pathlib import Path


def confirm(data_dir: Path, clock: Clock | None = None) -> bool:
    """Move `as_of` on to this moment, and tell whether that was right to do.

    Raises:
        SnapshotFailed: The disk said no; readers see an older moment.
    """
    layout = Layout(data_dir)
    if not layout.ledger.exists():
        return False
    try:
        lock = WriterLock.acquire(layout.lock)
    except LedgerInUse:  # its holder tells the readers
        return False
    try:
        last = read_heartbeat(layout.heartbeat)
        if last is None or not (last.is_settled and last.embedded):
            return False
        now = (clock or Clock()).now()
        write_heartbeat(layout.heartbeat, replace(last, as_of=utc_text(now), pid=os.getpid()))
        return True
    finally:
        lock.release()
