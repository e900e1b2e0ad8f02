"""Who waits until events are safe, and when each of them is told.

Safe is what JetStream has acknowledged; without servers, what is in the outbox. An impatient flush
waits only for what can be expected. While the server is away, or after an impatient wait timed
out, no acknowledgement is expected, and the outbox is enough; where nothing can be stored either,
the server is tried once more, and then the flush is told so. A wait counts as timed out until all that
it waited for is safe. So the ends of one session wait for one deadline together, and so do those of
the sessions after it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, NamedTuple

from voicecosts.producer.outbox.backlog import Backlog
from voicecosts.producer.publishing.sender import Tally

STUCK_WAIT_S: Final = 0.1
"""How long an impatient flush waits for a thread that has ended no round since the last one."""


class Flush(NamedTuple):
    """Somebody who waits until everything put so far is safe; `done` tells whether it is.

    `tries` is how often the server had been tried when this was asked for. `is_last`: the process
    ends after this, and with it what is in memory.
    """

    done: Future[bool]
    patient: bool
    tries: int
    is_last: bool


class Flushes:
    """Any thread may call `ask`, `timed_out`, `is_stuck`, and `end` when the publisher's has ended.

    The rest is that thread's. A flush is asked for, then it waits for the last message that was
    packed in its round, then it is done. `may_acknowledge` tells whether the connection is in order,
    for all that is known; `has_server`, whether there is any to try.
    """

    def __init__(
        self,
        backlog: Backlog,
        tally: Tally,
        may_acknowledge: Callable[[], bool],
        *,
        has_server: bool = True,
    ) -> None:
        self._backlog = backlog
        self._tally = tally
        self._has_server = has_server
        self._may_acknowledge = may_acknowledge
        self._asked: deque[Flush] = deque()
        self._unpacked: list[Flush] = []
        self._waiting: list[tuple[int, Flush]] = []
        self._rounds = 0
        self._rounds_at_timeout: int | None = None
        self._is_overdue = False  # an impatient wait has timed out, and not all of it is packed
        self._timed_out_upto: int | None = None  # up to which message an impatient wait timed out

    def __repr__(self) -> str:
        return f"<Flushes: {len(self._asked)} asked for, {len(self._waiting)} waiting>"

    @property
    def is_waited_for(self) -> bool:
        """Whether anybody waits."""
        waiting = [*self._asked, *self._unpacked, *(flush for _, flush in self._waiting)]
        return not all(flush.done.cancelled() for flush in waiting)

    @property
    def is_stuck(self) -> bool:
        """Whether the publisher's thread has ended no round since an impatient wait timed out."""
        return self._rounds_at_timeout == self._rounds

    def ask(self, *, patient: bool, is_last: bool = False) -> Future[bool]:
        """Return a future that is done when everything put before is safe, or cannot become so."""
        flush = Flush(Future(), patient, self._tally.tries, is_last)
        self._asked.append(flush)
        return flush.done

    def timed_out(self) -> None:
        """Note that an impatient wait timed out: later ones expect no acknowledgement."""
        self._is_overdue = True
        self._rounds_at_timeout = self._rounds

    def next_round(self) -> list[Flush]:
        """Hand over what was asked for until now; what is asked for later is for a later round."""
        asked, self._unpacked = self._unpacked, []  # whoever has cancelled is not asked for again
        asked = [flush for flush in asked if not flush.done.cancelled()]
        with contextlib.suppress(IndexError):  # at the end two threads may hand over at once
            for _ in range(len(self._asked)):
                asked.append(self._asked.popleft())
        return asked

    def wait_for(self, number: int, flushes: Sequence[Flush]) -> None:
        """Let flushes wait until all messages up to `number` are safe: all events are packed."""
        if self._is_overdue:
            self._timed_out_upto, self._is_overdue = number, False
        self._waiting += [(number, flush) for flush in flushes]
        self._rounds += 1

    def ask_again(self, flushes: Sequence[Flush]) -> None:
        """Leave flushes to the next round, as not all events could be packed.

        Those that are impatient are told that their events are not safe, unless acknowledgements
        are expected, the server is being tried, or a pass over the outbox is about to make room.
        """
        self._unpacked = [*flushes, *self._unpacked]
        self._give_up_unpacked(has_timed_out=self._has_timed_out(self._backlog.lowest()))
        self._rounds += 1

    def resolve(self) -> None:
        """Tell every flush whose messages are all safe, or of which no more can be expected."""
        if not self._waiting and not self._unpacked:
            return
        unsafe = self._backlog.lowest()
        unstored = self._backlog.own.lowest_in_memory()
        has_timed_out = self._has_timed_out(unsafe)
        expects = self._may_acknowledge() and not has_timed_out
        still: list[tuple[int, Flush]] = []
        for number, flush in self._waiting:
            if flush.done.cancelled() or unsafe is None or unsafe > number:
                _tell(flush, is_safe=True)
            elif flush.patient or expects:
                still.append((number, flush))
            elif unstored is None or unstored > number:
                _tell(flush, is_safe=True)
            elif not has_timed_out and self.is_to_be_tried(flush):
                still.append((number, flush))
            else:
                # This round has tried to store all of it, so what is not stored cannot be now.
                _tell(flush, is_safe=False)
        self._waiting = still
        self._give_up_unpacked(has_timed_out=has_timed_out)

    def end(self) -> None:
        """Tell everybody how it stands: the thread ends, and nobody is told anything after this."""
        unsafe = self._backlog.lowest()
        for number, flush in self._waiting:
            _tell(flush, is_safe=unsafe is None or unsafe > number)
        for flush in self.next_round():
            _tell(flush, is_safe=False)
        self._waiting = []

    def _give_up_unpacked(self, *, has_timed_out: bool) -> None:
        """Tell those whose events are not packed, and cannot be expected to be."""
        may_come = self._backlog.bound.is_at_work or self._may_acknowledge()
        still: list[Flush] = []
        for flush in self._unpacked:
            may_wait = not has_timed_out and (may_come or self.is_to_be_tried(flush))
            if flush.patient or may_wait:
                still.append(flush)
            else:
                _tell(flush, is_safe=False)
        self._unpacked = still

    def is_to_be_tried(self, flush: Flush) -> bool:
        """Whether the server is worth a try: one for each flush, and more where memory is lost."""
        is_memory_lost = flush.is_last and self._backlog.own.in_memory > 0
        return self._has_server and (is_memory_lost or self._tally.tries <= flush.tries)

    def _has_timed_out(self, unsafe: int | None) -> bool:
        """Whether an impatient wait timed out, and what it waited for is not safe to this moment.

        `unsafe` is the first message that is not safe.
        """
        if self._timed_out_upto is not None and (unsafe is None or unsafe > self._timed_out_upto):
            self._timed_out_upto = None
        return self._is_overdue or self._timed_out_upto is not None


def _tell(flush: Flush, *, is_safe: bool) -> None:
    # False: whoever asked has cancelled it, and has to be told nothing.
    if flush.done.set_running_or_notify_cancel():
        flush.done.set_result(is_safe)
