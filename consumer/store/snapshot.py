"""Publish a copy of the ledger under a name that any number of readers may open.

A snapshot file is written once and never changed. The link `costs.duckdb` always points to a whole
one, so a reader never meets half a file, and one that is already open stays what it was.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from voicecosts.consumer.errors import SnapshotFailed
from voicecosts.consumer.store.files import copy_synced, remove, sync_folder

if TYPE_CHECKING:
    from voicecosts.consumer.store.layout import Layout

logger = logging.getLogger(__name__)

KEPT: Final = 3
"""Snapshots that stay, at least: the current one and two that readers may be about to open."""

GRACE_S: Final = 15.0
"""A snapshot younger than this stays too: its reader may have followed the link a moment ago."""


def publish_copy(layout: Layout, number: int) -> None:
    """Publish the ledger file as snapshot `number`. The caller has checkpointed it just now.

    Raises:
        SnapshotFailed: The disk said no; readers keep the snapshot that they have.
    """
    target = layout.snapshot(number)
    draft = target.with_name(target.name + ".tmp")
    link = layout.current.with_name(layout.current.name + ".tmp")
    try:
        # 1. A draft that nobody opens. If we die, the next open of the ledger removes it.
        copy_synced(layout.ledger, draft)
        # 2. A whole snapshot that nobody points to. If we die, the next number is one higher.
        draft.rename(target)
        sync_folder(layout.data_dir)
        # 3. Readers see it from here on: a rename swaps the link in one step.
        remove(link)
        link.symlink_to(target.name)
        link.replace(layout.current)
        sync_folder(layout.data_dir)
    except OSError as error:
        remove(draft)
        raise SnapshotFailed(layout.data_dir, str(error)) from error


def remove_old(layout: Layout, now_s: float, *, kept: int = KEPT, grace_s: float = GRACE_S) -> None:
    """Remove snapshots that no reader can be about to open. Open ones stay readable (POSIX)."""
    for path in list(layout.snapshots().values())[:-kept]:
        try:
            if path.stat().st_mtime < now_s - grace_s:
                remove(path)
        except OSError as error:
            logger.warning("An old snapshot stays: %s", error, extra={"path": str(path)})
