"""The command `costs sql`: one statement of one's own on the newest snapshot."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from voicecosts.analytics.commands.options import DataDirOrSnapshot, Format, Output
from voicecosts.analytics.errors import BadQuestion

app = typer.Typer(rich_markup_mode=None)

_EXAMPLES = """\b
Examples:
  costs sql "SELECT tenant, sum(cost) AS cost FROM sessions GROUP BY tenant ORDER BY cost DESC"
  costs sql "DESCRIBE sessions"
  costs sql --file report.sql --format csv > report.csv
  costs sql - < report.sql
"""


@app.command(epilog=_EXAMPLES)
def sql(
    statement: Annotated[
        str | None,
        typer.Argument(metavar="SQL", help="One statement, or - to read it from standard input."),
    ] = None,
    *,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Read the statement from a file."),
    ] = None,
    output: Output = Format.TABLE,
    data_dir: DataDirOrSnapshot = None,
) -> None:
    """Ask the views of the ledger in SQL, for reading alone.

    docs/views.md in the repository describes the views, and docs/cookbook.md has questions to copy; SHOW TABLES names them, and
    DESCRIBE their columns. The statement is DuckDB's, and reads the newest snapshot and nothing else: no other file,
    no address. Money is an exact decimal, but what SQL divides or averages is not. What the rows may lack is not
    said here: `costs query` says it.
    """
    from voicecosts.analytics.answers.completeness import as_of  # noqa: PLC0415 - quick `--help`
    from voicecosts.analytics.commands.local_outbox import look_first  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.memory import bounded_memory  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.output import (  # noqa: PLC0415 - same
        require_for,
        width,
        write_parts,
    )
    from voicecosts.analytics.commands.signals import leaving  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.spill import spilling  # noqa: PLC0415 - same
    from voicecosts.analytics.numbers import fresh  # noqa: PLC0415 - same
    from voicecosts.analytics.snapshot import typed  # noqa: PLC0415 - same
    from voicecosts.analytics.snapshot.connection import closing, open_newest  # noqa: PLC0415 - same
    from voicecosts.analytics.text import sql as text  # noqa: PLC0415 - same

    require_for(output, needed_by="`costs sql`")
    asked = _read(statement, file)
    with spilling() as spill, look_first(data_dir):
        connection, snapshot = open_newest(data_dir, spill=spill)
        with leaving(spill), closing(connection), bounded_memory():
            moment, now = as_of(connection, snapshot), datetime.now(UTC)
            found = typed.run(connection, snapshot, asked, spill=spill)
            if output is Format.TABLE:
                table = text.table_parts(
                    found.columns, found.rows, as_of=moment, now=now, width=width()
                )
                write_parts("", table)
            elif output is Format.JSON:
                write_parts(b"", text.json_rows(found.columns, found.rows, as_of=moment))
            else:
                write_parts(b"", text.csv_rows(found.columns, found.rows))
                typer.echo(fresh(moment, now), err=True)


def _read(statement: str | None, file: Path | None) -> str:
    """Return the statement, from wherever it is; raises `BadQuestion`."""
    if (statement is None) == (file is None):
        raise BadQuestion(
            "give one statement: `costs sql 'FROM sessions LIMIT 10'`, - for standard input, or --file FILE"
        )
    try:
        if file is not None:
            return file.read_text("utf-8")
        return sys.stdin.buffer.read().decode() if statement == "-" else str(statement)
    except OSError as error:
        raise BadQuestion(
            f"{file} cannot be read ({error.strerror}): name a file of SQL"
        ) from error
    except UnicodeDecodeError:
        raise BadQuestion("the statement is not UTF-8 text: save it as such") from None
