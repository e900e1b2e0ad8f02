"""`costs prices explain`: every meter of a call, from its quantities to its money, line by line.

The prices are those that the ledger kept with the rows, so the answer is the same in ten years. What the
lines come to is compared with what is booked: where rows of another kind were booked besides, that is a
line of its own, so that the lines always add up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voicecosts.analytics.answers.report import CURRENCY
from voicecosts.analytics.commands.price_call import LAYERS
from voicecosts.analytics.commands.price_words import (
    amount_text,
    charge_record,
    counting_words,
    exact_plain,
    exact_text,
    list_record,
    origin_of,
    part_amount,
    rate_text,
)
from voicecosts.analytics.text.grid import wrapped
from voicecosts.analytics.text.names import in_cell
from voicecosts.analytics.text.plain import csv_bytes, json_bytes, plain_money
from voicecosts.consumer.pricing.units import word

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from decimal import Decimal

    from voicecosts.analytics.commands.price_call import Call, MeterMoney
    from voicecosts.consumer.pricing.explain import Explanation, Layer
    from voicecosts.consumer.pricing.terms import Terms


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
            "corrections": [
                {
                    "corrects": f"{it.closed:%Y-%m}",
                    "dated_in": f"{it.dated:%Y-%m}",
                    **_booked(it.booked),
                }
                for it in call.correcting
            ],
            "by_operation": [
                {"operation": it.operation, "kind": it.kind, **_booked(it.booked)}
                for it in call.by_operation
            ],
            "currency": CURRENCY,
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
        "unbilled_reason": it.unbilled,
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
    found = [f"{head}, agent {in_cell(call.agent)}, in {CURRENCY}"]
    for it in call.meters:
        found += ["", *_meter_lines(it)]
    found += ["", "the call"]
    found += [f"  {name:<7} {_money(amount)}" for name, amount in _named(call.booked)]
    for part in call.by_operation:
        found += [
            f"of it, by operation {part.operation} ({part.kind})"
            if part.operation
            else "of it, by its readings"
        ]
        found += [f"  {name:<7} {_money(amount)}" for name, amount in _named(part.booked)]
    for late in call.correcting:
        found += [f"of it, dated in {late.dated:%Y-%m} because {late.closed:%Y-%m} was closed"]
        found += [f"  {name:<7} {_money(amount)}" for name, amount in _named(late.booked)]
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
    if it.unbilled and it.unbilled != reason:
        yield f"  not billed: {it.unbilled}"
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
        charge = (None, terms.cost, terms.billed)[at]
        counting = counting_words(charge) if charge is not None and layer.steps else ""
        yield from (f"    {text}" for text in _how(layer, counting, _origin(terms, at)))
    if besides := it.besides[at]:
        yield f"    booked besides, by corrections: {besides:.9f}; together {_money(booked)}"


def _how(layer: Layer, counting: str, origin: str) -> Iterator[str]:
    for step in layer.steps:
        rounded = step.counted != step.used
        used = f" (used {amount_text(step.part, step.used)})" if rounded else ""
        yield (
            f"{word(step.part)}: {amount_text(step.part, step.counted)}{used} x "
            f"{rate_text(step.part, step.price, step.per)} = {exact_text(step.exact)}"
        )
    if counting:
        yield counting
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
