"""From a table of the file to an entry: every key checked by itself, all mistakes at once.

What an entry says beside others (overlaps, gaps, exchange rates) is checked in `validation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any, Final, Literal

from msgspec import Struct

from voicecosts.consumer.pricing.own import amounts, keys
from voicecosts.consumer.pricing.own.reading import Mistake, Problem, Table
from voicecosts.consumer.pricing.own.units import (
    MODALITIES,
    UNITS,
    Kind,
    Unit,
    fits,
    units_of,
)
from voicecosts.consumer.pricing.units import TOKEN_PARTS

Layer = Literal["cost", "billed"]

DOLLAR: Final = "USD"
"""The currency of the ledger."""

_SELECTORS: Final = (
    "provider", "model", "modality", "service_tier", "region", "project", "tenant", "agent",
)  # fmt: skip
_COMMON: Final = (
    *_SELECTORS, "label", "price", "unit", "currency", "from", "to", "minimum", "increment",
    "at_least", "discount", "source",
)  # fmt: skip
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "exchange": ("currency", "from", "usd", "source"),
    "cost": _COMMON,
    "billed": (*_COMMON, "markup", "of"),
}
_PRICED: Final = ("unit", "minimum", "increment")
"""Keys that only a price has, not a share of another amount."""

_SPEECH: Final = {"stt": "audio_input", "tts": "audio_output"}
"""What the tokens of a speech model are, where nothing says more."""


class Exchange(Struct, frozen=True, kw_only=True):
    """What one unit of a currency is in US dollars from a day on, until the next such line."""

    line: int
    currency: str
    usd: Decimal
    valid_from: date | None = None
    source: str = ""


class Entry(Struct, frozen=True, kw_only=True):
    """One price of the file. Provider, model, modality, tier and region are in lower case.

    It has `prices` by part (one under "" for a single price) in its own currency, or a `share`.
    It applies from `valid_from` on and before `valid_to`, days in UTC; `None` is without an end.
    """

    layer: Layer
    line: int
    provider: str | None = None
    model: str | None = None
    modality: str | None = None
    service_tier: str | None = None
    region: str | None = None
    project: str | None = None
    tenant: str | None = None
    agent: str | None = None
    label: tuple[tuple[str, str], ...] = ()
    unit_name: str = ""
    prices: tuple[tuple[str, Decimal], ...] = ()
    minimum: int = 0
    increment: int = 1
    at_least: Decimal | None = None
    share: Decimal | None = None
    of: Literal["list", "cost"] = "list"
    currency: str = DOLLAR
    valid_from: date | None = None
    valid_to: date | None = None
    original: str = ""
    source: str = ""

    @property
    def unit(self) -> Unit | None:
        """What the price is for; a share has none."""
        return UNITS.get(self.unit_name)

    @property
    def bills_the_call(self) -> bool:
        """Whether it charges the call by its time or at once, and includes everything else."""
        return (
            self.layer == "billed"
            and self.unit is not None
            and self.unit.kind in ("time", "calls")
            and self.provider is self.model is self.modality is None
        )


def read_exchange(table: Table, problems: list[Problem]) -> Exchange | None:
    """Return an exchange rate, or `None` after saying what is wrong with it."""
    given = keys.Keys(table, KEYS[table.name], problems)
    currency = given.read("currency", keys.currency, needed='currency = "EUR"')
    if currency == DOLLAR:
        given.wrong("currency", "the ledger is in USD, which needs no exchange rate: take it out")
    usd = given.read("usd", amounts.rate, needed='usd = "1.0850", one unit in US dollars')
    first = given.read("from", keys.day)
    source = given.read("source", keys.text)
    if given.failed or currency is None or usd is None:
        return None
    return Exchange(
        line=table.line, currency=currency, usd=usd, valid_from=first, source=source or ""
    )


def read_entry(table: Table, layer: Layer, problems: list[Problem]) -> Entry | None:
    """Return an entry, or `None` after saying everything that is wrong with it."""
    given = keys.Keys(table, KEYS[table.name], problems)
    selected: dict[str, Any] = {
        name: value for name in _SELECTORS if (value := given.read(name, keys.selector)) is not None
    }
    entry = Entry(
        layer=layer,
        line=table.line,
        **selected,
        label=_labels(given),
        currency=given.read("currency", keys.currency) or DOLLAR,
        valid_from=given.read("from", keys.day),
        valid_to=given.read("to", keys.day),
        at_least=given.read("at_least", amounts.money),
        source=given.read("source", keys.text) or "",
        **_amount(given, layer),
    )
    _check_validity(given, entry)
    _check_use(given, entry)
    return None if given.failed else entry


def _labels(given: keys.Keys) -> tuple[tuple[str, str], ...]:
    found = given.parts("label", keys.label)
    if "label" in given and not found and not given.failed:
        given.wrong("label", 'label is no table of labels: write label = { campaign = "winter" }')
    return tuple(sorted((found or {}).items()))


def _amount(given: keys.Keys, layer: Layer) -> dict[str, Any]:
    """Return the fields that say how much: a price with its unit, or a share."""
    ways = [key for key in ("price", "discount", "markup") if key in given]
    if len(ways) == 1:
        return _price(given) if ways == ["price"] else _share(given, ways[0], layer)
    also = ', or markup = "20 %"' if layer == "billed" else ""
    every = f'price = "…" with a unit, or discount = "15 %"{also}'
    if ways:
        given.wrong(ways[1], f"{' and '.join(ways)} exclude each other: keep one of them")
    else:
        given.wrong("", f"[[{layer}]] has no amount: write {every}")
    if any(key in given for key in _PRICED):
        _quantities(given, given.read("unit", keys.unit), {})
    return {}


def _share(given: keys.Keys, way: str, layer: Layer) -> dict[str, Any]:
    for key in _PRICED:
        if key in given:
            given.wrong(key, f"{key} goes with a price, not with a {way}: take one of them out")
    if "currency" in given and "at_least" not in given:
        given.wrong("currency", f"a {way} has no currency: take it out")
    of = given.read("of", keys.layer) if layer == "billed" else None
    share = given.read(way, amounts.share)
    if share is None:
        return {}
    return {
        "share": share,
        "of": of or ("cost" if way == "markup" else "list"),
        "original": f"{way} {given.read(way, keys.text)}",
    }


def _price(given: keys.Keys) -> dict[str, Any]:
    if "of" in given:
        given.wrong("of", "of goes with a markup or discount, not with a price: take it out")
    name = given.read("unit", keys.unit, needed=f"a unit, one of {keys.quoted(UNITS)}")
    prices = _prices(given, None if name is None else UNITS[name].kind)
    fields = _quantities(given, name, prices)
    if name is None:
        return {}
    fields["unit_name"] = name
    if prices is not None:
        said = (f"{key} = {it:f}" if key else f"{it:f}" for key, it in prices.items())
        fields |= {"prices": tuple(prices.items()), "original": ", ".join(said)}
    return fields


def _quantities(
    given: keys.Keys, unit: str | None, prices: dict[str, Decimal] | None
) -> dict[str, Any]:
    """Return the minimum and the increment of a price; they are checked also where the unit is wrong."""
    fields: dict[str, Any] = {}
    for key in ("minimum", "increment"):
        if key in given and prices and "" not in prices:
            given.wrong(key, f"{key} needs one price: it cannot be told which of several it is for")
        elif (value := given.read(key, partial(_counted, unit))) is not None:
            fields[key] = value
    return fields


def _counted(unit: str | None, key: str, value: object) -> int:
    if unit is None:
        amounts.check_quantity(key, value)
        return 0
    return amounts.quantity(key, value, UNITS[unit].kind, unit)


def _prices(given: keys.Keys, kind: Kind | None) -> dict[str, Decimal] | None:
    """Return the prices by part, a single one under "", or `None` where one is wrong."""
    parts = given.parts("price", _part)
    if parts is None:
        single = given.read("price", amounts.money)
        return None if single is None else {"": single}
    if kind not in (None, "tokens"):
        given.wrong("price", 'several prices go with unit = "million tokens": write one price')
    elif not parts and not given.failed:
        given.wrong("price", 'price is empty: write price = { input = "…", output = "…" }')
    return None if given.failed else parts


def _part(key: str, value: object) -> Decimal:
    name = key.partition(".")[2]
    if name not in TOKEN_PARTS:
        meant = next((it for it in ("input", "output") if name and it.startswith(name)), name)
        raise Mistake(f"price has no part {name!r}: {keys.instead(meant, TOKEN_PARTS)}")
    return amounts.money(key, value)


def _check_validity(given: keys.Keys, entry: Entry) -> None:
    first, end = entry.valid_from, entry.valid_to
    if first is not None and end is not None and end <= first:
        given.wrong("to", f"to = {end} is not after from = {first}: it is the first day without it")


def _check_use(given: keys.Keys, entry: Entry) -> None:
    """Say where an entry could never apply, or to more than anyone can mean."""
    unit, modality = entry.unit, entry.modality
    if unit is None:
        return
    tokens = dict(entry.prices)
    if unit.kind == "calls" and modality is not None and modality not in MODALITIES:
        given.wrong(
            "unit",
            f"{modality} is a modality of your own, of which no call is counted: a price for a call is for "
            f"telephony or agent_session; here use {keys.quoted(units_of(modality))}",
        )
    elif modality is not None and not fits(unit.kind, modality, named=True):
        given.wrong(
            "unit",
            f"a price for one {entry.unit_name} cannot be for {modality}, which is counted "
            f"otherwise: use {keys.quoted(units_of(modality))}",
        )
    elif tokens and modality in _SPEECH and "" not in tokens and _SPEECH[modality] not in tokens:
        part = _SPEECH[modality]
        given.wrong("price", f'the tokens of {modality} are audio: add {part} = "…" to the prices')
    if entry.bills_the_call:
        if entry.service_tier is not None:
            given.wrong("service_tier", "a price for the call has no service tier: take it out")
    elif entry.layer == "billed" and unit.kind in ("time", "calls") and modality is None:
        given.wrong(
            "unit",
            f"a price for one {entry.unit_name} bills the whole call, and then provider and model "
            'do not go with it: take them out, or write modality = "stt" (or another one) to bill '
            "the time of that alone",
        )
    elif entry.layer == "cost" and not any(it in given for it in ("provider", "model", "modality")):
        given.wrong("", "this price is for everything: add a provider, a model or a modality")
