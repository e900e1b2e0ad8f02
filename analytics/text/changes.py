"""What would change in money, as a table for people and as records for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from voicecosts.analytics.answers.report import CURRENCY
from voicecosts.analytics.numbers import counted, money, money_column
from voicecosts.analytics.question.filters import shown
from voicecosts.analytics.text.grid import Column, fit, lines, printable, say_left_out, wrapped
from voicecosts.analytics.text.names import in_cell
from voicecosts.analytics.text.plain import plain_money

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

UNPRICED = "unpriced"
UNKNOWN = "unknown"
NO_RULE = "no rule"


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

    @property
    def difference(self) -> Decimal | None:
        """How much more the operator pays; None where nobody knows."""


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
    """Return the table by tenant, with the total."""
    rows = tenants_in_order(found)
    names = [Column("tenant", [*(in_cell(shown(name)) for name, _ in rows), "total"])]
    return list(_table(names, [*(change for _, change in rows), total], width))


def by_model(
    found: Iterable[tuple[tuple[str, str, str], Change]], total: Change, *, width: int | None
) -> list[str]:
    """Return the table by modality, provider and model, with the total."""
    rows = models_in_order(found)
    names = [
        Column(head, [*(in_cell(key[at]) for key, _ in rows), "" if at else "total"])
        for at, head in enumerate(("modality", "provider", "model"))
    ]
    return list(_table(names, [*(change for _, change in rows), total], width))


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


def _largest(change: Change) -> tuple[bool, Decimal]:
    """Return what puts the largest difference first, and before it what nobody knows."""
    difference = change.difference
    return difference is not None, -abs(difference or Decimal(0))


def _table(names: list[Column], changes: Sequence[Change], width: int | None) -> Iterator[str]:
    total = changes[-1]
    columns = [
        Column("cost before", money_column([it.cost_before for it in changes], UNPRICED)),
        Column("cost after", money_column([it.cost_after for it in changes], UNPRICED)),
        Column("cost difference", [signed(it.difference) for it in changes]),
    ]
    if total.unpriced_before or total.unpriced_after:
        columns.append(
            Column(
                "unpriced meters",
                [f"{it.unpriced_before:,} -> {it.unpriced_after:,}" for it in changes],
            )
        )
    if (total.list_before, total.list_after) != (total.cost_before, total.cost_after):
        columns += [
            Column("list before", money_column([it.list_before for it in changes], UNPRICED)),
            Column("list after", money_column([it.list_after for it in changes], UNPRICED)),
        ]
    if total.billed_before is not None or total.billed_after is not None:
        columns += [
            Column("billed before", money_column([it.billed_before for it in changes], NO_RULE)),
            Column("billed after", money_column([it.billed_after for it in changes], NO_RULE)),
        ]
    asked = ["cost difference"]  # what is wanted most, in a narrow terminal
    if not total.difference and total.billed_before != total.billed_after:
        asked += ["billed before", "billed after"]
    worth = sorted(columns, key=lambda it: it.head not in asked)
    kept, left_out = fit(names, worth, width)
    yield from lines(names, [it for it in columns if it in kept], width=width, total=True)
    for sentence in say_left_out(left_out):
        yield from wrapped(sentence, width)


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
