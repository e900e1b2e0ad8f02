"""The tables of a TOML text, with the line on which each table and each of its keys stands.

Python's reader gives values without lines, so the lines are found here: the nth header `[[cost]]`
belongs to the nth table of that name. A text in a string over several lines, a comment or a bracket
inside a value is never taken for a header. A number with a point stays the text that it was
(`Point`), for money must never pass through a binary fraction.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final, NamedTuple


class Point(str):
    """A number with a point or an exponent, as it stands in the file."""

    __slots__ = ()


class Problem(NamedTuple):
    """What is wrong on a line, and what to do."""

    line: int
    text: str


class Mistake(Exception):  # noqa: N818 - it is the operator's, and no error of the program
    """A value of the file cannot be used; the message says why, and what to write instead."""


class Table(NamedTuple):
    """One table of the file: its name, its line, its values by key, and the lines of the keys."""

    name: str
    line: int
    values: Mapping[str, object]
    lines: Mapping[str, int]

    def line_of(self, key: str) -> int:
        """Return the line on which a key stands, or else that of the table."""
        return self.lines.get(key, self.line)


_PIECE: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
    r"|[\[\]{}]"
    r"|\n",
    re.DOTALL,
)
_NAME: Final = r"(?:\"[^\"\n]*\"|'[^'\n]*'|[A-Za-z0-9_-]+)"
_HEADER: Final = re.compile(rf"[ \t]*\[\[?[ \t]*({_NAME}(?:[ \t]*\.[ \t]*{_NAME})*)[ \t]*\]")
_KEY: Final = re.compile(rf"[ \t]*({_NAME})[ \t]*[.=]")
_PART: Final = re.compile(_NAME)
_MAX_LINE: Final = 10_000
_MAX_PARTS: Final = 16
"""What Python's reader can take in good time: it needs the square of a name's parts."""
_TOO_DEEP: Final = re.compile(
    r"(?<![A-Za-z0-9_-])"
    rf"(?:(?:\"[^\"\n]*+\"|'[^'\n]*+'|[A-Za-z0-9_-]++)[ \t]*+\.[ \t]*+){{{_MAX_PARTS}}}"
)
_DAY: Final = re.compile(r"\s*\w+\s*=\s*\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\s*(?:#.*)?$")
_WORD: Final = re.compile(r"\s*(\w+)\s*=\s*([A-Za-z][\w .*/-]*?)\s*(?:#.*)?$")
_OPEN: Final = re.compile(r"=\s*\{[^{}]*$")
_AT: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


def tables_of(text: str, names: tuple[str, ...]) -> tuple[list[Table], list[Problem]]:
    """Return the tables under `names`, and what is wrong: no TOML, or anything under another name.

    A table whose name is nearly one of them is returned under that.
    """
    if (unread := _unreadable(text)) is not None:
        return [], [unread]
    try:
        document = tomllib.loads(text, parse_float=Point)
    except (ValueError, RecursionError) as error:
        return [], [_not_toml(text, error)]
    found = _Lines(text)
    tables: list[Table] = []
    problems: list[Problem] = []
    for name, value in document.items():
        line = found.first.get(name, 1)
        meant = name
        if name not in names:
            meant, cure = _instead(name, value, names)
            problems.append(Problem(line, f"{name!r} is not known here: {cure}"))
        elif isinstance(value, dict):
            problems.append(Problem(line, f"write [[{name}]] with two brackets: there may be more"))
        given = [value] if isinstance(value, dict) else value
        if not meant:
            continue
        if not isinstance(given, list) or not all(isinstance(it, dict) for it in given):
            if name in names:
                problems.append(
                    Problem(line, f"{name!r} is not a table: write [[{name}]] above its keys")
                )
        else:  # what is in a table is checked, also where its name is misspelled
            located = found.tables.get(name, [])
            for nth, values in enumerate(given):
                at, lines = located[nth] if nth < len(located) else (line, {})
                tables.append(Table(meant, at, values, lines))
    return tables, problems


def _instead(name: str, value: object, names: tuple[str, ...]) -> tuple[str, str]:
    """Return the table that is meant by a name, empty where none is, and what to do instead."""
    if near := get_close_matches(name.lower(), names, 1):
        return near[0], f"did you mean [[{near[0]}]]?"
    known = ", ".join(f"[[{it}]]" for it in names)
    if isinstance(value, dict | list):
        return "", f"a table is one of {known}"
    return "", f"write it below the line of the table that it is for, one of {known}"


def _unreadable(text: str) -> Problem | None:
    """Return what would take long to read: a file that a ledger reads must not keep it from booking."""
    lines = enumerate(text.split("\n"), 1)
    if (long := next((nth for nth, line in lines if len(line) > _MAX_LINE), None)) is not None:
        return Problem(long, f"this line has more than {_MAX_LINE:,} characters: shorten it")
    if (deep := _TOO_DEEP.search(text)) is not None:
        line = text.count("\n", 0, deep.start()) + 1
        return Problem(
            line, f"a name has more than {_MAX_PARTS} parts with points between: shorten it"
        )
    return None


def _not_toml(text: str, error: Exception) -> Problem:
    message = str(error) or type(error).__name__
    place = _AT.search(message)
    line = text.count("\n") + 1
    if place is not None:
        message = message[: place.start()]
        line = int(place[1]) if place[1] else line
    elif not isinstance(error, tomllib.TOMLDecodeError):
        line = 1
    lines = text.split("\n")
    at = lines[line - 1] if line <= len(lines) else ""
    cure = _slip(at, lines[: line - 1], message) or "Correct the line, or the one before it"
    return Problem(line, f"this is not TOML: {message}. {cure}")


def _slip(line: str, before: list[str], message: str) -> str:
    """Return the cure of what people often write who do not write programs; empty where it is none of it."""
    if _CURLY.search(line):
        return 'Write straight quotes ("), not curly ones'
    if _DAY.match(line):
        return "Write a day that there is, without quotes and with two digits each, as in from = 2026-01-31"
    if (word := _WORD.match(line)) is not None:
        return f'Write a text in quotes, as in {word[1]} = "{word[2].strip()[:64]}"'
    if "overwrite" in message:
        return "The key stands twice in its table: take one of them out"
    if any(_OPEN.search(it) for it in (*before[-20:], line)):
        return "Write a table in braces on one line, from { to }"
    return ""


_CURLY: Final = re.compile("[\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb]")


class _Lines:
    """Where things stand: the first line of each name, and of each table its line and its keys'."""

    def __init__(self, text: str) -> None:
        self.first: dict[str, int] = {}
        self.tables: dict[str, list[tuple[int, dict[str, int]]]] = {}
        self._keys: dict[str, int] = self.first
        self._prefix = ""
        lines = text.split("\n")
        for number in _outer_lines(text):
            self._see(number, lines[number - 1])

    def _see(self, number: int, line: str) -> None:
        if (header := _HEADER.match(line)) is not None:
            name, *rest = (_plain(part) for part in _PART.findall(header[1]))
            self.first.setdefault(name, number)
            if rest and self.tables.get(name):
                self._keys = self.tables[name][-1][1]
                self._keys.setdefault(rest[0], number)
                self._prefix = f"{rest[0]}."
            else:
                self._keys, self._prefix = {}, ""
                self.tables.setdefault(name, []).append((number, self._keys))
        elif (key := _KEY.match(line)) is not None:
            self._keys.setdefault(self._prefix + _plain(key[1]), number)


def _plain(name: str) -> str:
    return name.strip("\"'")


def _outer_lines(text: str) -> list[int]:
    """Return the numbers of the lines that begin outside of every string and bracket."""
    lines = [1]
    number, depth = 1, 0
    for match in _PIECE.finditer(text):
        piece = match[0]
        if piece == "\n":
            number += 1
            if not depth:
                lines.append(number)
        elif piece in "[{":
            depth += 1
        elif piece in "]}":
            depth -= 1
        else:
            number += piece.count("\n")
    return lines
