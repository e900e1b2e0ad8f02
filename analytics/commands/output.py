"""Writing an answer to standard output: fitted to a terminal, and all of it anywhere else."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, AnyStr, Final, Protocol, TypeVar

import typer

from voicecosts.analytics.commands.options import Format
from voicecosts.analytics.config import wants_colours
from voicecosts.analytics.errors import require
from voicecosts.analytics.text.grid import COLOURED, PLAIN, Ink, printable, wrapped

if TYPE_CHECKING:
    from voicecosts.analytics.answers.compared import Comparison
    from voicecosts.analytics.answers.report import Report, Row

_PARTS: Final = 200
_LONG: Final = 1_000_000
"""So many parts are written at once, and fewer where they are long."""


class Answer(Protocol):
    """What every answer has."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What its reader must know, one sentence each."""


A_contra = TypeVar("A_contra", bound=Answer, contravariant=True)


class Text(Protocol[A_contra]):
    """The module of `text` that makes an answer readable."""

    def as_table(self, answer: A_contra, /, *, now: datetime, width: int | None = None) -> str:
        """Return it for people, in lines of at most `width` cells."""

    def as_json(self, answer: A_contra, /) -> bytes:
        """Return it as one JSON object."""

    def as_csv(self, answer: A_contra, /) -> bytes:
        """Return its rows as CSV, which has no place for warnings."""


def require_for(output: Format, *, needed_by: str) -> None:
    """Raise `MissingExtra` when what an answer in this format needs is not installed."""
    modules = ("duckdb", "rich") if output is Format.TABLE else ("duckdb",)
    require(*modules, needed_by=needed_by)


def write(answer: A_contra, output: Format, text: Text[A_contra], *, now: datetime) -> None:
    """Write an answer to standard output, and a CSV's warnings to standard error."""
    if output is Format.TABLE:
        typer.echo(text.as_table(answer, now=now, width=width()), nl=False)
        return
    typer.echo(text.as_json(answer) if output is Format.JSON else text.as_csv(answer), nl=False)
    if output is Format.CSV:
        say_beside(answer, getattr(answer, "notes", ()))  # an answer about prices has none


def write_rows(
    report: Report, rows: Iterable[Row], output: Format, *, now: datetime, digits: int | None = None
) -> None:
    """Write a report while its rows are read, as `write` does where all of them are there.

    In a table money is rounded to `digits`, if there are any.
    """
    from voicecosts.analytics.text import costs as text  # noqa: PLC0415 - `costs --help` must start fast

    if output is Format.TABLE:
        parts = text.table_parts(report, rows, now=now, width=width(), digits=digits, ink=ink())
        write_parts("", parts)
    elif output is Format.JSON:
        write_parts(b"", text.json_rows(report, rows))
    else:
        write_parts(b"", text.csv_rows(report, rows))
        say_beside(report, report.notes)


def write_comparison(
    found: Comparison, output: Format, *, now: datetime, digits: int | None = None
) -> None:
    """Write a comparison as `write` does; in a table money is rounded to `digits`, if there are any."""
    from voicecosts.analytics.text import compared as text  # noqa: PLC0415 - `costs --help` must start fast

    if output is Format.TABLE:
        table = text.as_table(found, now=now, width=width(), digits=digits, ink=ink())
        typer.echo(table, nl=False)
        return
    typer.echo(text.as_json(found) if output is Format.JSON else text.as_csv(found), nl=False)
    if output is Format.CSV:
        say_beside(found, found.notes)


def say_beside(answer: Answer, notes: Iterable[str]) -> None:
    """Write what a CSV has no place for to standard error."""
    for note in notes:
        typer.echo(f"note: {printable(note)}", err=True)
    for warning in answer.warnings:
        warn(warning)


def write_parts(nothing: AnyStr, parts: Iterable[AnyStr]) -> None:
    """Write parts, some at a time, the first ones at once."""
    waiting: list[AnyStr] = []
    length, at_once = 0, 1
    for part in parts:
        waiting.append(part)
        length += len(part)
        if len(waiting) >= at_once or length >= _LONG:
            typer.echo(nothing.join(waiting), nl=False)
            waiting, length, at_once = [], 0, _PARTS
    if waiting:
        typer.echo(nothing.join(waiting), nl=False)


def warn(sentence: str) -> None:
    """Write a warning to standard error, without what a terminal would act on."""
    typer.echo(f"warning: {printable(sentence)}", err=True)


def say(sentence: str) -> None:
    """Write a sentence to standard output, in lines that fit."""
    for line in wrapped(sentence, width()):
        typer.echo(line)


def ink() -> Ink:
    """Return how standard output shows totals, notes and warnings."""
    return COLOURED if has_colours() else PLAIN


def has_colours() -> bool:
    """Return whether standard output is a terminal that has colours, whose user wants them."""
    return sys.stdout.isatty() and wants_colours()


def width() -> int | None:
    """Return the width of the terminal; a pipe or a file has none, and gets everything."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
