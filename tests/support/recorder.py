"""An outlet that keeps the events, and a view of what a session's readings add up to."""

from __future__ import annotations

from collections import defaultdict

from voicecosts.producer.config import BufferLimits
from voicecosts.producer.events import QUANTITIES, Event, MeterReading, SessionEnded
from voicecosts.producer.publishing.buffer import Buffer


class Recorder:
    """Stands where the publisher stands."""

    def __init__(self) -> None:
        self.buffer = Buffer(BufferLimits())
        self.events: list[Event] = []
        self.unattributed = 0

    def put(self, event: Event) -> None:
        """Keep an event."""
        self.events.append(event)

    def coalesced_of(self, session_id: str) -> int:
        """Return what the buffer knows."""
        return self.buffer.coalesced_of(session_id)

    def count_unattributed(self) -> None:
        """Count an event that could not be attributed to one session."""
        self.unattributed += 1

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
        newest = {
            (r.agent_label, r.modality, r.provider, r.model): r
            for r in self.readings(session_id)
            if r.estimated is estimated
        }
        summed: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for reading in newest.values():
            for quantity in QUANTITIES:
                amount = getattr(reading.totals, quantity)
                if amount:
                    summed[reading.modality][quantity] += amount
        return {modality: dict(amounts) for modality, amounts in summed.items()}
