"""A report as a table for people, fitted to their terminal. Plain text, no control codes.

Money is never cut, never rounded, and never shown as zero when it is unknown. What does not fit the
width is left out as whole columns, and the table says so. Text of the ledger is shown as text: the
name of a tenant can neither colour nor control the terminal.
"""

from __future__ import annotations

from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from rich.cells import cell_len, chop_cells

from analytics.columns import Group
from analytics.filters import NONE
from analytics.words import ago, clock, counted, money, money_digits, seconds, share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from decimal import Decimal

    from analytics.report import Report, Row

UNPRICED: Final = "unpriced"
_GAP: Final = "  "
_WIDE_GROUP: Final = 36
"""A group column keeps this width (a session id) before measures are left out for it."""
_NARROW_GROUP: Final = 8
"""A group column is folded no narrower than this; rather is the table wider than asked for."""


class _Column(Struct, frozen=True):
    """One column as text: its head, its cells, and the total's cell as the last of them."""

    head: str
    cells: list[str]

    @property
    def width(self) -> int:
        return max(map(cell_len, (self.head, *self.cells)))


def as_table(report: Report, *, now: datetime, width: int | None = None) -> str:
    """Return the report as lines of at most `width` cells; without a width nothing is left out."""
    groups = [_group(report, name) for name in report.by]
    measures, left_out = _fit(_measures(report), groups, width)
    lines = list(_lines(report, groups, measures, _folded(groups, measures, width)))
    lines += [""] * bool(report.rows)
    for text in _footer(report, left_out, now):
        lines += _wrapped(text, width)
    for warning in report.warnings:
        lines += _wrapped(f"! {warning}", width)
    return "\n".join(lines) + "\n"


def _lines(
    report: Report, groups: list[_Column], measures: list[_Column], widths: list[int]
) -> Iterator[str]:
    """Return head, rows and, when there are rows, the total, with rules between them."""
    right = [measure.width for measure in measures]
    rule = "─" * (sum(widths) + sum(right) + len(_GAP) * (len(widths) + len(right) - 1))
    yield from _row_lines([it.head for it in groups], [it.head for it in measures], widths, right)
    yield rule
    for at in range(len(report.rows) + bool(report.rows)):
        if at == len(report.rows):
            yield rule
        cells = [it.cells[at] for it in groups], [it.cells[at] for it in measures]
        yield from _row_lines(*cells, widths, right)


def _row_lines(
    names: list[str], numbers: list[str], widths: list[int], right: list[int]
) -> Iterator[str]:
    """Return one row, on several lines where a name had to be folded."""
    folded = [chop_cells(name, width) for name, width in zip(names, widths, strict=True)]
    aligned = [[number.rjust(width)] for number, width in zip(numbers, right, strict=True)]
    for parts in zip_longest(*folded, *aligned, fillvalue=""):
        cells = [
            part + " " * (width - cell_len(part))
            for part, width in zip(parts, [*widths, *right], strict=True)
        ]
        yield _GAP.join(cells).rstrip()


def _folded(groups: list[_Column], measures: list[_Column], width: int | None) -> list[int]:
    """Return the widths of the group columns: the widest is narrowed until the row fits."""
    widths = [group.width for group in groups]
    if width is not None:
        taken = sum(measure.width for measure in measures)
        room = width - taken - len(_GAP) * (len(groups) + len(measures) - 1)
        while sum(widths) > room and max(widths) > _NARROW_GROUP:
            widths[widths.index(max(widths))] -= 1
    return widths


def _group(report: Report, name: str) -> _Column:
    values = (row.group[name] for row in report.rows)
    label = "total" if name == report.by[0] else ""
    return _Column(name, [*(NONE if it is None else _printable(it) for it in values), label])


def _measures(report: Report) -> list[_Column]:
    """Return the columns worth showing, the most wanted first. A column of zeros is not."""
    rows, total = (*report.rows, report.total), report.total
    columns = [_Column(f"cost {report.currency}", _money(row.cost for row in rows))]
    if total.unpriced_rows:
        columns.append(_Column(UNPRICED, [f"{row.unpriced_rows:,}" for row in rows]))
    if total.estimated_cost:
        columns.append(_Column("estimated", _money(row.estimated_cost for row in rows)))
    if Group.SESSION not in report.by:
        columns.append(_Column("sessions", [f"{row.sessions:,}" for row in rows]))
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
                _Column(head, [f"{it:,}" if isinstance(it, int) else it for it in values])
            )
    return columns


def _money(amounts: Iterable[Decimal | None]) -> list[str]:
    """Return amounts with the same number of digits, enough for each of them."""
    found = list(amounts)
    digits = money_digits(found)
    return [UNPRICED if amount is None else money(amount, digits) for amount in found]


def _fit(
    columns: list[_Column], groups: list[_Column], width: int | None
) -> tuple[list[_Column], list[str]]:
    """Return the measures that fit beside the groups, and the heads of those that do not."""
    if width is None:
        return columns, []
    taken = sum(min(_WIDE_GROUP, group.width) for group in groups) + len(_GAP) * (len(groups) - 1)
    for shown, column in enumerate(columns):
        taken += column.width + len(_GAP)
        if taken > width and shown:  # the first one is the cost, which is always shown
            return columns[:shown], [it.head for it in columns[shown:]]
    return columns, []


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
    yield f"as of {ago(report.as_of, now)}" if report.as_of else "nothing received yet"


def _printable(text: str) -> str:
    """Return `text` with everything that a terminal would act on spelled out."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _wrapped(text: str, width: int | None) -> list[str]:
    plain = _printable(text)
    if width is None:
        return [plain]
    return wrap(
        plain, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
