"""Answers as HTML: tables, sentences, and the bars of a chart.

Names, sentences and numbers are those of the commands. Whatever comes from a ledger is text: it is escaped, and what
cannot be seen in it is spelled out as in a table of the command. A table scrolls by itself where the page is narrow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from html import escape
from typing import Final

from msgspec import structs

from voicecosts.analytics.answers.audit import NOT_WHOLE, Audit
from voicecosts.analytics.answers.calls import Call, Calls
from voicecosts.analytics.answers.receipts import Receipt
from voicecosts.analytics.answers.report import Completeness, Report, Row
from voicecosts.analytics.commands.dashboard_app.figures import CALLS, Figures
from voicecosts.analytics.numbers import (
    counted,
    fresh,
    length,
    minute,
    money,
    money_column,
    period,
    rate,
    share,
)
from voicecosts.analytics.question.filters import shown
from voicecosts.analytics.text import audit as audits
from voicecosts.analytics.text import calls as lists
from voicecosts.analytics.text import receipts
from voicecosts.analytics.text.costs import NOT_BILLED, UNPRICED, unpriced_amount
from voicecosts.analytics.text.grid import Column
from voicecosts.analytics.text.names import in_cell

ROWS: Final = 100
"""Rows of a table of tenants or agents, those that cost most; the total below is of all."""

_IDS: Final = 80
"""As in a terminal of this width, where ids are as long as it takes to tell them apart."""

_WORDS: Final = ("", "used", "state", "last seen", "because")
"""Columns among the numbers that hold words, or bars."""

STYLE: Final = """<style>
.costs { font-size: 0.875rem; line-height: 1.45; overflow-wrap: anywhere; }
.costs .scroll { overflow-x: auto; max-height: 34rem; overflow-y: auto; }
.costs table { border-collapse: collapse; width: auto; margin: 0; }
.costs th, .costs td { padding: 0.2rem 0.75rem 0.2rem 0; text-align: left; vertical-align: top; max-width: 24rem;
  border-bottom: 1px solid var(--border, #ddd); overflow-wrap: anywhere; min-width: 4rem; }
.costs th { font-weight: 600; }
.costs .number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.costs .total td { font-weight: 600; }
.costs .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.75rem; }
.costs .tile { border: 1px solid var(--border, #ddd); border-radius: 0.4rem; padding: 0.6rem 0.8rem; }
.costs .tile b { display: block; font-size: 1.1rem; font-variant-numeric: tabular-nums; }
.costs .said { border-left: 0.3rem solid #2f855a; padding: 0.2rem 0 0.2rem 0.8rem; }
.costs .said.lacks { border-color: #b7791f; }
.costs .said.trouble { border-color: #c53030; }
.costs p { margin: 0.25rem 0; }
.costs .quiet { color: var(--muted-foreground, #666); }
</style>"""
"""The look of what this module returns; the app shows it once."""


def trouble(words: str) -> str:
    """Return why there are no figures."""
    return _costs(f'<div class="said trouble" role="alert"><p>{escape(words)}</p></div>')


def options(names: Iterable[str | None]) -> dict[str, str | None]:
    """Return names to choose from, as they are shown; None is without a tenant."""
    return {in_cell(shown(it)): it for it in names}


def said(report: Report, now: datetime) -> str:
    """Return whether something is missing, with the sentences of the command, and how fresh the figures are."""
    head = [period(report.since, report.until)] if report.since else []
    return _costs(
        _said(report.completeness, report.warnings)
        + _quiet([*head, *report.notes, fresh(report.as_of, now)])
    )


def tiles(figures: Figures) -> str:
    """Return the figures of all rows that were chosen."""
    total = figures.by_tenant.total
    currency = figures.by_tenant.currency
    shown_tiles = [
        (f"cost {currency}", _amount(total.cost, UNPRICED)),
        (f"billed {currency}", _amount(total.billed, NOT_BILLED)),
        (f"margin {currency}", _margin(total)),
        ("calls", f"{total.sessions:,}"),
        ("unpriced", unpriced_amount(total) or "nothing"),
        ("unsettled calls", f"{_unsettled(figures.audit):,}"),
    ]
    return _costs(
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><span class="quiet">{escape(head)}</span><b>{escape(value)}</b></div>'
            for head, value in shown_tiles
        )
        + "</div>"
    )


def bars(report: Report) -> list[dict[str, object]]:
    """Return money by day and modality for a chart: a bar is a picture of money, and only there a binary number."""
    return [
        {
            "day": row.group["day"],
            "modality": in_cell(row.group["modality"] or ""),
            "cost": float(row.cost),
        }
        for row in report.rows
        if row.cost is not None
    ]


def days(report: Report) -> str:
    """Return the same as a table, a line for each day, the newest first."""
    costs: dict[str, dict[str, Row]] = {}
    modalities: dict[str, None] = {}
    for row in report.rows:
        modality = row.group["modality"] or ""
        costs.setdefault(row.group["day"] or "", {})[modality] = row
        modalities[modality] = None
    newest = sorted(costs, reverse=True)

    def of(modality: str) -> Iterator[str]:
        found = [costs[day].get(modality) for day in newest]
        cells = money_column((None if it is None else it.cost for it in found), UNPRICED)
        return ("" if it is None else cell for it, cell in zip(found, cells, strict=True))

    numbers = [Column(in_cell(it), list(of(it))) for it in sorted(modalities)]
    lacking = [
        ", ".join(
            f"{in_cell(modality)}: {amount}"
            for modality, row in costs[day].items()
            if (amount := unpriced_amount(row))
        )
        for day in newest
    ]
    numbers += [Column(UNPRICED, lacking)] if any(lacking) else []
    return _costs(_table([Column("day", newest)], numbers))


def agents(report: Report) -> str:
    """Return how long the calls of each agent were, as far as that is known, and what a minute of them cost."""
    rows = report.rows[:ROWS]
    every = [*rows, report.total]
    numbers = [
        _money(f"cost {report.currency}", (it.cost for it in every), UNPRICED),
        Column("calls", [f"{it.sessions:,}" for it in every]),
        Column("length", list(map(_length, every))),
        Column("of calls", [f"{it.length.calls:,}" if it.length else "0" for it in every]),
        Column("per minute", list(map(_per_minute, every))),
    ]
    names = [
        Column("agent", [*(in_cell(shown(row.group["agent"] or None)) for row in rows), "total"])
    ]
    notes = (
        ["length: of the calls of which it is known; per minute: of those of them that have a cost"]
        if rows
        else []
    )
    return _costs(
        _table(names, _unpriced(numbers, every), has_total=True) + _quiet([*notes, *_more(report)])
    )


def tenants(report: Report) -> str:
    """Return what each tenant cost, is charged, and what is left of it."""
    rows = report.rows[:ROWS]
    every = [*rows, report.total]
    numbers = [
        _money("billed", (it.billed for it in every), NOT_BILLED),
        _money(f"cost {report.currency}", (it.cost for it in every), UNPRICED),
        Column("margin", list(map(_margin, every))),
        Column("of billed", list(map(_margin_share, every))),
        Column("calls", [f"{it.sessions:,}" for it in every]),
    ]
    names = [Column("tenant", [*(in_cell(shown(row.group["tenant"])) for row in rows), "total"])]
    said = "margin: billed less all of the cost, that of what is unbilled too"
    notes = [said] if rows else []
    return _costs(
        _table(names, _unpriced(numbers, every), has_total=True) + _quiet([*notes, *_more(report)])
    )


def unpriced(report: Report) -> str:
    """Return what has no price, model by model, and why."""
    found = report.completeness.unpriced
    if not found:
        return _costs(_quiet(["everything has a price"]))
    names = [
        Column(head, [in_cell(getattr(it, head)) for it in found])
        for head in ("modality", "provider", "model", "reason")
    ]
    numbers = [
        Column("requests", [f"{it.requests:,}" for it in found]),
        Column("tokens", [_tokens(it) for it in found]),
        Column("characters", [f"{it.characters:,}" for it in found]),
        Column("audio s", [f"{it.audio_seconds:,.1f}" for it in found]),
        Column("connected s", [f"{it.session_seconds:,.1f}" for it in found]),
    ]
    return _costs(_table(names, numbers))


def unsettled(audit: Audit, already_said: Sequence[str], now: datetime) -> str:
    """Return the states of the calls, and those of which the ledger may not have all."""
    lacking = tuple(it for it in audit.states if it.state in NOT_WHOLE)
    parts = [_table(*audits.states_of(structs.replace(audit, states=lacking)))] if lacking else []
    if not lacking:
        parts.append(_quiet(["no call is unsettled"]))
    if audit.sessions:
        parts.append(_table(*audits.sessions_of(audit, now)))
    told = [it for it in audit.warnings if it not in already_said]
    if len(audit.sessions) < audit.listed:
        told.append(f"{len(audit.sessions):,} of {counted(audit.listed, 'session')} shown")
    return _costs("<p></p>".join(parts) + _quiet([*told, *audit.notes]))


def calls(found: Calls, already_said: Sequence[str]) -> str:
    """Return the list of calls."""
    told = [it for it in found.warnings if it not in already_said]
    if len(found.calls) < found.found:
        told.append(f"the newest {len(found.calls):,} of {counted(found.found, 'call')}")
    return _costs(_table(*lists.columns(found, width=_IDS)) + _quiet(told))


def choices(found: Calls) -> dict[str, str]:
    """Return the calls that one can be chosen of, each with the name that `costs call` takes."""
    return {_labelled(it): str(it.session) for it in found.calls[:CALLS]}


def receipt(found: Receipt, now: datetime) -> str:
    """Return one call, taken apart."""
    head = "".join(
        f"<tr><th>{escape(label)}</th><td>{escape(value)}</td></tr>"
        for label, value in receipts.head_of(found)
    )
    parts = [f'<div class="scroll"><table>{head}</table></div>']
    for names, numbers, has_total in (receipts.parts_of(found), receipts.turns_of(found)):
        if names:
            parts.append(_table(names, numbers, has_total=has_total))
    parts.append(_said(found.completeness, found.warnings))
    parts.append(_quiet(receipts.said_of(found, [], now)))
    return _costs("<p></p>".join(parts))


def _costs(inner: str) -> str:
    return f'<div class="costs">{inner}</div>'


def _said(missing: Completeness, warnings: Iterable[str]) -> str:
    kind = "said" if missing.whole else "said lacks"
    sentences = "".join(f"<p>{escape(it)}</p>" for it in (missing.said, *warnings))
    return f'<div class="{kind}">{sentences}</div>'


def _quiet(sentences: Iterable[str]) -> str:
    return "".join(f'<p class="quiet">{escape(it)}</p>' for it in sentences)


def _table(names: Sequence[Column], numbers: Sequence[Column], *, has_total: bool = False) -> str:
    """Return a table whose names stand on the left and whose numbers stand on the right."""
    rows = len(names[0].cells)
    if rows == int(has_total):
        return _quiet(["no rows"])
    heads = "".join(f"<th>{escape(it.head)}</th>" for it in names)
    heads += "".join(f"<th{_side(it)}>{escape(it.head)}</th>" for it in numbers)
    lines = []
    for at in range(rows):
        cells = "".join(f"<td>{escape(it.cells[at])}</td>" for it in names)
        cells += "".join(f"<td{_side(it)}>{escape(it.cells[at])}</td>" for it in numbers)
        kind = ' class="total"' if has_total and at == rows - 1 else ""
        lines.append(f"<tr{kind}>{cells}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _side(column: Column) -> str:
    """Return the class of a cell that holds a number."""
    return "" if column.head in _WORDS else ' class="number"'


def _money(head: str, amounts: Iterable[Decimal | None], unknown: str) -> Column:
    return Column(head, money_column(amounts, unknown))


def _unpriced(numbers: list[Column], rows: Sequence[Row]) -> list[Column]:
    """Return columns with one more where something has no price."""
    if any(it.lacks_prices for it in rows):
        return [*numbers, Column(UNPRICED, list(map(unpriced_amount, rows)))]
    return numbers


def _amount(amount: Decimal | None, unknown: str) -> str:
    return unknown if amount is None else money(amount)


def _margin(row: Row) -> str:
    if row.billed is None:
        return NOT_BILLED
    return UNPRICED if row.cost is None else money(row.billed - row.cost)


def _margin_share(row: Row) -> str:
    if not row.billed or row.cost is None:
        return ""
    return share(row.billed - row.cost, row.billed)


def _more(report: Report) -> list[str]:
    if report.groups <= ROWS:
        return []
    return [f"{ROWS:,} of {counted(report.groups, 'row')} shown, the total is of all"]


def _length(row: Row) -> str:
    if row.length is None or row.length.calls == 0:
        return "not known"
    return length(Decimal(row.length.us).scaleb(-6))


def _per_minute(row: Row) -> str:
    amount = row.metric("cost_per_minute")
    return "not known" if amount is None else rate(Decimal(amount))


def _tokens(it: object) -> str:
    kinds = ("input_tokens", "output_tokens", "other_tokens")
    return f"{sum(getattr(it, kind) for kind in kinds):,}"


def _unsettled(audit: Audit) -> int:
    return sum(it.sessions for it in audit.states if it.state in NOT_WHOLE)


def _labelled(call: Call) -> str:
    """Return what tells a call from others in a list: its id is part of it, so no two are alike."""
    cost = UNPRICED if call.used.cost is None else money(call.used.cost)
    agent, tenant = in_cell(call.agent or ""), in_cell(shown(call.tenant))
    return f"{minute(call.started_at)}  {agent}  {tenant}  {cost}  {call.session}"
