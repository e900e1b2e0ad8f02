"""The command `costs query`: a thin skin over `voicecosts.analytics.query`.

Standard output holds the answer and nothing else, so it can be piped; a CSV's warnings go to standard
error. What cannot be asked or read is raised, and `exits` turns it into an exit code.
"""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from voicecosts.analytics.commands.before import booked_first

if TYPE_CHECKING:
    from voicecosts.analytics.answers.report import Report

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Format(StrEnum):
    """How the answer is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


Output = Annotated[
    Format,
    typer.Option("--format", metavar="FORMAT", help="table, json or csv; JSON and CSV are stable."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The ledger's data directory, or one snapshot file.  "
        "[default: $COSTS_DATA_DIR, or the user's data folder]",
    ),
]

_EXAMPLES = """\b
Examples:
  costs query
  costs query --by agent,model --since 7d --top 20
  costs query --by day --where tenant=acme --since 2026-11-01 --until 2026-12-01
  costs query --by session --where 'tenant=(none)' --format csv > unattributed.csv
"""


@app.command(epilog=_EXAMPLES)
def query(
    ctx: typer.Context,
    *,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN,…",
            help="Group by tenant, agent, agent_label, project, provider, model, modality, session "
            "or day: several with commas, or the option again.  [default: tenant]",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="From then on: 2026-11-21, 2026-11-21T14:03+01:00, 7d, 24h, 30m (minutes), today, "
            "yesterday. UTC unless it has an offset.",
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Up to then, not included.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE",
            help="Only these. The same column again: either value; another column: both. "
            "'tenant=(none)' is what has no tenant.",
        ),
    ] = None,
    top: Annotated[
        int | None, typer.Option(metavar="N", help="Only the first N rows; the total is of all.")
    ] = None,
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
    data_dir: DataDir = None,
) -> None:
    """Show what was spent, by tenant, agent or model.

    Reads the ledger's newest snapshot and disturbs nothing; what workers without a server have left
    on this host is booked before. What has no price is shown as unpriced, never as zero.
    """
    from voicecosts.analytics.answers.costs import answer, ask  # noqa: PLC0415 - `costs --help` must start fast

    require_for(output, needed_by="costs query")
    now = datetime.now(UTC)
    question = ask(
        by or ("tenant",), since=since, until=until, where=where or (), top=top, sort=sort, now=now
    )
    with booked_first(ctx.obj, data_dir) as booked:
        now = datetime.now(UTC)
        report = answer(question, data_dir, now=now)
    report = replace(report, warnings=(*booked.warnings, *report.warnings))
    if booked.left:
        waiting = (report.completeness.waiting or 0) + booked.left
        report = replace(report, completeness=replace(report.completeness, waiting=waiting))
    write(report, output, now=now)


def require_for(output: Format, *, needed_by: str) -> None:
    """Raise `MissingExtra` when what an answer in this format needs is not installed."""
    from voicecosts.analytics.snapshot.connection import require  # noqa: PLC0415 - as above

    for module in ("duckdb", "rich")[: 2 if output is Format.TABLE else 1]:
        require(module, needed_by=needed_by)


def write(report: Report, output: Format, *, now: datetime) -> None:
    """Write the report to standard output: fitted to a terminal, whole and plain anywhere else."""
    if output is Format.TABLE:
        from voicecosts.analytics.text.costs import as_table  # noqa: PLC0415 - only the table needs rich

        # A pipe or a file has no width: everything goes there.
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        typer.echo(as_table(report, now=now, width=width), nl=False)
        return
    from voicecosts.analytics.text.render import as_csv, as_json  # noqa: PLC0415 - as above

    typer.echo(as_json(report) if output is Format.JSON else as_csv(report), nl=False)
    if output is Format.CSV:
        for warning in report.warnings:
            typer.echo(f"warning: {warning}", err=True)
