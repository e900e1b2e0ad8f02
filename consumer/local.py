"""Booking without a broker: messages that the workers of this host left in their outboxes.

The ledger books them group by group, and removes from the outbox only what is committed. Either a
ledger is opened for that and closed again, or a running one does it beside the stream. Booking is
the same as from a stream, so what comes twice, or both ways, books nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from voicecosts.consumer.booking.message import Applied, Message
from voicecosts.consumer.pricing import ListPrices, rate_by
from voicecosts.consumer.store.heartbeat import confirm, read_heartbeat
from voicecosts.consumer.store.layout import Layout
from voicecosts.consumer.store.ledger import Ledger

NO_SEQUENCE: Final = 0
"""The stream sequence of a message that was in no stream."""


class LocalLog(Protocol):
    """What waits on this host, in groups of subject and data."""

    def next_group(self) -> Sequence[tuple[str, bytes]]:
        """Return the next messages; an empty group at the end."""

    def own(self) -> bool:
        """Make this ledger the owner, before the first commit; return whether it is."""

    def booked(self) -> None:
        """Remove the messages that were returned last: they are committed."""

    def close(self) -> None:
        """Close the files."""


OpenLog = Callable[[], LocalLog | None]
"""Opens the log of this host, or returns `None` while nothing waits there or another one reads it."""


def book_waiting(
    ledger: Ledger, log: LocalLog, first: Sequence[tuple[str, bytes]] | None = None
) -> list[Applied]:
    """Book everything that waits now; `first` is the first group, if it was read already."""
    done = []
    group = log.next_group() if first is None else first
    while group:
        # 1. This ledger owns the log. If we die, nothing of it is booked yet.
        if not log.own():
            break
        # 2. One transaction. If we die inside, nothing of it is booked, and it still waits.
        messages = [Message(subject, NO_SEQUENCE, data) for subject, data in group]
        done.append(ledger.apply(messages))
        # 3. Committed. If we die before it is removed, it comes again and books nothing.
        log.booked()
        group = log.next_group()
    return done


def open_and_book(data_dir: Path, log: LocalLog | None) -> int:
    """Book everything that waits into the ledger of `data_dir`; return how many messages it was.

    When nothing waits, readers are told that the snapshot they have is as fresh as this moment. A
    ledger is created when there is none and something waits. Without a log nothing waits.

    Raises:
        LedgerInUse: Another process has the ledger open.
        LedgerError: It cannot be opened or written. What was not committed still waits.
    """
    first = () if log is None else log.next_group()
    last = read_heartbeat(Layout(data_dir).heartbeat)
    is_unpublished = last is not None and last.embedded and not last.is_final
    if not first and not is_unpublished:
        confirm(data_dir)
        return 0
    with Ledger.open(data_dir, rate_by(ListPrices()), embedded=True) as ledger:
        done = [] if log is None else book_waiting(ledger, log, first)
    return sum(applied.messages for applied in done)
