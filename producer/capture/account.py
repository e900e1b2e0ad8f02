"""What is counted of one session, and where it is told: all that outlives the session object.

A session has one account, by whatever it is metered: what LiveKit reports and what the worker's own
code records end on the same meters. It holds no part of LiveKit, so that usage which is recorded
long after a call costs a few counts, not the call's objects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from voicecosts.producer.capture.identity import SessionIdentity
from voicecosts.producer.capture.meters import Meters
from voicecosts.producer.capture.own_thread import OwnThread
from voicecosts.producer.capture.recorded import Note, say
from voicecosts.producer.counts import Usage
from voicecosts.producer.events import Event, Outcome


class Outlet(Protocol):
    """Where events go: the publisher, or a recorder in a test."""

    def put(self, event: Event) -> None:
        """Accept an event without waiting and without raising."""

    def coalesced_of(self, session_id: str) -> int:
        """Return how many readings of a session were coalesced, and forget the count."""

    def count_unattributed(self, usage: Usage) -> None:
        """Count the usage of an event that cannot be attributed to one session."""

    def count_unmeasured(self) -> None:
        """Count a usage event that was heard and could not be measured."""


class Account:
    """The counts of one session, and its end. Lives on the session's thread."""

    def __init__(
        self,
        identity: SessionIdentity,
        outlet: Outlet,
        find_loop: Callable[[], asyncio.AbstractEventLoop | None],
    ) -> None:
        self.meters = Meters(identity)
        self.outlet = outlet
        self.thread = OwnThread(find_loop, self.count_unmeasured)
        self.agent_label = ""
        """Of the agent that was active last, once the session has ended."""
        self._unmeasured = 0
        self._coalesced = 0
        self._ended: tuple[str, str, int] | None = None
        self.outcome = Outcome()

    @property
    def session_id(self) -> str:
        """The id under which the ledger knows the session."""
        return self.meters.identity.session_id

    @property
    def has_ended(self) -> bool:
        """Whether the end of the session was told."""
        return self._ended is not None

    def record(self, note: Note) -> None:
        """Count what the worker's own code says was used, after the end; from any thread."""
        self.thread.do(lambda: self.add(note, self.agent_label))

    def add(self, note: Note, active: str) -> None:
        """Count it now, on the session's thread; `active` is the label of the active agent."""
        usage = note.usage
        if note.has_amounts:
            label = active if note.agent_label is None else note.agent_label
            reading = self.meters.record(usage, label)
            if reading is None:
                say(f"a total of {usage.model!r} is more than can be counted: check the amounts")
                self.count_unmeasured()
            else:
                self.outlet.put(reading)
        if usage.unread:
            self.count_unmeasured()

    def count_unmeasured(self) -> None:
        """Count it in the process, and in the session's end: in a second one, if one was sent."""
        self._unmeasured += 1
        self.outlet.count_unmeasured()
        if self._ended is not None and self._unmeasured == 1:
            # With an end that says of none the session would be complete. One more says that it is
            # not; how many come after that is in the process's reports.
            self.end(*self._ended)

    def conclude(self, outcome: Outcome) -> None:
        """Keep what came of the call; where another was told, that takes a second end."""
        is_new, self.outcome = outcome != self.outcome, outcome
        if is_new and self._ended is not None:
            self.end(*self._ended)

    def end(self, status: str, reason: str, ended_at: int) -> None:
        """Tell the end, with every meter's totals."""
        self._ended = status, reason, ended_at
        self._coalesced += self.outlet.coalesced_of(self.session_id)
        self.outlet.put(
            self.meters.ended(
                ended_at=ended_at,
                status=status,
                reason=reason,
                coalesced=self._coalesced,
                unmeasured=self._unmeasured,
                outcome=self.outcome,
            )
        )
