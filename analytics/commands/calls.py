"""The command `costs calls`: the options of `voicecosts.calls`, and its answer as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from voicecosts.analytics.commands.options import (
    DataDirOrSnapshot,
    Format,
    Output,
    Since,
    Until,
    Where,
)

app = typer.Typer(rich_markup_mode=None)

_EXAMPLES = """\b
Examples:
  costs calls
  costs calls --since 7d --sort cost
  costs calls --where tenant=acme --sort cost_per_minute --top 5
  costs calls --since yesterday --until today --top 100000 --format csv > calls.csv
"""


@app.command(epilog=_EXAMPLES)
def calls(
    *,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN[:asc|:desc]",
            help="Order by started, length, cost, cost_per_minute, billed, agent, tenant, room or state (the "
            "worst first). What is not known comes last.  [default: started]",
        ),
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", help="Show at most N calls.")] = 20,
    output: Output = Format.TABLE,
    data_dir: DataDirOrSnapshot = None,
) -> None:
    """Show single calls, the newest first: whose, how long, what each cost.

    A call belongs to the period in which it started. It is listed if anything of it meets all conditions, and
    its cost is that of the whole call. A minute costs the cost by the length, rounded to nine digits (six in the
    table); of a call without an end no such figure is given.
    """
    from voicecosts.analytics.commands import asking  # noqa: PLC0415 - `costs --help` must start fast
    from voicecosts.analytics.commands.output import require_for, write  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.spill import spilling  # noqa: PLC0415 - same
    from voicecosts.analytics.text import calls as text  # noqa: PLC0415 - same

    require_for(output, needed_by="`costs calls`")
    with spilling() as spill:
        found = asking.calls(
            since=since,
            until=until,
            where=where or (),
            sort=sort,
            top=top,
            data_dir=data_dir,
            spill=spill,
        )
    write(found, output, text, now=datetime.now(UTC))
