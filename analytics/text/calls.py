"""Calls as text: a table for people, one line each, JSON and CSV for programs.

What does not fit the width is left out as whole columns, the least important first, and the table says so. Where
there is a width, an id is shown as far as it takes to tell the calls apart; `costs call` takes that.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from voicecosts.analytics.answers.calls import Call, as_short
from voicecosts.analytics.answers.report import measure_names
from voicecosts.analytics.numbers import (
    counted,
    fresh,
    length,
    minute,
    money_column,
    period,
    rate,
)
from voicecosts.analytics.question.columns import State
from voicecosts.analytics.question.filters import shown
from voicecosts.analytics.text.costs import NOT_BILLED, UNPRICED, plain_row, unpriced_amount
from voicecosts.analytics.text.grid import Column, lines, page, say_left_out
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
    from collections.abc import Iterator
    from datetime import datetime

    from voicecosts.analytics.answers.calls import Calls

GOES_ON: Final = "goes on"
_NO_END: Final = "no end"
_UNKNOWN: Final = "unknown"
_WIDEST: Final = 24
"""A column of names need not be wider to be shown; it is folded."""
_ORDER: Final = (
    "call", "project", "cost", "started", "state", "length", "tenant", "agent", "per minute", UNPRICED, "outcome", "room",
    "billed", "estimated",
)  # fmt: skip
"""The columns, the most important first."""
_ALWAYS: Final = 2
_OWN: Final = tuple(name for name in Call.__struct_fields__ if name != "used")
_MEASURED: Final = tuple(name for name in measure_names() if name != "sessions")


def as_table(calls: Calls, *, now: datetime, width: int | None = None) -> str:
    """Return the calls as lines of at most `width` cells; without a width nothing is left out."""
    names, numbers = columns(calls, width=width)
    names, numbers, left_out = _fitted(names, numbers, width)
    table = [*lines(names, numbers, width=width), *[""] * bool(calls.calls)]
    return page(table, _footer(calls, left_out, now), calls.warnings, width=width)


def columns(calls: Calls, *, width: int | None) -> tuple[list[Column], list[Column]]:
    """Return all columns, of names and of numbers; where there is a width, ids only as far as tells them apart."""
    return [Column("call", _ids(calls, width)), *_names(calls)], _numbers(calls)


def as_json(calls: Calls) -> bytes:
    """Return the calls as one JSON object, indented, ending with a newline."""
    return json_bytes(
        {
            "calls": [plain_call(it) for it in calls.calls],
            "found": calls.found,
            "currency": calls.currency,
            "since": plain_moment(calls.since),
            "until": plain_moment(calls.until),
            "as_of": plain_moment(calls.as_of),
            "completeness": plain_completeness(calls.completeness),
            "warnings": list(calls.warnings),
            "notes": list(calls.notes),
        }
    )


def as_csv(calls: Calls) -> bytes:
    """Return the calls as CSV with a header line."""
    return csv_bytes([*_OWN, *_MEASURED], map(_flat, calls.calls))


def plain_call(call: Call) -> dict[str, object]:
    """Return a call of values that JSON and CSV can hold without loss; what it used has the keys of a query."""
    seconds = call.length_seconds
    own = {name: getattr(call, name) for name in _OWN} | {
        "session": str(call.session),
        "started_at": plain_moment(call.started_at),
        "ended_at": plain_moment(call.ended_at),
        "length_seconds": None if seconds is None else plain_seconds(seconds),
        "missing_at_most": plain_money(call.missing_at_most),
        "cost_per_minute": plain_money(call.cost_per_minute),
    }
    used = plain_row(call.used)
    return own | {name: used[name] for name in _MEASURED}


def _flat(call: Call) -> dict[str, object]:
    """Return the same with the tags as one text, the JSON of their list."""
    tags = None if call.tags is None else json.dumps(call.tags, ensure_ascii=False)
    return plain_call(call) | {"tags": tags}


def call_length(call: Call) -> str:
    """Return how long a call was, or why that cannot be said."""
    if call.length_seconds is not None:
        return length(call.length_seconds)
    if call.state == State.OPEN:
        return GOES_ON
    return _UNKNOWN if call.ended_at else _NO_END


def _ids(calls: Calls, width: int | None) -> list[str]:
    """Return the ids, where there is a width only as much of each as tells all of them apart."""
    ids = [str(it.session) for it in calls.calls]
    return ids if width is None else as_short(ids)


def _names(calls: Calls) -> list[Column]:
    found = calls.calls
    columns = [Column("started", [minute(it.started_at) for it in found])]
    if calls.is_shared:  # the same id in two projects is two calls
        columns.insert(0, Column("project", [in_cell(it.project or "") for it in found]))
    columns.append(Column("agent", [in_cell(it.agent or "") for it in found]))
    columns.append(Column("tenant", [in_cell(shown(it.tenant)) for it in found]))
    if any(it.room for it in found):
        columns.append(Column("room", [in_cell(it.room or "") for it in found]))
    return columns


def _numbers(calls: Calls) -> list[Column]:
    found, used = calls.calls, [it.used for it in calls.calls]
    columns = [
        Column("length", list(map(call_length, found))),
        Column(f"cost {calls.currency}", money_column((it.cost for it in used), UNPRICED)),
        Column("per minute", [_rate(it) for it in found]),
    ]
    if any(it.lacks_prices for it in used):
        columns.append(Column(UNPRICED, list(map(unpriced_amount, used))))
    if any(it.estimated_cost for it in used):
        columns.append(
            Column("estimated", money_column((it.estimated_cost for it in used), UNPRICED))
        )
    if any(it.billed is not None for it in used):
        columns.append(Column("billed", money_column((it.billed for it in used), NOT_BILLED)))
    if any(it.outcome for it in found):
        columns.append(Column("outcome", [in_cell(it.outcome or "") for it in found]))
    columns.append(Column("state", [it.state for it in found]))
    return columns


def _fitted(
    names: list[Column], numbers: list[Column], width: int | None
) -> tuple[list[Column], list[Column], list[str]]:
    """Return the columns that fit, the most important first, and the heads of those that do not."""
    if width is None:
        return names, numbers, []
    left_out: list[str] = []
    taken = 0
    for column in sorted([*names, *numbers], key=_rank):
        wide = column.width if column in numbers else min(_WIDEST, column.width)
        taken += wide + 2
        if taken - 2 > width and _rank(column) > _ALWAYS:
            left_out.append(column.head)
            taken -= wide + 2
    return (
        [it for it in names if it.head not in left_out],
        [it for it in numbers if it.head not in left_out],
        left_out,
    )


def _rank(column: Column) -> int:
    """Return how many columns are more important."""
    return next(at for at, head in enumerate(_ORDER) if column.head.startswith(head))


def _footer(calls: Calls, left_out: list[str], now: datetime) -> Iterator[str]:
    if calls.since or calls.until:
        yield period(calls.since, calls.until)
    if len(calls.calls) < calls.found:
        yield f"{len(calls.calls):,} of {counted(calls.found, 'call')} shown (--top)"
    yield from say_left_out(left_out)
    yield from calls.notes
    yield fresh(calls.as_of, now)


def _rate(call: Call) -> str:
    if call.cost_per_minute is None:
        return UNPRICED if call.used.cost is None else ""
    return rate(call.cost_per_minute)
