"""`costs operations`: what was done to the books on purpose, and undoing it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from voicecosts.analytics.commands.groups import SHOWS_FIRST, ShowsFirst
from voicecosts.analytics.commands.ledger_requests import (
    at_folder,
    go_on,
    halted,
    operate,
    say_closed,
    say_done,
    say_stopped,
)
from voicecosts.analytics.commands.options import (
    AsJson,
    DataDir,
    Format,
    Output,
    Reason,
    ReasonSource,
)
from voicecosts.analytics.errors import BadQuestion, require
from voicecosts.analytics.numbers import counted, money

if TYPE_CHECKING:
    from decimal import Decimal

    from voicecosts.analytics.answers.operations import Done
    from voicecosts.consumer.booking.operations import Operation

app = typer.Typer(
    name="operations",
    cls=ShowsFirst,
    subcommand_metavar=SHOWS_FIRST,
    rich_markup_mode=None,
    help="Show what was done to the books on purpose, and undo it.\n\n"
    "`costs operations` alone is `costs operations list`.",
)

_WHY = 12
"""A reason is folded to this width before a number is left out for it."""

_KEPT = {
    "erase": "what was erased does not come back; what comes of that tenant is booked again, unless another erasure "
    "of it is in force",
    "retain": "what was removed does not come back; `costs retention` says which rule is in force now",
}
"""What a revert does not undo, by the kind of operation."""

Number = Annotated[int, typer.Argument(metavar="N", help="Its number.", min=1)]


@app.command("list")
def list_operations(*, output: Output = Format.TABLE, data_dir: DataDir = None) -> None:
    """Show every operation: what was done, why, and what it added to the cost."""
    from voicecosts.analytics.answers.operations import after_snapshot, listed  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.commands.output import say  # noqa: PLC0415 - same
    from voicecosts.analytics.text.advice import at_ledger  # noqa: PLC0415 - same
    from voicecosts.analytics.text.plain import csv_bytes  # noqa: PLC0415 - same

    require("duckdb", needed_by="`costs operations list`")
    found = listed(data_dir)
    states = _states(found)
    records = [_record(each, states[each.operation]) for each in found]
    if output is Format.JSON:
        typer.echo(json.dumps(records, indent=2))
        return
    if output is Format.CSV:
        names = (
            "operation", "kind", "state", "started_at", "ended_at", "reason", "source", "reverts",
            "rows", "sessions", "list_cost", "cost", "billed", "request", "stopped_at", "left_meters",
            "left_why",
        )  # fmt: skip
        rows = [{**it, "request": json.dumps(it["request"])} for it in records]
        typer.echo(csv_bytes(names, rows), nl=False)
        return
    later = after_snapshot(data_dir)
    if found:
        require("rich", needed_by="`costs operations list`")
        typer.echo("\n".join(_table(found, states)))
    elif not later:
        typer.echo(
            "There are no operations: nothing was re-rated, adjusted, voided, closed or erased."
        )
    if later:
        say(f"! {at_ledger(later, data_dir)}")


@app.command()
def show(operation: Number, *, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show one operation, and what it booked by tenant."""
    from voicecosts.analytics.answers.operations import after_snapshot, by_tenant, corrected, listed  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.commands.output import width  # noqa: PLC0415 - same
    from voicecosts.analytics.question.filters import shown  # noqa: PLC0415 - same
    from voicecosts.analytics.text.grid import printable, wrapped  # noqa: PLC0415 - same
    from voicecosts.analytics.text.plain import plain_money  # noqa: PLC0415 - same
    from voicecosts.consumer.booking.operations import say_numbers  # noqa: PLC0415 - same

    require("duckdb", needed_by="`costs operations show`")
    found = listed(data_dir)
    done = next((each for each in found if each.operation == operation), None)
    if done is None:
        there_are = say_numbers({each.operation for each in found})
        later = after_snapshot(data_dir)
        also = f"; {later}" if later else ""
        raise BadQuestion(f"no operation has the number {operation}: {there_are}{also}")
    record = _record(done, _states(found)[operation])
    tenants = by_tenant(data_dir, operation)
    if as_json:
        record["by_tenant"] = [
            {
                "tenant": it.tenant,
                "rows": it.rows,
                "list_cost": plain_money(it.list_cost),
                "cost": plain_money(it.cost),
                "billed": plain_money(it.billed),
            }
            for it in tenants
        ]
        record["corrects"] = [
            {
                "month": f"{it.month:%Y-%m}",
                "day": f"{it.day}",
                "cost": plain_money(it.cost),
                "billed": plain_money(it.billed),
            }
            for it in corrected(data_dir, operation)
        ]
        typer.echo(json.dumps(record, indent=2))
        return
    for name, value in record.items():
        if value not in (None, "") and (name, value) != ("left_meters", 0):
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            for line in wrapped(f"{name.replace('_', ' '):<12} {text}", width()):
                typer.echo(line)
    for it in tenants:
        is_elsewhere = not it.cost and (it.billed or it.list_cost)
        said = [f"cost {_signed(it.cost)}"] if it.cost is not None and not is_elsewhere else []
        said += [f"billed {_signed(it.billed)}"] if it.billed is not None else []
        said += [f"list {_signed(it.list_cost)}"] if it.list_cost not in (None, it.cost) else []
        typer.echo(
            f"  {printable(shown(it.tenant))}: {', '.join(said)} USD in {counted(it.rows, 'row')}"
        )
    say_closed(operation, data_dir)


@app.command()
def revert(
    operation: Number, *, reason: Reason = None, source: ReasonSource = "", data_dir: DataDir = None
) -> None:
    """Undo an operation, by another one that names it.

    The books are then what the other operations say, whether they are older or newer. What was reverted is
    done again by reverting the operation that did it. Where the others say the same, no amount changes.
    """
    from voicecosts.analytics.answers.operations import listed  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.commands.output import say  # noqa: PLC0415 - same
    from voicecosts.analytics.text.advice import at_ledger  # noqa: PLC0415 - same
    from voicecosts.analytics.text.changes import say_moved  # noqa: PLC0415 - same
    from voicecosts.consumer.booking.operations import Revert  # noqa: PLC0415 - same

    number = operate(
        Revert(operation=operation),
        reason=require_reason(reason),
        source=source,
        data_dir=data_dir,
        command="`costs operations revert`",
    )
    found = listed(data_dir)
    moved = {it.operation: say_moved(it) for it in found}
    booked = f": {moved[number]}" if moved.get(number) else ""
    if not booked and moved.get(operation):
        booked = (
            ", and no amount has changed: other operations say the same (`costs operations list"
            f"{at_folder(data_dir)}`)"
        )
    typer.echo(f"operation {operation} is reverted, by operation {number}{booked}")
    if kept := _KEPT.get(next((it.kind for it in found if it.operation == operation), "")):
        say(at_ledger(kept, data_dir))
    say_closed(number, data_dir)


@app.command()
def stop(operation: Number, *, data_dir: DataDir = None) -> None:
    """Stop a re-rating, or the revert of one, where it is; Ctrl-C while it runs does the same.

    What it did stays booked. `costs operations resume` goes on with it, `revert` undoes it.
    """
    halted(operation, data_dir, "`costs operations stop`")
    typer.echo(say_stopped(operation, data_dir))


@app.command()
def resume(operation: Number, *, data_dir: DataDir = None) -> None:
    """Go on with an operation that was stopped, by the prices with which it began."""
    go_on(operation, data_dir, "`costs operations resume`")
    typer.echo(say_done(operation, data_dir))
    say_closed(operation, data_dir)


@app.command()
def acknowledge(
    *, reason: Reason = None, source: ReasonSource = "", data_dir: DataDir = None
) -> None:
    """Say that operations which a restored ledger lacks were done again, or are given up.

    No answer mentions them any more, until this is reverted.
    """
    from voicecosts.consumer.booking.operations import Acknowledge  # noqa: PLC0415 - `--help` is quick

    number = operate(
        Acknowledge(),
        reason=require_reason(reason),
        source=source,
        data_dir=data_dir,
        command="`costs operations acknowledge`",
    )
    typer.echo(f"the operations that these books lack are mentioned no more, by operation {number}")


def require_reason(reason: str | None) -> str:
    """Return the reason of an operation; raises `BadQuestion` without one."""
    if not (reason or "").strip():
        raise BadQuestion("a --reason is needed: it is kept with the operation")
    return reason or ""


def known_of(found: Sequence[Done]) -> dict[int, Operation]:
    """Return operations as the ledger knows them, by number."""
    from voicecosts.consumer.booking.operations import Operation, work_of  # noqa: PLC0415 - `--help` is quick

    return {
        each.operation: Operation(
            number=each.operation,
            work=work_of(each.request),
            started_us=0,
            ended_us=0,
            reason=each.reason,
        )
        for each in found
    }


def _states(found: Sequence[Done]) -> dict[int, str]:
    """Return of each operation whether it is in force."""
    from voicecosts.consumer.booking.operations import undone_by  # noqa: PLC0415 - `--help` is quick

    known = known_of(found)
    states = {}
    for each in found:
        other = undone_by(known, each.operation)
        if each.ended_at is None:
            states[each.operation] = "under way" if each.stopped_at is None else "stopped"
        else:
            states[each.operation] = "in force" if other is None else f"reverted by {other}"
    return states


def _record(done: Done, state: str) -> dict[str, object]:
    from voicecosts.analytics.text.plain import plain_moment, plain_money  # noqa: PLC0415 - `--help` is quick

    return {
        "operation": done.operation,
        "kind": done.kind,
        "state": state,
        "started_at": plain_moment(done.started_at),
        "ended_at": plain_moment(done.ended_at),
        "reason": done.reason,
        "source": done.source,
        "reverts": done.reverts,
        "rows": done.rows,
        "sessions": done.sessions,
        "list_cost": plain_money(done.list_cost),
        "cost": plain_money(done.cost),
        "billed": plain_money(done.billed),
        "request": json.loads(done.request),
        "stopped_at": plain_moment(done.stopped_at),
        "left_meters": done.left_meters,
        "left_why": done.left_why,
    }


def _table(found: Sequence[Done], states: dict[int, str]) -> list[str]:
    from voicecosts.analytics.commands.output import width  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.text.grid import Column, fit, lines, say_left_out, wrapped  # noqa: PLC0415 - same
    from voicecosts.analytics.text.names import in_cell  # noqa: PLC0415 - same

    names = [
        Column("operation", [_said_of(it) for it in found]),
        Column("state", [states[it.operation] for it in found]),
        Column("why", [in_cell(it.reason) for it in found]),
    ]
    numbers = [
        Column("cost USD", [_signed(it.cost) for it in found]),
        Column("when (UTC)", [f"{it.started_at:%Y-%m-%d %H:%M}" for it in found]),
    ]
    for head, amounts in (
        ("billed USD", [it.billed for it in found]),
        ("list USD", [it.list_cost for it in found]),
    ):
        if any(amount and amount != it.cost for amount, it in zip(amounts, found, strict=True)):
            numbers.append(Column(head, [_signed(amount) for amount in amounts]))
    numbers.append(Column("rows", [f"{it.rows:,}" for it in found]))
    shown = width()
    foldable = Column("why", ["x" * _WHY])
    kept, left_out = fit([*names[:2], foldable], numbers, shown)
    said = (line for text in say_left_out(left_out) for line in wrapped(text, shown))
    return [*lines(names, kept, width=shown), *said]


def _said_of(done: Done) -> str:
    """Return the number and the kind of an operation; of a revert also what it is of."""
    of = "" if done.reverts is None else f" of {done.reverts}"
    return f"{done.operation} {done.kind}{of}"


def _signed(amount: Decimal | None) -> str:
    if not amount:
        return "0"
    return f"+{money(amount)}" if amount > 0 else money(amount)
