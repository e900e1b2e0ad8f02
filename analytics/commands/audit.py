"""The command `costs audit`: the options of `asking.audit`, and its answer as text.

The exit code is 0 whatever is found, because the question was answered; with `--strict` it is 1 when
something of the period is missing, or when a source could not say whether it is.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from voicecosts.analytics.commands.exits import FAILED
from voicecosts.analytics.commands.options import (
    TOP,
    DataDirOrSnapshot,
    Format,
    Output,
    Since,
    Until,
    Where,
)

app = typer.Typer(rich_markup_mode=None)

_EXAMPLES = """\b
States:
  complete   the ledger holds what its end says, and every reading arrived
  repaired   the same, but some readings were coalesced or lost on the way
  open       it has no end, and was last seen a short while ago
  abandoned  it has no end, and was last seen longer ago, or its worker has no calls
  short      something of it is known to be missing

\b
Examples:
  costs audit
  costs audit --since 7d --state short,abandoned --top 100
  costs audit --since yesterday --until today --strict
"""


@app.command(epilog=_EXAMPLES)
def audit(
    *,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATE,…",
            help="List the calls in these states.  [default: short,abandoned,open]",
        ),
    ] = None,
    top: Annotated[int, TOP] = 20,
    open_for: Annotated[
        str,
        typer.Option(
            metavar="SPAN",
            help="A call without an end is open until it has not been seen for this time: 90m, "
            "1h, 2d, at most 31d.",
        ),
    ] = "1h",
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit with 1 unless no usage is missing: when a call is short or abandoned; when the "
            "ledger was told in the period of anything that is in no call (not booked, not attributed, "
            "not measured, lost by a worker, gone from the stream); when messages wait, or it is not "
            "known whether they do. --where leaves out calls, and nothing else of that.",
        ),
    ] = False,
    output: Output = Format.TABLE,
    data_dir: DataDirOrSnapshot = None,
) -> None:
    """Show which calls are complete, and what may be missing of others.

    A call belongs to the period in which it started.
    """
    from voicecosts.analytics.commands import asking  # noqa: PLC0415 - `costs --help` must start fast
    from voicecosts.analytics.commands.output import require_for, write  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.spill import spilling  # noqa: PLC0415 - same
    from voicecosts.analytics.text import audit as text  # noqa: PLC0415 - same

    require_for(output, needed_by="`costs audit`")
    with spilling() as spill:
        found = asking.audit(
            since=since,
            until=until,
            where=where or (),
            state=state or (),
            top=top,
            open_for=open_for,
            data_dir=data_dir,
            spill=spill,
        )
    write(found, output, text, now=datetime.now(UTC))
    if strict and found.failures:
        why = "; ".join(it.text for it in found.failures)
        typer.echo(f"the exit code is 1 because of --strict: {why}", err=True)
        raise typer.Exit(FAILED)
