"""The command `costs query`: the options of `voicecosts.query`, and its answer as text.

What cannot be asked or read is raised, and `exits` turns it into an exit code.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

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
Examples:
  costs query
  costs query --by agent,model --since 7d --top 20
  costs query --by day --where tenant=acme --since 2026-11-01 --until 2026-12-01
  costs query --by session --where 'tenant=(none)' --format csv > no-tenant.csv
"""


@app.command(epilog=_EXAMPLES)
def query(
    *,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN,…",
            help="Group by tenant, agent, agent_label, project, provider, model, modality, "
            "service_tier, session, turn, room, job, deployment, outcome, label.NAME, hour, day, week, month or corrects (the "
            "closed month): several with commas, or the option again. All of a call is in the hour, day, week and "
            "month in which it started (UTC). A turn is told with its session, and needs single rows.  "
            "[default: tenant]",
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    top: Annotated[int | None, TOP] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN[:asc|:desc]",
            help="Order by a grouped column or by cost, estimated_cost, sessions, rows, "
            "unpriced_rows, requests, input_tokens, output_tokens, characters, audio_seconds, "
            "session_seconds.  [default: cost]",
        ),
    ] = None,
    output: Output = Format.TABLE,
    data_dir: DataDirOrSnapshot = None,
) -> None:
    """Show what was spent, by tenant, agent or model.

    Reads the ledger's newest snapshot, which does not disturb the ledger. What workers without a
    server left on this host is booked first. What has no price is shown as unpriced, never as zero.
    """
    from voicecosts.analytics.commands import asking  # noqa: PLC0415 - `costs --help` must start fast
    from voicecosts.analytics.commands.output import require_for, write_rows  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.spill import spilling  # noqa: PLC0415 - same

    require_for(output, needed_by="`costs query`")
    with (
        spilling() as spill,
        asking.answering(
            by or ("tenant",),
            since=since,
            until=until,
            where=where or (),
            top=top,
            sort=sort,
            data_dir=data_dir,
            spill=spill,
        ) as (report, rows),
    ):
        write_rows(report, rows, output, now=datetime.now(UTC))
