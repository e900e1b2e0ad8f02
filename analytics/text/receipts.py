"""A receipt of one call as text: a page for people, JSON with all of it, CSV with a line for each turn.

Of many turns the page shows the first and the dearest, and says how many more there are. Its bars are shares of
the cost, and are left out where that is not known or below zero.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from msgspec import structs

from voicecosts.analytics.answers.calls import RESTORED
from voicecosts.analytics.answers.receipts import Turn
from voicecosts.analytics.numbers import (
    clock,
    counted,
    fresh,
    money,
    money_column,
    place,
    rate,
    seconds,
    share,
)
from voicecosts.analytics.question.columns import State
from voicecosts.analytics.question.filters import shown
from voicecosts.analytics.text.audit import CAUSES
from voicecosts.analytics.text.calls import call_length, plain_call
from voicecosts.analytics.text.costs import NOT_BILLED, UNPRICED, plain_row, unpriced_amount
from voicecosts.analytics.text.grid import Column, fit, folded, lines, page, say_left_out
from voicecosts.analytics.text.names import in_cell
from voicecosts.analytics.text.plain import (
    csv_bytes,
    json_bytes,
    plain_completeness,
    plain_moment,
    plain_money,
    plain_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from voicecosts.analytics.answers.calls import Call
    from voicecosts.analytics.answers.receipts import Priced, Receipt
    from voicecosts.analytics.answers.report import Row

FIRST: Final = 10
DEAREST: Final = 5
"""How many turns the page shows: the first, and those that cost most."""

_BAR: Final = 20
_LABEL: Final = 12
_DEAREST: Final = "dearest"
_CUT_OFF: Final = "cut off"
_PRICED_LATER: Final = "priced later"
"""Of what had no price when it was booked, and of which a re-rating gave one to all: its cost stands with the operations."""

_STATES: Final = {
    State.COMPLETE: "the ledger has all of it",
    State.REPAIRED: "sums are exact, and some single requests are missing",
    State.OPEN: "it goes on, and its numbers grow",
    State.ABANDONED: "no end of it came, and what came after it was last seen is not known",
    State.SHORT: "something is missing",
}


def as_table(receipt: Receipt, *, now: datetime, width: int | None = None) -> str:
    """Return the receipt as lines of at most `width` cells; without a width no column is left out."""
    text: list[str] = []
    for label, value in head_of(receipt):
        room = None if width is None else max(width - _LABEL, _LABEL)
        parts = [value] if room is None else folded(value, room)
        text += [
            f"{head:{_LABEL}}{part}".rstrip()
            for head, part in zip_longest([label], parts, fillvalue="")
        ]
    left_out: list[str] = []
    for names, numbers, total in (parts_of(receipt), turns_of(receipt)):
        if names:
            fitting, lost = fit(names, numbers, width)
            left_out += [it for it in lost if it not in left_out]
            text += ["", *lines(names, fitting, width=width, total=total)]
    return page([*text, ""], said_of(receipt, left_out, now), receipt.warnings, width=width)


def as_json(receipt: Receipt) -> bytes:
    """Return the receipt as one JSON object with every turn, indented, ending with a newline."""
    dearest = receipt.dearest
    return json_bytes(
        {
            "call": plain_call(receipt.call),
            "total": plain_row(receipt.total),
            "parts": [plain_row(it) for it in receipt.parts],
            "turns": [_plain(it) for it in receipt.turns],
            "dearest_turn": dearest.speech if dearest else None,
            "outside": _plain(receipt.outside) if receipt.outside else None,
            "by_operations": _plain(receipt.by_operations) if receipt.by_operations else None,
            "detail_missing": receipt.detail_missing,
            "priced": [_plain(it) for it in receipt.priced],
            "currency": receipt.currency,
            "as_of": plain_moment(receipt.as_of),
            "completeness": plain_completeness(receipt.completeness),
            "warnings": list(receipt.warnings),
            "notes": list(receipt.notes),
        }
    )


def as_csv(receipt: Receipt) -> bytes:
    """Return the turns as CSV with a header line, and what is in none: the costs add up to the call's."""
    kinds = [("turn", it) for it in receipt.turns]
    kinds += [("outside", receipt.outside)] if receipt.outside else []
    kinds += [("operations", receipt.by_operations)] if receipt.by_operations else []
    names = [it for it in Turn.__struct_fields__ if it != "costs"]
    return csv_bytes(["kind", *names], ({"kind": kind, **_flat(it)} for kind, it in kinds))


def _flat(turn: Turn) -> dict[str, object]:
    record = _plain(turn)
    del record["costs"]
    return record


def _plain(it: Turn | Priced) -> dict[str, object]:
    record = structs.asdict(it)
    for name, value in record.items():
        if name in ("first_at", "last_at"):
            record[name] = plain_moment(value)
        elif name in ("audio_seconds", "session_seconds"):
            record[name] = plain_seconds(value)
        elif name == "costs":
            record[name] = {each: plain_money(amount) for each, amount in value.items()}
        elif isinstance(value, Decimal):
            record[name] = plain_money(value)
    return record


def head_of(receipt: Receipt) -> Iterator[tuple[str, str]]:
    """Yield what the call is and what it cost, each with its label."""
    call, total, currency = receipt.call, receipt.total, receipt.currency
    yield "call", str(call.session)
    yield "project", in_cell(call.project or "unknown")
    yield "started", clock(call.started_at)
    yield "length", call_length(call)
    yield "agent", in_cell(call.agent or "unknown")
    yield "tenant", in_cell(shown(call.tenant))
    if call.room:
        yield "room", in_cell(call.room)
    if call.job:
        yield "job", in_cell(call.job)
    yield "state", f"{call.state}: {_state(receipt)}"
    if said := _outcome(call):
        yield "outcome", said
    cost = UNPRICED if total.cost is None else f"{money(total.cost)} {currency}"
    lacks = total.cost is not None and total.lacks_prices
    yield "cost", f"{cost}, and {unpriced_amount(total)} unpriced" if lacks else cost
    if total.list_cost is not None and total.list_cost != total.cost:
        yield "list price", f"{money(total.list_cost)} {currency}"
    yield "billed", NOT_BILLED if total.billed is None else f"{money(total.billed)} {currency}"
    yield "per minute", _per_minute(receipt)


def _outcome(call: Call) -> str:
    """Return what the worker said came of a call, and whether its user spoke; nothing where neither is known."""
    said = [in_cell(call.outcome)] if call.outcome else []
    if call.user_turns is not None:
        said.append(
            counted(call.user_turns, "turn of the user", "turns of the user")
            if call.user_turns
            else "the user said nothing"
        )
    if call.tags:
        said.append(f"tags: {', '.join(map(in_cell, call.tags))}")
    return "; ".join(said)


def _state(receipt: Receipt) -> str:
    call = receipt.call
    if call.state == RESTORED:
        return "brought back after its month was closed without it: what it cost is dated later"
    if call.state not in tuple(State):
        return "taken out of every sum"
    said = _STATES[State(call.state)]
    if call.state != State.SHORT:
        return said
    causes = [CAUSES.get(it, it) for it in (call.cause or "").split(", ") if it]
    at_most = "how much is unknown"
    if call.missing_at_most is not None:
        at_most = f"at most {money(call.missing_at_most)} {receipt.currency}"
    return f"{said}, {at_most}{': ' if causes else ''}{', '.join(causes)}"


def _per_minute(receipt: Receipt) -> str:
    call = receipt.call
    if call.cost_per_minute is not None:
        return f"{rate(call.cost_per_minute)} {receipt.currency}"
    if call.used.cost is None:
        return UNPRICED
    return f"not known: length {call_length(call)}"


def parts_of(receipt: Receipt) -> tuple[list[Column], list[Column], bool]:
    """Return the table by modality: what each cost, its share as a bar, and what was used of it."""
    rows = receipt.parts
    if not rows:
        return [], [], False
    every = [*rows, receipt.total]
    names = [Column("modality", [*(in_cell(it.group["modality"] or "") for it in rows), "total"])]
    numbers = [
        Column(f"cost {receipt.currency}", money_column((it.cost for it in every), UNPRICED))
    ]
    whole = receipt.total.cost
    if whole and whole > 0 and all((it.cost or 0) >= 0 for it in rows):
        bars = [_bar(it.cost, whole) for it in rows]
        shares = ["" if it.cost is None else share(it.cost, whole) for it in rows]
        numbers.append(Column("share", [*shares, ""]))
        numbers.append(Column("", [*(it.ljust(_BAR) for it in bars), ""]))
    if any(it.lacks_prices for it in rows):
        numbers.append(Column(UNPRICED, list(map(unpriced_amount, every))))
    if receipt.total.billed is not None:
        numbers.append(Column("billed", money_column((it.billed for it in every), NOT_BILLED)))
    numbers.append(Column("used", [*(_used(it) for it in rows), ""]))
    return names, numbers, True


def _bar(part: Decimal | None, whole: Decimal) -> str:
    """Return a bar; what cost anything has at least one mark, and only what cost all of it fills it."""
    if not part:
        return ""
    return "█" * max(1, int(part * _BAR // whole))


def _used(it: Row | Turn | Priced) -> str:
    amounts = [
        counted(amount, one)
        for amount, one in ((it.requests, "request"), (it.characters, "character"))
        if amount
    ]
    tokens = it.input_tokens + it.output_tokens
    amounts += [f"{tokens:,} tokens"] if tokens else []
    amounts += [f"{seconds(it.audio_seconds)} s of audio"] if it.audio_seconds else []
    amounts += [f"{seconds(it.session_seconds)} s connected"] if it.session_seconds else []
    return ", ".join(amounts)


def turns_of(receipt: Receipt) -> tuple[list[Column], list[Column], bool]:
    """Return the table of turns: the first and the dearest in their order, and what is in none below."""
    chosen = _chosen(receipt.turns)
    rest = [("in no turn", receipt.outside), ("operations", receipt.by_operations)]
    below = [(head, it) for head, it in rest if it is not None]
    rows = [*(receipt.turns[at] for at in chosen), *(it for _, it in below)]
    if not receipt.turns:
        return [], [], False
    began = receipt.call.started_at
    since = [max((receipt.turns[at].first_at - began).total_seconds(), 0) for at in chosen]
    heads = [Column("turn", [*(f"{at + 1:,}" for at in chosen), *(head for head, _ in below)])]
    heads.append(Column("at", [*(place(Decimal(int(it))) for it in since), *("" for _ in below)]))
    is_priced = receipt.by_operations is not None and not receipt.total.lacks_prices
    lacks = _PRICED_LATER if is_priced else UNPRICED
    part = f"in part {lacks}"
    numbers = [Column(f"cost {receipt.currency}", money_column((it.cost for it in rows), lacks))]
    dearest = receipt.dearest
    numbers.append(Column("", [_marks(it, part, is_dearest=it is dearest) for it in rows]))
    for modality in _modalities(receipt, rows):
        cells = money_column((it.costs.get(modality) for it in rows), "")
        cells = [
            cell or (lacks if modality in it.costs else "")
            for cell, it in zip(cells, rows, strict=True)
        ]
        numbers.append(Column(in_cell(modality), cells))
    return heads, numbers, False


def _modalities(receipt: Receipt, rows: Sequence[Turn]) -> Iterator[str]:
    """Yield what the rows used, in the order of the table by modality."""
    used = {name for it in rows for name in it.costs}
    parts = [it.group["modality"] or "" for it in receipt.parts]
    yield from (it for it in parts if it in used)
    yield from sorted(used.difference(parts))


def _chosen(turns: Sequence[Turn]) -> list[int]:
    """Return the places of the first turns and of the dearest ones, in their order."""
    dearest = sorted(range(len(turns)), key=lambda at: (-(turns[at].cost or Decimal(0)), at))
    return sorted({*range(min(FIRST, len(turns))), *dearest[:DEAREST]})


def _marks(turn: Turn, part: str, *, is_dearest: bool) -> str:
    marks = [_DEAREST] if is_dearest else []
    marks += [_CUT_OFF] if turn.cancelled else []
    marks += [part] if turn.lacks_prices and turn.cost is not None else []
    return ", ".join(marks)


def said_of(receipt: Receipt, left_out: list[str], now: datetime) -> Iterator[str]:
    """Yield what is said below the tables: what is not shown, interruptions, prices, and how fresh it is."""
    shown_turns = len(_chosen(receipt.turns))
    if shown_turns < len(receipt.turns):
        yield (
            f"{shown_turns} of {len(receipt.turns):,} turns shown: the first {FIRST}, and the dearest {DEAREST} "
            "(--format json has all)"
        )
    if receipt.detail_missing:
        yield receipt.detail_missing
    yield from say_left_out([it or "marks and bars" for it in left_out])
    yield from _interruptions(receipt)
    priced = [f"price of {_name(it)}: {in_cell(it.price)}" for it in receipt.priced if it.price]
    yield from dict.fromkeys(priced)
    yield from receipt.notes
    yield fresh(receipt.as_of, now)


def _interruptions(receipt: Receipt) -> Iterator[str]:
    every = [*receipt.turns, *(it for it in (receipt.outside,) if it is not None)]
    cut = sum(it.cancelled for it in every)
    if cut:
        amounts = [it.cancelled_cost for it in every if it.cancelled_cost is not None]
        cost = f"{money(sum(amounts, Decimal(0)))} {receipt.currency}" if amounts else UNPRICED
        yield f"interrupted: {counted(cut, 'request was', 'requests were')} cut off ({cost}, as reported)"
    for it in receipt.priced:
        if it.estimated:
            cost = UNPRICED if it.cost is None else f"{money(it.cost)} {receipt.currency}"
            yield f"estimated, at least: {_name(it)}, {_used(it) or 'nothing'}: {cost}"


def _name(it: Priced) -> str:
    tier = f", service tier {in_cell(it.service_tier)}" if it.service_tier else ""
    return f"{in_cell(it.provider)}/{in_cell(it.model)} ({in_cell(it.modality)}{tier})"
