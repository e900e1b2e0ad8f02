"""The meters of one session: running totals, and a reading after each change.

A total never falls and a reading's number always rises, so the newest reading of a meter holds
everything the older ones held. Nothing here waits, and nothing here is shared between sessions.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import asdict

from voicecosts.producer.capture.identity import SessionIdentity
from voicecosts.producer.capture.providers import normalise_provider
from voicecosts.producer.capture.usage import UNKNOWN, Usage
from voicecosts.producer.events import (
    Meter,
    MeterReading,
    MeterTotals,
    Quantities,
    SessionEnded,
    SessionStarted,
)
from voicecosts.producer.names import name, plain

MAX_METERS: Final = 250
"""Meters of one session before further ones are merged: with the longest names that the contract
carries, the event that ends the session stays below a broker's `max_payload` of 1 MB."""

_MORE: Final = "(more)"
_US: Final = 1_000_000

_Spelling = tuple[str, str, str, str, bool]
"""Agent label, modality, provider, model and estimated, as LiveKit gives them."""


class _Count:
    """One running count. Seconds are summed as they come and rounded once, on the total."""

    __slots__ = ("audio_s", "meter", "provider_raw", "session_s", "totals")

    def __init__(self, meter: Meter, provider_raw: str) -> None:
        self.meter = meter
        self.provider_raw = provider_raw
        self.totals: dict[str, int] = {}
        self.audio_s = 0.0
        self.session_s = 0.0

    def add(self, usage: Usage) -> Quantities:
        totals = self.totals
        for quantity, amount in usage.quantities.items():
            totals[quantity] = totals.get(quantity, 0) + amount
        if usage.audio_s:
            self.audio_s += usage.audio_s
            totals["audio_us"] = round(self.audio_s * _US)
        if usage.session_s:
            self.session_s += usage.session_s
            totals["session_us"] = round(self.session_s * _US)
        return Quantities(**totals)


class Meters:
    """All meters of one session. Used by one thread, the session's own.

    A meter is known by its names in the contract. What LiveKit calls them is only a shortcut to
    it: two spellings of one provider must end on one meter, or the second would seem to run
    backwards.
    """

    def __init__(self, identity: SessionIdentity) -> None:
        self.identity = identity
        self.readings = 0
        self._number = 0
        self._counts: dict[Meter, _Count] = {}
        self._shortcuts: dict[_Spelling, _Count] = {}

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
        spelling = (agent_label, usage.modality, usage.provider_raw, usage.model, estimated)
        count = self._shortcuts.get(spelling) or self._count(spelling)
        meter, who = count.meter, self.identity
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
            totals=count.add(usage),
            last=usage.detail,
        )

    def ended(self, *, ended_at: int, status: str, reason: str, coalesced: int = 0) -> SessionEnded:
        """Return the event that closes the session, with every meter's totals."""
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
            meters=[_totals(count) for count in self._counts.values()],
            readings=self.readings,
            coalesced=coalesced,
        )

    def _count(self, spelling: _Spelling) -> _Count:
        """Open a meter, or find the one that another spelling of the same names opened.

        Past 250 of them all further ones of a modality share one, so that a model name that
        changes with every request can neither grow the worker nor the event that ends the session.
        """
        label, modality, provider_raw, model, estimated = spelling
        who = self.identity.session_id, self.identity.agent_id
        provider = name(normalise_provider(provider_raw), UNKNOWN)
        names = name(label, UNKNOWN), modality, provider, name(model, UNKNOWN)
        meter = Meter(*who, *names, estimated)
        if meter not in self._counts and len(self._counts) >= MAX_METERS:
            meter = Meter(*who, _MORE, modality, _MORE, _MORE, estimated)
        count = self._counts.get(meter)
        if count is None:
            count = self._counts[meter] = _Count(meter, plain(provider_raw)[:128])
        if len(self._shortcuts) < 2 * MAX_METERS:
            self._shortcuts[spelling] = count
        return count


def _totals(count: _Count) -> MeterTotals:
    meter = count.meter
    return MeterTotals(
        agent_label=meter.agent_label,
        modality=meter.modality,
        provider=meter.provider,
        provider_raw=count.provider_raw,
        model=meter.model,
        estimated=meter.estimated,
        totals=Quantities(**count.totals),
    )
