"""Booking without a broker: messages that the workers of this host left in their outboxes.

The ledger books them group by group, and removes from the outbox only what is committed. Either a
ledger is opened for that and closed again, or a running one does it beside the stream. Booking is
the same as from a stream, so what comes twice, or both ways, books nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, Protocol

from voicecosts.consumer.booking.message import Applied, Message
from voicecosts.consumer.config import MAX_READING, PRICES_FILE
from voicecosts.consumer.errors import LedgerMissing
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.heartbeat import Heartbeat, confirm, file_of, read_heartbeat
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.price_file import PriceFile, content_of, is_as_kept

NO_SEQUENCE: Final = 0
"""The stream sequence of a message that was in no stream."""


class LocalLog(Protocol):
    """What waits on this host, in groups of subject and data.

    `problems` names what could not be read in the last pass, `ended` the producers whose process is
    known to have ended; after a pass nothing of theirs waits.
    """

    problems: list[str]
    ended: list[str]

    def next_group(self) -> Sequence[tuple[str, bytes]]:
        """Return the next messages; an empty group at the end."""

    def own(self) -> bool:
        """Make this ledger the owner, before the first commit; return whether it is."""

    def booked(self) -> None:
        """Remove the messages that were returned last: they are committed."""

    def noted(self) -> None:
        """Forget who has ended: the ledger knows."""

    def close(self) -> None:
        """Close the files."""


OpenLog = Callable[[], LocalLog | None]
"""Opens the log of this host, or returns `None` while nothing waits there or another one reads it."""


def book_waiting(
    ledger: Ledger, log: LocalLog, first: Sequence[tuple[str, bytes]] | None = None
) -> list[Applied]:
    """Book everything that waits now; `first` is the first group, if it was read already."""
    done: list[Applied] = []
    group = log.next_group() if first is None else first
    while group:
        # 1. This ledger owns the log. If we die, nothing of it is booked yet.
        if not log.own():
            return done
        # 2. One transaction. If we die inside, nothing of it is booked, and it still waits.
        messages = [Message(subject, NO_SEQUENCE, data) for subject, data in group]
        done.append(ledger.apply(messages))
        # 3. Committed. If we die before it is removed, it comes again and books nothing.
        log.booked()
        group = log.next_group()
    if log.ended:
        # 4. Everything of theirs is booked, and nothing will come. If we die before this, their calls
        #    are known to be over by silence.
        ledger.note_ended(log.ended)
        log.noted()
    return done


def open_and_book(
    data_dir: Path,
    log: LocalLog | None,
    *,
    asked_at: datetime,
    max_reading: Decimal = MAX_READING,
    prices: Path | None = None,
) -> int:
    """Book everything that waits into the ledger of `data_dir`; return how many messages it was.

    Readers are told that the snapshot holds what waited at `asked_at`, which is before anybody looked
    into the outbox: what comes later may have been missed. They are not told so when a file could
    not be read, nor of a ledger that ever read a stream, where more may wait. A ledger is created when there is none and something waits. Without a log nothing
    waits. `prices` is the file of own prices, else the one in the data directory.

    Raises:
        LedgerInUse: Another process has the ledger open.
        LedgerMissing: There was a ledger, and its file is gone.
        LedgerError: It cannot be opened or written. What was not committed still waits.
    """
    first = () if log is None else log.next_group()
    layout, own_file = Layout(data_dir), prices or data_dir / PRICES_FILE
    last = read_heartbeat(layout.heartbeat)
    is_unpublished = last is not None and last.embedded and not last.is_final
    if last is not None and last.embedded and not layout.current.exists():
        is_unpublished = True  # readers find nothing, and no ledger runs that would notice
    if last is not None and last.embedded and not layout.ledger.exists():
        if not any(path.is_file() for path in (*layout.snapshots().values(), layout.verified)):
            raise LedgerMissing(layout.ledger, None)  # a new one would say that nothing was used
        is_unpublished = True  # opening it says how to go on from a snapshot
    elif last is not None and last.embedded and last.ledger_file != file_of(layout.ledger):
        is_unpublished = True  # a copy was put in its place, or an older version closed it
    elif last is not None and last.embedded and _prices_changed(last, own_file, layout.prices):
        is_unpublished = True  # readers are told of mistakes, or that they are corrected
    has_ended = log is not None and bool(log.ended)
    if not first and not is_unpublished and not has_ended:
        if log is None or not log.problems:
            confirm(data_dir, asked_at)
        return 0
    own_prices = PriceFile(own_file)
    with Ledger.open(
        data_dir,
        rate_by(ListPrices(), own_prices, max_reading=max_reading),
        embedded=True,
        has_source=True,
        own_prices=own_prices,
    ) as ledger:
        done = [] if log is None else book_waiting(ledger, log, first)
        is_read = log is None or not (log.problems or (first and not done))
        if is_read and not ledger.has_stream:  # else more may wait in the stream
            ledger.heard(asked_at, 0)
    return sum(applied.messages for applied in done)


def _prices_changed(last: Heartbeat, own_file: Path, kept: Path) -> bool:
    """Return whether a file of prices says something else than when the ledger was last open.

    So does a file that was not asked for then: the mistakes of another one are not its own.
    """
    trouble = last.prices
    if trouble is None:
        return not is_as_kept(own_file, kept)
    return trouble.file != str(own_file) or trouble.content != content_of(own_file)[0]
