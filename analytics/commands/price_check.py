"""`costs prices check`: every model that the ledger has seen, whether it has a price, and what to write.

A model is one modality, provider, name and service tier. It is priced, partly priced or unpriced as it
is booked; beside that stands what the prices of now would say of its newest call.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from voicecosts.analytics.answers.prices import source_of
from voicecosts.analytics.answers.states import schema_of
from voicecosts.analytics.commands.price_call import TOO_OLD
from voicecosts.analytics.commands.price_unbilled import (
    labels_of,
    not_billed,
    say_billed_now,
    say_no_rule,
)
from voicecosts.analytics.commands.price_words import part_amount
from voicecosts.analytics.errors import NotALedger
from voicecosts.analytics.numbers import clock, counted
from voicecosts.analytics.question.columns import MEASURES, UNPRICED
from voicecosts.analytics.question.relation import FIRST_LAYERS_SCHEMA, relation
from voicecosts.analytics.snapshot.connection import closing, open_newest, read
from voicecosts.analytics.text.advice import at_ledger
from voicecosts.analytics.text.grid import Column, lines, page
from voicecosts.analytics.text.names import in_cell
from voicecosts.analytics.text.plain import csv_bytes, json_bytes, plain_moment, plain_money
from voicecosts.consumer.booking.difference import session_time
from voicecosts.consumer.pricing.charge import EVERY_TOKEN, TIME
from voicecosts.consumer.pricing.explain import explain
from voicecosts.consumer.pricing.own.choice import elsewhere
from voicecosts.consumer.pricing.own.matching import concerns, fits_pattern
from voicecosts.consumer.pricing.own.units import UNITS, fits, part_of, units_of
from voicecosts.consumer.pricing.scope import Scope
from voicecosts.consumer.pricing.units import TOKEN_PARTS
from voicecosts.producer.events import QUANTITIES, Meter, Quantities

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from voicecosts.consumer.pricing.own import OwnBook
    from voicecosts.consumer.pricing.terms import Finder, Terms

_AMOUNTS: Final = (
    "requests", "input_tokens", "output_tokens", "other_tokens", "characters", "audio_us", "session_us",
    "audio_input_tokens", "audio_output_tokens",
)  # fmt: skip

_ALONE: Final = frozenset({"requests", "characters", "audio_us", "session_us"})
"""Amounts that are of one kind, so that a price can be asked for them alone."""

_MODELS: Final = f"""
SELECT
    modality, provider, model, service_tier,
    count(DISTINCT (project, session_id)),
    min(first_at) FILTER (operation IS NULL), max(last_at) FILTER (operation IS NULL),
    {", ".join(MEASURES[name] for name in ("list_cost", "cost", "billed"))},
    min(first_at) FILTER (unpriced_rows > 0),
    arg_max(unpriced_reason, last_place),  -- of the newest row that has one
    arg_max(price_source, last_place), arg_max(price_version, last_place), arg_max(price_model, last_place),
    arg_max(session_id::VARCHAR, last_place), arg_max(project, last_place), arg_max(agent_id, last_place),
    arg_max(coalesce(tenant, ''), last_place), arg_max(provider_raw, last_place),
    {", ".join(f"sum({name})" for name in QUANTITIES)},
    {", ".join(f"coalesce(sum({name}), 0)" for name in UNPRICED)}
FROM {{rows}}
WHERE session_id IS NOT NULL
GROUP BY modality, provider, model, service_tier
ORDER BY modality, provider, model, service_tier
"""  # noqa: S608 - our own names
_LABELS: Final = """
SELECT labels FROM sessions WHERE project = ? AND session_id = ?::UUID AND labels IS NOT NULL LIMIT 1
"""

_NAMED: Final = 10
"""Lines that a sentence names."""

_UNITS: Final = ("thousand characters", "million tokens", "minute", "request")
"""The units of an entry that is proposed; the first that fits, and was used, is taken."""

_ONE_PRICE: Final = 'price = "…"'
_TOKEN_PRICES: Final = {
    "llm": ("input", "cached_input", "output"),
    "decision": ("input", "cached_input", "output"),
    "realtime": (
        "input", "cached_input", "audio_input", "cached_audio_input", "output", "audio_output",
    ),
    "stt": ("input", "audio_input", "output"),
    "tts": ("input", "audio_output"),
}  # fmt: skip


class Model(Struct, frozen=True, kw_only=True):
    """One model that the ledger has seen. `used` and `unpriced` are amounts by name, none of them zero.

    `money` is by layer. `by` is what priced it last; `now` is what the prices of now would be by,
    `None` where they have none. `entry` is what to write into `prices.toml` where they have none.
    """

    modality: str
    provider: str
    model: str
    service_tier: str
    calls: int
    first: datetime
    last: datetime
    money: tuple[Decimal | None, ...]
    unpriced_since: datetime | None
    reason: str | None
    by: str | None
    now: str | None
    used: dict[str, int]
    unpriced: dict[str, int]
    entry: str | None

    @property
    def state(self) -> str:
        """Whether it is priced as it is booked: `priced`, `partly` or `unpriced`."""
        if not self.unpriced:
            return "priced"
        return "partly" if self.money[1] else "unpriced"


class Check(Struct, frozen=True, kw_only=True):
    """All models of a ledger. `unbilled` are tenants of whose usage a re-rating would bill what is not billed.

    `without_rule` are those of whose usage no `[[billed]]` price bills something, where the file has such prices.
    """

    models: tuple[Model, ...]
    unbilled: tuple[str | None, ...] = ()
    without_rule: tuple[str | None, ...] = ()
    data_dir: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def lacking(self) -> list[Model]:
        """Return those of whose usage something has no price."""
        return [it for it in self.models if it.unpriced]


def answer(
    data_dir: Path | None, finder: Finder, book: OwnBook, *, warnings: tuple[str, ...] = ()
) -> Check:
    """Return every model of the newest snapshot; `finder` has the prices of now.

    Raises:
        NoLedger: There is no snapshot, or it is of a version that kept no prices.
    """
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        schema = schema_of(connection, snapshot)
        if schema < FIRST_LAYERS_SCHEMA:
            raise NotALedger(snapshot.path, TOO_OLD)
        statement = _MODELS.format(rows=relation(schema))
        rows = read(connection, snapshot.path, statement, row=tuple[Any, ...])
        found = []
        for row in rows:
            parameters = [row[16], row[15]]
            labels = read(connection, snapshot.path, _LABELS, parameters, row=tuple[Any])
            its = labels_of(labels[0][0]) if labels else {}
            found.append(_model(row, its, finder, book))
        unbilled, without = not_billed(connection, snapshot, book, schema=schema)
    if unbilled:
        warnings = (*warnings, at_ledger(say_billed_now(unbilled), data_dir))
    if without:
        warnings = (*warnings, say_no_rule(without))
    return Check(
        models=tuple(found),
        unbilled=unbilled,
        without_rule=without,
        data_dir=data_dir,
        warnings=warnings,
    )


def idle(book: OwnBook, models: Iterable[Model]) -> tuple[str, ...]:
    """Return sentences about entries that are for nothing that was seen, and why."""
    seen = [(it.provider.lower(), it.modality.lower(), it.model.lower()) for it in models]
    unused = [
        entry
        for entry in book.entries
        if not any(
            concerns(entry, provider, modality)
            and (entry.model is None or fits_pattern(entry.model, model))
            for provider, modality, model in seen
        )
    ]
    of_unit: dict[str, list[int]] = {}
    for entry in unused:
        if why := next(filter(None, (elsewhere(entry, *names) for names in seen)), None):
            of_unit.setdefault(why, []).append(entry.line)
    told = {line for lines in of_unit.values() for line in lines}
    lines = [entry.line for entry in unused if entry.line not in told]
    said = tuple(f"line {_lines(each)} never applies: {why}" for why, each in of_unit.items())
    if not (seen and lines):
        return said
    many = "entries are" if len(lines) > 1 else "entry is"
    unknown = (
        f"{len(lines):,} {many} for no provider, model or modality that this ledger has seen "
        f"(line {_lines(lines)}): is a name misspelled?"
    )
    return (*said, unknown)


def _lines(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:_NAMED])) + (", …" if len(numbers) > _NAMED else "")


def _model(row: tuple[Any, ...], labels: dict[str, str], finder: Finder, book: OwnBook) -> Model:
    modality, provider, model, tier = row[:4]
    totals = _amounts(QUANTITIES, row[20 : 20 + len(QUANTITIES)])
    used: dict[str, int] = {name: totals[name] for name in _AMOUNTS if name in totals}
    unpriced = _amounts(
        (name.removeprefix("unpriced_") for name in UNPRICED), row[20 + len(QUANTITIES) :]
    )
    meter = Meter(row[15], "", modality, provider, model, estimated=False, service_tier=tier)
    scope = Scope(project=row[16], agent_id=row[17], tenant=row[18] or None, labels=labels)
    terms = finder.find(meter, scope, session_time(row[15]), provider_raw=row[19])
    told = explain(terms, meter, Quantities(**totals))
    now = _by(terms, tier) if told.reason is None else None
    entry = None
    if now and unpriced.keys() & _ALONE == unpriced.keys() != set():
        # what lacks a price may be of calls that report it in no way that the price charges
        lacks = explain(terms, meter, Quantities(**unpriced)).reason
        now = now if lacks is None else None
    elif unpriced and now is None:
        entry = _in_place(terms, meter, book) + block(modality, provider, model, tier, totals)
    return Model(
        modality=modality,
        provider=provider,
        model=model,
        service_tier=tier,
        calls=row[4],
        first=row[5],
        last=row[6],
        money=row[7:10],
        unpriced_since=row[10] if unpriced else None,
        reason=(row[11] or None) if unpriced else None,
        by=source_of(*row[12:15]) or None if row[8] is not None else None,
        now=now,
        used=used,
        unpriced=unpriced,
        entry=entry,
    )


def _in_place(terms: Terms, meter: Meter, book: OwnBook) -> str:
    """Return the comment above an entry that is for just what another one is for: only one of them may be."""
    if terms.cost is None:
        return ""
    line = int(terms.cost.entry.rpartition(" ")[2])
    tier = meter.service_tier.lower() or None
    for entry in book.entries:
        named = (entry.provider, entry.model, entry.modality, entry.service_tier)
        others = (entry.region, entry.project, entry.tenant, entry.agent)
        mine = (meter.provider.lower() or None, meter.model.lower() or None, meter.modality, tier)
        if entry.line == line and named == mine and not (any(others) or entry.label):
            return f"# in place of the entry in line {line}\n"
    return ""


def _amounts(names: Any, amounts: Any) -> dict[str, int]:
    return {name: int(it) for name, it in zip(names, amounts, strict=True) if it}


def _by(terms: Terms, tier: str) -> str | None:
    """Return by what the prices of now would rate a model."""
    if terms.cost is not None and terms.cost.share is None:
        return terms.cost.entry
    if terms.listed is None or (tier and not terms.listed.free):
        return None
    listed = f"{terms.listed.source} {terms.listed.version} {terms.listed.model}"
    return listed if terms.cost is None else f"{terms.cost.entry}, {listed}"


def block(modality: str, provider: str, model: str, tier: str, used: dict[str, int]) -> str:
    """Return the entry of `prices.toml` for a model, in the unit that its vendor bills; money is `…`."""
    unit, price = _unit(modality, used)
    found = ["[[cost]]"]
    if provider:
        found.append(f"provider = {_quoted(provider)}")
    if model:
        found.append(f"model = {_quoted(model)}")
    found.append(f"modality = {_quoted(modality)}")
    if tier:
        found.append(f"service_tier = {_quoted(tier)}")
    return "\n".join([*found, f'unit = "{unit}"', price, 'source = "…"'])


def _unit(modality: str, used: dict[str, int]) -> tuple[str, str]:
    """Return the unit that a vendor of a modality bills, of those that were used, and its price."""
    by_time_first = modality == "stt"  # LiveKit reports tokens beside it, where there are any
    units = sorted(_UNITS, key=lambda unit: unit != "minute") if by_time_first else _UNITS
    for unit in units:
        kind = UNITS[unit].kind
        if fits(kind, modality, named=True) and _is_used(part_of(kind, modality), used):
            return unit, _token_prices(modality, used) if kind == "tokens" else _ONE_PRICE
    return next(iter(units_of(modality)), "request"), _ONE_PRICE


def _token_prices(modality: str, used: dict[str, int]) -> str:
    """Return a price for each kind of tokens that a modality has as a rule, or that was used."""
    as_a_rule = _TOKEN_PRICES.get(modality, _TOKEN_PRICES["llm"])
    parts = [key for key, part in TOKEN_PARTS.items() if key in as_a_rule or _has(key, part, used)]
    return "price = { " + ", ".join(f'{key} = "…"' for key in parts) + " }"


def _has(key: str, part: str, used: dict[str, int]) -> bool:
    """Return whether a kind of tokens has to have a price of its own: no other one stands for it."""
    return bool(used.get(part)) and key.startswith(("audio_", "image_"))


def _is_used(part: str, used: dict[str, int]) -> bool:
    names = {EVERY_TOKEN: ("input_tokens", "output_tokens"), TIME: ("audio_us", "session_us")}
    return any(used.get(name) for name in names.get(part, (part,)))


def _quoted(name: str) -> str:
    """Return a name as a text of TOML."""
    return json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")


def _record(it: Model) -> dict[str, object]:
    return {
        "modality": it.modality,
        "provider": it.provider,
        "model": it.model,
        "service_tier": it.service_tier,
        "state": it.state,
        "calls": it.calls,
        "first_used_at": plain_moment(it.first),
        "last_used_at": plain_moment(it.last),
        "list_cost": plain_money(it.money[0]),
        "cost": plain_money(it.money[1]),
        "billed": plain_money(it.money[2]),
        "priced_by": it.by,
        "priced_now_by": it.now,
        "unpriced_since": plain_moment(it.unpriced_since),
        "unpriced_reason": it.reason,
        "used": it.used,
        "unpriced": it.unpriced,
        "entry": it.entry,
    }


def as_json(found: Check) -> bytes:
    """Return it as one JSON object."""
    return json_bytes(
        {
            "models": [_record(it) for it in found.models],
            "unbilled_tenants": list(found.unbilled),
            "tenants_without_rule": list(found.without_rule),
            "warnings": list(found.warnings),
        }
    )


def as_csv(found: Check) -> bytes:
    """Return a line for each model."""
    names = (
        "modality", "provider", "model", "service_tier", "state", "calls", "first_used_at",
        "last_used_at", "list_cost", "cost", "billed", "priced_by", "priced_now_by", "unpriced_since",
        "unpriced_reason",
    )  # fmt: skip
    rows = ({name: _record(it)[name] for name in names} for it in found.models)
    return csv_bytes(names, rows)


def as_table(found: Check, *, now: datetime, width: int | None = None) -> str:  # noqa: ARG001 - as others
    """Return it for people, in lines of at most `width` cells."""
    if not found.models:
        return page([], ["the ledger has seen no model yet"], found.warnings, width=width)
    models = found.models
    names = [
        Column("modality", [in_cell(it.modality) for it in models]),
        Column("provider", [in_cell(it.provider) for it in models]),
        Column("model", [in_cell(it.model) for it in models]),
    ]
    if any(it.service_tier for it in models):
        names.append(Column("tier", [in_cell(it.service_tier) for it in models]))
    names.append(Column("price", [it.state for it in models]))
    numbers = [Column("calls", [f"{it.calls:,}" for it in models])]
    table = lines(
        names, numbers, width=width, below=["; ".join(_below(it, found)) for it in models]
    )
    lacking = found.lacking
    text = page(table, [], found.warnings, width=width)
    blocks = [it.entry for it in lacking if it.entry]
    if blocks:
        told = "write into prices.toml, with your prices in place of the dots:"
        text += f"\n{told}\n\n" + "\n\n".join(blocks) + "\n"
    elif not lacking:
        text += f"all of it has a {'cost' if found.unbilled or found.without_rule else 'price'}\n"
    return text


def _below(it: Model, found: Check) -> Iterator[str]:
    now = it.now or "no price for all of it"
    if it.by and (it.unpriced or now.partition(", ")[0] == it.by):
        yield f"by {it.by}"
    elif it.by:
        yield f"booked by {it.by}; the prices of now have {now}"
    if not it.unpriced:
        return
    what = ", ".join(part_amount(name, n) for name, n in it.unpriced.items())
    since = f" since {clock(it.unpriced_since)}" if it.unpriced_since else ""
    yield f"unpriced{since}: {what} ({it.reason or 'no reason is known'})"
    if it.now:
        which = "`costs rerate`" if found.unbilled else "`costs rerate --unpriced`"
        advice = f"{which} shows what is booked of {counted(it.calls, 'call')} at the prices of now, and --apply books it"
        yield f"new calls are priced by {it.now}; {at_ledger(advice, found.data_dir)}"
