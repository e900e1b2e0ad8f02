r"""The pages of `--help`: everything is folded to the terminal, and no sentence is cut.

Typer's own pages cut the sentence of a command in a list, leave lines of examples longer than the
terminal, and give descriptions a third of a narrow one. An example that has to be folded is folded as a
shell reads it, with `\`.
"""

from __future__ import annotations

import re
from inspect import cleandoc
from textwrap import wrap
from typing import TYPE_CHECKING, Final

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

    # Typer's own types of a command, its context and a page have no public name.
    from typer._click.core import Command, Context
    from typer._click.formatting import HelpFormatter
else:
    HelpFormatter = typer.Context.formatter_class

_WIDE: Final = 72
"""A page of so many columns has room for long options beside what they mean."""

_LEFT: Final = {True: 30, False: 20}
_SPACE: Final = "\u00a0"
"""Stands for a blank where no line may end."""

_BLOCK: Final = re.compile("^\b\n", re.MULTILINE)
_VALUE: Final = re.compile(r"(--\S+) (?=[^-\s])")
_EXAMPLE: Final = "costs "
_TERM: Final = re.compile(r"\S+\s{2,}")
"""How a line begins that explains a word: what follows stays in its column."""

_BETWEEN: Final = re.compile(r"([\d.]+)<=x<=([\d.]+)")
_AT_LEAST: Final = re.compile(r"x>=([\d.]+)")


class Page(HelpFormatter):
    """A page that is folded to the width of the terminal."""

    def write_dl(
        self, rows: Sequence[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write options or commands; a long one stands above its description where there is no room."""
        left = min(col_max, _LEFT[self.width >= _WIDE])
        room = self.width - min(left, max(len(first) for first, _ in rows)) - col_spacing - 2
        begun = len(self.buffer)
        super().write_dl(
            [(first, _kept_together(second, room)) for first, second in rows], left, col_spacing
        )
        self.buffer[begun:] = [text.replace(_SPACE, " ") for text in self.buffer[begun:]]

    def write_text(self, text: str) -> None:
        """Write a text. Lines of a block keep their ends, and what is too long is folded."""
        before, *blocks = _BLOCK.split(text)
        if before:
            super().write_text(before.strip("\n"))
        for line in "".join(blocks).rstrip("\n").splitlines():
            for part in _folded(line, self.width - self.current_indent):
                self.write(f"{' ' * self.current_indent}{part}".rstrip() + "\n")


class PageContext(typer.Context):
    """What a command is given that writes its help as a `Page`."""

    formatter_class = Page


class Listed(TyperGroup):
    """A command with commands of its own, which lists them with their whole first sentence."""

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the list of commands."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, _sentence(it)) for name, it in found if it is not None])


def paged(command: Command) -> Command:
    """Let a command, and those of it, write their help as a `Page`."""
    command.context_class = PageContext
    for each in getattr(command, "commands", {}).values():
        paged(each)
    return command


def _sentence(command: Command) -> str:
    return " ".join(cleandoc(command.help or "").split("\n\n", 1)[0].split())


def _kept_together(text: str, room: int) -> str:
    """Return a description whose last brackets are folded as little as can be."""
    text = _AT_LEAST.sub(r"\1 or more", _BETWEEN.sub(r"\1 to \2", text))
    at = text.rfind("  [")
    if at < 0:
        return text
    facts = text[at + 2 :]
    whole = facts.replace(" ", _SPACE)
    if len(whole) > room:
        whole = facts.replace("env: ", f"env:{_SPACE}").replace("default: ", f"default:{_SPACE}")
    return f"{text[:at]}  {whole}"


def _folded(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    text = line.lstrip()
    indent = " " * (len(line) - len(text))
    if text.startswith(_EXAMPLE):
        text = _VALUE.sub(rf"\1{_SPACE}", text)
        parts = _wrapped(text, width - 2, indent, f"{indent}    ")
        return [
            part.replace(_SPACE, " ") for part in (*(f"{it} \\" for it in parts[:-1]), parts[-1])
        ]
    term = _TERM.match(text)
    return _wrapped(text, width, indent, indent + " " * (len(term[0]) if term else 2))


def _wrapped(text: str, width: int, first: str, then: str) -> list[str]:
    return wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=then,
        break_long_words=False,
        break_on_hyphens=False,
    )
