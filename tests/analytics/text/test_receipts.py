"""Tests of a receipt as text: nothing is too wide, many turns are bounded, and JSON has all of it."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec import structs
from rich.cells import cell_len

from tests.support.price_books import MODEL, Figures
from tests.support.sample_ledger import ACME, Booking, day, write_ledger
from tests.support.some_calls import (
    HOSTILE,
    NOW,
    OPEN,
    SHORT,
    TWO,
    VOIDED,
    call_id,
    nowhere,
    write_calls,
    write_turns,
)
from voicecosts import call
from voicecosts.analytics.answers.receipts import Receipt
from voicecosts.analytics.text.receipts import as_csv, as_json, as_table
from voicecosts.consumer.booking.operations import Rerate
from voicecosts.consumer.pricing import rate_by
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.store.clock import Clock
from voicecosts.consumer.store.ledger import Ledger

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Receipt:
    """The receipt of a call of thirty turns, without what is said of the ledger itself: its path is in that."""
    folder = write_turns(tmp_path_factory.mktemp("turns"), 30)
    found = call(data_dir=folder, now=NOW)
    return structs.replace(
        found,
        warnings=nowhere(found.warnings[:-1], folder),
        notes=nowhere(found.notes, folder),
    )


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real ledger with a call of every kind."""
    return write_calls(tmp_path_factory.mktemp("calls"))


@pytest.mark.parametrize("width", [60, 100, 200])
def test_the_page_is_what_it_was(long: Receipt, width: int) -> None:
    """Whose, how long, what it cost, by modality, turn by turn, what is estimated, by which prices."""
    assert as_table(long, now=NOW, width=width) == (GOLDEN / f"call_{width}.txt").read_text()


@pytest.mark.parametrize("width", [*range(60, 201, 20), None])
def test_a_page_fits_its_terminal(long: Receipt, width: int | None) -> None:
    """No line is too wide, money is whole, and no name acts on the terminal."""
    text = as_table(long, now=NOW, width=width)
    assert max(map(cell_len, text.splitlines())) <= (width or 1000)
    assert "13.830000" in text
    assert not [it for it in text if not it.isprintable() and it != "\n"]


def test_of_many_turns_the_first_and_the_dearest_are_shown(long: Receipt) -> None:
    """It is said how many there are, and JSON has all."""
    lines = as_table(long, now=NOW, width=200).splitlines()
    (dearest,) = [line for line in lines if "dearest" in line and line.startswith("14 ")]
    assert "2.000000" in dearest
    (said,) = [line for line in lines if "turns shown" in line]
    assert said.startswith("11 of 30 turns shown: the first 10, and the dearest 5")
    document = json.loads(as_json(long))
    assert len(document["turns"]) == 30
    assert document["dearest_turn"] == "speech_0014"


def test_turns_have_their_columns_in_the_order_of_the_table_above(long: Receipt) -> None:
    """Whatever the first turn used first: the dearest modality stands first in both."""
    for parts in (long.parts, long.parts[::-1]):
        text = as_table(structs.replace(long, parts=parts), now=NOW)
        (head,) = [line.split() for line in text.splitlines() if line.startswith("turn ")]
        used = [it.group["modality"] for it in parts]
        assert [it for it in head if it in used] == used
    assert len(used) > 1


def test_json_and_csv_add_up_to_the_call(long: Receipt) -> None:
    """Money is text, and every line of CSV is a turn, or what is in none."""
    document = json.loads(as_json(long))
    assert list(document) == [
        *("call", "total", "parts", "turns", "dearest_turn", "outside", "by_operations"),
        *("detail_missing", "priced", "currency", "as_of", "completeness", "warnings", "notes"),
    ]
    assert document["call"]["room"] == HOSTILE
    assert document["total"]["cost"] == document["call"]["cost"] == "13.830000000"
    assert document["turns"][0]["costs"] == {"llm": "0.400000000", "tts": None}
    rows = list(csv.DictReader(io.StringIO(as_csv(long).decode())))
    assert [it["kind"] for it in rows] == ["turn"] * 30 + ["outside"]
    assert sum(Decimal(it["cost"] or 0) for it in rows) == Decimal("13.83")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (TWO, ["cost        0.400000 USD, and 3 requests unpriced", "per minute  0.200000 USD"]),
        (
            OPEN,
            [
                "state       open: it goes on, and its numbers grow",
                "per minute  not known: length goes on",
            ],
        ),
        (
            SHORT,
            [
                "state       short: something is missing, at most 0.400000 USD: a total ran backwards"
            ],
        ),
        (VOIDED, ["state       voided: taken out of every sum"]),
    ],
)
def test_what_is_not_whole_is_said_at_the_top(real: Path, number: int, said: list[str]) -> None:
    """Under the name of the call, before its cost."""
    lines = as_table(call(str(call_id(number)), data_dir=real, now=NOW), now=NOW).splitlines()
    for sentence in said:
        assert sentence in lines


def test_connected_time_is_said_of_what_is_billed_by_it(tmp_path: Path) -> None:
    """On the page, and in JSON and CSV: what a call is charged by is on its receipt."""
    leg = {"modality": "agent_session", "provider": "livekit", "model": "agent", "requests": 0}
    used = [
        Booking(occurred_at=day(20), session_id=ACME, cost="0.01", session_us=40_000_000, **leg),
        Booking(occurred_at=day(20), session_id=ACME, cost="0.02", input_tokens=100),
    ]
    found = call(str(ACME), data_dir=write_ledger(tmp_path, used))
    lines = as_table(found, now=NOW, width=100).splitlines()
    (connected,) = [it for it in lines if it.startswith("agent_session")]
    assert connected.endswith("  40.0 s connected")
    (said,) = [it for it in lines if it.startswith("llm")]
    assert said.endswith("1 request, 100 tokens")
    document = json.loads(as_json(found))
    assert document["outside"]["session_seconds"] == 40
    assert [it["session_seconds"] for it in document["priced"]] == [40, 0]
    (row,) = csv.DictReader(io.StringIO(as_csv(found).decode()))
    assert Decimal(row["session_seconds"]) == 40


def test_what_was_priced_later_is_not_called_unpriced(tmp_path: Path) -> None:
    """Its cost stands in the row of the operations; where some of it has no price still, it is unpriced."""
    folder = write_turns(tmp_path, 3)
    assert "in part unpriced" in as_table(call(data_dir=folder, now=NOW), now=NOW)
    own = '[[cost]]\nprovider = "homebrew"\nunit = "thousand characters"\nprice = "1"\n'
    rate = rate_by(Figures({MODEL: "0.4", "summary": "1"}), read(own))
    with Ledger.open(folder, rate, clock=Clock(now=lambda: NOW)) as ledger:
        ledger.operate(Rerate(), reason="a price came")
        while ledger.work():
            pass
    page = as_table(call(data_dir=folder, now=NOW), now=NOW)
    assert "in part priced later" in page
    assert "unpriced" not in page
    assert "\noperations " in page
