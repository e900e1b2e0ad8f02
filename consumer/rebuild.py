"""`costs rebuild`: compare a ledger with itself and with its stream, and make it anew.

Where a ledger runs, its newest snapshot is compared: that is a copy of it. The stream is read beside the
ledger, and nothing is taken from it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct
from nats.js.errors import APIError

from voicecosts.consumer.booking.decode import read
from voicecosts.consumer.booking.difference import readings
from voicecosts.consumer.booking.erased import Erased, Erasure
from voicecosts.consumer.booking.prices import PricesUsed
from voicecosts.consumer.booking.sessions import SessionKey
from voicecosts.consumer.broker.replay import asking, stored
from voicecosts.consumer.broker.requests import Denied
from voicecosts.consumer.broker.stream import stream_info
from voicecosts.consumer.errors import BrokerError, LedgerInUse, LedgerMissing
from voicecosts.consumer.store import sql
from voicecosts.consumer.store.faults import translated
from voicecosts.consumer.store.files import WriterLock
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.load import load_sessions
from voicecosts.consumer.store.proof import Difference, Proof, meter_name, prove, reading
from voicecosts.consumer.store.streams import load_streams
from voicecosts.producer.events import Meter, MeterReading, SessionEnded

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from voicecosts.consumer.booking.difference import Reading
    from voicecosts.consumer.booking.message import Message
    from voicecosts.consumer.booking.progress import Progress
    from voicecosts.consumer.booking.sessions import SessionState
    from voicecosts.consumer.config import LedgerConfig


_GROUP: Final = 1_000
_GROUP_BYTES: Final = 8 * 2**20
"""Messages of the stream that are compared at a time, about."""


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
    """
    layout = Layout(data_dir)
    with _standing(layout) as (path, is_running), translated(path), reading(path, layout) as books:
        proof = prove(books, layout, time.time_ns() // 1000)
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
        lock = WriterLock.acquire(layout.lock)
    except LedgerInUse:
        yield layout.current.resolve(), True
        return
    try:
        yield layout.ledger, False
    finally:
        lock.release()


async def compare_stream(
    books: duckdb.DuckDBPyConnection, config: LedgerConfig, proof: Proof
) -> None:
    """Compare the readings that the stream still holds with what is booked of their meters.

    What is not booked yet is not compared. A stream that cannot be asked is said in `proof.left_out`.
    """
    progress = load_streams(books).progress
    compared = _Compared(books, progress)
    try:
        async with asking(config) as ask:
            info = await stream_info(ask)
            if progress.stream_us not in (None, info.created_us):
                proof.left_out.append(
                    "the stream: it was made anew after this ledger read from it last, and none of it is booked yet"
                )
                return
            upto = min(info.last, progress.highest)
            group: list[Message] = []
            async for some in stored(ask, info.first, upto):
                group += some
                if len(group) >= _GROUP or sum(len(it.data) for it in group) >= _GROUP_BYTES:
                    proof.add(compared.differences(group))
                    group = []
            proof.add(compared.differences(group))
            if info.last > upto:
                proof.left_out.append(
                    f"{info.last - upto:,} messages of the stream, which are not booked yet"
                )
    except (BrokerError, Denied, APIError) as error:
        proof.left_out.append(f"the stream, or the rest of it: {error}")
    proof.messages = compared.messages


class _Compared:
    """Messages that were booked, and what the books have of their meters."""

    def __init__(self, books: duckdb.DuckDBPyConnection, progress: Progress) -> None:
        self._books = books
        self._progress = progress
        self._prices = PricesUsed(books.execute(sql.LOAD_PRICES_USED).fetchall())
        self._erased = Erased(Erasure(*row) for row in books.execute(sql.LOAD_ERASURES).fetchall())
        self.messages = 0

    def differences(self, group: list[Message]) -> Iterator[Difference]:
        """Yield what the books lack of these messages, or have otherwise."""
        unbooked = self._progress.unbooked(self._progress.highest)
        group = [it for it in group if not any(a <= it.sequence <= b for a, b in unbooked)]
        self.messages += len(group)
        refused = self._refused(group)
        newest: dict[tuple[SessionKey, Meter], Reading] = {}
        for message in group:
            delivery, _ = read(message)
            if delivery is None:
                continue
            for index, event in delivery.events:
                if (
                    not isinstance(event, MeterReading | SessionEnded)
                    or (message.sequence, index) in refused
                    or self._erased.by(event.project, event.tenant) is not None
                ):
                    continue
                for each in readings(delivery, event):
                    place = (SessionKey(each.project, each.meter.session_id), each.meter)
                    if place not in newest or newest[place].number < each.number:
                        newest[place] = each
        sessions = load_sessions(self._books, {key for key, _ in newest}, self._prices)
        for (key, _), each in newest.items():
            yield from _differences(key, each, sessions[key])

    def _refused(self, group: list[Message]) -> set[tuple[int, int]]:
        """Return the events of these messages that could not be booked: as sequence and index."""
        if not group:
            return set()
        span = {"first": group[0].sequence, "last": group[-1].sequence}
        return set(self._books.execute(sql.REFUSED_OF_MESSAGES, span).fetchall())


def _differences(key: SessionKey, told: Reading, session: SessionState) -> Iterator[Difference]:
    """Yield the quantities of which less is booked than a reading says, or more than its meter's last one."""
    if session.voided:
        return
    state = session.meters.get(told.meter)
    number = 0 if state is None else state.number
    for name, amount in msgspec.structs.asdict(told.totals).items():
        booked = 0 if state is None else getattr(state.totals, name)
        if booked < amount or (booked > amount and told.number == number):
            yield Difference(
                what="stream",
                quantity=name,
                expected=str(amount),
                found=None if state is None else str(booked),
                day=None if session.identity is None else session.identity.day,
                project=key.project,
                session_id=key.session_id,
                meter=meter_name(msgspec.structs.asdict(told.meter)),
            )
