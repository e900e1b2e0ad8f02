"""The command `costs call`: a receipt of one call, `voicecosts.call` as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from voicecosts.analytics.commands.options import DataDirOrSnapshot, Format, Output

app = typer.Typer(rich_markup_mode=None)

_EXAMPLES = """\b
Examples:
  costs call last
  costs call 01a1f82f-1e80
  costs call front-desk-17 --project prod
  costs call last --format json
"""


@app.command(epilog=_EXAMPLES)
def call(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="The id of its session or the beginning of it, its room, its job, or `last`: the call that "
            "began last.",
        ),
    ],
    *,
    project: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The project, where several have such a call."),
    ] = None,
    output: Output = Format.TABLE,
    data_dir: DataDirOrSnapshot = None,
) -> None:
    """Show what one call cost: by modality, turn by turn, by which prices.

    A turn is what was asked for one speech; what belongs to none stands below. JSON has every turn, with the
    name that `costs query --by turn` gives it (`speech`), and CSV has a line for each. `costs prices explain` multiplies out each price.
    """
    from voicecosts.analytics.commands import asking  # noqa: PLC0415 - `costs --help` must start fast
    from voicecosts.analytics.commands.output import require_for, write  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.spill import spilling  # noqa: PLC0415 - same
    from voicecosts.analytics.text import receipts as text  # noqa: PLC0415 - same

    require_for(output, needed_by="`costs call`")
    with spilling() as spill:
        found = asking.call(name, project=project, data_dir=data_dir, spill=spill)
    write(found, output, text, now=datetime.now(UTC))
