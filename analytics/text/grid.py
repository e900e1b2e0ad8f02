"""Columns of text as lines, fitted to a width. Plain text, no control codes but those of `Ink`.

What does not fit is left out as whole columns, and named to the caller; a cell is never cut. Text of
the ledger is shown as text: the name of a tenant can neither colour nor control the terminal.
"""

from __future__ import annotations

import re
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_GAP: Final = "  "
_WIDE_NAME: Final = 36
"""A column of names keeps this width (a session id) before numbers are left out for it."""
_FOLDED_NAME: Final = 16
"""Of several columns of names each may be folded to this, so that some numbers stand beside them."""
_FEW_NUMBERS: Final = 3
_NARROW_NAME: Final = 8
"""A column of names is folded no narrower than this; the table gets wider instead."""


_PARTS: Final = re.compile(r"[^\s\-_/.:]*[\-_/.:]+\s*|[^\s\-_/.:]+\s*|\s+")
"""Where a cell may be folded: behind each of these."""


class Ink(Struct, frozen=True):
    """How a terminal is told that a line is a total, a note or a warning: with nothing where it has no colours."""

    total: str = ""
    note: str = ""
    warning: str = ""

    def lines(self, code: str, found: Iterable[str]) -> Iterator[str]:
        """Yield lines with a code before each, and its end behind."""
        for line in found:
            yield f"\x1b[{code}m{line}\x1b[0m" if code and line else line


PLAIN: Final = Ink()
COLOURED: Final = Ink(total="1", note="2", warning="33")
"""Bold, dim and amber."""


class Column(Struct, frozen=True):
    """One column as text: its head, and its cells from top to bottom."""

    head: str
    cells: list[str]

    @property
    def width(self) -> int:
        """How many cells of a terminal the column takes."""
        return max(map(_cells, (self.head, *self.cells)))


class Layout(Struct, frozen=True):
    """The widths of all columns: names stand on the left and are folded to fit, numbers on the right and are not."""

    names: list[int]
    numbers: list[int]

    @property
    def rule(self) -> str:
        """A line below all columns."""
        widths = [*self.names, *self.numbers]
        return "─" * (sum(widths) + len(_GAP) * (len(widths) - 1))

    def row(self, names: Sequence[str], numbers: Sequence[str]) -> Iterator[str]:
        """Yield one row, on several lines where a name had to be folded; what is wider makes it wider."""
        yield from _row(names, numbers, self.names, self.numbers)


def layout(names: list[Column], numbers: list[Column], width: int | None) -> Layout:
    """Return the widths that these columns need, the names narrowed until a row fits."""
    return Layout(_folded(names, numbers, width), [number.width for number in numbers])


def lines(
    names: list[Column],
    numbers: list[Column],
    *,
    width: int | None,
    total: bool = False,
    below: Sequence[str] = (),
) -> Iterator[str]:
    """Yield head and rows with a rule between them, and one above the last row if it is a total.

    `below` has a sentence for each row, or an empty text, that is written under it.
    """
    laid_out = layout(names, numbers, width)
    yield from laid_out.row([it.head for it in names], [it.head for it in numbers])
    yield laid_out.rule
    rows = len(names[0].cells)
    for at in range(rows):
        if total and at == rows - 1:
            yield laid_out.rule
        yield from laid_out.row([it.cells[at] for it in names], [it.cells[at] for it in numbers])
        if below and below[at]:
            yield from wrapped(below[at], width, indent="  ")


def fit(
    names: list[Column], numbers: list[Column], width: int | None, *, folds: bool = True
) -> tuple[list[Column], list[str]]:
    """Return the numbers that fit beside the names, the most important first, and the heads of those that do not.

    Unless one `folds` names for numbers: an id that is to be copied stays whole.
    """
    if width is None:
        return numbers, []
    shown = _fitting(names, numbers, width, _WIDE_NAME)
    if (
        folds and len(names) > 1 and len(shown) < _FEW_NUMBERS
    ):  # one name is not folded for a number
        shown = max(shown, _fitting(names, numbers, width, _FOLDED_NAME)[:_FEW_NUMBERS], key=len)
    left_out = [it.head for at, it in enumerate(numbers) if at not in shown]
    return [numbers[at] for at in shown], left_out


def _fitting(names: list[Column], numbers: list[Column], width: int, widest: int) -> list[int]:
    """Return which numbers fit beside names of which none is wider than so: each that has room after those before it.

    The first one is the cost, which is always shown. A wide one does not hold back those behind it.
    """
    taken = sum(min(widest, name.width) for name in names) + len(_GAP) * (len(names) - 1)
    found: list[int] = []
    for at, column in enumerate(numbers):
        wider = taken + column.width + len(_GAP)
        if wider <= width or not at:
            found.append(at)
            taken = wider
    return found


def page(
    table: Iterable[str], sentences: Iterable[str], warnings: Iterable[str], *, width: int | None
) -> str:
    """Return a table with sentences below it, and warnings below those."""
    return "\n".join([*table, *footer(sentences, warnings, width=width)]) + "\n"


def footer(
    sentences: Iterable[str], warnings: Iterable[str], *, width: int | None
) -> Iterator[str]:
    """Yield the lines of sentences, and of warnings below those."""
    for text in (*sentences, *(f"! {warning}" for warning in warnings)):
        yield from wrapped(text, width)


def say_left_out(heads: list[str]) -> list[str]:
    """Return the sentence about columns that did not fit, if there are any."""
    return (
        [f"columns that do not fit: {', '.join(heads)} (--format json has them)"] if heads else []
    )


def printable(text: str) -> str:
    """Return `text` with everything that a terminal would act on spelled out."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def wrapped(text: str, width: int | None, *, indent: str = "") -> list[str]:
    """Return a sentence as printable lines, all but the first further to the right."""
    plain = printable(text)
    if width is None:
        return [f"{indent}{plain}"]
    return wrap(
        plain,
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def folded(text: str, width: int) -> list[str]:
    """Return a cell as lines of at most `width` cells.

    They end between words or behind a joint such as a dash, and within a word only where it is wider
    than the column.
    """
    from rich.cells import chop_cells  # noqa: PLC0415 - see `_cells`

    if _cells(text) <= width:
        return [text]
    found = [""]
    for part in _PARTS.findall(text):
        if _cells(found[-1] + part.rstrip()) <= width:
            found[-1] += part
        elif _cells(part.rstrip()) <= width:
            found.append(part)
        else:
            found[-1:] = chop_cells(found[-1] + part, width)
    return [line.rstrip() for line in found if line.strip()] or [""]


def _cells(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    from rich.cells import cell_len  # noqa: PLC0415 - JSON and CSV must work without it

    return cell_len(text)


def _row(
    names: Sequence[str], numbers: Sequence[str], widths: list[int], right: list[int]
) -> Iterator[str]:
    """Yield one row, on several lines where a name had to be folded."""
    left = [folded(name, width) for name, width in zip(names, widths, strict=True)]
    aligned = [[number.rjust(width)] for number, width in zip(numbers, right, strict=True)]
    for parts in zip_longest(*left, *aligned, fillvalue=""):
        cells = [
            part + " " * (width - _cells(part))
            for part, width in zip(parts, [*widths, *right], strict=True)
        ]
        yield _GAP.join(cells).rstrip()


def _folded(names: list[Column], numbers: list[Column], width: int | None) -> list[int]:
    """Return the widths of the names: the widest is narrowed until the row fits."""
    widths = [name.width for name in names]
    if width is not None:
        taken = sum(number.width for number in numbers)
        room = width - taken - len(_GAP) * (len(names) + len(numbers) - 1)
        while sum(widths) > room and max(widths) > _NARROW_NAME:
            widths[widths.index(max(widths))] -= 1
    return widths
