"""The command `costs`: the one place where the three packages come together.

Each package brings its own commands; here they only get their place in the list. A package is loaded
when one of its commands is used or listed, so `costs query` starts without the broker client. What
one package needs of another is handed to it here: the outbox of this host, which the producer keeps
and the consumer books.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer.core import TyperGroup
from typer.main import get_group

from voicecosts.analytics.commands.before import Booked
from voicecosts.analytics.commands.exits import CODES, run
from voicecosts.analytics.config import from_env

if TYPE_CHECKING:
    # Typer's own types of a command and its context have no public name.
    from typer._click.core import Command, Context

    from voicecosts.analytics.answers.books import Billed


def _consumer() -> typer.Typer:
    from voicecosts.analytics.commands.ledger import app as commands  # noqa: PLC0415 - loaded when it is asked for

    return commands


def _analytics() -> typer.Typer:
    from voicecosts.analytics.commands.query import app as commands  # noqa: PLC0415 - same

    return commands


def _audit() -> typer.Typer:
    from voicecosts.analytics.commands.audit import app as commands  # noqa: PLC0415 - same

    return commands


def _producer() -> typer.Typer:
    from voicecosts.analytics.commands.agents import app as commands  # noqa: PLC0415 - same

    return commands


def _demo() -> typer.Typer:
    from voicecosts.analytics.commands.demo import demo_app  # noqa: PLC0415 - same

    # The calls are the producer's, which the analytics do not know: here they meet.
    return demo_app(_run_calls)


def _run_calls(servers: str, calls: int, on_finished: Callable[[int], None]) -> Sequence[Billed]:
    from voicecosts.producer.demo.calls import run  # noqa: PLC0415 - loads livekit-agents

    return run(servers, calls, on_finished)


def _outbox() -> typer.Typer:
    from voicecosts.analytics.commands.outbox import app as commands  # noqa: PLC0415 - same

    return commands


class ThisHost:
    """The outbox of this host, for the commands that book or empty it."""

    def book(self, data_dir: Path | None, folder: Path | None = None) -> Booked:
        """Book what waits into the ledger of `data_dir`, or of the environment's.

        The outbox is `folder`, or the one that belongs to the data directory. Whatever stands in
        the way is in the answer and not raised: what waits goes on waiting.
        """
        root = (from_env().data_dir if data_dir is None else data_dir.expanduser()).absolute()
        if root.is_file():  # a snapshot: it is what it is
            return Booked()
        from voicecosts.analytics.commands.local_outbox import book  # noqa: PLC0415 - loads the outbox

        return book(root, folder)

    def open_log(self, data_dir: Path) -> Callable[[], object | None]:
        """Return what opens the log of this host, for the ledger that runs on `data_dir`."""
        from voicecosts.analytics.commands.local_outbox import opener  # noqa: PLC0415 - as above

        return opener(data_dir.absolute())

    def adopting(self, servers: tuple[str, ...]) -> AbstractContextManager[object]:
        """Return what publishes the outboxes of dead processes while it is entered."""
        from voicecosts.analytics.commands.local_outbox import adopting  # noqa: PLC0415 - as above

        return adopting(servers)


COMMANDS: Final[dict[str, Callable[[], typer.Typer]]] = {
    "demo": _demo,
    "up": _consumer,
    "consume": _consumer,
    "query": _analytics,
    "audit": _audit,
    "outbox": _outbox,
    "agents": _producer,
}
"""Which sub-app holds which command, in the order of the help page."""

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code}  {text}" for code, text in CODES.items())


class Commands(TyperGroup):
    """The commands of all packages, each loaded when it is asked for."""

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002 - Typer's signature
        """Return the names in their order, without loading anything."""
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:  # noqa: ARG002 - same
        """Return a command from its package, or None when there is none of that name."""
        if cmd_name in COMMANDS:
            return get_group(COMMANDS[cmd_name]()).commands[cmd_name]
        # Typer looks through what is loaded to suggest what may have been meant.
        for load in dict.fromkeys(COMMANDS.values()):
            self.commands.update(get_group(load()).commands)
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
    ctx: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001 - its callback has acted on it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """What every call of every LiveKit voice agent costs, per project, agent and tenant."""
    ctx.obj = ThisHost()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `costs` with the arguments of this process, or others, and exit."""
    command = get_group(app)
    sys.exit(run(lambda: command.main(arguments, prog_name="costs", standalone_mode=False)))


if __name__ == "__main__":
    main()
