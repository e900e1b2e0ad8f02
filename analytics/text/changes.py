"""What would change in money, as a table for people and as records for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol, TypeVar

from voicecosts.analytics.answers.report import CURRENCY
from voicecosts.analytics.numbers import counted, money, money_column
from voicecosts.analytics.question.filters import shown
from voicecosts.analytics.text.costs import NOT_BILLED, UNPRICED
from voicecosts.analytics.text.grid import Column, fit, lines, printable, say_left_out, wrapped
from voicecosts.analytics.text.names import in_cell
from voicecosts.analytics.text.plain import plain_money

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

UNKNOWN = "unknown"

Key = TypeVar("Key")


class Change(Protocol):
    """Money before and after, by layer, of some meters."""

    list_before: Decimal | None
    list_after: Decimal | None
    cost_before: Decimal | None
    cost_after: Decimal | None
    billed_before: Decimal | None
    billed_after: Decimal | None
    meters: int
    unpriced_before: int
    unpriced_after: int
    is_bill_unknown: bool

    @property
    def difference(self) -> Decimal | None:
        """How much more the operator pays; None where nobody knows."""

    @property
    def billed_difference(self) -> Decimal | None:
        """How much more the tenants are charged; None where nobody knows."""


class Moved(Protocol):
    """What an operation booked, by layer, in how many sessions."""

    @property
    def list_cost(self) -> Decimal | None:
        """At list prices."""

    @property
    def cost(self) -> Decimal | None:
        """What the operator pays."""

    @property
    def billed(self) -> Decimal | None:
        """What tenants are charged."""

    @property
    def sessions(self) -> int:
        """Of how many sessions."""


def by_tenant(
    found: Iterable[tuple[str | None, Change]], total: Change, *, width: int | None
) -> list[str]:
    """Return the table of the tenants of whom something changes, with the total of all."""
    rows, left = _changed(tenants_in_order(found))
    names = [Column("tenant", [*(in_cell(shown(name)) for name, _ in rows), "total"])]
    table = _table(names, [*(change for _, change in rows), total], width)
    return [*table, *_say_same(left, "tenant", width)]


def by_model(
    found: Iterable[tuple[tuple[str, str, str], Change]], total: Change, *, width: int | None
) -> list[str]:
    """Return the same by modality, provider and model."""
    rows, left = _changed(models_in_order(found))
    names = [
        Column(head, [*(in_cell(key[at]) for key, _ in rows), "" if at else "total"])
        for at, head in enumerate(("modality", "provider", "model"))
    ]
    table = _table(names, [*(change for _, change in rows), total], width)
    return [*table, *_say_same(left, "model", width)]


def _changed(rows: list[tuple[Key, Change]]) -> tuple[list[tuple[Key, Change]], int]:
    """Return the rows that change, and how many do not; all where none does."""
    kept = [row for row in rows if is_change(row[1])]
    return (kept, len(rows) - len(kept)) if kept else (rows, 0)


def is_change(it: Change) -> bool:
    """Return whether anything of it is otherwise after, or not known."""
    before = (it.list_before, it.cost_before, it.billed_before, it.unpriced_before)
    after = (it.list_after, it.cost_after, it.billed_after, it.unpriced_after)
    return before != after or it.difference is None or it.billed_difference is None


def _say_same(left: int, what: str, width: int | None) -> Iterator[str]:
    if left:
        said = f"nothing changes for {counted(left, f'more {what}')}, in the total too (--format json has them)"
        yield from wrapped(said, width)


def tenants_in_order(
    found: Iterable[tuple[str | None, Change]],
) -> list[tuple[str | None, Change]]:
    """Return tenants with the largest difference first, and by name where it is the same."""
    return sorted(found, key=lambda row: (*_largest(row[1]), row[0] or ""))


def models_in_order(
    found: Iterable[tuple[tuple[str, str, str], Change]],
) -> list[tuple[tuple[str, str, str], Change]]:
    """Return models in the same order."""
    return sorted(found, key=lambda row: (*_largest(row[1]), row[0]))


def _largest(change: Change) -> tuple[bool, Decimal, Decimal]:
    """Return what puts the largest difference first, of the cost and then of the bill, and before it what nobody knows."""
    cost, billed = change.difference, change.billed_difference
    is_known = cost is not None and billed is not None
    return is_known, -abs(cost or Decimal(0)), -abs(billed or Decimal(0))


def _table(names: list[Column], changes: Sequence[Change], width: int | None) -> Iterator[str]:
    total = changes[-1]
    columns = _layer(
        "cost",
        [it.cost_before for it in changes],
        [it.cost_after for it in changes],
        [it.difference for it in changes],
        [UNPRICED] * len(changes),
    )
    if total.unpriced_before or total.unpriced_after:
        columns.append(
            Column(
                "unpriced meters",
                [f"{it.unpriced_before:,} -> {it.unpriced_after:,}" for it in changes],
            )
        )
    if (total.list_before, total.list_after) != (total.cost_before, total.cost_after):
        lists = [it.list_before for it in changes], [it.list_after for it in changes]
        columns += (
            [Column("list", money_column(lists[0], UNPRICED))]
            if lists[0] == lists[1]
            else [
                Column("list before", money_column(lists[0], UNPRICED)),
                Column("list after", money_column(lists[1], UNPRICED)),
            ]
        )
    if any(it.billed_before is not None or it.billed_after is not None for it in changes):
        columns += _layer(
            "billed",
            [it.billed_before for it in changes],
            [it.billed_after for it in changes],
            [it.billed_difference for it in changes],
            [UNKNOWN if it.is_bill_unknown else NOT_BILLED for it in changes],
        )
    worth = sorted(columns, key=_rank)  # what is wanted most, in a narrow terminal
    kept, left_out = fit(names, worth, width)
    yield from lines(names, [it for it in columns if it in kept], width=width, total=True)
    for sentence in say_left_out(left_out):
        yield from wrapped(sentence, width)


def _layer(
    name: str,
    before: list[Decimal | None],
    after: list[Decimal | None],
    differences: list[Decimal | None],
    lacking: list[str],
) -> list[Column]:
    """Return the columns of one layer of money: one alone where no amount of it changes."""
    absent = UNPRICED if name == "cost" else NOT_BILLED
    if before == after and None not in differences:
        return [Column(name, money_column(before, absent))]
    known = money_column(after, absent)
    return [
        Column(f"{name} before", money_column(before, absent)),
        Column(
            f"{name} after",
            [
                word if amount is None else cell
                for amount, cell, word in zip(after, known, lacking, strict=True)
            ],
        ),
        Column(f"{name} difference", [signed(it) for it in differences]),
    ]


def _rank(column: Column) -> int:
    """Return how many kinds of columns are more important: differences, what makes them, what stays as it is."""
    name, _, kind = column.head.partition(" ")
    if name == "list" or not kind:
        return 3
    return ("difference", "after", "before").index(kind) if kind != "meters" else 3


def signed(amount: Decimal | None) -> str:
    """Return a difference with its sign; no difference has none."""
    if amount is None:
        return UNKNOWN
    return f"+{money(amount)}" if amount > 0 else money(amount)


def say_corrected(
    month: date, day: date, cost: Decimal, billed: Decimal, *, is_booked: bool = False
) -> str:
    """Return what of a difference belongs to a closed month, and where it is or would be."""
    amount = ", ".join(
        f"{name} {signed(it)}" for name, it in (("cost", cost), ("billed", billed)) if it
    )
    return (
        f"of it {amount or 'no amount'} {CURRENCY} corrects {month:%Y-%m}, which is closed and stays as it is: "
        f"it {'is' if is_booked else 'would be'} dated {day}"
    )


def say_moved(done: Moved) -> str:
    """Return what an operation booked, by layer; it is empty where no amount has changed."""
    layers = (("cost", done.cost), ("list", done.list_cost), ("billed", done.billed))
    moved = [f"{name} {signed(amount)}" for name, amount in layers if amount]
    return f"{', '.join(moved)} {CURRENCY}, {counted(done.sessions, 'call')}" if moved else ""


def record(change: Change) -> dict[str, object]:
    """Return a change for JSON and CSV."""
    return {
        "list_before": plain_money(change.list_before),
        "list_after": plain_money(change.list_after),
        "cost_before": plain_money(change.cost_before),
        "cost_after": plain_money(change.cost_after),
        "difference": plain_money(change.difference),
        "billed_before": plain_money(change.billed_before),
        "billed_after": plain_money(change.billed_after),
        "billed_difference": plain_money(change.billed_difference),
        "meters": change.meters,
        "unpriced_before": change.unpriced_before,
        "unpriced_after": change.unpriced_after,
    }


def say_reasons(reasons: Mapping[str, int]) -> Iterator[str]:
    """Yield a sentence for each reason why something would have no price, the most frequent first."""
    for reason, meters in sorted(reasons.items(), key=lambda it: (-it[1], it[0])):
        yield f"! {counted(meters, 'meter')} would be unpriced: {printable(reason)}"


def say_kept(calls: int) -> str:
    """Return the sentence about calls that are billed as before, since only a part of them is re-rated."""
    return (
        f"! what is billed of {counted(calls, 'call')} stays as it is: a price for the whole call begins or "
        "ceases to apply, and these conditions choose a part of its meters; for that leave out --unpriced, and "
        "narrow by tenant, project, agent or day alone"
    )


def say_billed_in_part(calls: int, *, would: bool = False) -> str:
    """Return the sentence about calls of which a part is billed now, since only what had no price is re-rated."""
    one = calls == 1
    are = "would be" if would else "is" if one else "are"
    return (
        f"! {counted(calls, 'call')} {are} billed in part: --unpriced leaves what has a price as it is, and a "
        f"[[billed]] price applies to that as well; `costs rerate` without --unpriced bills all of {'it' if one else 'them'}"
    )


def say_left(left: int, why: str, *, would: bool = False) -> str:
    """Return the sentence about meters that stay as they are, or would, and why one of them does."""
    one = left == 1
    stay = "would stay" if would else "stays" if one else "stay"
    return (
        f"! {counted(left, 'meter')} {stay} as {'it is' if one else 'they are: one'}"
        f"{':' if one else ''} {printable(why)}"
    )
