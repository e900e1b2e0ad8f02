"""A report as text: a table for people, fitted to their terminal, JSON and CSV for programs.

Money is never cut, rounded only where the table says so, and never shown as zero when it is unknown. What does
not fit the width is left out of the table as whole columns, and the table says so.

The keys of JSON and CSV are public and only ever added to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from voicecosts.analytics.answers.report import Row, measure_names
from voicecosts.analytics.numbers import (
    counted,
    fresh,
    money,
    money_digits,
    period,
    rounded,
    seconds,
    share,
)
from voicecosts.analytics.question.columns import IN_ZONE, Group, group, may_be_absent, may_be_empty
from voicecosts.analytics.question.filters import STANDARD, shown
from voicecosts.analytics.question.zones import UTC_NAME
from voicecosts.analytics.text.grid import PLAIN, Column, Ink, fit, footer, layout, say_left_out
from voicecosts.analytics.text.names import in_cell
from voicecosts.analytics.text.plain import (
    csv_lines,
    json_parts,
    plain_completeness,
    plain_moment,
    plain_money,
    plain_seconds,
)

if TYPE_CHECKING:
    from datetime import datetime

    from voicecosts.analytics.answers.report import Report

UNPRICED: Final = "unpriced"
NOT_BILLED: Final = "unbilled"
CONNECTED: Final = "connected s"
"""Seconds of all connections of one modality, each by itself: a call has one `agent_session`, and a
`participant` or a `telephony` for each leg."""
NO_LENGTH: Final = "no length"
OTHER: Final = "(other)"
"""Below the rule, where no name of the ledger stands."""
NO_CALLS: Final = "no calls"
NO_SUCCESS: Final = "no success"
_OF_ZONES: Final = frozenset(map(str, IN_ZONE))
MONEY: Final = (
    *("cost", "estimated_cost", "list_cost", "billed", "margin"),
    *("cost_per_call", "cost_per_minute", "billed_per_call", "billed_per_minute"),
    "cost_per_successful_call",
)
_AMOUNTS: Final = ("requests", "tokens in", "tokens out", "characters", "audio s", CONNECTED)
"""The columns that are left out where their total is zero."""

WIDTHS_OF: Final = 1_000
"""So many rows, the first ones, say how wide a table is: it may have millions."""


def as_table(
    report: Report, *, now: datetime, width: int | None = None, digits: int | None = None
) -> str:
    """Return the report as lines of at most `width` cells; without a width nothing is left out.

    Money has all of its digits, or is rounded to `digits`.
    """
    return "".join(table_parts(report, report.rows, now=now, width=width, digits=digits))


def as_json(report: Report) -> bytes:
    """Return the report as one JSON object, indented, ending with a newline."""
    return b"".join(json_rows(report, report.rows))


def as_csv(report: Report) -> bytes:
    """Return the rows as CSV with a header line; the total is left out so that columns add up."""
    return b"".join(csv_rows(report, report.rows))


def table_parts(
    report: Report,
    rows: Iterable[Row],
    *,
    now: datetime,
    width: int | None = None,
    digits: int | None = None,
    ink: Ink = PLAIN,
) -> Iterator[str]:
    """Yield the lines of the same table, some rows at a time, with money rounded to `digits` if there are any.

    Its totals, notes and warnings are written with `ink`.

    Columns are as wide as the total and the first `WIDTHS_OF` rows need. In a later row a longer name is folded,
    and a longer number makes its line longer.
    """
    left = iter(rows)
    some = list(islice(left, WIDTHS_OF))
    names = _names(report)
    measures = _measures(report, some, digits)
    # where there is nothing, there is nothing to add up
    below = {"total": report.total} if some else {}
    if report.other is not None:
        below = {OTHER: report.other, **below}
    titles = [_titled(names, title) for title in below]
    groups = [
        Column(it.head, [*map(it.cell, some), *(cells[at] for cells in titles)])
        for at, it in enumerate(names)
    ]
    counted_in = [*some, *below.values(), report.total]
    numbers = [Column(it.head, [*map(it.cell, counted_in)]) for it in measures]
    fitting, left_out = fit(groups, numbers, width)
    measures = [it for it in measures if it.head not in left_out]
    laid_out = layout(groups, fitting, width)
    yield from ended(laid_out.row([it.head for it in names], [it.head for it in measures]))
    yield f"{laid_out.rule}\n"
    shown = 0
    modalities: set[str | None] = {None} if report.other else set()
    while some:
        for row in some:
            cells = laid_out.row([it.cell(row) for it in names], [it.cell(row) for it in measures])
            yield from ended(cells)
        shown += len(some)
        modalities.update(row.group.get(Group.MODALITY) for row in some)
        some = list(islice(left, WIDTHS_OF))
    if shown:
        yield f"{laid_out.rule}\n"
        # agent and callers are connected at the same time: no sum is a length
        no_length = {CONNECTED, "session_seconds"} if len(modalities) > 1 else set()
        for cells_of, row in zip(titles, below.values(), strict=True):
            sums = ["" if it.head in no_length else it.cell(row) for it in measures]
            code = ink.total if row is report.total else ""
            yield from ended(ink.lines(code, laid_out.row(cells_of, sums)))
        yield "\n"
    is_rounded = digits is not None and any(_lose_digits(row, digits) for row in counted_in)
    said = _footer(report, shown, left_out, now, digits if is_rounded else None)
    yield from ended(ink.lines(ink.note, footer(said, (), width=width)))
    yield from ended(ink.lines(ink.warning, footer((), report.warnings, width=width)))


def json_rows(report: Report, rows: Iterable[Row]) -> Iterator[bytes]:
    """Yield the same object, row by row."""
    document: dict[str, object] = {
        "by": list(report.by),
        "rows": [],
        "total": plain_row(report.total, report.metrics),
        "other": plain_row(report.other, report.metrics) if report.other else None,
        "groups": report.groups,
        "currency": report.currency,
        "since": plain_moment(report.since),
        "until": plain_moment(report.until),
        "as_of": plain_moment(report.as_of),
        "source": "snapshot",
        "timezone": report.timezone,
        "completeness": plain_completeness(report.completeness),
        "warnings": list(report.warnings),
        "notes": list(report.notes),
    }
    return json_parts(document, "rows", (plain_row(row, report.metrics) for row in rows))


def csv_rows(report: Report, rows: Iterable[Row]) -> Iterator[bytes]:
    """Yield the same lines, row by row."""
    measured = measure_names()
    names = [*report.by, *measured, *(it for it in report.metrics if it not in measured)]
    if Group.SESSION in report.by and Group.PROJECT not in report.by:
        names.append(str(Group.PROJECT))
    return csv_lines(names, (plain_row(row, report.metrics) for row in rows))


class _Shown(Struct, frozen=True):
    """A column: how each row has it, and what stands in the line of the total."""

    head: str
    cell: Callable[[Row], str]


def _names(report: Report) -> list[_Shown]:
    """Return the columns of the groups."""
    names = list(report.by)
    if report.is_shared:
        names.insert(names.index(Group.SESSION) + 1, str(Group.PROJECT))
    return [_Shown(in_cell(name), partial(_name, name=name)) for name in names]


def _lose_digits(row: Row, digits: int) -> bool:
    """Return whether an amount of a row has more digits behind the point."""
    amounts = (row.cost, row.billed, row.list_cost, row.estimated_cost)
    return any(it is not None and it != round(it, digits) for it in amounts)


def _titled(names: list[_Shown], title: str) -> list[str]:
    """Return the cells of the groups in a line that is of none."""
    return [title, *("" for _ in names[1:])]


def _name(row: Row, *, name: str) -> str:
    return name_cell(row.group, name)


def name_cell(named: Mapping[str, str | None], name: str) -> str:
    """Return a value of a group as a cell."""
    value = named[name]
    column = group(name)
    # Only where there may be none `(none)` has a meaning, and only of a service tier the empty name.
    if may_be_empty(column):
        text = shown(value or None)
    else:
        text = shown(value) if value is None or may_be_absent(column) else value
    return in_cell(text or STANDARD if name == Group.SERVICE_TIER else text)


def _measures(report: Report, some: list[Row], digits: int | None) -> list[_Shown]:
    """Return the columns that hold anything but zeros, the most important first; or those that were asked for.

    Money has the digits that some rows need, or `digits`.
    """
    total = report.total
    rows = [*some, *([report.other] if report.other else []), total]

    amount = partial(_amount, rows, digits)
    if report.metrics:
        return [_of_metric(name, amount) for name in report.metrics]
    columns = [amount(f"cost {report.currency}", lambda row: row.cost, UNPRICED)]
    if total.lacks_prices:
        columns.append(_Shown(UNPRICED, unpriced_amount))
    if total.billed is not None:
        columns.append(amount("billed", lambda row: row.billed, NOT_BILLED))
    if total.estimated_cost:
        columns.append(amount("estimated", lambda row: row.estimated_cost, UNPRICED))
    if total.list_cost is not None and total.list_cost != total.cost:
        listed = amount("list", lambda row: row.list_cost, UNPRICED)

        def of_usage(row: Row) -> str:
            has_used = row.list_cost is not None or row.sessions or row.lacks_prices
            return listed.cell(row) if has_used else ""  # a credit has used nothing

        columns.append(_Shown(listed.head, of_usage))
    if Group.SESSION not in report.by:
        columns.append(_counted("sessions", lambda row: row.sessions))
    columns += [
        _counted("requests", lambda row: row.requests),
        _counted("tokens in", lambda row: row.input_tokens),
        _counted("tokens out", lambda row: row.output_tokens),
        _counted("characters", lambda row: row.characters),
        _lasted("audio s", lambda row: row.audio_seconds),
    ]
    if Group.MODALITY in report.by:
        columns.append(_lasted(CONNECTED, lambda row: row.session_seconds))
    return [it for it in columns if it.head not in _AMOUNTS or it.cell(total) not in ("0", "0.0")]


def _amount(
    rows: list[Row],
    digits: int | None,
    head: str,
    of: Callable[[Row], Decimal | None],
    missing: str | Callable[[Row], str],
) -> _Shown:
    """Return a column of money with the digits that some rows need, or so many."""
    needed = money_digits(of(row) for row in rows)

    def cell(row: Row) -> str:
        value = of(row)
        if value is None:
            return missing if isinstance(missing, str) else missing(row)
        return money(value, needed) if digits is None else rounded(value, digits)

    return _Shown(head, cell)


def _of_metric(name: str, amount: Callable[..., _Shown]) -> _Shown:
    """Return the column of a metric, which has its name; what is not known says what there is none of."""

    def of(row: Row) -> Any:
        return row.metric(name)

    if name in MONEY:
        return amount(name, of, partial(unknown, name=name))
    if name == "minutes":
        return _Shown(name, lambda row: NO_LENGTH if of(row) is None else seconds(of(row)))
    return _lasted(name, of) if name.endswith("_seconds") else _counted(name, of)


def unknown(row: Row, *, name: str) -> str:
    """Return what stands for an amount of money, or a length, that is not known."""
    if name == "minutes":
        return NO_LENGTH
    bills = name.startswith("billed") or (name == "margin" and row.cost is not None)
    if (row.billed if bills else row.cost) is None:
        return NOT_BILLED if bills else UNPRICED
    if name == "cost_per_successful_call":
        return NO_SUCCESS
    if name.endswith("_per_call") or not row.sessions:
        return NO_CALLS
    return NO_LENGTH if name.endswith("_per_minute") else UNPRICED


def _counted(head: str, of: Callable[[Row], int]) -> _Shown:
    return _Shown(head, lambda row: f"{of(row):,}")


def _lasted(head: str, of: Callable[[Row], Decimal]) -> _Shown:
    return _Shown(head, lambda row: seconds(of(row)))


def ended(found: Iterable[str]) -> Iterator[str]:
    """Yield lines with their ends."""
    return (f"{line}\n" for line in found)


def _footer(
    report: Report, rows: int, left_out: list[str], now: datetime, digits: int | None
) -> Iterator[str]:
    total = report.total
    if report.since or report.until:
        yield period(report.since, report.until, report.timezone)
    if report.timezone != UTC_NAME and not _OF_ZONES.isdisjoint(report.by):
        yield f"hours and days are those of {report.timezone}"
    if rows < report.groups:
        yield f"{rows:,} of {counted(report.groups, 'row')} shown, the total is of all"
    yield from say_left_out(left_out)
    if digits is not None:
        yield f"money is rounded to {counted(digits, 'digit')} (--exact shows all)"
    if total.rows:
        yield f"unpriced: {', '.join(shares(total)) or 'nothing'}"
    if total.cost and total.estimated_cost:
        said = f"estimated: {money(total.estimated_cost)} {report.currency}"
        is_part = 0 < total.estimated_cost <= total.cost  # with a credit in it, it is no whole
        yield f"{said} ({share(total.estimated_cost, total.cost)})" if is_part else said
    yield from report.notes
    yield fresh(report.as_of, now)


def unpriced_amount(row: Row) -> str:
    """Return how much of a row has no price: in the first amount of models that says it, and connected time."""
    length = row.unpriced_session_seconds
    connected = f"{seconds(length)} s connected" if length else ""
    return ", ".join(filter(None, (_unpriced_of_models(row), connected)))


def _unpriced_of_models(row: Row) -> str:
    tokens = row.unpriced_input_tokens + row.unpriced_output_tokens + row.unpriced_other_tokens
    if row.unpriced_requests:
        return counted(row.unpriced_requests, "request")
    if tokens:
        return counted(tokens, "token")
    if row.unpriced_characters:
        return counted(row.unpriced_characters, "character")
    if row.unpriced_audio_seconds:
        return f"{seconds(row.unpriced_audio_seconds)} s of audio"
    return ""


def shares(total: Row) -> Iterator[str]:
    """Yield how much of each amount has no price."""
    amounts: tuple[tuple[str, Decimal | int, Decimal | int], ...] = (
        ("requests", total.unpriced_requests, total.requests),
        ("tokens in", total.unpriced_input_tokens, total.input_tokens),
        ("tokens out", total.unpriced_output_tokens, total.output_tokens),
        ("characters", total.unpriced_characters, total.characters),
        ("audio s", total.unpriced_audio_seconds, total.audio_seconds),
        (f"{CONNECTED}, all added up", total.unpriced_session_seconds, total.session_seconds),
    )
    for head, part, whole in amounts:
        if part:
            numbers = [f"{it:,}" if isinstance(it, int) else seconds(it) for it in (part, whole)]
            yield f"{numbers[0]} of {numbers[1]} {head} ({share(part, whole)})"
    if total.unpriced_other_tokens:
        yield f"{total.unpriced_other_tokens:,} tokens of no known kind"


def plain_row(row: Row, metrics: Iterable[str] = ()) -> dict[str, object]:
    """Return a row of values that JSON and CSV can hold without loss, with `metrics` among them."""
    record = row.record(metrics)
    for name, value in record.items():
        if isinstance(value, Decimal):
            record[name] = plain_money(value) if name in MONEY else plain_seconds(value)
    return record
