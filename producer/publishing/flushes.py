"""Who waits until events are safe, and when each of them is told.

Safe is what JetStream has acknowledged; without servers, what is in the outbox. An impatient flush
is also done as soon as its events are stored while no acknowledgement is expected: when the server
is away, or when an impatient flush has timed out since the last acknowledgement. So several ends of
one session wait for a silent server once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from voicecosts.producer.outbox.backlog import Backlog
from voicecosts.producer.publishing.sender import Tally


class Flush(NamedTuple):
    """Somebody who waits until everything put so far is safe."""

    done: Future[None]
    patient: bool


class Flushes:
    """Any thread may call `ask` and `timed_out`; the rest belongs to the publisher's thread.

    A flush is asked for, then it waits for the last message that was packed in its round, then it
    is done. `may_acknowledge` tells whether the connection is in order, for all that is known.
    """

    def __init__(self, backlog: Backlog, tally: Tally, may_acknowledge: Callable[[], bool]) -> None:
        self._backlog = backlog
        self._tally = tally
        self._may_acknowledge = may_acknowledge
        self._asked: deque[Flush] = deque()
        self._waiting: list[tuple[int, Flush]] = []
        self._published_at_timeout = -1

    def ask(self, *, patient: bool) -> Future[None]:
        """Return a future that is done when everything put before is safe."""
        flush = Flush(Future(), patient)
        self._asked.append(flush)
        return flush.done

    def timed_out(self) -> None:
        """Stop impatient flushes from waiting for the server, until it acknowledges something."""
        self._published_at_timeout = self._tally.published

    def next_round(self) -> list[Flush]:
        """Hand over what was asked for until now; what is asked for later is for a later round."""
        return [self._asked.popleft() for _ in range(len(self._asked))]

    def ask_again(self, flushes: Sequence[Flush]) -> None:
        """Leave flushes to the next round: their events are not all packed yet."""
        self._asked.extendleft(reversed(flushes))

    def wait_for(self, number: int, flushes: Sequence[Flush]) -> None:
        """Let flushes wait until all messages up to `number` are safe."""
        self._waiting += [(number, flush) for flush in flushes]

    def resolve(self) -> None:
        """Complete every flush whose messages are all safe."""
        if not self._waiting:
            return
        unsafe = self._backlog.lowest()
        is_expected = (
            self._may_acknowledge() and self._published_at_timeout != self._tally.published
        )
        unstored = unsafe if is_expected else self._backlog.own.lowest_in_memory()
        for entry in list(self._waiting):
            number, flush = entry
            lowest = unsafe if flush.patient else unstored
            if lowest is None or lowest > number:
                self._waiting.remove(entry)
                # False: whoever asked has cancelled it, and has to be told nothing.
                if flush.done.set_running_or_notify_cancel():
                    flush.done.set_result(None)
