"""docs/prices.md: its files are valid, its tables are complete, its mistakes are told as it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.consumer.pricing.own.asking import mistakes
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.pricing.own.entries import KEYS
from voicecosts.consumer.pricing.own.units import MODALITIES, TOKEN_PARTS, UNITS

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "prices.md").read_text(encoding="utf-8")
FILES: Final = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", FILES, ids=lambda text: text.split("\n")[1])
def test_every_file_on_the_page_is_valid(text: str) -> None:
    """Each can be copied as it stands."""
    assert read(text).entries


def names(heading: str) -> set[str]:
    """Return the names in the first column of a table."""
    table = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_every_unit_part_and_modality_is_on_the_page_and_no_other() -> None:
    """A reader finds all that can be written."""
    assert names("unit") == set(UNITS)
    assert names("part") == set(TOKEN_PARTS)
    row = next(line for line in PAGE.split("\n") if line.startswith("| `modality` |"))
    assert set(re.findall(r"`(\w+)`", row)) == {"modality", *MODALITIES, "avatar"}


def test_every_key_is_on_the_page() -> None:
    """As a key of an example, or in a sentence."""
    for key in {key for keys in KEYS.values() for key in keys}:
        assert re.search(rf"`{key}\b|^{key} = ", PAGE, re.MULTILINE), key


def test_mistakes_are_told_as_the_page_shows_them() -> None:
    """Word for word."""
    told = mistakes(
        '[[cost]]\nprovider = "deepgram"\nmodel = "nova-3"\nprice = 0.0043\nunit = "minutes"\n'
        'tennant = "acme"\n'
    )
    shown = re.findall(r"^prices\.toml:(.+)$", PAGE, re.MULTILINE)
    assert shown == told


def test_the_links_of_the_page_lead_somewhere() -> None:
    """A file that is linked to exists."""
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists()
