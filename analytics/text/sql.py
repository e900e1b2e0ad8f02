"""The answer of a person's own SQL as text: a table for people, JSON and CSV for programs.

Columns stand in their order. Decimals have all of their digits, and what is NULL is nothing else: in a table `NULL`,
in JSON `null`, in CSV an empty field.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice, zip_longest
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from voicecosts.analytics.numbers import counted, fresh
from voicecosts.analytics.text.grid import Column, folded, footer, say_left_out
from voicecosts.analytics.text.names import in_cell
from voicecosts.analytics.text.plain import csv_lines, json_parts, plain_moment

if TYPE_CHECKING:
    from collections.abc import Sequence

Columns = list[tuple[str, str]]
"""The name and the type of each."""

_WIDTHS_OF: Final = 1_000
"""So many rows, the first ones, say how wide a table is: it may have millions."""
_LETTERS_OF: Final = 5_000_000
"""And no more of them than have so many letters together, which are in memory."""
_FOLDED: Final = 16
_WHOLE: Final = 36
"""A column of text is folded no narrower than `_FOLDED`, and its words (a name, a day, an id) only where they are wider than `_WHOLE`."""
_GAP: Final = "  "
_NULL: Final = "NULL"
_NAMES: Final = ("VARCHAR", "DATE", "UUID")
_MONEY: Final = re.compile(r"DECIMAL\(\d+,9\)")
_NUMBERS: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE")


class _Shape(Struct, frozen=True):
    """How a table is laid out: which columns are shown, how wide each of them is, and whether it holds numbers."""

    shown: list[int]
    widths: list[int]
    right: list[bool]

    def lines(self, cells: Sequence[str]) -> Iterator[str]:
        """Yield one row, on several lines where a text is folded; what is wider makes it wider."""
        parts = [
            [cells[at]] if right else folded(cells[at], width)
            for at, width, right in zip(self.shown, self.widths, self.right, strict=True)
        ]
        for line in zip_longest(*parts, fillvalue=""):
            placed = (
                " " * (width - _width(part)) + part
                if right
                else part + " " * (width - _width(part))
                for part, width, right in zip(line, self.widths, self.right, strict=True)
            )
            yield f"{_GAP.join(placed).rstrip()}\n"


def table_parts(
    columns: Columns,
    rows: Iterable[Sequence[Any]],
    *,
    as_of: datetime | None,
    now: datetime,
    width: int | None = None,
) -> Iterator[str]:
    """Yield the lines of a table, some rows at a time; of what does not fit the width, what is worth least is left out."""
    left = iter(rows)
    some = _some(left)
    heads = [in_cell(name) for name, _ in columns]
    shape = _fitted(columns, [heads, *some], width)
    yield from shape.lines(heads)
    yield f"{'─' * (sum(shape.widths) + len(_GAP) * (len(shape.widths) - 1))}\n"
    count = 0
    while some:
        for cells in some:
            yield from shape.lines(cells)
        count += len(some)
        some = _some(left)
    yield "\n"
    left_out = [head for at, head in enumerate(heads) if at not in shape.shown]
    said = [counted(count, "row"), *say_left_out(left_out), fresh(as_of, now)]
    yield from (f"{line}\n" for line in footer(said, (), width=width))


def json_rows(
    columns: Columns, rows: Iterable[Sequence[Any]], *, as_of: datetime | None
) -> Iterator[bytes]:
    """Yield one JSON object, row by row."""
    document: dict[str, object] = {
        "columns": [{"name": name, "type": kind} for name, kind in columns],
        "rows": [],
        "as_of": plain_moment(as_of),
        "source": "snapshot",
    }
    return json_parts(document, "rows", _records(columns, rows))


def csv_rows(columns: Columns, rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """Yield the rows as CSV with a header line; what has parts is written as JSON."""
    found = (
        {name: _text(value) if _has_parts(value) else value for name, value in record.items()}
        for record in _records(columns, rows)
    )
    return csv_lines([name for name, _ in columns], found)


def _records(columns: Columns, rows: Iterable[Sequence[Any]]) -> Iterator[dict[str, object]]:
    names = [name for name, _ in columns]
    return (dict(zip(names, map(_plain, row), strict=True)) for row in rows)


def _some(rows: Iterator[Sequence[Any]]) -> list[list[str]]:
    """Return the cells of the next rows, of as many as are in memory at once."""
    found: list[list[str]] = []
    letters = 0
    for row in islice(rows, _WIDTHS_OF):
        cells = _cells(row)
        found.append(cells)
        letters += sum(map(len, cells))
        if letters > _LETTERS_OF:
            break
    return found


def _cells(row: Sequence[Any]) -> list[str]:
    return [_NULL if value is None else in_cell(_text(_plain(value))) for value in row]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _has_parts(value: object) -> bool:
    return isinstance(value, list | dict | bool)


def _plain(value: Any) -> object:  # noqa: PLR0911 - one for each kind of value
    """Return a value as JSON has it, without loss; a time is one in UTC, as in all views."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return plain_moment(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    return str(value)


def _is_number(kind: str) -> bool:
    return kind.startswith("DECIMAL") or kind.removeprefix("U") in _NUMBERS


def _width(text: str) -> int:
    return Column(text, []).width


def _fitted(columns: Columns, lines: list[list[str]], width: int | None) -> _Shape:
    """Return how wide which columns are: texts are folded between words, then what is worth least is left out."""
    texts = list(zip(*lines, strict=True))
    widest = [max(map(_width, column)) for column in texts]
    right = [_is_number(kind) for _, kind in columns]
    least = [
        whole if is_number else min(whole, max(map(_longest_word, column)))
        for column, whole, is_number in zip(texts, widest, right, strict=True)
    ]
    shown: list[int] = []
    for at in _by_worth(columns):
        taken = sum(least[it] + len(_GAP) for it in shown)
        if width is None or not shown or taken + least[at] <= width:
            shown.append(at)
    shown.sort()
    widths = {at: widest[at] for at in shown}
    while width is not None and sum(widths.values()) + len(_GAP) * (len(shown) - 1) > width:
        wide = max(shown, key=lambda at: (widths[at] > least[at], widths[at]))
        if widths[wide] == least[wide]:
            break
        widths[wide] -= 1
    return _Shape(shown, [widths[at] for at in shown], [right[at] for at in shown])


def _by_worth(columns: Columns) -> list[int]:
    """Return the places of columns, the one that is shown longest first: a cost, names, other money, numbers, the rest."""
    kinds = [kind for _, kind in columns]
    money = [at for at, kind in enumerate(kinds) if _MONEY.fullmatch(kind)]
    names = [at for at, kind in enumerate(kinds) if kind in _NAMES]
    numbers = [at for at, kind in enumerate(kinds) if _is_number(kind)]
    return list(dict.fromkeys([*money[:1], *names, *money, *numbers, *range(len(kinds))]))


def _longest_word(text: str) -> int:
    return max(_FOLDED, min(_WHOLE, max(map(_width, text.split(" ")))))
