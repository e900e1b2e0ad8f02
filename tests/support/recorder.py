"""An outlet that keeps the events, and a view of what a session's readings add up to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from voicecosts.producer.config import BufferLimits
from voicecosts.producer.counts import Usage
from voicecosts.producer.events import (
    QUANTITIES,
    Event,
    MeterReading,
    MeterTotals,
    SessionEnded,
    meter_of,
)
from voicecosts.producer.publishing.buffer import Buffer
from voicecosts.producer.publishing.shortfall import Shortfall


class Recorder:
    """Stands where the publisher stands."""

    def __init__(self) -> None:
        self.buffer = Buffer(BufferLimits())
        self.events: list[Event] = []
        self.unattributed_usage: list[Usage] = []
        self.unmeasured = 0

    @property
    def unattributed(self) -> int:
        """How many usage events could not be attributed to one session."""
        return len(self.unattributed_usage)

    def put(self, event: Event) -> None:
        """Keep an event."""
        self.events.append(event)

    def coalesced_of(self, session_id: str) -> int:
        """Return what the buffer knows."""
        return self.buffer.coalesced_of(session_id)

    def count_unattributed(self, usage: Usage) -> None:
        """Keep the usage of an event that could not be attributed to one session."""
        self.unattributed_usage.append(usage)

    def count_unmeasured(self) -> None:
        """Count an event that could not be measured."""
        self.unmeasured += 1

    def readings(self, session_id: str | None = None) -> list[MeterReading]:
        """Return the readings, of one session or of all."""
        return [
            event
            for event in self.events
            if isinstance(event, MeterReading) and session_id in (None, event.session_id)
        ]

    def ends(self) -> list[SessionEnded]:
        """Return the ends of sessions."""
        return [event for event in self.events if isinstance(event, SessionEnded)]

    def totals(self, session_id: str, *, estimated: bool = False) -> dict[str, dict[str, int]]:
        """Return modality → quantity → total of a session, from the newest reading per meter."""
        newest = {meter_of(r): r for r in self.readings(session_id) if r.estimated is estimated}
        return _summed(newest.values())

    def unattributed_totals(self) -> dict[str, dict[str, int]]:
        """Return modality → quantity → total of what was attributed to no session.

        Counted by the publisher's own code, so it is what a report would carry.
        """
        shortfall = Shortfall()
        for usage in self.unattributed_usage:
            shortfall.add_unattributed(usage)
        return _summed(shortfall.so_far().usage)


def _summed(meters: Iterable[MeterReading | MeterTotals]) -> dict[str, dict[str, int]]:
    summed: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for meter in meters:
        for quantity in QUANTITIES:
            amount = getattr(meter.totals, quantity)
            if amount:
                summed[meter.modality][quantity] += amount
    return {modality: dict(amounts) for modality, amounts in summed.items()}
