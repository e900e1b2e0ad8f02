"""Which entry applies to a meter: whether one matches, and which of several that match goes first.

The order is total and depends on what the entries say, never on where they stand: the most specific
one, then the newest. An entry that names all that another one names, and more, always goes first.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from voicecosts.consumer.pricing.own.units import KINDS, fits

if TYPE_CHECKING:
    from voicecosts.consumer.pricing.own.entries import Entry
    from voicecosts.consumer.pricing.scope import Scope


class Asked(NamedTuple):
    """What an entry is compared with, beside provider and modality: names of vendors in lower case."""

    model: str
    service_tier: str
    region: str
    scope: Scope
    day: date


def concerns(entry: Entry, provider: str, modality: str) -> bool:
    """Return whether an entry can apply to meters of a provider and a modality, in lower case."""
    return entry.provider in (None, provider) and reaches(entry, modality)


def applies(entry: Entry, asked: Asked) -> bool:
    """Return whether an entry that concerns a meter applies to it, on the day its session started.

    A price without a service tier is one for the standard tier. A share is of an amount in which
    the tier is counted already, so it is for any, as is a price for the whole call.
    """
    scope = asked.scope
    return (
        (entry.tenant is None or entry.tenant == scope.tenant)
        and (entry.valid_from is None or entry.valid_from <= asked.day)
        and (entry.valid_to is None or asked.day < entry.valid_to)
        and (entry.model is None or fits_pattern(entry.model, asked.model))
        and _is_of_tier(entry, asked.service_tier)
        and (entry.region is None or entry.region == asked.region)
        and (entry.project is None or entry.project == scope.project)
        and (entry.agent is None or entry.agent == scope.agent_id)
        and all(scope.labels.get(name) == value for name, value in entry.label)
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
