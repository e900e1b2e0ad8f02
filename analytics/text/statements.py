"""A statement as text: Markdown to send, JSON and CSV for programs.

What an operator pays is in none of them unless it is asked for: no cost, no margin, no reason that was written
for the books. Money has all of its digits, so that lines add up to the total to the last one; only the last line
of the Markdown, and `billed_rounded` in JSON, is in whole cents. The keys are public and only ever added to.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final

from voicecosts.analytics.answers.statements import ADJUST, LATE, USAGE, Line, Statement, margin
from voicecosts.analytics.numbers import clock, counted, money, money_digits
from voicecosts.analytics.question.filters import shown
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

    from voicecosts.analytics.answers.report import Row

_MINUTE_S: Final = Decimal(60)
_EXACT: Final = Context(prec=50)
_ACTS: Final = re.compile(r"[\\`*_\[\]<>#|~&!$]")
"""What Markdown, or the HTML that it may hold, would act on."""
_ADDRESS: Final = re.compile(r"@|://|\w\.[^\W\d_]")
"""What programs that show Markdown, mail or chats make a link of, also where it is escaped."""
_NOT_CHARGED: Final = "not charged"
_ROUNDED: Final = (
    "Minutes are rounded to a tenth, and the total is rounded once: the lines may not add up to it."
)
_UNKNOWN: Final = "unknown"
_NO_COST: Final = "Some of the usage has no price yet: the cost leaves it out."
_WHAT: Final = {
    LATE: ("reported late", "reported late"),
    ADJUST: ("credit or charge", "credit or charge taken back"),
    "rerate": ("new price", "new price taken back"),
    "void": ("call taken out", "call put back"),
}
_AMOUNTS: Final = ("requests", "input_tokens", "output_tokens", "characters")
_LENGTHS: Final = ("audio_seconds", "session_seconds")


def as_markdown(statement: Statement, *, with_cost: bool = False) -> str:
    """Return the statement as a page; `with_cost` makes it the operator's own."""
    return "\n".join(_page(statement, with_cost=with_cost)) + "\n"


def as_json(statement: Statement, *, with_cost: bool = False) -> bytes:
    """Return the statement as one JSON object, indented, ending with a newline."""
    total = statement.total
    document: dict[str, object] = {
        "tenant": statement.tenant,
        "project": statement.project,
        "month": f"{statement.month:%Y-%m}",
        "since": plain_moment(statement.since),
        "until": plain_moment(statement.until),
        "is_over": statement.is_over,
        "is_closed": statement.is_closed,
        "closed_at": plain_moment(statement.closed_at),
        "currency": statement.currency,
        "calls": sum(it.calls for it in statement.agents),
        "voided_calls": statement.voided,
        "calls_not_charged": statement.not_charged.calls,
        "calls_charged_in_part": statement.not_charged.in_part,
        "agents": [
            {
                "agent": it.agent,
                "calls": it.calls,
                "calls_with_length": it.timed,
                "length_seconds": plain_seconds(it.length_seconds) if it.timed else None,
            }
            for it in statement.agents
        ],
        "lines": [_plain_line(it, total, with_cost) for it in _shown(statement, with_cost)],
        "total": {
            **_plain_money(total, total, with_cost),
            "billed_rounded": None if statement.rounded is None else f"{statement.rounded:f}",
        },
        "corrected_later": [
            {
                "dated": f"{it.month:%Y-%m}",
                "billed": plain_money(it.billed),
                **({"cost": plain_money(it.cost)} if with_cost else {}),
            }
            for it in statement.later
            if with_cost or it.billed
        ],
        "as_of": plain_moment(statement.as_of),
        "whole": _whole(statement) if with_cost else statement.whole,
        "lacks": [
            {"source": it.source, "is_known": it.is_known, "text": it.text}
            for it in statement.lacks
        ],
    }
    if with_cost:
        document["operations"] = [
            {"operation": it.operation, "kind": it.kind, "reason": it.reason, "source": it.source}
            for it in statement.operations
        ]
        document["completeness"] = plain_completeness(statement.completeness)
        document["warnings"] = list(statement.warnings)
        document["notes"] = list(statement.notes)
    return json_bytes(document)


def _whole(statement: Statement) -> bool | None:
    """Return whether neither the bill nor what the operator pays lacks anything; None where that is not known."""
    both = (statement.whole, statement.completeness.whole)
    return False if False in both else None if None in both else True


def as_csv(statement: Statement, *, with_cost: bool = False) -> bytes:
    """Return the lines as CSV with a header line; the total is left out so that columns add up."""
    names = [
        "tenant", "month", "kind", "is_undone", "corrects", "operation", "agent", "modality", "calls", *_AMOUNTS, *_LENGTHS,
        "billed", *(("cost", "margin") if with_cost else ()),
    ]  # fmt: skip
    whose = {"tenant": statement.tenant, "month": f"{statement.month:%Y-%m}"}
    lines = (
        {**whose, **_plain_line(it, statement.total, with_cost)}
        for it in _shown(statement, with_cost)
    )
    return csv_bytes(names, lines)


def _shown(statement: Statement, with_cost: bool) -> Iterator[Line]:  # noqa: FBT001 - of this file
    """Yield the lines; of those that move nothing but what the operator pays, a tenant hears nothing."""
    for it in statement.lines:
        moves = it.used.billed or any(getattr(it.used, name) for name in (*_AMOUNTS, *_LENGTHS))
        if with_cost or it.kind in (USAGE, LATE) or moves:
            yield it


def _plain_line(line: Line, total: Row, with_cost: bool) -> dict[str, object]:  # noqa: FBT001 - same
    used = line.used
    return {
        "kind": line.kind,
        "is_undone": line.is_undone,
        "corrects": None if line.corrects is None else f"{line.corrects:%Y-%m}",
        "operation": line.operation,
        "agent": line.agent,
        "modality": line.modality,
        "calls": used.sessions,
        **{name: getattr(used, name) for name in _AMOUNTS},
        **{name: plain_seconds(getattr(used, name)) for name in _LENGTHS},
        **_plain_money(used, total, with_cost),
    }


def _plain_money(row: Row, total: Row, with_cost: bool) -> dict[str, object]:  # noqa: FBT001 - same
    found: dict[str, object] = {"billed": plain_money(row.billed)}
    if with_cost:
        found |= {"cost": plain_money(row.cost), "margin": plain_money(margin(row, total))}
    return found


def _page(statement: Statement, *, with_cost: bool) -> Iterator[str]:
    last = statement.until.date().fromordinal(statement.until.date().toordinal() - 1)
    project = "" if statement.project is None else f" in {_name(statement.project)}"
    yield f"# Statement: {_name(shown(statement.tenant))}{project}, {statement.month:%Y-%m}"
    yield ""
    if with_cost:
        yield "**With cost and margin: not for the tenant.**"
        yield ""
    yield f"Calls that began from {statement.month} to {last} (days in UTC). Money is in {statement.currency}."
    yield _state(statement)
    lines = list(_shown(statement, with_cost))
    usage = [it for it in lines if it.kind == USAGE]
    apart = [it for it in lines if it.kind != USAGE]
    yield from _calls(statement)
    if usage:
        yield from ("", "## Usage", "")
        yield from _money_table(
            ["agent", "modality", "calls", "used"],
            [
                [_name(it.agent), _name(it.modality), f"{it.used.sessions:,}", _used(it.used)]
                for it in usage
            ],
            usage,
            statement.total,
            with_cost=with_cost,
            counts=2,
        )
        if len(usage) > 1:
            yield from ("", "A call that used several of these is counted in each of their lines.")
    if apart:
        yield from ("", "## Corrections, credits and charges", "")
        yield from _money_table(
            ["what", "of", "agent", "modality", "used"],
            [[*_what(it), _name(it.agent), _name(it.modality), _used(it.used)] for it in apart],
            apart,
            statement.total,
            with_cost=with_cost,
        )
    yield from _total(statement, with_cost=with_cost)
    yield from _remarks(statement, with_cost=with_cost)


def _state(statement: Statement) -> str:
    if statement.is_closed:
        at = "" if statement.closed_at is None else f" on {statement.closed_at.date()}"
        return (
            f"The month was closed{at}: these figures stay as they are. What is corrected later is on the statement "
            "of a later month."
        )
    if statement.is_over:
        return "The month is over and not closed: these figures may still change."
    if not statement.has_begun:
        return "The month has not begun."
    return "The month is not over: these figures are those so far."


def _calls(statement: Statement) -> Iterator[str]:
    yield from ("", "## Calls", "")
    if not statement.agents:
        yield "There was none."
    else:
        rows = [
            [
                _name(it.agent),
                f"{it.calls:,}",
                _minutes(it.length_seconds) if it.timed else _UNKNOWN,
            ]
            for it in statement.agents
        ]
        calls = sum(it.calls for it in statement.agents)
        timed = sum(it.timed for it in statement.agents)
        lengths = [it.length_seconds for it in statement.agents if it.timed]
        if len(rows) > 1:
            total = _minutes(sum(lengths, Decimal(0))) if timed else _UNKNOWN
            rows.append(["**total**", f"{calls:,}", total])
        yield from _table(["agent", "calls", "minutes"], rows, numbers=2)
        if len(lengths) > 1 and not _add_up(lengths):
            yield from ("", _ROUNDED)
        if timed < calls:
            without = counted(calls - timed, "call that has", "calls that have")
            yield from ("", f"The minutes leave out {without} no known length.")
    if statement.voided:
        taken = counted(statement.voided, "call was", "calls were")
        yield from ("", f"{taken} taken out of the books: no figure here has them.")


def _total(statement: Statement, *, with_cost: bool) -> Iterator[str]:
    total, currency = statement.total, statement.currency
    yield from ("", "## Total", "")
    if with_cost:
        yield f"Cost: {_amount(total.cost, _UNKNOWN, currency)}  "
        yield f"Margin{_without(statement)}: {_amount(margin(total, total), _UNKNOWN, currency)}  "
    if statement.rounded is None:
        yield f"**{'Nothing is charged' if total.rows else 'Nothing was used'}.**"
        return
    yield f"Charged: {_amount(total.billed, _NOT_CHARGED, currency)}  "
    yield f"**Rounded to the cent: {statement.rounded:,.2f} {currency}**"


def _without(statement: Statement) -> str:
    """Return what a margin leaves out, of what is paid and of what is charged."""
    is_part = statement.completeness.unbilled or statement.completeness.uncharged
    said = ["the cost of what has none yet"] * statement.total.lacks_prices
    said += ["what is to be charged and not known yet"] * bool(is_part)
    return f", without {' and '.join(said)}" if said else ""


def _remarks(statement: Statement, *, with_cost: bool) -> Iterator[str]:
    said = [it.text for it in statement.lacks]
    said += [_NO_COST] * (with_cost and bool(statement.completeness.unpriced))
    said += [
        f"Corrected later: {_amount(it.billed, _NOT_CHARGED, statement.currency)}, on the statement of {it.month:%Y-%m}."
        for it in statement.later
        if it.billed
    ]
    if with_cost:
        said += [
            f"Operation {it.operation} ({it.kind}): {_name(it.reason)}"
            + (f" (by {_name(it.source)})" if it.source else "")
            for it in statement.operations
        ]
    if said:
        yield from ("", "## Remarks", "")
        yield from (f"* {it}" for it in said)
    fresh = "The books are empty" if statement.as_of is None else f"As of {clock(statement.as_of)}"
    yield from ("", f"{fresh}.")


def _what(line: Line) -> tuple[str, str]:
    """Return in words what a correction is, and of which month."""
    plain, undone = _WHAT.get(line.kind, (_name(line.kind), f"{_name(line.kind)} taken back"))
    number = "" if line.operation is None else f" (operation {line.operation})"
    month = "this month" if line.corrects is None else f"{line.corrects:%Y-%m}"
    return f"{undone if line.is_undone else plain}{number}", month


def _money_table(
    heads: list[str],
    rows: list[list[str]],
    of: list[Line],
    total: Row,
    *,
    with_cost: bool,
    counts: int | None = None,
) -> Iterator[str]:
    """Yield a table with the money of each line at its end; a column of counts is set as numbers are."""
    used = [it.used for it in of]
    unknown = [_UNKNOWN] * len(of)
    free = [_UNKNOWN if it.is_unknown else _NOT_CHARGED for it in of]
    columns = [("charged", free, [it.billed for it in used])]
    if with_cost:
        columns += [
            ("cost", unknown, [it.cost for it in used]),
            ("margin", unknown, [margin(it, total) for it in used]),
        ]
    digits = money_digits(it for _, _, amounts in columns for it in amounts)
    for head, lacking, amounts in columns:
        heads = [*heads, head]
        cells = [
            word if it is None else money(it, digits)
            for it, word in zip(amounts, lacking, strict=True)
        ]
        rows = [[*row, cell] for row, cell in zip(rows, cells, strict=True)]
    yield from _table(heads, rows, numbers=len(columns), counts=counts)


def _table(
    heads: list[str], rows: list[list[str]], *, numbers: int, counts: int | None = None
) -> Iterator[str]:
    """Yield a Markdown table whose last columns are numbers, aligned for whoever reads it as it is.

    `counts` is the place of a column before them that is one of numbers as well.
    """
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    is_left = [at < len(heads) - numbers and at != counts for at in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(cells, widths, is_left, strict=True)
        ]
        return f"| {' | '.join(aligned)} |"

    yield line(heads)
    rules = (
        "-" * width if left else "-" * (width - 1) + ":"
        for width, left in zip(widths, is_left, strict=True)
    )
    yield f"| {' | '.join(rules)} |"
    yield from map(line, rows)


def _used(row: Row) -> str:
    """Return every amount of a row that is not zero, with its unit."""
    amounts = (
        (row.input_tokens, "tokens in"),
        (row.output_tokens, "tokens out"),
        (row.characters, "characters"),
    )
    said = [f"{amount:,} {unit}" for amount, unit in amounts if amount]
    said += [f"{_minutes(row.audio_seconds)} min of audio"] if row.audio_seconds else []
    said += [f"{_minutes(row.session_seconds)} min connected"] if row.session_seconds else []
    if not said and row.requests:
        said = [counted(row.requests, "request")]
    return ", ".join(said)


def _minutes(seconds: Decimal) -> str:
    """Return a length in minutes to a tenth; a shorter one is never shown as none."""
    minutes = _EXACT.divide(seconds, _MINUTE_S)
    if 0 < abs(minutes) < Decimal("0.1"):
        return "<0.1" if minutes > 0 else ">-0.1"
    return f"{minutes:,.1f}"


def _add_up(lengths: Sequence[Decimal]) -> bool:
    """Return whether the minutes that are shown of some lengths add up to those that are shown of all."""
    shown_of_each = [_minutes(it).replace(",", "") for it in lengths]
    if any(it.startswith(("<", ">")) for it in shown_of_each):
        return False
    total = _minutes(sum(lengths, Decimal(0))).replace(",", "")
    return str(sum(map(Decimal, shown_of_each))) == total


def _amount(amount: Decimal | None, unknown: str, currency: str) -> str:
    return unknown if amount is None else f"{money(amount)} {currency}"


def _name(name: str) -> str:
    """Return a name as text that Markdown shows and does nothing with: as code where it looks like an address."""
    if _ADDRESS.search(name):
        return f"`{in_cell(name, not_plain='`|')}`"  # in code a backslash keeps neither of them
    return _ACTS.sub(lambda found: f"\\{found[0]}", in_cell(name))
