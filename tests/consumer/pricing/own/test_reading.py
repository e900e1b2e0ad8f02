"""Where the tables and keys of a TOML text stand, whatever is written around them."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicecosts.consumer.pricing.own.reading import Point, tables_of

NAMES = ("cost", "billed")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("[[cost]]\na = 1\n\n[[cost]]\nb = 2\n", [(1, {"a": 2}), (4, {"b": 5})]),
        ('[[cost]]\na = """\n[[cost]]\nx = 1\n"""\nb = 2\n', [(1, {"a": 2, "b": 6})]),
        ("[[cost]]\na = '''\n[[cost]]'''\nb = 2\n", [(1, {"a": 2, "b": 4})]),
        ("[[cost]]\na = [\n  1, # ]]]\n  2,\n]\nb = 2\n", [(1, {"a": 2, "b": 6})]),
        ("[[cost]]\na = '\"\"\"'\n[[cost]]\nb = \"'''\"\n", [(1, {"a": 2}), (3, {"b": 4})]),
        ('[[cost]]\na = "\\"[[cost]]"\nb = 2\n', [(1, {"a": 2, "b": 3})]),
        ("[[cost]]\n[cost.a]\nx = 1\n[[cost]]\nb = 2", [(1, {"a": 2, "a.x": 3}), (4, {"b": 5})]),
        ("[[cost]]\r\na.b = 1\r\n", [(1, {"a": 2})]),
        ("\n\ncost = [{ a = 1 }, { b = 2 }]\n", [(3, {}), (3, {})]),
    ],
)
def test_every_table_and_key_has_its_line(
    text: str, lines: list[tuple[int, dict[str, int]]]
) -> None:
    """The nth header belongs to the nth table; what looks like a header inside a value is none."""
    tables, problems = tables_of(text, NAMES)
    assert problems == []
    assert [(table.line, dict(table.lines)) for table in tables] == lines


def test_a_number_with_a_point_stays_text() -> None:
    """It is never a binary fraction, and a sentence about it can show what was written."""
    ((table,), _) = tables_of("[[cost]]\na = 0.10\nb = 1_0.5e3\n", NAMES)
    assert table.values == {"a": "0.10", "b": "1_0.5e3"}
    assert all(isinstance(value, Point) for value in table.values.values())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\nb = \n", 2),
        ("a = 1\nb = [1,\n", 3),
        ("a = " + "[" * 5000 + "]" * 5000, 1),
        ("a = " + "9" * 5000, 1),
        ("a = 2026-13-01", 1),
    ],
)
def test_what_is_not_toml_is_one_problem(text: str, line: int) -> None:
    """Its line is the one that Python's reader names, the last one at an end that comes too early."""
    tables, problems = tables_of(text, NAMES)
    assert tables == []
    assert [problem.line for problem in problems] == [line]


VALUE = st.sampled_from(
    ['"[[cost]]"', '"""\n[[cost]]\n"""', "'''\nk9 = 1\n'''", "[\n1,\n2]", "1", '"a#b"', "{ x = 1 }"]
)
LINE = st.sampled_from(["", "# [[cost]] 'it", "   "])


@settings(max_examples=50)
@given(st.lists(st.tuples(st.lists(LINE, max_size=2), st.lists(VALUE, max_size=4)), max_size=5))
def test_lines_are_right_whatever_the_values_hold(parts: list[tuple[list[str], list[str]]]) -> None:
    """What a line number points at is really the header or the key."""
    text = ""
    for comments, values in parts:
        keys = "".join(f"k{nth} = {value}\n" for nth, value in enumerate(values))
        text += "".join(f"{it}\n" for it in comments) + f"[[cost]]\n{keys}"
    tables, problems = tables_of(text, NAMES)
    lines = text.split("\n")
    assert problems == []
    assert [table.values for table in tables] == tomllib.loads(text).get("cost", [])
    for table in tables:
        assert lines[table.line - 1] == "[[cost]]"
        assert table.lines.keys() == table.values.keys()
        assert all(lines[line - 1].startswith(f"{key} =") for key, line in table.lines.items())
