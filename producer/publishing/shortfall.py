"""What was heard in this process and is in the totals of no session: counted, and in amounts.

Voice loops add, and the publisher's thread counts what they added when it makes a report. Adding is
one append: no lock, no wait, no exception. What is added here is lost for the sessions; it must not
be lost for the reports as well.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Final

from msgspec import Struct

from voicecosts.producer.counts import Counts, Usage
from voicecosts.producer.events import MeterTotals

logger = logging.getLogger(__name__)

UNATTRIBUTED: Final = "unattributed"
"""The agent label of usage that no session is known to have caused."""

MAX_METERS: Final = 100
"""Meters of unattributed usage before further ones are merged: a report stays a small event."""

MAX_WAITING: Final = 10_000
"""Usage that waits to be counted. The publisher's thread counts it at least once a second; what
comes above this while that thread is stuck is counted as not measured."""


class InNoSession(Struct, frozen=True, kw_only=True):
    """Usage events since the start of the process that are in no session's totals.

    `usage` is what the `unattributed` ones used. What the `unmeasured` ones used is unknown, in
    whole or, where some amounts of an unattributed event could be read, in part.
    """

    unattributed: int = 0
    unmeasured: int = 0
    usage: tuple[MeterTotals, ...] = ()


class Shortfall:
    """Counts what is in no session's totals. Add from any thread; read from any thread."""

    def __init__(self) -> None:
        self._added: deque[Usage | None] = deque()  # None is an event that was not measured
        self._counts = Counts("", most=MAX_METERS)
        self._so_far = InNoSession()
        self._said: set[str] = set()
        self._reading = threading.Lock()  # for those who read; those who add do not take it

    def __repr__(self) -> str:
        so_far = self.so_far()
        return f"<Shortfall {so_far.unattributed} unattributed, {so_far.unmeasured} unmeasured>"

    def add_unattributed(self, usage: Usage) -> None:
        """Add the usage of an event that belongs to no session."""
        self._added.append(usage if len(self._added) < MAX_WAITING else None)

    def add_unmeasured(self) -> None:
        """Add an event that could not be measured."""
        self._added.append(None)

    def so_far(self) -> InNoSession:
        """Return the counts with everything that was added before."""
        with self._reading:
            added = _removed(self._added)
            if added:
                if len(added) > MAX_WAITING:
                    self._say(f"more than {MAX_WAITING:,} events waited to be counted")
                counted = [usage for usage in added if usage is not None and self._count(usage)]
                unread = sum(bool(usage.unread) for usage in counted)
                self._so_far = InNoSession(
                    unattributed=self._so_far.unattributed + len(counted),
                    unmeasured=self._so_far.unmeasured + len(added) - len(counted) + unread,
                    usage=tuple(self._counts.totals()),
                )
            return self._so_far

    def _say(self, why: str) -> None:
        """Log why usage is not measured: each reason once."""
        if why not in self._said:
            self._said.add(why)
            logger.warning(
                "some usage outside of all sessions is reported as not measured, because %s", why
            )

    def _count(self, usage: Usage) -> bool:
        """Add `usage` to its meter; return whether it could be counted."""
        try:
            count = self._counts.of(usage, UNATTRIBUTED)
            if not count.has_room_for(usage):
                self._say("an amount is more than a report can carry")
                return False
            count.add(usage)
        except Exception:
            logger.exception("usage outside of all sessions could not be counted: %r", usage)
            return False
        return True


def _removed(added: deque[Usage | None]) -> list[Usage | None]:
    """Remove what is in a deque that other threads append to, and return it."""
    return [added.popleft() for _ in range(len(added))]
