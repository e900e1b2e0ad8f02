"""The options that several commands have, each with one type and one help text."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

_DEFAULT_DATA_DIR: Final = "[default: $COSTS_DATA_DIR, or the user's data folder]"


class Format(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def _remember(folder: Path | None) -> Path | None:
    _named[0] = folder
    return folder


_named: list[Path | None] = [None]


def named_folder() -> Path | None:
    """Return the `--data-dir` of the command that runs, `None` without one."""
    return _named[0]


DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help=f"The ledger's data directory.  {_DEFAULT_DATA_DIR}",
        callback=_remember,
    ),
]
DataDirOrSnapshot = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help=f"The ledger's data directory, or one snapshot file.  {_DEFAULT_DATA_DIR}",
        callback=_remember,
    ),
]

Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Calls that started at this moment or later: 2026-11-21, 2026-11-21T14:03+01:00, 2026-11 (a month), "
        "2026-W47 (a week), 1w, 7d, 24h, 30m (minutes), today, yesterday, this-week, last-week, this-month or "
        "last-month, each by its first moment. UTC unless an offset is given.",
    ),
]
Until = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Calls that started before this moment, in the same forms as --since."
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN[!]=VALUE",
        help="Only these rows; with != all but these. Repeat it: the same column means either value, another "
        "column means both, and != twice leaves out both. In a name * stands for any text, and \\* for a star. "
        "'tenant=(none)' means no tenant, 'tenant=\\(none)' one of that name.",
    ),
]
TOP: Final = typer.Option(metavar="N", help="Show at most N rows; totals are of all rows.")

Output = Annotated[
    Format,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="table, json or csv. The keys of JSON and CSV are stable. JSON has names exactly as "
        "booked; in CSV what a spreadsheet would calculate begins with an apostrophe, and control "
        "characters are spelled out.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]

Prices = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Your own prices.  [env: COSTS_PRICES; default: prices.toml in the data directory]",
    ),
]

Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Why; it is kept with the operation."),
]
ReasonSource = Annotated[
    str,
    typer.Option("--source", metavar="TEXT", help="What it rests on, such as an invoice."),
]

Servers = Annotated[
    str | None,
    typer.Option(metavar="URL,…", help="NATS servers, separated by commas.  [env: COSTS_SERVERS]"),
]
Credentials = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A NATS .creds or nkey seed file.  [env: COSTS_CREDENTIALS]"),
]
TlsCa = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="The authority that signed the servers' certificates, as PEM.  [env: COSTS_TLS_CA; "
        "default: the system's]",
    ),
]
TlsCert = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="A client certificate, as PEM.  [env: COSTS_TLS_CERT]"),
]
TlsKey = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="The key of the client certificate.  [env: COSTS_TLS_KEY]"),
]
