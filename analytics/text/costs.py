"""A report as text: a table for people, fitted to their terminal, JSON and CSV for programs.

Money is never cut, never rounded, and never shown as zero when it is unknown. What does not fit the
width is left out of the table as whole columns, and the table says so.

The keys of JSON and CSV are public and only ever added to.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from voicecosts.analytics.answers.report import measure_names
from voicecosts.analytics.numbers import counted, fresh, money, money_column, period, seconds, share
from voicecosts.analytics.question.columns import Group
from voicecosts.analytics.question.filters import STANDARD, shown
from voicecosts.analytics.text.grid import Column, fit, lines, page, say_left_out
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
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from voicecosts.analytics.answers.report import Report, Row

UNPRICED: Final = "unpriced"
NOT_BILLED: Final = "no rule"
CONNECTED: Final = "connected s"
"""Seconds of all connections of one modality, each by itself: a call has one `agent_session`, and a
`participant` or a `telephony` for each leg."""
_MONEY: Final = ("cost", "estimated_cost", "list_cost", "billed")


def as_table(report: Report, *, now: datetime, width: int | None = None) -> str:
    """Return the report as lines of at most `width` cells; without a width nothing is left out."""
    names = list(report.by)
    if report.is_shared:
        names.insert(names.index(Group.SESSION) + 1, str(Group.PROJECT))
    groups = [_group(report, name) for name in names]
    measures, left_out = fit(groups, _measures(report), width)
    if not report.rows:  # where there is nothing, there is nothing to add up
        groups = [Column(it.head, []) for it in groups]
    table = [*lines(groups, measures, width=width, total=True), *[""] * bool(report.rows)]
    return page(table, _footer(report, left_out, now), report.warnings, width=width)


def as_json(report: Report) -> bytes:
    """Return the report as one JSON object, indented, ending with a newline."""
    return json_bytes(
        {
            "by": list(report.by),
            "rows": [plain_row(row) for row in report.rows],
            "total": plain_row(report.total),
            "groups": report.groups,
            "currency": report.currency,
            "since": plain_moment(report.since),
            "until": plain_moment(report.until),
            "as_of": plain_moment(report.as_of),
            "source": "snapshot",
            "completeness": plain_completeness(report.completeness),
            "warnings": list(report.warnings),
            "notes": list(report.notes),
        }
    )


def as_csv(report: Report) -> bytes:
    """Return the rows as CSV with a header line; the total is left out so that columns add up."""
    names = [*report.by, *measure_names()]
    if Group.SESSION in report.by and Group.PROJECT not in report.by:
        names.append(str(Group.PROJECT))
    return csv_bytes(names, (plain_row(row) for row in report.rows))


def _group(report: Report, name: str) -> Column:
    values = (row.group[name] for row in report.rows)
    label = "total" if name == report.by[0] else ""
    # Only a tenant can be absent, and only of a tenant `(none)` has a meaning. Only of a service tier
    # the empty name has one.
    names = [shown(it) if name == Group.TENANT or it is None else it for it in values]
    if name == Group.SERVICE_TIER:
        names = [it or STANDARD for it in names]
    return Column(name, [*map(in_cell, names), label])


def _measures(report: Report) -> list[Column]:
    """Return the columns that hold anything but zeros, the most important first."""
    rows, total = (*report.rows, report.total), report.total
    columns = [
        Column(f"cost {report.currency}", money_column((row.cost for row in rows), UNPRICED))
    ]
    if total.lacks_prices:
        columns.append(Column(UNPRICED, [unpriced_amount(row) for row in rows]))
    if total.estimated_cost:
        columns.append(
            Column("estimated", money_column((row.estimated_cost for row in rows), UNPRICED))
        )
    if total.billed is not None:
        columns.append(Column("billed", money_column((row.billed for row in rows), NOT_BILLED)))
    if total.list_cost is not None and total.list_cost != total.cost:
        listed = money_column((row.list_cost for row in rows), UNPRICED)
        used = [row.sessions or row.lacks_prices for row in rows]  # a credit has used nothing
        shown_list = [
            "" if it == UNPRICED and not of_usage else it
            for it, of_usage in zip(listed, used, strict=True)
        ]
        columns.append(Column("list", shown_list))
    if Group.SESSION not in report.by:
        columns.append(Column("sessions", [f"{row.sessions:,}" for row in rows]))
    amounts: dict[str, Callable[[Row], str | int]] = {
        "requests": lambda row: row.requests,
        "tokens in": lambda row: row.input_tokens,
        "tokens out": lambda row: row.output_tokens,
        "characters": lambda row: row.characters,
        "audio s": lambda row: seconds(row.audio_seconds),
    }
    if Group.MODALITY in report.by:
        amounts[CONNECTED] = lambda row: seconds(row.session_seconds)
    for head, of in amounts.items():
        if of(total) not in (0, "0.0"):
            values = [of(row) for row in rows]
            if head == CONNECTED and len({row.group["modality"] for row in report.rows}) > 1:
                values[-1] = (
                    ""  # agent and callers are connected at the same time: no sum is a length
                )
            columns.append(
                Column(head, [f"{it:,}" if isinstance(it, int) else it for it in values])
            )
    return columns


def _footer(report: Report, left_out: list[str], now: datetime) -> Iterator[str]:
    total = report.total
    if report.since or report.until:
        yield period(report.since, report.until)
    if len(report.rows) < report.groups:
        yield f"{len(report.rows):,} of {counted(report.groups, 'row')} shown, the total is of all"
    yield from say_left_out(left_out)
    if total.rows:
        yield f"unpriced: {', '.join(_shares(total)) or 'nothing'}"
    if total.cost and total.estimated_cost:
        said = f"estimated: {money(total.estimated_cost)} {report.currency}"
        is_part = 0 < total.estimated_cost <= total.cost  # with a credit in it, it is no whole
        yield f"{said} ({share(total.estimated_cost, total.cost)})" if is_part else said
    yield from report.notes
    yield fresh(report.as_of, now)


def unpriced_amount(row: Row) -> str:
    """Return how much of a row has no price, in the first of its amounts that says it."""
    tokens = row.unpriced_input_tokens + row.unpriced_output_tokens + row.unpriced_other_tokens
    if row.unpriced_requests:
        return counted(row.unpriced_requests, "request")
    if tokens:
        return counted(tokens, "token")
    if row.unpriced_characters:
        return counted(row.unpriced_characters, "character")
    if row.unpriced_audio_seconds:
        return f"{seconds(row.unpriced_audio_seconds)} s of audio"
    length = row.unpriced_session_seconds
    return f"{seconds(length)} s connected" if length else ""


def _shares(total: Row) -> Iterator[str]:
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


def plain_row(row: Row) -> dict[str, object]:
    """Return a row of values that JSON and CSV can hold without loss."""
    record = row.record()
    for name, value in record.items():
        if isinstance(value, Decimal):
            record[name] = plain_money(value) if name in _MONEY else plain_seconds(value)
    return record
