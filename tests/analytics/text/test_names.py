"""Names in a table and in CSV: what differs looks different, and can be read back."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from voicecosts.analytics.text.names import in_cell
from voicecosts.analytics.text.plain import csv_bytes

_SPELLED = re.compile(
    r"(\\+)(?:(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|[nrt])|(?![\\]))", re.DOTALL
)

ODD = st.text(
    st.sampled_from("a 1xnu0b\\\x1b\n\u200b\u00a0\ufe0f\u0301e\u00e9'=(none)"), max_size=8
)


def read_back(text: str) -> str:
    """Return the name that was spelled out."""

    def one(found: re.Match[str]) -> str:
        slashes, letters = found[1], found[2]
        if letters is None:
            return slashes
        literal = "\\" * (len(slashes) // 2)
        if len(slashes) % 2 == 0:
            return literal + letters
        return literal + f"\\{letters}".encode().decode("unicode_escape")

    return _SPELLED.sub(one, text)


def in_csv(name: str) -> str:
    """Return how a name stands in a field of CSV."""
    _, row = csv.reader(io.StringIO(csv_bytes(["name"], [{"name": name}]).decode()))
    return row[0]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("acme", "acme"),
        ("Müller & Söhne", "Müller & Söhne"),
        ("\u6771\u4eac", "\u6771\u4eac"),
        ("acme ", r"acme\x20"),
        (" acme", r"\x20acme"),
        ("a  b", r"a \x20b"),
        ("ac\u200bme", r"ac\u200bme"),
        ("acme\u00a0", r"acme\xa0"),
        ("acme\ufe0f", r"acme\ufe0f"),
        ("Mu\u0308ller", r"Mu\u0308ller"),
        ("\x1b[31m", r"\x1b[31m"),
        (r"\x1b[31m", r"\\x1b[31m"),
        ("HOST\\user", r"HOST\user"),
        (r"HOST\name", r"HOST\\name"),
        (r"\(none)", r"\(none)"),
        ("(none) ", r"(none)\x20"),
    ],
)
def test_what_is_not_seen_is_spelled_out(name: str, shown: str) -> None:
    """Also a blank at an end, and an accent that stands beside its letter; all else is as it is."""
    assert in_cell(name) == shown


@given(st.one_of(ODD, st.text()))
@example("\\\\x1b\x1b")
@example("\\\x1b")
def test_a_name_of_a_table_can_be_read_back(name: str) -> None:
    """So no two names look the same, and nothing in one acts on the terminal."""
    shown = in_cell(name)
    assert read_back(shown) == name
    assert shown.isprintable()
    assert shown == shown.strip(" ")


@given(st.one_of(ODD, st.text(st.characters(exclude_categories=["Cs"]))))
@example("'=1")
@example("=1")
@example("''=1")
def test_a_name_of_csv_can_be_read_back(name: str) -> None:
    """By one rule: without the apostrophe in front of a formula, and with what is spelled out."""
    field = in_csv(name)
    if field.startswith("'") and in_csv(read_back(field[1:])) == field:
        field = field[1:]
    assert read_back(field) == name
