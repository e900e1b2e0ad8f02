"""What a publisher says about itself: to its process as `Stats`, to the ledger as reports.

A report is due when something was lost or coalesced since the last one, or when messages have
waited for more than ten seconds; at most one a second, so that an outage does not fill the outbox
with reports of itself. While sessions are live there is one every five minutes: the ledger takes three
that are missing for the end of the process. Without servers messages always wait for a ledger of this host, so long
waits are not reported.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from msgspec import Struct

from voicecosts.producer.events import MeterTotals, ProducerReport
from voicecosts.producer.outbox.own import OutboxState

_PACE_S: Final = 1.0
_LONG_WAIT_US: Final = 10_000_000
_LONG_WAIT_PACE_S: Final = 60.0
_LIFE_PACE_S: Final = 300.0


class ConnectionState(StrEnum):
    """Whether JetStream accepts what is published. The values are public: `Stats.connection`."""

    NO_SERVER = "none: a ledger of this host reads the outbox"
    UNTRIED = "not connected yet"
    CONNECTED = "connected"
    NOT_ACCEPTING = "connected, but nothing is accepted"
    NOT_CONNECTED = "not connected"
    LOST = "connection lost"
    CLOSED = "closed"

    def because(self, problem: str) -> str:
        """Return the state with the reason for it, if there is one."""
        return f"{self} ({problem})" if problem else str(self)


class Stats(Struct, frozen=True, kw_only=True):
    """Counts of one process since its start, in events; from `waiting` on, its present state.

    `published` is what JetStream has acknowledged, or, without servers, what a ledger of this host
    has booked. `refused` is what no server will ever take; `quarantined` of that is kept on disk to
    look at. `waiting` is the rest of what was captured, `oldest_age_us` for how long already. The
    outbox's numbers include an outbox that was adopted from a process that has ended.
    `unattributed` are usage events that belong to no session, `unattributed_usage` is what they
    used; `unmeasured` are those of which nobody knows what they used.
    `connection_problem` is why JetStream accepts nothing, or empty.
    """

    captured: int
    published: int
    retried: int
    coalesced: int
    dropped: int
    refused: int
    quarantined: int
    unattributed: int
    unmeasured: int
    unattributed_usage: tuple[MeterTotals, ...] = ()
    waiting: int
    outbox_rows: int
    outbox_bytes: int
    oldest_age_us: int
    outbox: OutboxState
    connection: ConnectionState
    connection_problem: str = ""


class Reports:
    """Decides when the ledger is told, and numbers what it is told."""

    def __init__(
        self,
        producer_id: str,
        project: str,
        *,
        monotonic: Callable[[], float],
        now_us: Callable[[], int],
        tells_of_long_waits: bool = True,
    ) -> None:
        self._producer_id = producer_id
        self._project = project
        self._monotonic = monotonic
        self._now_us = now_us
        self._tells_of_long_waits = tells_of_long_waits
        self._told = (0, 0, 0, 0)
        self._number = 0
        self._last_at = -_LONG_WAIT_PACE_S
        self._live_since: float | None = None

    def due(
        self, stats: Stats, *, own_age_us: int, urgent: bool, live_sessions: int = 0
    ) -> ProducerReport | None:
        """Return a report when it is time for one; `urgent` ignores the pace.

        `own_age_us` is for how long the oldest message of this process has waited. Adopted messages
        are not counted: they have always waited for long.
        """
        losses = (
            stats.coalesced,
            stats.dropped + stats.refused,
            stats.unattributed,
            stats.unmeasured,
        )
        now = self._monotonic()
        since_s = now - self._last_at
        has_news = losses != self._told and (urgent or since_s >= _PACE_S)
        is_overdue = self._tells_of_long_waits and own_age_us > _LONG_WAIT_US
        waits_long = is_overdue and since_s >= _LONG_WAIT_PACE_S
        if not live_sessions:
            self._live_since = None
        elif self._live_since is None:
            self._live_since = now
        is_quiet = self._live_since is not None and (
            now - max(self._live_since, self._last_at) >= _LIFE_PACE_S
        )
        if not has_news and not waits_long and not is_quiet:
            return None
        self._told, self._last_at = losses, now
        self._number += 1
        coalesced, dropped, unattributed, unmeasured = losses
        return ProducerReport(
            producer_id=self._producer_id,
            number=self._number,
            project=self._project,
            reported_at=self._now_us(),
            captured=stats.captured,
            coalesced=coalesced,
            dropped=dropped,
            unattributed=unattributed,
            outbox_rows=stats.outbox_rows,
            outbox_bytes=stats.outbox_bytes,
            oldest_age_us=stats.oldest_age_us,
            unmeasured=unmeasured,
            unattributed_usage=list(stats.unattributed_usage),
            live_sessions=live_sessions,
        )
