"""The keys of one table: read one by one, each by its own rule, with every mistake kept.

A reader takes the key and its value, and returns what it means or raises `Mistake`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import date, datetime
from difflib import SequenceMatcher, get_close_matches
from typing import Final, Literal, TypeVar

from voicecosts.consumer.pricing.own.reading import Mistake, Point, Problem, Table
from voicecosts.consumer.pricing.own.units import MODALITIES, UNITS

_MAX_NAME: Final = 128
_MAX_SHORT: Final = 64
_MAX_LABEL: Final = 256
_SHORT_WORD: Final = 3
_MAX_SENTENCE: Final = 400
MANY: Final = 100
"""Mistakes that are told at once; a file with more of them is something else than prices."""
_STANDARD: Final = (
    "auto", "default", "standard", "standard_only", "on_demand", "unspecified",
    "service_tier_unspecified",
)  # fmt: skip
"""Names of the standard service tier, which meters do not have: workers take them away."""
_EXACT: Final = ("project", "tenant", "agent")
"""Names that are compared letter by letter; the others in lower case."""
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 2050
_FOR_EVER: Final = 2099
"""A day of these years, as in 9999-12-31, stands for no end; between, a year is a slip, as 2062 for 2026."""

_T = TypeVar("_T")


class Keys:
    """The keys of one table, read one by one; every mistake is kept."""

    def __init__(self, table: Table, known: Sequence[str], problems: list[Problem]) -> None:
        self._table = table
        self._problems = problems
        self._before = len(problems)
        for key in table.values:
            if key not in known and len(problems) <= MANY:
                cure = instead(key, known)
                self.wrong(key, f"the key {key!r} is not known in [[{table.name}]]: {cure}")

    def __contains__(self, key: str) -> bool:
        return key in self._table.values

    @property
    def failed(self) -> bool:
        """Whether this table has a mistake."""
        return len(self._problems) > self._before

    def wrong(self, key: str, text: str) -> None:
        """Keep a mistake; an endless value in it is cut."""
        said = text if len(text) <= _MAX_SENTENCE else f"{text[:_MAX_SENTENCE]}…"
        self._problems.append(Problem(self._table.line_of(key), said))

    def read(self, key: str, reader: Callable[[str, object], _T], *, needed: str = "") -> _T | None:
        """Return what a key holds, `None` where it is absent or wrong."""
        if key not in self._table.values:
            if needed:
                self.wrong(key, f"[[{self._table.name}]] needs {needed}")
            return None
        return self._checked(key, key, self._table.values[key], reader)

    def parts(self, key: str, reader: Callable[[str, object], _T]) -> dict[str, _T] | None:
        """Return the values of a table under a key; `None` where there is none."""
        table = self._table.values.get(key)
        if not isinstance(table, dict):
            return None
        found: dict[str, _T] = {}
        for name, value in table.items():
            inner = f"{key}.{name}"
            place = inner if inner in self._table.lines else key
            if (read := self._checked(place, inner, value, reader)) is not None:
                found[name] = read
        return found

    def _checked(
        self, place: str, key: str, value: object, reader: Callable[[str, object], _T]
    ) -> _T | None:
        try:
            return reader(key, value)
        except Mistake as mistake:
            self.wrong(place, str(mistake))
            return None


def text(key: str, value: object) -> str:
    """Return a text that can be shown."""
    if not isinstance(value, str) or isinstance(value, Point):
        raise Mistake(f'{key} is not a text: write it in quotes, as in {key} = "…"')
    if not value.isprintable():
        raise Mistake(f"{key} holds a control character, as {value!a}: take it out")
    return value


def selector(key: str, value: object) -> str:
    """Return a name as meters and sessions are compared with it: one that they can have."""
    name = _name(key, value, _MAX_SHORT if key == "service_tier" else _MAX_NAME)
    if key in _EXACT:
        return name
    name = name.lower()
    if key == "provider" and ("*" in name or any(map(str.isspace, name))):
        raise Mistake(
            f"provider = {name!r} can never match: write it as `costs query --by provider` shows it"
        )
    if key == "service_tier" and name in _STANDARD:
        raise Mistake(
            f"service_tier = {name!r} can never match: the standard tier has no name, so leave it out"
        )
    if key == "modality" and (meant := _slip_of(name)) is not None:
        raise Mistake(
            f'modality = {name!r}: did you mean "{meant}"? (a modality of your own is not spelled so '
            "much like one of LiveKit's)"
        )
    return re.sub(r"\*+", "*", name) if key == "model" else name


_LIKE: Final = 65
_NEARLY_THE_SAME: Final = 80


def _slip_of(name: str) -> str | None:
    """Return the modality of ours that a name is a slip of: `sst`, `llms`, `realtme`."""
    if name in MODALITIES or name == "sts":  # speech to speech is a word of its own
        return None
    meant = max(MODALITIES, key=lambda known: _likeness(name, known))
    likeness = _likeness(name, meant)
    if likeness < _LIKE:
        return None
    is_short = len(meant) <= _SHORT_WORD
    is_slip = (
        set(name) <= set(meant) or name == f"{meant}s" if is_short else likeness >= _NEARLY_THE_SAME
    )
    return meant if is_slip else None


def _likeness(one: str, other: str) -> int:
    """Return how much of two words is the same, in their order: 0 to 100."""
    blocks = SequenceMatcher(None, one, other).get_matching_blocks()
    return 200 * sum(block.size for block in blocks) // (len(one) + len(other))


def label(key: str, value: object) -> str:
    """Return the value of a session's label, under a name that a label can have."""
    name = key.partition(".")[2]
    if not name or len(name) > _MAX_SHORT or not name.isprintable():
        raise Mistake(f"the label {name[:_MAX_SHORT]!a} can never match: use 1 to 64 characters")
    return _name(key, value, _MAX_LABEL)


def _name(key: str, value: object, most: int) -> str:
    name = text(key, value)
    if not name or name != name.strip() or len(name) > most:
        raise Mistake(
            f"{key} = {name[:_MAX_SHORT]!r} can never match: write a name of 1 to {most} characters "
            "without blanks around it, or leave the key out"
        )
    return name


def currency(key: str, value: object) -> str:
    """Return the code of a currency."""
    code = text(key, value)
    if _CURRENCY.fullmatch(code.strip().upper()) and not _CURRENCY.fullmatch(code):
        raise Mistake(f'{key} = {code!r} is no currency: write {key} = "{code.strip().upper()}"')
    if not _CURRENCY.fullmatch(code):
        raise Mistake(f'{key} = {code!r} is no currency: write three capitals, such as "EUR"')
    return code


def day(key: str, value: object) -> date:
    """Return a day, which is meant in UTC."""
    if isinstance(value, datetime):
        raise Mistake(f"{key} is not a day: leave the time out, as in {key} = {value.date()}")
    if not isinstance(value, date):
        example = "2026-01-31"
        with suppress(ValueError, TypeError):
            example = str(date.fromisoformat(value))  # type: ignore[arg-type]  # what is no text raises
        raise Mistake(f"{key} is not a day: write it without quotes, as in {key} = {example}")
    is_slip = value.year < _FIRST_YEAR or _LAST_YEAR < value.year < _FOR_EVER
    if is_slip or (key == "from" and value.year > _LAST_YEAR):
        also = ", or leave it out where there is no end" if key == "to" else ""
        raise Mistake(f"{key} = {value} is in the year {value.year}: correct the year{also}")
    return value


def unit(key: str, value: object) -> str:
    """Return the name of a unit."""
    name = text(key, value)
    if name not in UNITS and "token" in name.lower():
        cure = (
            "write the price of a million of them (a price per thousand, times 1000) and "
            'unit = "million tokens"'
        )
        raise Mistake(f"{key} = {name!r} is no unit: {cure}")
    if name not in UNITS and "char" in name.lower():
        raise Mistake(
            f'{key} = {name!r} is no unit: there is "thousand characters" and "million characters"; the '
            "price is for so many"
        )
    if name not in UNITS:
        raise Mistake(f"{key} = {name!r} is no unit: {instead(name, UNITS)}")
    return name


def layer(key: str, value: object) -> Literal["list", "cost"]:
    """Return what a share is of."""
    if value == "list":
        return "list"
    if value == "cost":
        return "cost"
    raise Mistake(f'{key} says what it is a share of: write of = "cost" or of = "list"')


_MEANT: Final = {
    "since": "from", "until": "to", "session": "call", "per": "unit", "rate": "price", "amount": "price",
    "round_up": "increment", "rounding": "increment",
}  # fmt: skip
"""What the same is called elsewhere."""

_BOUNDS: Final = ("maximum", "max", "at_most", "cap")
"""What reads like a key that there is, and means the opposite of it."""


def instead(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: what is meant, or what there is."""
    names = tuple(known)
    if name in _BOUNDS:
        return "a price has no upper bound: leave it out"
    if _MEANT.get(name) in names:
        return f'did you mean "{_MEANT[name]}"?'
    near = get_close_matches(name, names, 1)
    return f'did you mean "{near[0]}"?' if near else f"there is {quoted(names)}"


def quoted(names: Iterable[str]) -> str:
    """Return names as a list in a sentence."""
    return ", ".join(f'"{name}"' for name in names)
