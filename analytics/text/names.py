r"""Names as text that shows all of them: two names that differ never look the same.

A character that cannot be seen, or that a terminal would act on, is spelled out as in a Python string:
`\n`, `\x1b`, `\u200b`. Backslashes in front of one are doubled, and so are those that could be taken for
the beginning of one, so `\x1b` is the character and `\\x1b` a name of four. All others stand alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from unicodedata import is_normalized

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_LIKE_ONE: Final = re.compile(r"x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|[nrt]")

_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""What counts as printable and is drawn as nothing: joiners, fillers, selectors of a variant."""

_BLANKS: Final = re.compile(r"^ +| +$|(?<= ) +")
"""Blanks that are not seen: at an end, and after another one."""


def in_cell(name: str, not_plain: str = "") -> str:
    """Return a name for a cell of a table, where no two names look the same.

    The characters of `not_plain` are spelled out too.

    Letters of different scripts may still be drawn alike. A letter with an accent of its own is the same
    letter for a reader as one that brings its accent, so in a name that has both ways, or the second
    one, whatever is not ASCII is spelled out.
    """
    odd = {
        at
        for at, mark in enumerate(name)
        if not mark.isprintable() or _UNSEEN.match(mark) or mark in not_plain
    }
    odd.update(at for blanks in _BLANKS.finditer(name) for at in range(*blanks.span()))
    if not is_normalized("NFC", name):
        odd.update(at for at, mark in enumerate(name) if not mark.isascii())
    return spelled(name, odd)


def spelled(text: str, odd: AbstractSet[int]) -> str:
    """Return a text with the characters at some places spelled out; it can be read back."""
    found = []
    for at, mark in enumerate(text):
        if at in odd:
            found.append(_escaped(mark))
        elif mark == "\\" and _begins_one(text, at, odd):
            found.append("\\\\")
        else:
            found.append(mark)
    return "".join(found)


def _begins_one(text: str, at: int, odd: AbstractSet[int]) -> bool:
    """Return whether the backslashes from here on stand in front of what is, or looks, spelled out."""
    while at < len(text) and text[at] == "\\" and at not in odd:
        at += 1
    return at in odd or _LIKE_ONE.match(text, at) is not None


def _escaped(mark: str) -> str:
    if mark.isascii() and mark.isprintable():
        return f"\\x{ord(mark):02x}"
    return mark.encode("unicode_escape").decode()
