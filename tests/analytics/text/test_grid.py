"""Cells that are folded: no word is broken that fits its column. And columns that are left out: the least important ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from voicecosts.analytics.text.grid import Column, fit, folded, layout


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("dental (default)", 15, ["dental", "(default)"]),
        ("eleven_turbo_v2_5", 12, ["eleven_", "turbo_v2_5"]),
        ("Say good evening and ask", 12, ["Say good", "evening and", "ask"]),
        ("acme", 4, ["acme"]),
        ("abcdefghij", 8, ["abcdefgh", "ij"]),
        ("", 8, [""]),
        ("字字字字字", 8, ["字字字字", "字"]),
    ],
)
def test_a_cell_is_folded_where_a_reader_would(text: str, width: int, lines: list[str]) -> None:
    """Between words, behind a joint, and only at last within a word."""
    assert folded(text, width) == lines


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"])), st.integers(8, 40))
def test_a_folded_cell_is_never_too_wide_and_loses_nothing(text: str, width: int) -> None:
    """Every line fits, and only blanks at the folds are left out."""
    lines = folded(text, width)
    assert max(map(cell_len, lines)) <= width
    assert "".join("".join(lines).split()) == "".join(text.split())


def column(head: str, width: int) -> Column:
    """Return a column of a head and one cell, which is so wide."""
    return Column(head, ["x" * width])


@pytest.mark.parametrize(
    ("names", "numbers", "width", "shown"),
    [
        ([10], [8, 8, 8], 40, "abc"),
        ([10], [8, 8, 8], 39, "ab"),
        ([10], [8, 35, 8, 8], 40, "acd"),  # a wide one does not hold back those behind it
        ([10], [60, 8], 40, "a"),  # the first one is the cost
        ([36], [8, 8], 50, "a"),  # an id is not folded for a number
        ([36, 36], [8, 8, 8, 8], 80, "abc"),  # of two names each may be
        ([36, 36], [8, 8, 8, 8], 120, "abcd"),
        ([36, 36], [8, 8], 40, "a"),
    ],
)
def test_columns_are_left_out_by_what_they_are_worth(
    names: list[int], numbers: list[int], width: int, shown: str
) -> None:
    """The most important ones stay, as many as have room; and a row of them fits."""
    left = [column("n", it) for it in names]
    right = [column(head, it) for head, it in zip("abcd", numbers, strict=False)]
    found, left_out = fit(left, right, width)
    assert "".join(it.head for it in found) == shown
    assert sorted([*shown, *left_out]) == [it.head for it in right]
    row = "".join(layout(left, found, width).row(["x"] * len(names), [it.cells[0] for it in found]))
    assert cell_len(row) <= width or shown == "a"
    assert fit(left, right, None) == (right, [])
