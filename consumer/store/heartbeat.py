"""What the writer says of itself in `ledger.json`, so that a reader can trust an old snapshot.

A quiet night publishes no snapshot. The heartbeat tells that this is silence and not death: `as_of`
is the moment until which the published snapshot holds everything that the ledger received.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from consumer.errors import SnapshotFailed

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


class Heartbeat(Struct, frozen=True):
    """One beat. `waiting` counts messages not yet fetched, if the writer knows."""

    snapshot: int
    as_of: str
    pid: int
    waiting: int | None
    running: bool


def utc_text(moment: datetime) -> str:
    """Return `moment` (UTC) as ISO text with microseconds and a Z."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def write_heartbeat(path: Path, beat: Heartbeat) -> None:
    """Replace the heartbeat at once: a reader sees the old one or the new one, whole."""
    draft = path.with_name(path.name + ".tmp")
    try:
        draft.write_bytes(msgspec.json.encode(beat))
        draft.replace(path)
    except OSError as error:
        raise SnapshotFailed(path.parent, str(error)) from error
