"""Tests of calls as text: one line each, nothing hidden silently, names that do no harm."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from msgspec import structs
from rich.cells import cell_len

from tests.support.some_calls import HOSTILE, NOW, TWO, call_id, nowhere, write_calls
from voicecosts import calls
from voicecosts.analytics.answers.calls import Calls
from voicecosts.analytics.text.calls import as_csv, as_json, as_table

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Calls:
    """The calls of a real ledger, without what is said of the ledger itself: its path is in that."""
    folder = write_calls(tmp_path_factory.mktemp("calls"))
    answer = calls(data_dir=folder, now=NOW)
    return structs.replace(
        answer,
        warnings=nowhere(answer.warnings[:-1], folder),
        notes=nowhere(answer.notes, folder),
    )


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_is_what_it_was(found: Calls, width: int) -> None:
    """The most important columns are kept, no line is too wide, and what is left out is named."""
    text = as_table(found, now=NOW, width=width)
    assert text == (GOLDEN / f"calls_{width}.txt").read_text()
    assert max(map(cell_len, text.splitlines())) <= width
    assert "1.600000" in text


@pytest.mark.parametrize("width", range(60, 201, 7))
def test_a_table_fits_its_terminal(found: Calls, width: int) -> None:
    """At any width; the call, its cost and when it began are always there."""
    text = as_table(found, now=NOW, width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    head = text.splitlines()[0]
    assert all(it in head for it in ("call", "cost USD", "started"))


def test_a_pipe_gets_whole_ids_and_every_column(found: Calls) -> None:
    """What is shown to nobody in particular is cut nowhere."""
    lines = as_table(found, now=NOW).splitlines()
    assert all(str(it.session) in line for it, line in zip(found.calls, lines[2:], strict=False))
    assert "columns that do not fit" not in "\n".join(lines)
    assert "billed" in lines[0]


def test_a_short_id_tells_the_calls_apart(found: Calls) -> None:
    """Calls that begin in one millisecond are shown with more of their ids."""
    first, second = found.calls[:2]
    twin = structs.replace(second, session=type(first.session)(int=first.session.int + 1))
    pair = structs.replace(found, calls=(first, twin), found=2)
    shown = [line.split()[0] for line in as_table(pair, now=NOW, width=200).splitlines()[2:4]]
    assert shown == [str(first.session), str(twin.session)]


def test_json_has_all_of_it(found: Calls) -> None:
    """Money is text, what is unknown is null, names are as booked."""
    document = json.loads(as_json(found))
    assert list(document) == [
        *("calls", "found", "currency", "since", "until", "as_of", "completeness", "warnings"),
        "notes",
    ]
    assert document["calls"] == json.loads((GOLDEN / "calls.json").read_text())
    assert document["calls"][6]["room"] == HOSTILE
    assert document["found"] == 9


def test_csv_has_the_same_columns(found: Calls) -> None:
    """One line for a call, whatever is in its names."""
    text = as_csv(found).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == list(json.loads(as_json(found))["calls"][0])
    assert [it["session"] for it in rows] == [str(it.session) for it in found.calls]
    (hostile,) = [it for it in rows if it["session"] == str(call_id(TWO))]
    assert hostile["room"].startswith(r"[red]\x1b[31mroom[/red]\n")
    assert len(text.splitlines()) == 1 + len(found.calls)


def test_no_name_acts_on_the_terminal(found: Calls) -> None:
    """Escape codes and line ends of a room are spelled out, mark-up is text."""
    for text in (as_table(found, now=NOW), as_table(found, now=NOW, width=200)):
        assert not [it for it in text if not it.isprintable() and it != "\n"]
        assert r"[red]\x1b[31mroom[/red]\n" in text
