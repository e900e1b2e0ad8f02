"""A report as a table for people, fitted to their terminal. Plain text, no control codes.

Money is never cut, never rounded, and never shown as zero when it is unknown. What does not fit the
width is left out as whole columns, and the table says so. Text of the ledger is shown as text: the
name of a tenant can neither colour nor control the terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from voicecosts.analytics.numbers import ago, clock, counted, money, money_digits, seconds, share
from voicecosts.analytics.question.columns import Group
from voicecosts.analytics.question.filters import NONE
from voicecosts.analytics.text.grid import Column, fit, lines, printable, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from decimal import Decimal

    from voicecosts.analytics.answers.report import Report, Row

UNPRICED: Final = "unpriced"


def as_table(report: Report, *, now: datetime, width: int | None = None) -> str:
    """Return the report as lines of at most `width` cells; without a width nothing is left out."""
    groups = [_group(report, name) for name in report.by]
    measures, left_out = fit(groups, _measures(report), width)
    if not report.rows:  # where there is nothing, there is nothing to add up
        groups = [Column(it.head, []) for it in groups]
    found = list(lines(groups, measures, width=width, total=True))
    found += [""] * bool(report.rows)
    for text in _footer(report, left_out, now):
        found += wrapped(text, width)
    for warning in report.warnings:
        found += wrapped(f"! {warning}", width)
    return "\n".join(found) + "\n"


def _group(report: Report, name: str) -> Column:
    values = (row.group[name] for row in report.rows)
    label = "total" if name == report.by[0] else ""
    return Column(name, [*(NONE if it is None else printable(it) for it in values), label])


def _measures(report: Report) -> list[Column]:
    """Return the columns worth showing, the most wanted first. A column of zeros is not."""
    rows, total = (*report.rows, report.total), report.total
    columns = [Column(f"cost {report.currency}", _money(row.cost for row in rows))]
    if total.unpriced_rows:
        columns.append(Column(UNPRICED, [f"{row.unpriced_rows:,}" for row in rows]))
    if total.estimated_cost:
        columns.append(Column("estimated", _money(row.estimated_cost for row in rows)))
    if Group.SESSION not in report.by:
        columns.append(Column("sessions", [f"{row.sessions:,}" for row in rows]))
    amounts: dict[str, Callable[[Row], str | int]] = {
        "requests": lambda row: row.requests,
        "tokens in": lambda row: row.input_tokens,
        "tokens out": lambda row: row.output_tokens,
        "characters": lambda row: row.characters,
        "audio s": lambda row: seconds(row.audio_seconds),
        "connected s": lambda row: seconds(row.session_seconds),
    }
    for head, of in amounts.items():
        if of(total) not in (0, "0.0"):
            values = [of(row) for row in rows]
            columns.append(
                Column(head, [f"{it:,}" if isinstance(it, int) else it for it in values])
            )
    return columns


def _money(amounts: Iterable[Decimal | None]) -> list[str]:
    """Return amounts with the same number of digits, enough for each of them."""
    found = list(amounts)
    digits = money_digits(found)
    return [UNPRICED if amount is None else money(amount, digits) for amount in found]


def _footer(report: Report, left_out: list[str], now: datetime) -> Iterator[str]:
    total = report.total
    if report.since or report.until:
        start = clock(report.since) if report.since else "the beginning"
        end = f"{clock(report.until)} (not included)" if report.until else "now"
        yield f"period: from {start} to {end}"
    if len(report.rows) < report.groups:
        yield f"{len(report.rows):,} of {counted(report.groups, 'row')} shown, the total is of all"
    if left_out:
        yield f"no room for: {', '.join(left_out)} (--format json has them)"
    if total.rows:
        yield (
            f"unpriced: {total.unpriced_rows:,} of {counted(total.rows, 'booking')} "
            f"({share(total.unpriced_rows, total.rows)})"
        )
    if total.cost and total.estimated_cost:
        part = money(total.estimated_cost)
        yield f"estimated: {part} {report.currency} ({share(total.estimated_cost, total.cost)})"
    yield from report.notes
    yield f"as of {ago(report.as_of, now)}" if report.as_of else "nothing received yet"
