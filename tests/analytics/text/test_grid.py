"""Cells that are folded: no word is broken that fits its column."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from voicecosts.analytics.text.grid import folded


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
