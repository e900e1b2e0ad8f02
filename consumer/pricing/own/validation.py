"""What entries say beside each other: overlaps, gaps, and currencies without an exchange rate.

Two entries compete when they name the same selectors and can price the same modality. Then at most
one may be in force on a day, with one exception: a newer one takes the place of an older one that
has no end. Between the first and the last of them no day may be without one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final

from voicecosts.consumer.pricing.own.entries import DOLLAR, Entry, Exchange
from voicecosts.consumer.pricing.own.matching import reaches
from voicecosts.consumer.pricing.own.reading import Problem
from voicecosts.consumer.pricing.own.units import MODALITIES

_NAMES: Final = (
    "provider", "model", "modality", "service_tier", "region", "project", "tenant", "agent",
    "label",
)  # fmt: skip
_SAME: Final = tuple(
    name
    for name in Entry.__struct_fields__
    if name not in ("layer", "line", "source", "original", *_NAMES)
)


def check(
    entries: Sequence[Entry], exchange: Sequence[Exchange], *, is_whole: bool
) -> list[Problem]:
    """Return everything that is wrong between the lines of a file.

    Unless it `is_whole`, what seems to lack may be in what could not be read, and is not told.
    """
    problems = _repeated_rates(exchange)
    firsts = _first_rates(exchange)
    for entry in entries if is_whole else ():
        if (problem := _without_rate(entry, firsts)) is not None:
            problems.append(problem)
    groups: dict[tuple[object, ...], list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.layer, *(getattr(entry, name) for name in _NAMES)].append(entry)
    found: dict[Problem, None] = {}  # a pair that competes for several modalities is told once
    for group in groups.values():
        if len(group) > 1:
            for series in _series(group):
                found |= dict.fromkeys(_competing(series, is_whole=is_whole))
    return [*problems, *found]


def _series(group: list[Entry]) -> Iterable[list[Entry]]:
    """Yield those of one kind of selectors that can price the same, the oldest first."""
    ordered = sorted(group, key=lambda entry: (_start(entry), entry.line))
    modality = group[0].modality
    for name in MODALITIES if modality is None else (modality,):
        if len(series := [entry for entry in ordered if reaches(entry, name)]) > 1:
            yield series


def _competing(series: list[Entry], *, is_whole: bool) -> Iterable[Problem]:
    latest = before = series[0]  # `latest` is in force longest of those that have an end
    has_end = before.valid_to is not None
    for entry in series[1:]:
        if _start(entry) == _start(before):
            yield _same_start(before, entry)
        elif latest.valid_to is not None and _start(entry) < latest.valid_to:
            yield Problem(
                entry.line,
                f"it is for the same as line {latest.line}, which is valid until "
                f"{latest.valid_to}: let that one end on {entry.valid_from}, or this one begin "
                "then, or say what sets them apart",
            )
        elif (
            is_whole and has_end and latest.valid_to is not None and latest.valid_to < _start(entry)
        ):
            yield Problem(
                entry.line,
                f"nothing is in force from {latest.valid_to}, when line {latest.line} ends, to "
                f"{entry.valid_from}: let that one end on {entry.valid_from}, or add an entry for "
                'the time between (discount = "0 %" is the list price)',
            )
        has_end = has_end and entry.valid_to is not None
        if entry.valid_to is not None and (
            latest.valid_to is None or entry.valid_to > latest.valid_to
        ):
            latest = entry
        before = entry


def _same_start(before: Entry, entry: Entry) -> Problem:
    if all(getattr(before, name) == getattr(entry, name) for name in _SAME):
        return Problem(entry.line, f"it says the same as line {before.line}: take one of them out")
    since = "without a first day" if entry.valid_from is None else f"from {entry.valid_from}"
    return Problem(
        entry.line,
        f"it is for the same as line {before.line}, both {since}: give the newer one a later "
        "from, or say what sets them apart (a modality, a model, a tenant)",
    )


def _repeated_rates(exchange: Sequence[Exchange]) -> list[Problem]:
    seen: dict[tuple[str, date | None], int] = {}
    problems: list[Problem] = []
    for rate in exchange:
        first = seen.setdefault((rate.currency, rate.valid_from), rate.line)
        if first != rate.line:
            since = "without a first day" if rate.valid_from is None else f"from {rate.valid_from}"
            text = f"{rate.currency} {since} has a rate on line {first} already: take one out"
            problems.append(Problem(rate.line, text))
    return problems


def _first_rates(exchange: Sequence[Exchange]) -> dict[str, date]:
    firsts: dict[str, date] = {}
    for rate in exchange:
        since = rate.valid_from or date.min
        firsts[rate.currency] = min(since, firsts.get(rate.currency, since))
    return firsts


def _without_rate(entry: Entry, firsts: dict[str, date]) -> Problem | None:
    currency = entry.currency
    if currency == DOLLAR:
        return None
    if currency not in firsts:
        return Problem(
            entry.line,
            f"{currency} has no exchange rate: add [[exchange]] with currency = "
            f'"{currency}", from and usd = "…", what one {currency} is in US dollars',
        )
    first = firsts[currency]
    if _start(entry) >= first:
        return None
    since = "it has no first day" if entry.valid_from is None else f"it begins {entry.valid_from}"
    return Problem(
        entry.line,
        f"{currency} has an exchange rate from {first} on only, and {since}: write from = {first} "
        "or later, or add an older [[exchange]]",
    )


def _start(entry: Entry) -> date:
    return entry.valid_from or date.min
