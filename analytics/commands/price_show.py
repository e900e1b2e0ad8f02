"""`costs prices show`: the price that is in force for a model, in every layer, and which entry won."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import replace

from voicecosts.analytics.answers.report import CURRENCY
from voicecosts.analytics.commands.price_words import (
    charge_record,
    charge_words,
    entry_words,
    list_record,
    list_words,
    origin_of,
)
from voicecosts.analytics.text.grid import wrapped
from voicecosts.analytics.text.names import in_cell
from voicecosts.analytics.text.plain import csv_bytes, json_bytes
from voicecosts.consumer.pricing.billing import WAYS
from voicecosts.consumer.pricing.own.choice import choices, elsewhere, why
from voicecosts.consumer.pricing.terms import Finder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from voicecosts.consumer.pricing import ListPrices, Scope, Terms
    from voicecosts.consumer.pricing.charge import Charge
    from voicecosts.consumer.pricing.own import OwnBook
    from voicecosts.consumer.pricing.own.entries import Entry
    from voicecosts.producer.events import Meter

NO_ENTRY: Final = "no entry of prices.toml applies"


class Applying(Struct, frozen=True, kw_only=True):
    """One entry that applies, and whether it won; `why` says why, or why not."""

    line: int
    layer: str
    says: str
    wins: bool
    why: str


class Shown(Struct, frozen=True, kw_only=True):
    """The prices of one modality of a model, and the entries that apply, the winner of a layer first."""

    modality: str
    terms: Terms
    applying: tuple[Applying, ...]
    unpriced_tier: str = ""


class Show(Struct, frozen=True, kw_only=True):
    """The prices of a model at a moment, in the modalities that were asked for.

    `is_guessed` says that nobody named a modality, and the ledger has not seen the model.
    """

    provider: str
    model: str
    service_tier: str
    at: datetime
    shown: tuple[Shown, ...]
    is_guessed: bool = False
    warnings: tuple[str, ...] = ()


def answer(
    meter: Meter,
    scope: Scope,
    at: datetime,
    listed: ListPrices,
    book: OwnBook,
    *,
    seen: Sequence[str] = (),
    warnings: tuple[str, ...] = (),
) -> Show:
    """Return the prices of a model in its modality, else in those in which the ledger has `seen` it.

    Without any it is the first modality that has a price.
    """
    finder = Finder(listed, book)
    names = (meter.provider.lower(), meter.model.lower())

    def terms_of(modality: str) -> Terms:
        of = replace(meter, modality=modality)
        return finder.find(of, scope, at, provider_raw=meter.provider)

    asked = [meter.modality] if meter.modality else list(seen)
    is_guessed = not asked
    if is_guessed:
        named = dict.fromkeys((*WAYS, *(it.modality for it in book.entries if it.modality)))
        fits = (it for it in named if _fits(it, terms_of(it)))
        asked = [next(fits, next(iter(WAYS)))]
    for modality in asked:
        for entry in book.entries:
            if reason := elsewhere(entry, names[0], modality.lower(), names[1]):
                warnings += (f"line {entry.line} does not apply: {reason}",)
    found = [
        _shown(replace(meter, modality=modality), scope, at, terms_of(modality), book)
        for modality in asked
    ]
    return Show(
        provider=meter.provider,
        model=meter.model,
        service_tier=meter.service_tier,
        at=at,
        shown=tuple(found),
        is_guessed=is_guessed,
        warnings=warnings,
    )


def _fits(modality: str, terms: Terms) -> bool:
    """Return whether a modality is billed by what there is a price for."""
    if terms.cost is not None and terms.cost.share is None:
        return True
    rates = terms.listed.rates if terms.listed is not None else {}
    return any(not rates.keys().isdisjoint(way) for way in WAYS.get(modality, ()))


def _shown(meter: Meter, scope: Scope, at: datetime, terms: Terms, book: OwnBook) -> Shown:
    applying: list[Applying] = []
    for layer in ("cost", "billed"):
        entries = choices(book.entries, "cost" if layer == "cost" else "billed", meter, scope, at)
        applying += _applying(layer, entries)
    lacks_tier = meter.service_tier and terms.listed is not None and not terms.listed.free
    return Shown(
        modality=meter.modality,
        terms=terms,
        applying=tuple(applying),
        unpriced_tier=meter.service_tier if lacks_tier else "",
    )


def _applying(layer: str, entries: Sequence[Entry]) -> Iterator[Applying]:
    for at, entry in enumerate(entries):
        said = f"it wins: {why(entry, entries[1] if len(entries) > 1 else None)}"
        if at:
            said = f"line {entries[0].line} goes before it: {why(entries[0], entry)}"
        yield Applying(line=entry.line, layer=layer, says=_says(entry), wins=not at, why=said)


def _says(entry: Entry) -> str:
    """Return what an entry selects, and its price."""
    names = (
        "provider",
        "model",
        "modality",
        "service_tier",
        "region",
        "project",
        "tenant",
        "agent",
    )
    said = [f"{name} {value}" for name in names if (value := getattr(entry, name)) is not None]
    said += [f"label {name}={value}" for name, value in entry.label]
    said += [f"from {entry.valid_from}"] if entry.valid_from else []
    said += [f"to {entry.valid_to}"] if entry.valid_to else []
    price = entry_words(entry.original, entry.currency, entry.unit_name)
    return f"{', '.join(said) or 'everything'}: {price}"


def _record(it: Shown) -> dict[str, Any]:
    terms = it.terms
    return {
        "modality": it.modality,
        "list": list_record(terms.listed) if it.modality in WAYS else None,
        "unlisted": _unlisted(it),
        "cost": charge_record(terms.cost),
        "billed": charge_record(terms.billed),
        "entries": [
            {
                "line": each.line,
                "layer": each.layer,
                "says": each.says,
                "wins": each.wins,
                "why": each.why,
            }
            for each in it.applying
        ],
    }


def as_json(found: Show) -> bytes:
    """Return it as one JSON object."""
    return json_bytes(
        {
            "provider": found.provider,
            "model": found.model,
            "service_tier": found.service_tier,
            "at": found.at.isoformat(),
            "prices": [_record(it) for it in found.shown],
            "warnings": list(found.warnings),
        }
    )


def as_csv(found: Show) -> bytes:
    """Return a line for each entry that applies."""
    names = ("modality", "layer", "line", "says", "wins", "why")
    rows = [
        {"modality": it.modality, **{name: getattr(each, name) for name in names[1:]}}
        for it in found.shown
        for each in it.applying
    ]
    return csv_bytes(names, rows)


def as_table(found: Show, *, now: datetime, width: int | None = None) -> str:  # noqa: ARG001 - as others
    """Return it for people, in lines of at most `width` cells."""
    tier = f", service tier {in_cell(found.service_tier)}" if found.service_tier else ""
    head = (
        f"{in_cell(found.provider)}/{in_cell(found.model)}{tier}, for a call of {found.at.date()}, "
        f"in {CURRENCY}"
    )
    said = [head]
    for it in found.shown:
        guessed = " (this ledger has not seen it: --modality shows it as something else)"
        said += ["", it.modality + guessed * found.is_guessed, *_lines(it)]
    said += [f"! {warning}" for warning in found.warnings]
    fitted = []
    for text in said:
        bare = text.lstrip(" ")
        fitted += wrapped(bare, width, indent=text[: len(text) - len(bare)]) or [""]
    return "\n".join(fitted) + "\n"


def _unlisted(it: Shown) -> str | None:
    if it.unpriced_tier:
        return f"it has no price for the service tier {it.unpriced_tier!r}"
    if it.terms.listed is not None and it.modality not in WAYS:
        return (
            f"no rule how modality {it.modality!r} is billed: write a [[cost]] entry with "
            f'modality = "{it.modality}"'
        )
    return it.terms.unlisted


def _without_base(charge: Charge, terms: Terms, unlisted: str | None) -> str | None:
    """Return why a share comes to nothing: what it is a share of has no price."""
    if charge.share is None or not unlisted:
        return None
    of_list = charge.of == "list" or terms.cost is None or terms.cost.share is not None
    if not of_list:
        return None
    do = "write a [[cost]] entry with a price"
    if charge.of == "list" and charge is terms.billed:
        do = "write a price instead of the share"
        if terms.cost is not None and terms.cost.share is None:
            do = 'write of = "cost" into it, or a price instead of the share'
    base = "the list price" if charge.of == "list" else "the cost"
    return f"it is a share of {base}, and there is none; {do}"


def _lines(it: Shown) -> Iterator[str]:
    terms, unlisted = it.terms, _unlisted(it)
    yield f"  list    no price: {unlisted}" if unlisted else "  list"
    if not unlisted:
        yield from (f"    {text}" for text in list_words(terms.listed))
    for name, charge in (("cost", terms.cost), ("billed", terms.billed)):
        if charge is not None and (lacks := _without_base(charge, terms, unlisted)):
            yield f"  {name:<7} no price: {lacks}"
            yield f"    {origin_of(charge)}"
        elif charge is not None:
            yield f"  {name}"
            yield from (f"    {text}" for text in charge_words(charge))
        elif name == "billed":
            yield f"  billed  nothing: {NO_ENTRY}"
        else:
            yield f"  cost    {'no price' if unlisted else 'the list price'}: {NO_ENTRY}"
    if it.applying:
        yield "  entries that apply"
    for each in it.applying:
        yield f"    [[{each.layer}]] line {each.line}, {each.says}: {each.why}"
