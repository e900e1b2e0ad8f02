"""The command `costs`: which command is in which file.

A file is loaded when its command is used or listed, and loads the packages it needs when it runs. So
`costs --help` is quick, and `costs query` starts without the broker client, LiveKit and price lists.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer.main import get_group

from voicecosts.analytics.commands.exits import CODES, own_standard_streams, run
from voicecosts.analytics.commands.pages import Listed, paged

if TYPE_CHECKING:
    # Typer's own types of a command and its context have no public name.
    from typer._click.core import Command, Context

COMMANDS: Final = {
    "demo": "demo",
    "up": "ledger",
    "consume": "ledger",
    "query": "query",
    "calls": "calls",
    "call": "call",
    "statement": "statement",
    "sql": "sql",
    "audit": "audit",
    "dashboard": "dashboard",
    "prices": "prices",
    "rerate": "rerate",
    "operations": "operations",
    "close": "books",
    "adjust": "books",
    "void": "books",
    "retention": "retention",
    "erase": "erase",
    "backup": "backup",
    "rebuild": "rebuild",
    "outbox": "outbox",
    "stream": "stream",
    "dead-letters": "dead_letters",
    "agents": "agents",
}
"""The module of each command, beside this one, in the order of the help page."""

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code}  {text}" for code, text in CODES.items())


def load(name: str) -> Command:
    """Return a command: one of its module's, or the group of all of them where none has its name."""
    group = get_group(import_module(f"{__package__}.{COMMANDS[name]}").app)
    return paged(group.commands.get(name, group))


class Commands(Listed):
    """All commands, each loaded when it is asked for."""

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002 - Typer's signature
        """Return the names in their order, without loading anything."""
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # noqa: ARG002 - same
        """Return a command, or None when there is none of that name."""
        if cmd_name in COMMANDS:
            return load(cmd_name)
        # Typer looks through what is loaded to suggest what may have been meant.
        self.commands.update({name: load(name) for name in COMMANDS})
        return None


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    epilog=_EPILOG,
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - the shape of a Typer callback
    if wanted:
        from importlib import metadata  # noqa: PLC0415 - costs 30 ms, and only this needs it

        try:
            version = metadata.version("voicecosts")
        except metadata.PackageNotFoundError:
            version = "(not installed, run from its source)"
        typer.echo(f"voicecosts {version}")
        raise typer.Exit


@app.callback()
def costs(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """What every call of every LiveKit voice agent costs, per project, agent and tenant."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `costs` and exit: with the arguments of this process, which is then its own, or others."""
    if arguments is None:
        own_standard_streams()
    command = paged(get_group(app))
    code = run(lambda: command.main(arguments, prog_name="costs", standalone_mode=False))
    if arguments is None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is done: no traceback while Python ends
    sys.exit(code)


if __name__ == "__main__":
    main()
