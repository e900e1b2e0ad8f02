"""Which entries of a book apply to a meter, in the order in which they go, and why the first one wins."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from voicecosts.consumer.pricing.own.matching import (
    Asked,
    applies,
    concerns,
    fits_pattern,
    priority,
    reaches,
)
from voicecosts.consumer.pricing.own.units import fits, units_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from voicecosts.consumer.pricing.own.entries import Entry, Layer
    from voicecosts.consumer.pricing.scope import Scope
    from voicecosts.producer.events import Meter


def choices(
    entries: Iterable[Entry], layer: Layer, meter: Meter, scope: Scope, at: datetime
) -> list[Entry]:
    """Return the entries of a layer that apply to a meter at `at` (UTC), the one that wins first."""
    asked = Asked(
        model=meter.model.lower(),
        service_tier=meter.service_tier.lower(),
        region=scope.labels.get("region", "").lower(),
        scope=scope,
        day=at.astimezone(UTC).date(),
    )
    provider, modality = meter.provider.lower(), meter.modality.lower()
    found = (
        entry
        for entry in entries
        if entry.layer == layer and concerns(entry, provider, modality) and applies(entry, asked)
    )
    return sorted(found, key=priority)


def elsewhere(entry: Entry, provider: str, modality: str, model: str) -> str | None:
    """Return why an entry whose names fit a model, all in lower case, does not price it: its unit.

    `None` where it does, where a name does not fit, and where it names neither provider nor model.
    """
    unit = entry.unit
    names_fit = (
        (entry.provider or entry.model) is not None
        and entry.provider in (None, provider)
        and entry.modality in (None, modality)
        and (entry.model is None or fits_pattern(entry.model, model))
    )
    if unit is None or not names_fit or reaches(entry, modality):
        return None
    priced = f"a price per {entry.unit_name}"
    if fits(unit.kind, modality, named=True):
        return f'{priced} is for {modality} only with modality = "{modality}"'
    units = ", ".join(units_of(modality)) or "a share"
    return f"{priced} is not for {modality}, which can be priced per {units}"


def why(first: Entry, second: Entry | None) -> str:
    """Return why the first of two entries that apply goes before the second."""
    if second is None:
        return "it is the only one that applies"
    other = f"line {second.line}"
    if len(first.label) != len(second.label):
        return f"it names more labels than {other}"
    said = (
        _by_name(first, second, ("tenant", "agent", "project"))
        or _by_model(first, second)
        or _by_name(first, second, ("provider", "service_tier", "region", "modality"))
    )
    if said is None and first.valid_from != second.valid_from:
        return f"it is newer than {other}"
    return said or f"it comes before {other} by how both are spelled"


def _by_name(first: Entry, second: Entry, names: Iterable[str]) -> str | None:
    """Return which selector only the first entry has: both apply, so the second has no other one."""
    name = next((it for it in names if getattr(first, it) != getattr(second, it)), None)
    if name is None:
        return None
    return f"it names the {name.replace('_', ' ')}, and line {second.line} does not"


def _by_model(first: Entry, second: Entry) -> str | None:
    """Return why the model of the first goes before; `None` where that does not decide."""
    if first.model == second.model or first.model is None:
        return None
    other = f"line {second.line}"
    if second.model is None:
        return f"it names the model, and {other} does not"
    if "*" not in first.model:
        return f"it names the model exactly, and {other} by a pattern"
    if len(first.model.replace("*", "")) > len(second.model.replace("*", "")):
        return f"its pattern of the model has more letters than that of {other}"
    return None
