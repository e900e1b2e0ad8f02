"""A ledger that has a tenant everywhere, and what is to be found of it when it was erased.

    python -m tests.support.erasures N DATA_DIR

Erases the tenant, or goes on with that, and kills itself after the n-th statement or commit of it.
"""

from __future__ import annotations

import sys
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
import pytest

import voicecosts.consumer.store.erasing
from tests.support.events import PRODUCER, PROJECT, SUBJECT, message, reading, session_id
from tests.support.faulty_folding import Deadly
from tests.support.history import Told, figures, history, often
from voicecosts.consumer.booking.message import Message
from voicecosts.consumer.booking.operations import Adjust, Erase, Rerate, Void
from voicecosts.producer.events import VERSION, Batch, Event, encode

SEED: Final = 4
GONE: Final = "tenant-1"
OTHER: Final = "tenant-2"
GARBAGE: Final = b"\x00half of a batch of tenant-1 and then noth"

_erasing: Any = voicecosts.consumer.store.erasing


def newer(sequence: int, *events: Event) -> Message:
    """Return a message whose batch is of a version that is not known yet."""
    batch = Batch(producer_id=PRODUCER, number=1, events=list(events))
    fields = msgspec.msgpack.decode(encode(batch))
    return Message(SUBJECT, sequence, msgspec.msgpack.encode({**fields, "version": VERSION + 1}))


def invalid(sequence: int, event: Event) -> Message:
    """Return a message with a reading that nobody can mean."""
    fields = msgspec.msgpack.decode(
        encode(Batch(producer_id=PRODUCER, number=sequence, events=[event]))
    )
    fields["events"][0]["totals"]["requests"] = -5
    return Message(SUBJECT, sequence, msgspec.msgpack.encode(fields))


def ids_of(connection: Any, tenant: str = GONE) -> list[str]:
    """Return the ids of a tenant's sessions."""
    statement = "SELECT session_id::VARCHAR FROM session_identities WHERE tenant = ? ORDER BY ALL"
    return [row[0] for row in connection.execute(statement, [tenant]).fetchall()]


def prepared(data_dir: Path) -> tuple[Told, list[str]]:
    """Return a ledger that has the tenant in files of every kind, and the ids of its sessions.

    Of the last one nothing is booked: it is known by a dead letter.
    """
    made = Told(data_dir)
    steps = list(history(SEED))
    for place, step in enumerate(steps):
        made.take(step, seals=place < len(steps) * 3 // 4)
    ledger = made.ledger
    ids = ids_of(ledger._connection)
    own: dict[str, Any] = {"tenant": GONE, "session_id": ids[1]}
    ledger.apply(
        [
            Message("costs.v1.x", 9001, GARBAGE),
            newer(9002, reading(900, **own)),
            newer(9003, reading(900, of=700, tenant=OTHER)),
            invalid(9004, reading(901, of=701, tenant=GONE)),
            message(9005, reading(901, **{**own, "input_tokens": 1}), number=78),
            invalid(9006, reading(1, of=702, tenant=OTHER)),
        ]
    )
    day = date(2026, 11, 18)
    for work, why in (
        (Adjust(amount=Decimal(-3), day=day, project=PROJECT, tenant=GONE), "a credit"),
        (
            Adjust(amount=Decimal(-3), day=day, project=PROJECT, tenant=OTHER),
            f"asked by billing@{GONE}.com.",
        ),
        (Rerate(where={"tenant": (GONE,)}), "of one"),
        (Rerate(where={"tenant": (GONE, OTHER)}), "of two"),
        (Void(project=PROJECT, session_id=ids[-1]), f"a fraud: {ids[-1]}"),
    ):
        ledger.operate(work, reason=why)
        while ledger._operations.pending:
            ledger.work()
    ledger.publish_snapshot()
    made.now += timedelta(minutes=1)
    ledger.publish_snapshot()
    return made, [*ids, session_id(701)]


def traces(data_dir: Path, ids: list[str]) -> list[str]:
    """Return the files that name the tenant or a session of it."""
    marks = [mark.encode() for mark in (GONE, *ids)]
    marks += [bytes.fromhex(each.replace("-", "")) for each in ids]
    return sorted(
        path.relative_to(data_dir).as_posix()
        for path in data_dir.rglob("*")
        if path.is_file() and any(mark in path.read_bytes() for mark in marks)
    )


def left(data_dir: Path) -> dict[str, Any]:
    """Return what the newest snapshot answers, and which files there are, without what differs each time."""
    with duckdb.connect((data_dir / "costs.duckdb").resolve(), read_only=True) as snapshot:
        found: dict[str, Any] = figures(snapshot)
        for name in ("erased", "detail"):
            found[name] = snapshot.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall()  # noqa: S608 - ours
        found["letters"] = snapshot.execute("SELECT letters FROM erasures").fetchall()
        found["recorded"] = snapshot.execute(
            "SELECT day, rows, first_place FROM sealed_files ORDER BY ALL"
        ).fetchall()
        names = {row[0] for row in snapshot.execute("SELECT file FROM sealed_files").fetchall()}
    there = {
        path.relative_to(data_dir).as_posix()
        for path in (data_dir / "sealed").rglob("*")
        if path.is_file()
    }
    found["sealed files that nobody names"] = sorted(there ^ names)
    found["copies"] = len(list(data_dir.glob("costs-*.duckdb")))
    return found


def small(patch: pytest.MonkeyPatch) -> None:
    """Do little at a time."""
    often(patch)
    patch.setattr(_erasing, "SLICE_SESSIONS", 2)


def erase(data_dir: Path, at: int = 0) -> None:
    """Erase the tenant, or go on with it; die at a statement of it."""
    made = Told(data_dir, NOW[0])
    ledger: Any = made.ledger
    if at:
        deadly: Any = Deadly(ledger._connection, at)
        for each in (
            ledger,
            ledger._operations,
            ledger._erasing,
            ledger._removal,
            ledger._snapshots,
        ):
            each._connection = deadly
    if ledger._operations.last < 8 or not any(
        it.work.kind == "erase" for it in ledger._operations.all
    ):
        ledger.operate(Erase(tenant=GONE), reason="they asked for it")
    while ledger._operations.pending:
        ledger.work()
    made.close()


NOW: Final = [next(iter(history(SEED))).now + timedelta(days=40)]


if __name__ == "__main__":
    small(pytest.MonkeyPatch())
    erase(Path(sys.argv[2]), int(sys.argv[1]))
