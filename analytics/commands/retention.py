"""`costs retention`: for how long single rows are kept. Sums are kept for ever."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from voicecosts.analytics.commands.exits import FAILED
from voicecosts.analytics.commands.ledger_requests import operate
from voicecosts.analytics.commands.options import AsJson, DataDir, Reason, ReasonSource
from voicecosts.analytics.commands.signals import changing_nothing
from voicecosts.analytics.errors import BadQuestion, require
from voicecosts.analytics.numbers import counted

if TYPE_CHECKING:
    from pathlib import Path

    from voicecosts.analytics.answers.detail import Amount
    from voicecosts.consumer.booking.operations import Retain

_RULE = re.compile(r"([1-9][0-9]{0,4})(d|mo)")

app = typer.Typer(rich_markup_mode=None)


@app.command()
def retention(
    rule: Annotated[
        str | None,
        typer.Argument(metavar="[RULE]", help="400d (days), 13mo (months) or keep (for ever)."),
    ] = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    reason: Reason = None,
    source: ReasonSource = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Show or set for how long single rows are kept. Sums are kept for ever.

    Detail is the rows of the view `usage`. When it is older than the rule says, the ledger removes it between two
    groups of messages, and does so from then on. Questions about costs, calls and their
    states are answered as before. What is removed does not come back when the rule is reverted.
    """
    from voicecosts.analytics.answers.detail import days, kept, removed  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.commands.output import say  # noqa: PLC0415 - same

    require("duckdb", needed_by="`costs retention`", extra="consumer")
    asked = None if rule is None else _rule(rule)
    with contextlib.nullcontext() if asked is None else changing_nothing():
        found = days(data_dir)
        current = _current(data_dir)
        shown = current if asked is None else asked
        first_kept = shown.first_kept(datetime.now(UTC).date())
        parts = {
            "kept": kept(found),
            "would_go": kept(found, first_kept) if first_kept is not None else None,
            "removed": removed(found),
        }
    if asked is None and as_json:
        typer.echo(json.dumps({"rule": str(current), **{k: _record(v) for k, v in parts.items()}}))
        return
    if as_json and not yes:
        raise BadQuestion("--json shows the rule, or sets one with --yes: it asks nothing")
    if not as_json:
        say(f"rule      {current}{'' if asked is None else f' -> {asked}'}")
        for name, amount in parts.items():
            if amount is not None:
                say(f"{name.replace('_', ' '):<10}{_said(amount)}")
    if asked is None:
        return
    record: dict[str, object] = {"rule": str(asked), **{k: _record(v) for k, v in parts.items()}}
    if str(asked) == str(current):
        unchanged = "that is the rule already: nothing was changed"
        typer.echo(json.dumps(record | {"operation": None}) if as_json else unchanged)
        return
    lasting = " What is removed does not come back." if first_kept is not None else ""
    if not yes and not typer.confirm(f"Keep detail by the rule {asked} from now on?{lasting}"):
        typer.echo("nothing was changed")
        raise typer.Exit(FAILED)
    number = operate(
        asked,
        reason=reason or f"the rule is {asked}",
        source=source,
        data_dir=data_dir,
        command="`costs retention`",
    )
    done = f"the rule is {asked}, by operation {number}"
    typer.echo(json.dumps(record | {"operation": number}) if as_json else done)


def _rule(text: str) -> Retain:
    from voicecosts.consumer.booking.operations import Retain  # noqa: PLC0415 - `--help` is quick

    if text == "keep":
        return Retain()
    if (found := _RULE.fullmatch(text)) is None:
        raise BadQuestion(f"{text!r} is no rule: give 400d (days), 13mo (months) or keep")
    number = int(found[1])
    return Retain(days=number) if found[2] == "d" else Retain(months=number)


def _current(data_dir: Path | None) -> Retain:
    from voicecosts.analytics.answers.operations import listed  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.commands.operations import known_of  # noqa: PLC0415 - same
    from voicecosts.consumer.booking.operations import Retain, in_force  # noqa: PLC0415 - same

    known = known_of(listed(data_dir))
    works = [known[number].work for number in sorted(in_force(known))]
    return next((it for it in reversed(works) if isinstance(it, Retain)), Retain())


def _said(amount: Amount) -> str:
    if amount.first is None:
        return "nothing"
    of = f"{counted(amount.rows, 'row')} of {counted(amount.days, 'day')}, {amount.first} to {amount.last}"
    size = f"{-(-amount.bytes // 1000):,} kB"
    if amount.files:
        return f"{of}, of it {size} in {counted(amount.files, 'file')} of sealed days"
    return f"{of}, of it {size} in files of sealed days" if amount.bytes else of


def _record(amount: Amount | None) -> dict[str, object] | None:
    if amount is None:
        return None
    return {
        "days": amount.days,
        "first": None if amount.first is None else f"{amount.first}",
        "last": None if amount.last is None else f"{amount.last}",
        "rows": amount.rows,
        "files": amount.files,
        "bytes": amount.bytes,
    }
