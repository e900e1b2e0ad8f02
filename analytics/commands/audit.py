"""The command `costs audit`: a thin skin over `voicecosts.analytics.answers.audit`.

Standard output holds the answer and nothing else. The exit code is 0 whatever is found, as a question
was answered; with `--strict` it is 1 when a session is short or abandoned.
"""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from voicecosts.analytics.commands.before import booked_first
from voicecosts.analytics.commands.exits import FAILED
from voicecosts.analytics.commands.query import DataDir, Format, Output, require_for

if TYPE_CHECKING:
    from voicecosts.analytics.answers.audited import Audit

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EXAMPLES = """\b
States:
  complete   its end says what the ledger holds, and every reading came
  repaired   its end says what the ledger holds; some readings were merged or lost before
  open       it has no end and was last seen a short while ago
  abandoned  it has no end and was last seen longer ago
  short      something of it is known to be missing

Examples:
  costs audit
  costs audit --since 7d --state short,abandoned --top 100
  costs audit --since yesterday --until today --strict
"""


@app.command(epilog=_EXAMPLES)
def audit(
    ctx: typer.Context,
    *,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Calls of which anything happened from then on, as `costs query`."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Up to then, not included.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Only these, as `costs query`."),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATE,…",
            help="List the calls in these states.  [default: short,abandoned,open]",
        ),
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", help="List so many calls at most.")] = 20,
    open_for: Annotated[
        str,
        typer.Option(
            metavar="SPAN",
            help="A call without an end is open until it has not been seen for so long: 90m, 1h, "
            "2d.",
        ),
    ] = "1h",
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 when a call is short or abandoned.")
    ] = False,
    output: Output = Format.TABLE,
    data_dir: DataDir = None,
) -> None:
    """Show which calls are whole in the ledger, and what the others may lack."""
    from voicecosts.analytics.answers.audit import answer, inquire  # noqa: PLC0415 - `costs --help` must start fast

    require_for(output, needed_by="costs audit")
    now = datetime.now(UTC)
    asked = inquire(
        since, until, where or (), state=state or (), top=top, open_for=open_for, now=now
    )
    with booked_first(ctx.obj, data_dir) as booked:
        now = datetime.now(UTC)
        found = answer(asked, data_dir, now=now)
    found = replace(found, warnings=(*booked.warnings, *found.warnings))
    write(found, output, now=now)
    if strict and found.faulty:
        raise typer.Exit(FAILED)


def write(found: Audit, output: Format, *, now: datetime) -> None:
    """Write the audit to standard output: fitted to a terminal, whole and plain anywhere else."""
    from voicecosts.analytics.text.audit import as_csv, as_json, as_table  # noqa: PLC0415 - as above

    if output is Format.TABLE:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        typer.echo(as_table(found, now=now, width=width), nl=False)
        return
    typer.echo(as_json(found) if output is Format.JSON else as_csv(found), nl=False)
    if output is Format.CSV:
        for warning in found.warnings:
            typer.echo(f"warning: {warning}", err=True)
