"""Two periods as text: a table fitted to a terminal, JSON and CSV.

Where a group is in one period alone, the other side is empty, and so is its change, which says `new` or `gone`. A change
that is of a part says `part`; where a side is not known, the change says what there is none of. Nothing is shown as
zero that is not.

The keys of JSON and CSV are public and only ever added to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from voicecosts.analytics.answers.compared import Presence
from voicecosts.analytics.answers.report import OF_COST
from voicecosts.analytics.numbers import (
    counted,
    fresh,
    money,
    money_digits,
    percent_change,
    period,
    rounded,
    seconds,
    share,
    signed,
)
from voicecosts.analytics.text.costs import (
    MONEY,
    OTHER,
    UNPRICED,
    ended,
    name_cell,
    plain_row,
    shares,
    unknown,
    unpriced_amount,
)
from voicecosts.analytics.text.grid import PLAIN, Column, Ink, fit, footer, layout, say_left_out
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
    from datetime import datetime

    from voicecosts.analytics.answers.compared import Comparison, Pair
    from voicecosts.analytics.answers.report import Row

PART: Final = "part"


def as_table(
    found: Comparison,
    *,
    now: datetime,
    width: int | None = None,
    digits: int | None = None,
    ink: Ink = PLAIN,
) -> str:
    """Return the comparison as lines of at most `width` cells; without a width nothing is left out.

    Money has all of its digits, or is rounded to `digits`. Totals, notes and warnings are written with `ink`.
    """
    return "".join(_lines(found, now=now, width=width, digits=digits, ink=ink))


def as_json(found: Comparison) -> bytes:
    """Return the comparison as one JSON object, indented, ending with a newline."""
    document: dict[str, object] = {
        "by": list(found.by),
        "metrics": list(found.metrics),
        "compare": found.compare,
        "rows": [_plain(it, found, with_sides=True) for it in found.rows],
        "total": _plain(found.total, found, with_sides=True),
        "other": _plain(found.other, found, with_sides=True) if found.other else None,
        "groups": found.groups,
        "currency": found.currency,
        "since": plain_moment(found.since),
        "until": plain_moment(found.until),
        "since_before": plain_moment(found.since_before),
        "until_before": plain_moment(found.until_before),
        "as_of": plain_moment(found.as_of),
        "source": "snapshot",
        "timezone": found.timezone,
        "completeness": plain_completeness(found.completeness),
        "completeness_before": plain_completeness(found.completeness_before),
        "warnings": list(found.warnings),
        "notes": list(found.notes),
    }
    return json_bytes(document)


def as_csv(found: Comparison) -> bytes:
    """Return the rows as CSV with a header line; the total is left out."""
    names = [*found.by, *(it for it in _plain(found.total, found) if it not in found.by)]
    return csv_bytes(names, (dict(_told(_plain(it, found))) for it in found.rows))


def _told(record: dict[str, object]) -> Iterator[tuple[str, object]]:
    """Yield the values of a record with truth as JSON writes it."""
    for name, value in record.items():
        yield name, str(value).lower() if isinstance(value, bool) else value


def _plain(pair: Pair, found: Comparison, *, with_sides: bool = False) -> dict[str, object]:
    """Return a pair of values that JSON and CSV can hold without loss; with all that is known of both sides."""
    record = pair.record(found.metrics)
    for name, value in record.items():
        if isinstance(value, Decimal):
            is_money = (
                name.endswith("_percent")
                or name.removesuffix("_change").removesuffix("_before") in MONEY
            )
            record[name] = plain_money(value) if is_money else plain_seconds(value)
    if with_sides:
        for key, row in (("now", pair.now), ("before", pair.before)):
            record[key] = None if row is None else _side(row, found)
    return record


def _side(row: Row, found: Comparison) -> dict[str, object]:
    return {name: it for name, it in plain_row(row, found.metrics).items() if name not in row.group}


class _Shown(Struct, frozen=True):
    """A column: its head, and how each pair has it."""

    head: str
    cell: Callable[[Pair], str]


def _lines(
    found: Comparison, *, now: datetime, width: int | None, digits: int | None, ink: Ink
) -> Iterator[str]:
    below = {"total": found.total} if found.rows else {}
    if found.other is not None:
        below = {OTHER: found.other, **below}
    pairs = [*found.rows, *below.values()]
    measures = _measures(found, [*pairs, found.total], digits)
    names = [
        Column(
            in_cell(name),
            [
                *(name_cell(it.group, name) for it in found.rows),
                *(title if at == 0 else "" for title in below),
            ],
        )
        for at, name in enumerate(found.by)
    ]
    numbers = [Column(it.head, [it.cell(pair) for pair in pairs]) for it in measures]
    fitting, left_out = fit(names, numbers, width)
    laid_out = layout(names, fitting, width)
    yield from ended(laid_out.row([it.head for it in names], [it.head for it in fitting]))
    yield f"{laid_out.rule}\n"
    for at, pair in enumerate(pairs):
        if at == len(found.rows):
            yield f"{laid_out.rule}\n"
        cells = laid_out.row([it.cells[at] for it in names], [it.cells[at] for it in fitting])
        code = ink.total if pair is found.total else ""
        yield from ended(ink.lines(code, cells))
    if pairs:
        yield "\n"
    is_rounded = digits is not None and any(_lose_digits(it, found, digits) for it in pairs)
    said = _footer(found, pairs, left_out, now, digits if is_rounded else None)
    yield from ended(ink.lines(ink.note, footer(said, (), width=width)))
    yield from ended(ink.lines(ink.warning, footer((), found.warnings, width=width)))


def _measures(found: Comparison, pairs: list[Pair], digits: int | None) -> list[_Shown]:
    """Return the columns: of each metric both sides and the change, and last how much has no price."""
    columns = [it for name in found.metrics for it in _of_metric(name, found, pairs, digits)]
    lacks = any(row.lacks_prices for row in _sides(found.total))
    if lacks and not OF_COST.isdisjoint(found.metrics):
        columns += [
            _Shown(UNPRICED, lambda it: unpriced_amount(it.now) if it.now else ""),
            _Shown(
                f"{UNPRICED} before", lambda it: unpriced_amount(it.before) if it.before else ""
            ),
        ]
    return columns


def _of_metric(
    name: str, found: Comparison, pairs: list[Pair], digits: int | None
) -> Iterator[_Shown]:
    """Yield the four columns of a metric."""
    heads = [name, f"{name}_before", f"{name}_change", f"{name}_change_percent"]
    if len(found.metrics) == 1:
        heads = [
            f"cost {found.currency}" if name == "cost" else name,
            "before",
            "change",
            "change %",
        ]
    show = _written(name, pairs, digits)

    def side(row: Row | None) -> str:
        if row is None:
            return ""
        value = row.metric(name)
        return unknown(row, name=name) if value is None else show(value)

    def change(pair: Pair) -> str:
        if pair.presence in (Presence.NEW, Presence.GONE):
            return str(pair.presence)
        value = pair.change(name)
        if value is None:  # the other side stands beside it
            return next((side(it) for it in _sides(pair) if it.metric(name) is None), "")
        return _of_part(pair, signed(show, value))

    def in_percent(pair: Pair) -> str:
        value = pair.change_percent(name)
        return "" if value is None else _of_part(pair, percent_change(value))

    def _of_part(pair: Pair, text: str) -> str:
        return f"{PART} {text}" if pair.is_part(name) else text

    yield _Shown(heads[0], lambda it: side(it.now))
    yield _Shown(heads[1], lambda it: side(it.before))
    yield _Shown(heads[2], change)
    yield _Shown(heads[3], in_percent)


def _written(name: str, pairs: list[Pair], digits: int | None) -> Callable[[Decimal | int], str]:
    """Return how the figures of a metric are written, all with the same digits."""
    if name not in MONEY:
        return lambda it: f"{it:,}" if isinstance(it, int) else seconds(it)
    if digits is not None:
        return lambda it: rounded(Decimal(it), digits)
    values = (row.metric(name) for pair in pairs for row in _sides(pair))
    needed = money_digits(it for it in values if isinstance(it, Decimal))
    return lambda it: money(Decimal(it), needed)


def _is_shown_as_part(pair: Pair, name: str) -> bool:
    """Return whether the cell of a change says that it is one of a part."""
    is_alone = pair.presence in (Presence.NEW, Presence.GONE)
    return not is_alone and pair.change(name) is not None and pair.is_part(name)


def _sides(pair: Pair) -> Iterator[Row]:
    """Yield the sides that have something."""
    yield from (row for row in (pair.now, pair.before) if row is not None)


def _lose_digits(pair: Pair, found: Comparison, digits: int) -> bool:
    """Return whether an amount of a pair has more digits behind the point."""
    values = [row.metric(name) for row in _sides(pair) for name in found.metrics if name in MONEY]
    return any(it is not None and it != round(it, digits) for it in values)


def _footer(
    found: Comparison, pairs: list[Pair], left_out: list[str], now: datetime, digits: int | None
) -> Iterator[str]:
    yield period(found.since, found.until, found.timezone)
    before = period(found.since_before, found.until_before, found.timezone)
    yield f"before, by --compare {found.compare}: {before.removeprefix('period: ')}"
    if found.since_before < found.until and found.since < found.until_before:
        yield "the two periods overlap: what is in both is on both sides"
    if len(found.rows) < found.groups:
        yield f"{len(found.rows):,} of {counted(found.groups, 'row')} shown, the total is of all"
    yield from say_left_out(left_out)
    if digits is not None:
        yield f"money is rounded to {counted(digits, 'digit')} (--exact shows all)"
    if any(_is_shown_as_part(it, name) for it in pairs for name in found.metrics):
        yield f"{PART}: a change of what is known, as something on one side or on both has no price, or no length"
    for title, row in (("", found.total.now), (" before", found.total.before)):
        if row is None:
            continue
        yield f"unpriced{title}: {', '.join(shares(row)) or 'nothing'}"
        if row.cost and row.estimated_cost:
            said = f"estimated{title}: {money(row.estimated_cost)} {found.currency}"
            is_whole = 0 < row.estimated_cost <= row.cost
            yield f"{said} ({share(row.estimated_cost, row.cost)})" if is_whole else said
    yield from found.notes
    yield fresh(found.as_of, now)
