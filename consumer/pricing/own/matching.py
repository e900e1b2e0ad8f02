"""Which entry applies to a meter: whether one matches, and which of several that match goes first.

The order is total and depends on what the entries say, never on where they stand: the most specific
one, then the newest. An entry that names all that another one names, and more, always goes first.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from voicecosts.consumer.pricing.own.units import KINDS, fits

if TYPE_CHECKING:
    from voicecosts.consumer.pricing.own.entries import Entry
    from voicecosts.consumer.pricing.scope import Scope
    from voicecosts.producer.events import Meter


def matches(entry: Entry, meter: Meter, scope: Scope, day: date, region: str) -> bool:
    """Return whether an entry applies to a meter of a session that started on `day` (UTC).

    A price without a service tier is one for the standard tier. A share is of an amount in which
    the tier is counted already, so it is for any, as is a price for the whole call.
    """
    modality = meter.modality.lower()
    return (
        _in_force(entry, day)
        and entry.provider in (None, meter.provider.lower())
        and (entry.model is None or fits_pattern(entry.model, meter.model.lower()))
        and entry.modality in (None, modality)
        and _is_of_tier(entry, meter.service_tier.lower())
        and entry.region in (None, region.lower())
        and entry.project in (None, scope.project)
        and entry.tenant in (None, scope.tenant)
        and entry.agent in (None, scope.agent_id)
        and all(scope.labels.get(name) == value for name, value in entry.label)
        and reaches(entry, modality)
    )


def _in_force(entry: Entry, day: date) -> bool:
    return (entry.valid_from is None or entry.valid_from <= day) and (
        entry.valid_to is None or day < entry.valid_to
    )


def _is_of_tier(entry: Entry, tier: str) -> bool:
    if entry.service_tier is None:
        return not tier or entry.unit is None or entry.bills_the_call
    return entry.service_tier == tier


def reaches(entry: Entry, modality: str) -> bool:
    """Return whether what an entry counts can be counted in a modality."""
    if entry.modality not in (None, modality):
        return False
    unit = entry.unit
    if unit is None or entry.bills_the_call:
        return True
    return fits(unit.kind, modality, named=entry.modality is not None)


def fits_pattern(pattern: str, name: str) -> bool:
    """Return whether a name has the form of a pattern, in which `*` stands for any text or none."""
    first, *rest = pattern.split("*")
    if not rest:
        return name == first
    *middle, last = rest
    if len(name) < len(first) + len(last) or not (name.startswith(first) and name.endswith(last)):
        return False
    inner = name[len(first) : len(name) - len(last)]
    start = 0
    for part in middle:
        if (found := inner.find(part, start)) < 0:
            return False
        start = found + len(part)
    return True


Priority = tuple[
    tuple[int, bool, bool, bool],
    tuple[int, int, bool, bool, bool, bool],
    int,
    tuple[tuple[tuple[str, str], ...], str, int],
]


def priority(entry: Entry) -> Priority:
    """Return what entries are sorted by, the one that goes first before the others.

    For whom it is comes before what it is for: a label, then tenant, agent and project; then the
    model (by its exact name, or a pattern with more letters), provider, service tier, region and
    modality. Between equals the newer one goes first, and at last what the selectors spell.
    """
    scope = (-len(entry.label), entry.tenant is None, entry.agent is None, entry.project is None)
    use = (
        *_model(entry.model),
        entry.provider is None,
        entry.service_tier is None,
        entry.region is None,
        entry.modality is None,
    )
    newest = 0 if entry.valid_from is None else -entry.valid_from.toordinal()
    unit = entry.unit
    spelled = (entry.label, entry.model or "", KINDS.index(unit.kind) if unit else len(KINDS))
    return (scope, use, newest, spelled)


def _model(model: str | None) -> tuple[int, int]:
    if model is None:
        return (2, 0)
    letters = len(model) - model.count("*")
    return (1, -letters) if "*" in model else (0, 0)
