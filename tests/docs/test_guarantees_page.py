"""docs/guarantees.md: each promise names tests that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"`([^`\s]*?)((?:::\w+)+)(?:\[[^`]*\])?`|`((?:tests|benchmarks)/[^`]*)`")


def named() -> Iterator[tuple[str, str]]:
    """Yield file and test of every reference; `::test` and `…::test` stay in the file before."""
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    matrix = page.index("## The crash matrix")
    file = ""
    for found in NAME.finditer(page):
        if found[3] or found[1].strip("…"):
            file = found[3] or found[1]
        in_matrix = found.start() > matrix and not file.startswith("tests/")
        yield f"tests/faults/{file}" if in_matrix else file, (found[2] or "").rpartition("::")[2]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    yield from ((path, test) for test, path in re.findall(r"\[`(test_\w+)`\]\((\S+)\)", readme))


@pytest.mark.parametrize(("file", "test"), sorted(set(named())))
def test_what_proves_a_guarantee_exists(file: str, test: str) -> None:
    """A test that is renamed or dropped takes its line on the page with it."""
    assert (ROOT / file).exists()
    assert not test or f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")
