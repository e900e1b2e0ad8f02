"""The command `costs statement`: a tenant's month, `voicecosts.statement` as text."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from voicecosts.analytics.commands.options import DataDirOrSnapshot

app = typer.Typer(rich_markup_mode=None)

_EXAMPLES = """\b
Examples:
  costs statement --tenant acme
  costs statement --tenant acme --month 2026-10 > acme-2026-10.md
  costs statement --tenant acme --month this-month --with-cost
  costs statement --tenant '(none)' --format json
"""


class Form(StrEnum):
    """How a statement is written."""

    MARKDOWN = "markdown"
    JSON = "json"
    CSV = "csv"


@app.command(epilog=_EXAMPLES)
def statement(
    *,
    tenant: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Whose statement: '(none)' is of calls without a tenant."
        ),
    ],
    month: Annotated[
        str,
        typer.Option(
            "--month", metavar="MONTH", help="2026-10, last-month or this-month: UTC days."
        ),
    ] = "last-month",
    project: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only calls of this project.")
    ] = None,
    with_cost: Annotated[
        bool,
        typer.Option(
            "--with-cost",
            help="Add what you pay and the margin, and why corrections were made: not for the tenant.",
        ),
    ] = False,
    form: Annotated[
        Form, typer.Option("--format", metavar="FORMAT", help="markdown, json or csv.")
    ] = Form.MARKDOWN,
    data_dir: DataDirOrSnapshot = None,
) -> None:
    """Write a tenant's month: what is billed, by agent and modality.

    Corrections of closed months, credits and charges stand apart, and it says whether the month is closed and what
    may still change. The total is that of `costs query` for the same tenant and days. It has nothing of what you pay
    unless --with-cost is given; what is meant for you is written to standard error.
    """
    from voicecosts.analytics.commands import asking  # noqa: PLC0415 - `costs --help` must start fast
    from voicecosts.analytics.commands.output import say_beside  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.spill import spilling  # noqa: PLC0415 - same
    from voicecosts.analytics.errors import require  # noqa: PLC0415 - same
    from voicecosts.analytics.text import statements as text  # noqa: PLC0415 - same

    require("duckdb", needed_by="`costs statement`")
    with spilling() as spill:
        found = asking.statement(tenant, month, project=project, data_dir=data_dir, spill=spill)
    written: str | bytes
    if form is Form.JSON:
        written = text.as_json(found, with_cost=with_cost)
    elif form is Form.CSV:
        written = text.as_csv(found, with_cost=with_cost)
    else:
        written = text.as_markdown(found, with_cost=with_cost)
    typer.echo(written, nl=False)
    lacks = [it.text for it in found.lacks] if form is Form.CSV else []
    say_beside(found, [*lacks, *found.notes])
