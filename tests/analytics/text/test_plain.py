"""Values for programs: what stands in a name is neither calculated nor obeyed, and is not lost."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicecosts.analytics.text.plain import csv_bytes, json_bytes


def cell(value: object) -> str:
    """Return how a value stands in CSV, as a program reads it."""
    header, row = csv.reader(io.StringIO(csv_bytes(["name"], [{"name": value}]).decode()))
    assert header == ["name"]
    return row[0]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("acme", "acme"),
        ("a=b", "a=b"),
        ("Müller & Söhne", "Müller & Söhne"),
        ('say "yes", twice', 'say "yes", twice'),
        ("=1+1", "'=1+1"),
        ('=HYPERLINK("http://x","y")', '\'=HYPERLINK("http://x","y")'),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+1+1", "'+1+1"),
        ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
        ("  =1+1", "'  =1+1"),
        ("\ufeff=1", "'\ufeff=1"),
        ("＝1+1", "'＝1+1"),  # noqa: RUF001 - the full-width form is what is tried
        ("\tname", "'\\tname"),
        ("\rname", "'\\rname"),
        ("one\rtwo\nthree", "one\\rtwo\\nthree"),
        ("\x1b[31mred\x9b0m", "\\x1b[31mred\\x9b0m"),
        ("-5", "-5"),
        ("+49", "+49"),
        ("-0.25", "-0.25"),
    ],
)
def test_a_name_is_one_harmless_cell(name: str, shown: str) -> None:
    """OWASP's rule against formulas; control characters spelled out; numbers as they are."""
    assert cell(name) == shown


def test_a_name_of_a_column_is_as_harmless_as_a_cell() -> None:
    """In SQL whoever wrote the statement chose it; each value stays below its own name."""
    names = ["=1+1", "a\nb", "\x1b[31m", "cost", "-5"]
    text = csv_bytes(names, [dict(zip(names, range(5), strict=True))]).decode()
    assert text == "'=1+1,a\\nb,\\x1b[31m,cost,-5\n0,1,2,3,4\n"


@pytest.mark.parametrize(("value", "shown"), [(-5, "-5"), (-0.5, "-0.5"), (None, "")])
def test_numbers_stay_numbers(value: object, shown: str) -> None:
    """A correction is negative, and a spreadsheet adds it up."""
    assert cell(value) == shown


@given(st.text())
def test_any_name_is_one_line_and_nothing_acts_on_it(name: str) -> None:
    """Whatever a caller chose, the file has a header and one line."""
    text = csv_bytes(["name"], [{"name": name}]).decode()
    assert len(text.splitlines()) == 2
    assert not [it for it in text if it != "\n" and (it < " " or "\x7f" <= it <= "\x9f")]


@given(st.text())
def test_json_has_a_name_exactly_and_harmless(name: str) -> None:
    """Nothing in it acts on a terminal, and a program reads what was booked."""
    text = json_bytes({"name": name}).decode()
    assert json.loads(text) == {"name": name}
    assert not [it for it in text if it != "\n" and (it < " " or "\x7f" <= it <= "\x9f")]
