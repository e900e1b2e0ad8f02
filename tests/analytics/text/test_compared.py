"""Tests of two periods as text: nothing is not zero, what is a part says so, and names are harmless."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec import structs
from rich.cells import cell_len

from tests.support.asked import HOSTILE
from tests.support.asked import NOW as ASKED_AT
from tests.support.hostile_names import NAMES, write_hostile
from tests.support.sample_ledger import NOW
from voicecosts import query
from voicecosts.analytics.answers.compared import Comparison, Presence
from voicecosts.analytics.numbers import percent_change
from voicecosts.analytics.text.compared import as_csv, as_json, as_table

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def of_days(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    """The last day of the sample beside the days before it."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(data_dir))
    return query(since="2026-11-20T18:00", compare="2026-11-18..2026-11-20T18:00", now=NOW)


@pytest.fixture
def of_rooms(asked: Path, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    """Hours of a ledger in which everything happened, by room, with several metrics and a row for the rest."""
    monkeypatch.setenv("COSTS_DATA_DIR", str(asked))
    return query(
        "room,label.region",
        metric="cost,minutes,calls",
        since="2026-10-25T03:00",
        until="2026-10-26",
        compare="previous",
        timezone="Europe/Berlin",
        top=4,
        now=ASKED_AT,
    )


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_tables_are_what_they_were(of_days: Comparison, of_rooms: Comparison, width: int) -> None:
    """New and gone rows, parts, what is not known and hostile names: what does not fit is left out."""
    tables = [
        as_table(of_days, now=NOW, width=width),
        # the last warning of the ledger names a folder of this run
        as_table(of_rooms, now=ASKED_AT, width=width, digits=4).partition("! the ledger")[0],
    ]
    assert max(map(cell_len, "".join(tables).splitlines())) <= width
    assert "\n".join(tables) == (GOLDEN / f"compared_{width}.txt").read_text()


@pytest.mark.parametrize("form", ["json", "csv"])
def test_output_is_what_it_was(of_days: Comparison, form: str) -> None:
    """Scripts read these bytes: keys, order, nulls and digits change only on purpose."""
    output = as_json(of_days) if form == "json" else as_csv(of_days)
    assert output.decode() == (GOLDEN / f"compared.{form}").read_text()


def test_programs_get_exact_money_and_both_sides(of_rooms: Comparison) -> None:
    """Money and percentages as text, minutes as numbers, and nothing as null."""
    document = json.loads(as_json(of_rooms))
    for found in (*document["rows"], document["total"], document["other"]):
        sides = [found["now"], found["before"]]
        known = [it is not None for it in sides]
        names = {"both": [True, True], "new": [True, False], "gone": [False, True]}
        assert names[found["presence"]] == known
        if all(it and it["cost"] for it in sides):
            now, before = (Decimal(it["cost"]) for it in sides)
            assert Decimal(found["cost_change"]) == now - before
            assert isinstance(found["cost_change_percent"], str if before > 0 else type(None))
        if not all(known):
            assert [found[f"cost_{it}"] for it in ("change", "change_percent")] == [None, None]
        assert isinstance(found["minutes"], float | None)
        assert isinstance(found["calls_change"], int | None)
    header, *lines = csv.reader(io.StringIO(as_csv(of_rooms).decode()))
    assert header[:3] == ["room", "label.region", "presence"]
    assert len(lines) == len(of_rooms.rows)
    assert {line[header.index("cost_is_part")] for line in lines} <= {"true", "false"}


@pytest.mark.parametrize("compare", ["previous", "2026-11-20"])
def test_names_that_were_chosen_to_harm_are_harmless(tmp_path: Path, compare: str) -> None:
    """In a table nothing acts on a terminal, in CSV nothing is calculated, and no two names are alike."""
    folder = write_hostile(tmp_path)
    found = query("tenant,model", since="2026-11-20", compare=compare, data_dir=folder, now=NOW)
    assert len(found.rows) == len(NAMES)
    table = as_table(found, now=NOW, width=100)
    assert not [it for it in table if not it.isprintable() and it != "\n"]
    _, *lines = csv.reader(io.StringIO(as_csv(found).decode()))
    assert len({line[0] for line in lines}) == len(NAMES)
    assert not [cell for line in lines for cell in line[:2] if cell.startswith(("=", "\x1b"))]
    assert {row["tenant"] for row in json.loads(as_json(found))["rows"]} == set(NAMES)


def test_a_hostile_label_stays_in_its_cell(asked: Path) -> None:
    """The name of a column is one that somebody may have chosen as well."""
    label = 'label.a.b"]='
    found = query(
        label,
        since="2026-10-24",
        until="2026-10-26",
        compare="previous",
        data_dir=asked,
        now=ASKED_AT,
    )
    assert HOSTILE in {it.group[label] for it in found.rows}
    table = as_table(found, now=ASKED_AT)
    assert table.startswith('label.a.b"]=')
    assert "\x1b" not in table


def test_a_later_period_and_one_that_overlaps_are_told(data_dir: Path) -> None:
    """A reader of the table alone knows what stands beside what."""
    found = query(since="2026-11", compare="last-week", data_dir=data_dir, now=NOW)
    lines = as_table(found, now=NOW).splitlines()
    assert "period: from 2026-11-01 00:00:00Z to 2026-11-21 14:03:14Z (not included)" in lines
    assert (
        "before, by --compare last-week: from 2026-10-25 00:00:00Z to 2026-11-14 14:03:14Z (not included)"
        in lines
    )
    assert "the two periods overlap: what is in both is on both sides" in lines
    apart = query(
        since="2026-11-18", until="2026-11-19", compare="2026-11-20", data_dir=data_dir, now=NOW
    )
    assert "overlap" not in as_table(apart, now=NOW)
    nothing = query(
        since="2025-01", until="2025-02", compare="previous", data_dir=data_dir, now=NOW
    )
    lines = as_table(nothing, now=NOW).splitlines()
    assert lines[0] == "tenant  cost USD  before  change  change %"
    assert not [it for it in lines if it.startswith("total")]


def test_small_changes_are_never_shown_as_none() -> None:
    """Neither in percent nor in money, up or down."""
    found = [percent_change(Decimal(it)) for it in ("0", "0.04", "-0.04", "0.1", "-1234.56")]
    assert found == ["0.0 %", "<+0.1 %", ">-0.1 %", "+0.1 %", "-1,234.6 %"]


def test_the_word_part_is_explained_where_a_cell_has_it(of_days: Comparison) -> None:
    """What is new or gone has no change of a part, also where something of it has no price."""
    alone = [it for it in of_days.rows if it.presence in (Presence.NEW, Presence.GONE)]
    lacking = [it for it in alone if it.is_part("cost")]
    assert lacking
    said = "part: a change of what is known"
    assert said in as_table(of_days, now=NOW)
    table = as_table(structs.replace(of_days, rows=lacking, total=lacking[0]), now=NOW)
    assert said not in table
