"""docs/architecture.md and CONTRIBUTING.md: every room, and no file that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = ("producer", "consumer", "analytics")


def test_every_room_of_the_tree_has_one_row() -> None:
    """A room is a folder of modules in a package, or in a room: each is described once, and no other."""
    rooms = {
        f"{file.parent.relative_to(ROOT)}/"
        for package in PACKAGES
        for file in (ROOT / package).glob("*/**/*.py")
        if file.name != "__init__.py"
    }
    assert sorted(re.findall(r"^\| `(\S+)` \|", PAGE, re.MULTILINE)) == sorted(rooms)


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_file_that_is_named_exists(page: str) -> None:
    """A file that was moved or renamed is followed on the page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(rf"`((?:{'|'.join(PACKAGES)}|docs|tests)/[^`\s]*)`", text))
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_each_walk_is_numbered_and_every_step_names_a_file() -> None:
    """The three walks are there: a usage event, a message, a question; no step is without a file."""
    walks = re.findall(r"^## (A .+?)\n\n(.*?)(?=\n## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert [title for title, _ in walks] == [
        "A usage event, to the broker",
        "A message, to a row",
        "A question, to an answer",
    ]
    for _, walk in walks:
        first, *steps = re.split(r"^\d\. ", walk, flags=re.MULTILINE)
        assert not first
        assert all(re.search(r"`\w+/\S+\.py`", step) for step in steps)
