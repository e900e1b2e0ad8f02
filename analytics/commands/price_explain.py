"""`costs prices explain`: every meter of a call, from its quantities to its money, line by line.

The prices are those that the ledger kept with the rows, so the answer is the same in ten years. What the
lines come to is compared with what is booked: where rows of another kind were booked besides, that is a
line of its own, so that the lines always add up.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from voicecosts.analytics.answers.states import schema_of
from voicecosts.analytics.commands.price_words import (
    amount_text,
    charge_record,
    exact_plain,
    exact_text,
    list_record,
    origin_of,
    part_amount,
    part_name,
    per_text,
)
from voicecosts.analytics.errors import BadQuestion, NotALedger
from voicecosts.analytics.question.columns import FIRST_LAYERS_SCHEMA
from voicecosts.analytics.snapshot.connection import closing, open_newest, read
from voicecosts.analytics.text.grid import wrapped
from voicecosts.analytics.text.names import in_cell
from voicecosts.analytics.text.plain import csv_bytes, json_bytes, plain_money
from voicecosts.consumer.booking.prices import PricesUsed
from voicecosts.consumer.pricing.explain import Explanation, Layer, explain
from voicecosts.producer.events import QUANTITIES, Meter, Quantities

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime
    from pathlib import Path

    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot
    from voicecosts.consumer.pricing.terms import Terms

_NAMED: Final = 5
LAYERS: Final = ("list", "cost", "billed")
TOO_OLD: Final = (
    "it was written by an older version, which kept no prices; `costs up` brings it up to date"
)

_CALLS: Final = """
SELECT project, session_id::VARCHAR, tenant, agent_id, day, list_cost, cost, billed
FROM sessions
WHERE starts_with(session_id::VARCHAR, lower(?)) AND (?::VARCHAR IS NULL OR project = ?)
ORDER BY session_id, project
LIMIT 20
"""

# The newest prices of a meter rated all of its totals, so they explain all of its money.
_METERS: Final = f"""
SELECT
    agent_label, modality, provider, model, estimated, size_tier, service_tier,
    sum(list_cost), sum(cost), sum(billed),
    arg_max(price_id, rowid), arg_max(price_source, rowid), arg_max(price_version, rowid),
    arg_max(price_model, rowid), arg_max(coalesce(unpriced_reason, ''), rowid),
    {", ".join(f"sum({name})" for name in QUANTITIES)}
FROM bookings
WHERE project = ? AND session_id = ?::UUID
GROUP BY agent_label, modality, provider, model, estimated, size_tier, service_tier
ORDER BY min(rowid)
"""  # noqa: S608 - names of the event contract
_VOIDED: Final = "SELECT operation FROM voided WHERE project = ? AND session_id = ?::UUID"
_TERMS: Final = "SELECT price_id, terms FROM prices_used WHERE price_id IN (SELECT unnest(?))"


class MeterMoney(Struct, frozen=True, kw_only=True):
    """One meter as it is booked, and its explanation; `None` where its price was not kept.

    `booked` and `besides` are by layer: `besides` is what other rows than readings added.
    """

    meter: Meter
    totals: Quantities
    booked: tuple[Decimal | None, ...]
    source: str
    reason: str
    terms: Terms | None
    explanation: Explanation | None

    @property
    def layers(self) -> tuple[Layer | None, ...]:
        """The layers in their order."""
        told = self.explanation
        return (None,) * 3 if told is None else (told.listed, told.cost, told.billed)

    @property
    def besides(self) -> tuple[Decimal, ...]:
        """What is booked and not explained by quantities, by layer."""
        return tuple(
            (booked or Decimal(0)) - ((layer.amount if layer else None) or Decimal(0))
            for booked, layer in zip(self.booked, self.layers, strict=True)
        )


class Call(Struct, frozen=True, kw_only=True):
    """One call with all of its meters; `booked` is what the ledger says that it comes to."""

    project: str
    session: str
    tenant: str | None
    agent: str
    day: date
    booked: tuple[Decimal | None, ...]
    meters: tuple[MeterMoney, ...]
    warnings: tuple[str, ...] = ()


def answer(
    session: str, data_dir: Path | None, *, project: str | None, warnings: tuple[str, ...] = ()
) -> Call:
    """Return the call whose id is `session`, or begins with it.

    Raises:
        BadQuestion: No call has such an id, or several have.
        NoLedger: There is no snapshot, or it is of a version that kept no prices.
    """
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        if schema_of(connection, snapshot) < FIRST_LAYERS_SCHEMA:
            raise NotALedger(snapshot.path, TOO_OLD)
        row = _call(connection, snapshot, session, project)
        voided = read(connection, snapshot.path, _VOIDED, list(row[:2]), row=tuple[int])
        warnings += tuple(
            f"this call is in no sum: operation {number} voided it (`costs operations show {number}`)"
            for (number,) in voided
        )
        return Call(
            project=row[0],
            session=row[1],
            tenant=row[2],
            agent=row[3],
            day=row[4],
            booked=row[5:8],
            meters=tuple(_meters(connection, snapshot, row[0], row[1])),
            warnings=warnings,
        )


def _call(
    connection: Connection, snapshot: Snapshot, session: str, project: str | None
) -> tuple[Any, ...]:
    parameters = [session, project, project]
    found = read(connection, snapshot.path, _CALLS, parameters, row=tuple[Any, ...])
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadQuestion(
            f"no call has an id that begins with {session!r}: `costs query --by session` shows them"
        )
    several = ", ".join(f"{row[1]} of {row[0]}" for row in found[:_NAMED])
    raise BadQuestion(
        f"several calls have an id that begins with {session!r}: {several}; write more of it, or "
        "--project"
    )


def _meters(
    connection: Connection, snapshot: Snapshot, project: str, session: str
) -> Iterator[MeterMoney]:
    rows = read(connection, snapshot.path, _METERS, [project, session], row=tuple[Any, ...])
    numbers = [row[10] for row in rows if row[10] is not None]
    kept = read(connection, snapshot.path, _TERMS, [numbers], row=tuple[int, str])
    prices = PricesUsed(kept)
    for row in rows:
        meter = Meter(session, *row[:7])
        totals = Quantities(**dict(zip(QUANTITIES, row[15:], strict=True)))
        terms = prices.terms(row[10])
        yield MeterMoney(
            meter=meter,
            totals=totals,
            booked=row[7:10],
            source=source_of(*row[11:14]),
            reason=row[14],
            terms=terms,
            explanation=None if terms is None else explain(terms, meter, totals),
        )


def source_of(source: str | None, version: str | None, model: str | None) -> str:
    """Return where a booked price came from; an entry of the operator names its file itself."""
    if model is not None and source is not None and model.startswith(source):
        return model
    return " ".join(filter(None, (source, version, model)))


def as_json(call: Call) -> bytes:
    """Return it as one JSON object."""
    return json_bytes(
        {
            "session": call.session,
            "project": call.project,
            "tenant": call.tenant,
            "agent": call.agent,
            "day": call.day.isoformat(),
            "meters": [_record(it) for it in call.meters],
            "total": _booked(call.booked),
            "currency": "USD",
            "warnings": list(call.warnings),
        }
    )


def _record(it: MeterMoney) -> dict[str, object]:
    told, terms = it.explanation, it.terms
    prices = (None, None, None)
    if terms is not None:
        prices = (  # type: ignore[assignment]  # dicts or None
            list_record(terms.listed),
            charge_record(terms.cost),
            charge_record(terms.billed),
        )
    lacks = told is not None and told.reason is not None
    return {
        "agent_label": it.meter.agent_label,
        "modality": it.meter.modality,
        "provider": it.meter.provider,
        "model": it.meter.model,
        "service_tier": it.meter.service_tier,
        "size_tier": it.meter.size_tier,
        "estimated": it.meter.estimated,
        "price_kept": terms is not None,
        "source": it.source or None,
        "unpriced_reason": (told.reason if lacks and told else it.reason) or None,
        "layers": {
            name: _layer_record(layer, price, besides)
            for name, layer, price, besides in zip(
                LAYERS, it.layers, prices, it.besides, strict=True
            )
        },
        "booked": _booked(it.booked),
    }


def _layer_record(
    layer: Layer | None, price: dict[str, Any] | None, besides: Decimal
) -> dict[str, object] | None:
    if layer is None:
        return None
    return {
        "lines": [
            {
                "part": step.part,
                "used": step.used,
                "counted": step.counted,
                "price": f"{step.price:f}",
                "per": step.per,
                "amount": exact_plain(step.exact),
            }
            for step in layer.steps
        ],
        "share": None if layer.share is None else f"{layer.share:f}",
        "base": plain_money(layer.base),
        "at_least": plain_money(layer.at_least),
        "exact": exact_plain(layer.exact),
        "amount": plain_money(layer.amount),
        "besides": plain_money(besides),
        "price": price,
    }


def _booked(money: tuple[Decimal | None, ...]) -> dict[str, str | None]:
    return {name: plain_money(amount) for name, amount in zip(LAYERS, money, strict=True)}


def as_csv(call: Call) -> bytes:
    """Return its lines as CSV: one for each part of a layer, and one for what each layer comes to."""
    names = (
        "session", "agent_label", "modality", "provider", "model", "service_tier", "estimated",
        "layer", "line", "used", "counted", "price", "per", "amount",
    )  # fmt: skip
    rows = []
    for it in call.meters:
        of_meter = {
            "session": call.session,
            **{name: getattr(it.meter, name) for name in names[1:7]},
        }
        for name, layer, booked in zip(LAYERS, it.layers, it.booked, strict=True):
            for step in layer.steps if layer else ():
                line = {"layer": name, "line": step.part, "used": step.used}
                line |= {"counted": step.counted, "price": f"{step.price:f}", "per": step.per}
                rows.append(of_meter | line | {"amount": exact_plain(step.exact)})
            rows.append(of_meter | {"layer": name, "line": "booked", "amount": plain_money(booked)})
    return csv_bytes(names, rows)


def as_table(call: Call, *, now: datetime, width: int | None = None) -> str:  # noqa: ARG001 - as others
    """Return it for people, in lines of at most `width` cells."""
    of = f", tenant {in_cell(call.tenant)}" if call.tenant is not None else ""
    head = f"call {call.session} of {call.day}, project {in_cell(call.project)}{of}"
    found = [f"{head}, agent {in_cell(call.agent)}"]
    for it in call.meters:
        found += ["", *_meter_lines(it)]
    found += ["", "the call"]
    found += [f"  {name:<7} {_money(amount)}" for name, amount in _named(call.booked)]
    found += [f"! {warning}" for warning in call.warnings]
    return "\n".join(line for text in found for line in _fitted(text, width)) + "\n"


def _fitted(text: str, width: int | None) -> list[str]:
    bare = text.lstrip(" ")
    return wrapped(bare, width, indent=text[: len(text) - len(bare)]) or [""]


def _meter_lines(it: MeterMoney) -> Iterator[str]:
    meter = it.meter
    facts = [meter.agent_label and f"of {in_cell(meter.agent_label)}"]
    facts += [meter.service_tier and f"service tier {in_cell(meter.service_tier)}"]
    facts += [f"requests above {meter.size_tier:,} tokens" if meter.size_tier else ""]
    facts += ["ESTIMATED" if meter.estimated else ""]
    name = f"{in_cell(meter.provider)}/{in_cell(meter.model)}"
    yield ", ".join(filter(None, [f"{meter.modality} {name}", *facts]))
    if it.explanation is None:
        yield from _unexplained(it)
    else:
        for at, (layer, booked) in enumerate(zip(it.layers, it.booked, strict=True)):
            yield from _layer_lines(it, at, layer, booked)
    told = it.explanation
    reason = it.reason if told is None else told.reason
    if reason:
        yield f"  unpriced: {reason}"
        if told is not None and (amounts := _amounts(told)):
            yield f"    not in the cost: {amounts}"


def _unexplained(it: MeterMoney) -> Iterator[str]:
    if any(it.booked):
        where = f": {it.source}" if it.source else ""
        yield f"  the price was not kept (an older version booked this){where}"
    for name, amount in _named(it.booked):
        yield f"  {name:<7} {_money(amount)}"


def _layer_lines(
    it: MeterMoney, at: int, layer: Layer | None, booked: Decimal | None
) -> Iterator[str]:
    name, terms = LAYERS[at], it.terms
    if layer is None or terms is None:
        yield f"  {name:<7} -"
    elif layer.amount is not None and name == "cost" and terms.cost is None:
        yield f"  {name:<7} {_money(layer.amount)} (the list price: no price of yours applies)"
    else:
        yield f"  {name:<7} {_money(layer.amount)}"
        yield from (f"    {text}" for text in _how(layer, _origin(terms, at)))
    if besides := it.besides[at]:
        yield f"    booked besides, by corrections: {besides:.9f}; together {_money(booked)}"


def _how(layer: Layer, origin: str) -> Iterator[str]:
    for step in layer.steps:
        rounded = step.counted != step.used
        used = f" (used {amount_text(step.part, step.used)})" if rounded else ""
        yield (
            f"{part_name(step.part)}: {amount_text(step.part, step.counted)}{used} x "
            f"{step.price:f} {per_text(step.part, step.per)} = {exact_text(step.exact)}"
        )
    if layer.share is not None and layer.base is not None and layer.at_least is None:
        yield f"{layer.share:f} of {_money(layer.base)}"
    if layer.at_least is not None:
        yield f"at least {layer.at_least:f} for a meter, which is more"
    elif layer.exact is not None and layer.amount is not None and layer.exact != layer.amount:
        yield f"exactly {exact_text(layer.exact)}, rounded to nine digits"
    if origin:
        yield origin


def _origin(terms: Terms, at: int) -> str:
    charge = (None, terms.cost, terms.billed)[at]
    if charge is not None:
        return origin_of(charge)
    price = terms.listed
    return "" if price is None else f"from {price.source} {price.version}, {price.model}"


def _amounts(told: Explanation) -> str:
    names = told.unpriced.__struct_fields__
    found = ((name, getattr(told.unpriced, name)) for name in names)
    return ", ".join(part_amount(name, it) for name, it in found if it)


def _named(money: tuple[Decimal | None, ...]) -> Iterator[tuple[str, Decimal | None]]:
    yield from zip(LAYERS, money, strict=True)


def _money(amount: Decimal | None) -> str:
    return "-" if amount is None else f"{amount:,.9f}"
