"""The meters of one session: running totals, and a reading after each change.

A total never falls and a reading's number always rises, so the newest reading of a meter holds
everything the older ones held. Nothing here waits, and nothing here is shared between sessions.
"""

from __future__ import annotations

import logging
from typing import Final

from msgspec.structs import asdict

from voicecosts.producer.capture.identity import SessionIdentity
from voicecosts.producer.counts import Counts, Usage
from voicecosts.producer.events import (
    Meter,
    MeterReading,
    MeterTotals,
    Outcome,
    SessionEnded,
    SessionStarted,
)

logger = logging.getLogger(__name__)

MAX_METERS: Final = 250
"""Meters of one session before further ones are merged: with the longest names that the contract
carries, the event that ends the session stays below a broker's `max_payload` of 1 MB."""

_SAID: Final[set[tuple[str, str, str]]] = set()
"""Modality, provider and model of which it was said that they are recorded and metered."""


class Meters:
    """All meters of one session. Used by one thread, the session's own."""

    def __init__(self, identity: SessionIdentity) -> None:
        self.identity = identity
        self.readings = 0
        self._recorded: set[Meter] = set()
        self._number = 0
        self._counts = Counts(identity.session_id, most=MAX_METERS)

    def __repr__(self) -> str:
        return (
            f"<Meters {self.identity.session_id}: "
            f"{len(self._counts)} meters, {self.readings} readings>"
        )

    def started(self) -> SessionStarted:
        """Return the event that opens the session."""
        return SessionStarted(**asdict(self.identity))

    def add(self, usage: Usage, agent_label: str, *, estimated: bool = False) -> MeterReading:
        """Add `usage` to its meter and return the reading after it."""
        count = self._counts.of(usage, agent_label, estimated=estimated)
        meter, who, totals = count.meter, self.identity, count.add(usage)
        self.readings += 1
        self._number += 1
        return MeterReading(
            session_id=who.session_id,
            number=self._number,
            project=who.project,
            agent_id=who.agent_id,
            agent_label=meter.agent_label,
            tenant=who.tenant,
            modality=meter.modality,
            provider=meter.provider,
            provider_raw=count.provider_raw,
            model=meter.model,
            estimated=estimated,
            occurred_at=usage.occurred_at,
            totals=totals,
            reported_cost=count.reported_cost,
            last=usage.detail,
            size_tier=meter.size_tier,
            service_tier=meter.service_tier,
        )

    def record(self, usage: Usage, agent_label: str) -> MeterReading | None:
        """Add what the worker's own code recorded; `None` where a total would be too large.

        Whether LiveKit reports the same as well nobody can tell. Where the meter has measured
        usage already, that is said once in a process.
        """
        count = self._counts.of(usage, agent_label)
        if not count.has_room_for(usage):
            return None
        meter = count.meter
        if meter not in self._recorded:
            self._recorded.add(meter)
            names = meter.modality, meter.provider, meter.model
            if count.is_used and names not in _SAID:
                _SAID.add(names)
                logger.warning(
                    "%s of %s by %s was recorded, and is metered already: if this is the same "
                    "usage, leave the record() out, or it is counted twice; if it is another, give "
                    "it an agent_label of its own",
                    names[0],
                    names[2],
                    names[1],
                )
        return self.add(usage, agent_label)

    def totals(self) -> list[MeterTotals]:
        """Return the totals of every meter that has any; from any thread."""
        return self._counts.totals()

    def has(self, modality: str) -> bool:
        """Whether the session has a meter of a modality."""
        return self._counts.has(modality)

    def ended(
        self,
        *,
        ended_at: int,
        status: str,
        reason: str,
        coalesced: int = 0,
        unmeasured: int = 0,
        outcome: Outcome | None = None,
    ) -> SessionEnded:
        """Return the event that closes the session, with every meter's totals.

        `unmeasured` counts the usage events of the session that were heard and could not be
        measured: what they used is in no total.
        """
        who = self.identity
        self._number += 1
        return SessionEnded(
            session_id=who.session_id,
            number=self._number,
            project=who.project,
            agent_id=who.agent_id,
            tenant=who.tenant,
            ended_at=ended_at,
            status=status[:64],
            reason=reason[:256],
            meters=self._counts.totals(),
            readings=self.readings,
            coalesced=coalesced,
            unmeasured=unmeasured,
            outcome=outcome,
        )
