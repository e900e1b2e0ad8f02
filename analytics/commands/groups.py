"""A command with commands of its own: alone it does the first of them, which only shows.

So `costs stream` is `costs stream status`, and `costs stream --data-dir DIR` is
`costs stream status --data-dir DIR`. What changes something is always named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from voicecosts.analytics.commands.pages import Listed

if TYPE_CHECKING:
    # Typer's own type of a context has no public name.
    from typer._click.core import Context

SHOWS_FIRST = "[COMMAND] [ARGS]..."
"""How the usage line of such a command says that the second word may be left out."""


class ShowsFirst(Listed):
    """The first command is the default. An option in the place of a command is an option of it."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Put the name of the first command where there is none."""
        first = args[0] if args else ""
        if not first or (first.startswith("-") and first not in ctx.help_option_names):
            args = [self.list_commands(ctx)[0], *args]
        return super().parse_args(ctx, args)
