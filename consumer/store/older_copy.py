"""What a ledger lacks where an older copy of its file was put in its place."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import duckdb

from voicecosts.consumer.booking.progress import Gap, Why
from voicecosts.consumer.store import sql

if TYPE_CHECKING:
    from voicecosts.consumer.store.heartbeat import Heartbeat
    from voicecosts.consumer.store.layout import Layout


def lacking_of_copy(
    connection: duckdb.DuckDBPyConnection,
    layout: Layout,
    last: Heartbeat | None,
    operations: int,
) -> list[Gap] | None:
    """Return what this file lacks and nothing brings again; `None` where it is no older copy.

    What came from a stream is read again. What came from the outboxes of a host left them when it was booked, and
    nothing does an operation again but who asked for it. `last` is the heartbeat of what was published, `operations`
    the number of this file's newest one.
    """
    own, local = connection.execute(sql.LOAD_OWN_SNAPSHOT).fetchone() or (0, False)
    published = max(last.snapshot if last else 0, *layout.snapshots(), 0)
    if own >= published:
        return None
    gaps = []
    told = last.operations if last is not None else 0
    if told > operations:
        why = Why.OPERATIONS_LOST
        gaps.append(Gap(stream_us=None, first=operations + 1, last=told, why=why))
    is_local = local or (last is not None and last.embedded)
    is_final = last is not None and last.is_final and last.snapshot == published
    if is_local and not (is_final and _has_all_of(connection, layout, published)):
        gaps.append(Gap(stream_us=None, first=own + 1, last=published, why=Why.RESTORED))
    return gaps


def _has_all_of(connection: duckdb.DuckDBPyConnection, layout: Layout, snapshot: int) -> bool:
    """Return whether this file has all that a snapshot has from messages, as far as that can be read.

    The snapshot is one that holds all of its ledger's work: what operations did is noted apart.
    """
    path = layout.snapshot(snapshot)
    if not path.is_file():
        return False
    try:
        with contextlib.closing(
            duckdb.connect(path, read_only=True, config={"threads": 1})
        ) as other:
            booked = other.execute(sql.BOOKED_FROM_MESSAGES).fetchone()
    except duckdb.Error:  # damaged, or of another version
        return False
    return bool(booked == connection.execute(sql.BOOKED_FROM_MESSAGES).fetchone())
