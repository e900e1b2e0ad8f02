"""What a publisher says about itself: to its process as `Stats`, to the ledger as reports.

A report is due when something was lost or merged since the last one, or when messages wait for
long; at most one a second, so that an outage does not fill the outbox with reports of itself. Where
the outbox is the log, waiting for long is no news.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from voicecosts.producer.events import ProducerReport
from voicecosts.producer.outbox.own import OutboxState

NO_SERVER: Final = "none: a ledger of this host reads the outbox"
"""The connection's state in embedded mode."""

_PACE_S: Final = 1.0
_LONG_WAIT_US: Final = 10_000_000
_LONG_WAIT_PACE_S: Final = 60.0


class Stats(Struct, frozen=True, kw_only=True):
    """Counts of one process since its start, in events; the last six are of this moment.

    `published` is what JetStream has acknowledged, or, without servers, what a ledger of this host
    has booked. `refused` is what no server will ever take; `quarantined` of that is kept on disk to
    look at. `waiting` is the rest of what was captured, `oldest_age_us` for how long already. The
    outbox's numbers include an outbox that was adopted from a dead process.
    """

    captured: int
    published: int
    retried: int
    coalesced: int
    dropped: int
    refused: int
    quarantined: int
    unattributed: int
    waiting: int
    outbox_rows: int
    outbox_bytes: int
    oldest_age_us: int
    outbox: OutboxState
    connection: str


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
        self._told = (0, 0, 0)
        self._number = 0
        self._last_at = -_LONG_WAIT_PACE_S

    def due(self, stats: Stats, *, own_age_us: int, urgent: bool) -> ProducerReport | None:
        """Return a report when it is time for one; `urgent` waits for no pace.

        `own_age_us` is for how long the oldest message of this process waits: what it adopted is
        old by nature.
        """
        losses = (stats.coalesced, stats.dropped + stats.refused, stats.unattributed)
        now = self._monotonic()
        since_s = now - self._last_at
        has_news = losses != self._told and (urgent or since_s >= _PACE_S)
        is_overdue = self._tells_of_long_waits and own_age_us > _LONG_WAIT_US
        waits_long = is_overdue and since_s >= _LONG_WAIT_PACE_S
        if not has_news and not waits_long:
            return None
        self._told, self._last_at = losses, now
        self._number += 1
        coalesced, dropped, unattributed = losses
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
        )
