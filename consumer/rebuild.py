"""`costs rebuild`: compare a ledger with itself and with its stream, and make it anew.

Where a ledger runs, its newest snapshot is compared: that is a copy of it. The stream is read beside the
ledger, and nothing is taken from it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from nats.js.errors import APIError

from voicecosts.consumer.broker.replay import asking, stored
from voicecosts.consumer.broker.requests import Denied
from voicecosts.consumer.broker.stream import stream_info
from voicecosts.consumer.errors import BrokerError, InvalidConfig, LedgerInUse, LedgerMissing
from voicecosts.consumer.store.faults import translated
from voicecosts.consumer.store.files import WriterLock, make_folder
from voicecosts.consumer.store.lacking import Told
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.proof import Proof, prove, reading
from voicecosts.consumer.store.rebuilding import Found, Rebuilding, find_source, finish_swap
from voicecosts.consumer.store.streams import load_streams
from voicecosts.producer.events import now_us

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from voicecosts.consumer.booking.message import Message
    from voicecosts.consumer.booking.progress import Progress
    from voicecosts.consumer.config import LedgerConfig
    from voicecosts.consumer.store.ledger import Ledger

_GROUP: Final = 1_000
_GROUP_BYTES: Final = 8 * 2**20
"""Messages of the stream that are compared at a time, about."""

NOT_ASKED: Final = (BrokerError, Denied, APIError)
"""What is raised where the stream does not answer."""


class Verified(Struct, frozen=True, kw_only=True):
    """What was compared: which file, and what came of it."""

    file: Path
    is_running: bool
    proof: Proof


async def verify(data_dir: Path, config: LedgerConfig | None) -> Verified:
    """Compare what a ledger says twice, and with `config` what its stream says.

    Raises:
        LedgerMissing: There is none.
        LedgerDamaged: It cannot be read at all.
        InvalidConfig: The directory cannot be written.
    """
    layout = Layout(data_dir)
    with _standing(layout) as (path, is_running), translated(path), reading(path, layout) as books:
        proof = prove(books, layout, now_us())
        if config is not None:
            await compare_stream(books, config, proof)
    return Verified(file=path, is_running=is_running, proof=proof)


@contextlib.contextmanager
def _standing(layout: Layout) -> Iterator[tuple[Path, bool]]:
    """Yield the file to compare, which does not change meanwhile, and whether a ledger runs."""
    if not layout.ledger.exists():
        found = [*reversed(layout.snapshots().values()), layout.verified]
        raise LedgerMissing(layout.ledger, next((it for it in found if it.is_file()), None))
    try:
        lock = _lock(layout)
    except LedgerInUse:
        yield layout.current.resolve(), True
        return
    try:
        yield layout.ledger, False
    finally:
        lock.release()


def _lock(layout: Layout) -> WriterLock:
    """Become the one writer of a data directory; raises `LedgerInUse` or `InvalidConfig`."""
    try:
        make_folder(layout.ledger_dir)
        return WriterLock.acquire(layout.lock)
    except OSError as error:
        raise InvalidConfig([f"{layout.data_dir} cannot be used ({error})"]) from error


@contextlib.contextmanager
def rebuilding(data_dir: Path) -> Iterator[tuple[Found, Rebuilding]]:
    """Yield what a ledger can be made anew of, and what does it, while nobody else writes it.

    Raises:
        LedgerInUse: A ledger runs.
        LedgerDamaged: Nothing of it can be read.
        LedgerMissing: There is nothing to be read.
        InvalidConfig: The directory cannot be written.
    """
    layout = Layout(data_dir)
    lock = _lock(layout)
    try:
        finish_swap(layout)
        now = now_us()
        found = find_source(layout, now)
        work = Rebuilding(layout, found, now)
        try:
            with translated(layout.rebuilt):
                yield found, work
        finally:
            work.drop()
    finally:
        lock.release()


async def refill(ledger: Ledger, config: LedgerConfig) -> int:
    """Book again what the stream still holds of what was booked, and the ledger lacks; return how many rows.

    Raises:
        BrokerError, Denied, APIError: The stream could not be asked, or not to its end.
    """
    rows = 0
    async for group in _booked(config, ledger.progress):
        rows += ledger.refill(group)
    return rows


async def compare_stream(
    books: duckdb.DuckDBPyConnection, config: LedgerConfig, proof: Proof
) -> None:
    """Compare the readings that the stream still holds with what is booked of their meters.

    What is not booked yet is not compared. A stream that cannot be asked is said in `proof.left_out`.
    """
    progress = load_streams(books).progress
    told = Told(books, progress)
    proof.messages = 0
    try:
        async for group in _booked(config, progress, proof):
            proof.messages += len(told.booked(group))
            proof.add(told.differences(group))
    except NOT_ASKED as error:
        proof.left_out.append(f"the stream, or the rest of it: {error}")


async def _booked(
    config: LedgerConfig, progress: Progress, proof: Proof | None = None
) -> AsyncIterator[list[Message]]:
    """Yield the messages of the stream up to the last one that is booked; `proof` is told of the others."""
    async with asking(config) as ask:
        info = await stream_info(ask)
        if progress.stream_us not in (None, info.created_us):
            if proof is not None:
                proof.left_out.append(
                    "the stream: it was made anew after this ledger read from it last, and none of it is booked yet"
                )
            return
        upto = min(info.last, progress.highest)
        group: list[Message] = []
        async for some in stored(ask, info.first, upto):
            group += some
            if len(group) >= _GROUP or sum(len(it.data) for it in group) >= _GROUP_BYTES:
                yield group
                group = []
        if group:
            yield group
        if info.last > upto and proof is not None:
            proof.left_out.append(
                f"{info.last - upto:,} messages of the stream, which came after what is compared"
            )
