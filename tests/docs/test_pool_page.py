"""docs/pool.md: what it says of OpenRTC is what the comparison with it allows."""

from __future__ import annotations

import re
from pathlib import Path

from tests.producer.pool.test_openrtc_differential import DIFFERENCES

PAGE = (Path(__file__).parents[2] / "docs" / "pool.md").read_text(encoding="utf-8")
OF_A_CALL = {"hook that is no coroutine", "end of a call", "start of a call"}
"""Differences that begin when a call is routed; `test_openrtc_hooks.py` and `test_worker.py` have them."""


def test_every_difference_from_openrtc_is_on_the_page_and_no_other() -> None:
    """A difference that is allowed by the test is told to users, and the other way round."""
    section = PAGE.partition("## Where it differs from OpenRTC")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+?) \|", section, flags=re.MULTILINE)[2:]
    assert set(rows) == set(DIFFERENCES) | OF_A_CALL


def test_the_links_of_the_page_lead_somewhere() -> None:
    """A file that is linked to exists."""
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (Path(__file__).parents[2] / "docs" / target).exists()
