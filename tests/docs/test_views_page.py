"""docs/views.md: every view, every column in its order, and nothing that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from tests.support.oracle import rate
from voicecosts.analytics.question.columns import State
from voicecosts.analytics.text.audit import CAUSES
from voicecosts.consumer.store.ledger import Ledger

PAGE = (Path(__file__).parents[2] / "docs" / "views.md").read_text(encoding="utf-8")
SECTIONS = {part.split("\n", 1)[0]: part for part in PAGE.split("\n## ")[1:]}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A reader of a real, empty ledger."""
    folder = tmp_path_factory.mktemp("views")
    with Ledger.open(folder, rate):
        pass
    with duckdb.connect(
        folder / "costs.duckdb", read_only=True, config={"threads": 1}
    ) as connection:
        yield connection


def test_every_view_is_described_and_no_other(reader: duckdb.DuckDBPyConnection) -> None:
    """A view that nobody describes is not found, one that is gone misleads."""
    found = reader.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    assert {name for (name,) in found} == set(SECTIONS)


@pytest.mark.parametrize("view", SECTIONS)
def test_columns_and_types_are_the_real_ones(reader: duckdb.DuckDBPyConnection, view: str) -> None:
    """Each column is listed once, in its order, with its type and a meaning."""
    rows = re.findall(
        r"^\| `(\w+)` \| ([A-Z0-9(,)]+) \| ([^|]+\.) \|$", SECTIONS[view], re.MULTILINE
    )
    relation = reader.table(view)
    assert [row[:2] for row in rows] == list(
        zip(relation.columns, map(str, relation.types), strict=True)
    )


def test_every_state_and_cause_is_explained() -> None:
    """Whoever meets a word in the view finds here what it means exactly."""
    words = set(re.findall(r"`(\w+)`", SECTIONS["completeness"]))
    assert words >= {*map(str, State), *CAUSES}


def test_the_examples_run(reader: duckdb.DuckDBPyConnection) -> None:
    """SQL that is shown can be pasted."""
    blocks = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    for statement in "".join(blocks).strip().split(";\n"):
        assert reader.execute(statement).fetchall() == []
