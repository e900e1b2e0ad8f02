"""Booking without a broker: what the workers of this host have left in their outboxes.

The outbox is the log, the ledger books it group by group, and only what is committed is taken out.
Either a ledger is opened for that and closed again, or the one that runs does it beside the stream.
Booking is the same as from a stream, so what comes twice, or both ways, books nothing.
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
"""The place in the stream of a message that was in none."""


class LocalLog(Protocol):
    """What waits on this host, in groups of subject and data."""

    def next_group(self) -> Sequence[tuple[str, bytes]]:
        """Return the next messages, nothing at the end."""

    def own(self) -> bool:
        """Make this ledger the owner, before the first commit; return whether it is."""

    def booked(self) -> None:
        """Take out what was returned last: it is committed."""

    def close(self) -> None:
        """Let go of the files."""


OpenLog = Callable[[], LocalLog | None]
"""Opens the log of this host, or returns `None` while nothing waits there or another one reads it."""


def book_waiting(ledger: Ledger, log: LocalLog) -> list[Applied]:
    """Book everything that waits now, and return what became of it."""
    done = []
    while group := log.next_group():
        # 1. The log is this ledger's. If we die, it is, and nothing of it is booked yet.
        if not log.own():
            break
        # 2. One transaction. If we die inside, nothing of it is booked, and it still waits.
        messages = [Message(subject, NO_SEQUENCE, data) for subject, data in group]
        done.append(ledger.apply(messages))
        # 3. Committed. If we die before it is taken out, it comes again and books nothing.
        log.booked()
    return done


def open_and_book(data_dir: Path, log: LocalLog | None) -> int:
    """Book everything that waits into the ledger of `data_dir`; return how many messages it was.

    When nothing waits, readers are told that the snapshot they have is as fresh as this moment. A
    ledger is created when there is none and something waits. Nothing waits where there is no log.

    Raises:
        LedgerInUse: Another process has the ledger open.
        LedgerError: It cannot be opened or written. What was not committed still waits.
    """
    ahead = _Ahead(log)
    last = read_heartbeat(Layout(data_dir).heartbeat)
    was_left_alone = last is not None and last.embedded and not last.is_final
    if ahead.is_empty() and not was_left_alone:
        confirm(data_dir)
        return 0
    with Ledger.open(data_dir, rate_by(ListPrices()), embedded=True) as ledger:
        return sum(applied.messages for applied in book_waiting(ledger, ahead))


class _Ahead:
    """A log whose first group has been looked at."""

    def __init__(self, log: LocalLog | None) -> None:
        self._log = log
        self._first: Sequence[tuple[str, bytes]] | None = log.next_group() if log else ()

    def is_empty(self) -> bool:
        return not self._first

    def next_group(self) -> Sequence[tuple[str, bytes]]:
        if self._log is None:
            return ()
        group, self._first = self._first, None
        return self._log.next_group() if group is None else group

    def own(self) -> bool:
        return self._log is not None and self._log.own()

    def booked(self) -> None:
        if self._log is not None:
            self._log.booked()

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
