"""The meters of one session: running totals, and the readings taken from them.

A total never falls and a reading's number always rises, so the newest reading of a meter holds
everything the older ones held. Nothing here waits, and nothing here is shared between sessions.
"""

from __future__ import annotations

from typing import Final

from voicecosts.producer.capture.identity import SessionIdentity
from voicecosts.producer.capture.providers import normalise_provider
from voicecosts.producer.capture.usage import UNKNOWN, Usage
from voicecosts.producer.events import (
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

_Key = tuple[str, str, str, str, bool]


class _Meter:
    """One running count. Seconds are summed as they come and rounded once, on the total."""

    __slots__ = ("audio_s", "key", "provider_raw", "session_s", "totals")

    def __init__(self, key: _Key, provider_raw: str) -> None:
        self.key = key
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

    A meter is known by what the contract says of it (agent_label, modality, provider, model,
    estimated). What LiveKit calls them is only a shortcut to it: two spellings of one provider
    must end on one meter, or the second would seem to run backwards.
    """

    def __init__(self, identity: SessionIdentity) -> None:
        self.identity = identity
        self.readings = 0
        self._number = 0
        self._meters: dict[_Key, _Meter] = {}
        self._shortcuts: dict[_Key, _Meter] = {}

    def __repr__(self) -> str:
        return (
            f"<Meters {self.identity.session_id}: "
            f"{len(self._meters)} meters, {self.readings} readings>"
        )

    def started(self) -> SessionStarted:
        """Return the event that opens the session."""
        who = self.identity
        return SessionStarted(
            session_id=who.session_id,
            project=who.project,
            agent_id=who.agent_id,
            tenant=who.tenant,
            started_at=who.started_at,
            job_id=who.job_id,
            room_name=who.room_name,
            room_sid=who.room_sid,
            worker_id=who.worker_id,
            deployment=who.deployment,
            fake_job=who.fake_job,
            labels=who.labels,
        )

    def take(self, usage: Usage, agent_label: str, *, estimated: bool = False) -> MeterReading:
        """Add `usage` to its meter and return the reading after it."""
        shortcut = (agent_label, usage.modality, usage.provider_raw, usage.model, estimated)
        meter = self._shortcuts.get(shortcut) or self._meter(shortcut)
        label, modality, provider, model, _ = meter.key
        who = self.identity
        self.readings += 1
        self._number += 1
        return MeterReading(
            session_id=who.session_id,
            number=self._number,
            project=who.project,
            agent_id=who.agent_id,
            agent_label=label,
            tenant=who.tenant,
            modality=modality,
            provider=provider,
            provider_raw=meter.provider_raw,
            model=model,
            estimated=estimated,
            occurred_at=usage.occurred_at,
            totals=meter.add(usage),
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
            meters=[_totals(meter) for meter in self._meters.values()],
            readings=self.readings,
            coalesced=coalesced,
        )

    def _meter(self, shortcut: _Key) -> _Meter:
        """Open a meter, or find the one that another spelling of the same names opened.

        Past 250 of them all further ones of a modality share one, so that a model name that
        changes with every request can neither grow the worker nor the event that ends the session.
        """
        label, modality, provider_raw, model, estimated = shortcut
        provider = name(normalise_provider(provider_raw), UNKNOWN)
        key = (name(label, UNKNOWN), modality, provider, name(model, UNKNOWN), estimated)
        if key not in self._meters and len(self._meters) >= MAX_METERS:
            key = (_MORE, modality, _MORE, _MORE, estimated)
        meter = self._meters.get(key)
        if meter is None:
            meter = self._meters[key] = _Meter(key, plain(provider_raw)[:128])
        if len(self._shortcuts) < 2 * MAX_METERS:
            self._shortcuts[shortcut] = meter
        return meter


def _totals(meter: _Meter) -> MeterTotals:
    label, modality, provider, model, estimated = meter.key
    return MeterTotals(
        agent_label=label,
        modality=modality,
        provider=provider,
        provider_raw=meter.provider_raw,
        model=model,
        estimated=estimated,
        totals=Quantities(**meter.totals),
    )
