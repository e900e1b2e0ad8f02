"""docs/cookbook.md: every question is answered, on a ledger of which the answers are known."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.practice import (
    CHANGED,
    CREDIT,
    GROWS,
    LARGE,
    LOSES,
    MINI,
    RUNAWAY_ROOM,
    RUNAWAY_SPEECH,
    SILENT_ROOM,
    TENANTS,
    UNPRICED,
    Told,
    write,
)
from voicecosts.analytics.commands.app import main
from voicecosts.analytics.snapshot import typed
from voicecosts.analytics.snapshot.connection import closing, open_newest

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "cookbook.md").read_text(encoding="utf-8")
QUESTIONS: Final = re.findall(
    r"^### (\d+)\. (.*?)\n.*?```(console|sql)\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL
)

Row = dict[str, Any]


def exact(value: object) -> bool:
    """Return whether a value is no float."""
    return not isinstance(value, float)


SAID: Final[dict[int, tuple[str, ...]]] = {
    1: ("total", "llm", "tts", "sonic-3"),
    2: (RUNAWAY_ROOM, "0.4493888  dearest"),
    3: (
        "cache read input tokens: 1,201,800 x 0.1 per million",
        "from voice-prices ",
        "markup 30 %",
    ),
    4: ("front-desk-17", "5 of "),
    5: ("front-desk-17", "5 of "),
    6: (RUNAWAY_ROOM, RUNAWAY_SPEECH, "5 of ", "0.4494"),
    8: (CHANGED, LARGE, MINI),
    9: ("day", "total"),
    13: ("openai", "deepgram", "cartesia"),
    16: ("# Statement: acme, ", "-0.250000", "**Rounded to the cent: "),
    17: ("tenant,cost,", *TENANTS),
    20: ("gpt-4.1-mini", "nova-3", "sonic-3"),
    21: (SILENT_ROOM, "(none)"),
    23: ("cost_change", "calls_before", LARGE, "new  ", "before, by --compare previous: "),
    25: ("clinic-west", LARGE, "nothing was changed"),
    29: ("cost_per_successful_call", CHANGED, "total"),
    33: (UNPRICED, "meadow_ai", "[[cost]]"),
    34: ("complete", "sessions"),
    35: (CREDIT, "in force"),
}
"""Of each command, what its answer has in it."""


ROWS: Final[dict[int, Callable[[list[Row]], bool]]] = {
    7: lambda rows: [it["room_name"] for it in rows] == [SILENT_ROOM],
    10: lambda rows: (
        len(rows) == 3 and all(0 < it["per_minute"] < 1 and it["minutes"] > 5 for it in rows)
    ),
    11: lambda rows: all(0 < it["p50"] <= it["p95"] <= it["dearest"] for it in rows),
    12: lambda rows: (
        {it["modality"] for it in rows} >= {"stt", "llm", "tts"}
        and abs(sum(it["percent"] or 0 for it in rows) - 100) < 1
    ),
    14: lambda rows: {it["hour_utc"] for it in rows} >= {8, 9, 10},
    15: lambda rows: rows[0]["thirty_days"] > 4 * rows[0]["last_seven_days"] > 0,
    18: lambda rows: rows[0]["tenant"] == LOSES and rows[0]["margin"] < 0 < rows[1]["margin"],
    19: lambda rows: rows[0]["tenant"] == GROWS and rows[0]["more"] > 0,
    22: lambda rows: {it["tenant"] for it in rows} >= set(TENANTS),
    24: lambda rows: {it["model"] for it in rows if it["agent_id"] == CHANGED} >= {MINI, LARGE},
    26: lambda rows: all(it["cost"] > it["usual"] for it in rows) and len(rows) > 0,
    27: lambda rows: (
        {it["model"] for it in rows} == {MINI, LARGE, UNPRICED}
        and all(40 < it["percent"] < 60 for it in rows if it["model"] == LARGE)
    ),
    28: lambda rows: all(it["requests"] > 0 for it in rows) and len(rows) >= 3,
    30: lambda rows: all(0 < it["failed"] < it["cost"] and it["silent"] == 0 for it in rows),
    31: lambda rows: all(300 <= it["p50_ms"] <= it["p95_ms"] for it in rows) and len(rows) >= 2,
    32: lambda rows: all(it["p50_seconds"] >= 80 and it["status"] == "closed" for it in rows),
    36: lambda rows: [it["room_name"] for it in rows] == [RUNAWAY_ROOM],
    37: lambda rows: rows[0]["calls"] > 200 and rows[0]["billed"] > 0,
}
"""Of each statement, whether its rows say what is so."""


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Told]]:
    """The ledger, and the calls in it."""
    folder = tmp_path_factory.mktemp("practice") / "data"
    return folder, write(folder, datetime.now(UTC))


def ask(folder: Path, text: str) -> list[Row]:
    """Return the rows of a statement, as `costs sql` runs it."""
    connection, snapshot = open_newest(folder)
    with closing(connection):
        found = typed.run(connection, snapshot, text, spill=None)
        names = [name for name, _ in found.columns]
        return [dict(zip(names, row, strict=True)) for row in found.rows]


def test_every_question_is_answered_by_a_command_or_a_statement() -> None:
    """They are numbered from 1 on, and each has its answer in the tables above."""
    numbers = [int(number) for number, *_ in QUESTIONS]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) == PAGE.count("\n### ") >= 30
    assert sorted([*SAID, *ROWS]) == numbers
    assert {it for it in numbers if it in ROWS} == {
        int(number) for number, _, kind, _ in QUESTIONS if kind == "sql"
    }


def test_every_command_answers(
    practice: tuple[Path, list[Told]], capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends well, and what it prints is about what happened."""
    folder, _ = practice
    for number, question, kind, block in QUESTIONS:
        if kind != "console":
            continue
        command = block.removeprefix("$ costs ")
        with pytest.raises(SystemExit) as done:
            main([*shlex.split(command), "--data-dir", str(folder)])
        said = capsys.readouterr()
        assert done.value.code == 0, (question, said.err)
        for word in SAID[int(number)]:
            assert word in said.out, (question, word, said.out)
        if int(number) == 6:  # what is in no turn is no turn, whatever it cost
            assert "(none)" not in said.out


@pytest.mark.parametrize(
    ("number", "text"),
    [(int(number), text) for number, _, kind, text in QUESTIONS if kind == "sql"],
)
def test_every_statement_answers(practice: tuple[Path, list[Told]], number: int, text: str) -> None:
    """Its rows say what happened, and money in them is exact."""
    rows = ask(practice[0], text)
    assert rows
    assert all(exact(value) for row in rows for value in row.values()), rows
    assert ROWS[number](rows), rows


def test_what_the_statements_add_up_is_what_the_calls_cost(
    practice: tuple[Path, list[Told]],
) -> None:
    """By agent and by tenant it is the same money."""
    asked = {int(number): text for number, _, _, text in QUESTIONS}
    by_tenant = sum(it["cost"] for it in ask(practice[0], asked[18]) if it["cost"])
    by_modality = sum((it["cost"] or Decimal(0)) for it in ask(practice[0], asked[12]))
    assert by_tenant == by_modality > 0
