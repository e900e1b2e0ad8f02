"""Expected costs as sums of parts: every unit, round-up, minimum, currency, discount and mark-up."""

from __future__ import annotations

import csv
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Final

import pytest

from tests.consumer.pricing.own.asking import START, meter, scope
from voicecosts.consumer.pricing.charge import charged
from voicecosts.consumer.pricing.own import load
from voicecosts.producer.events import Quantities

HERE: Final = Path(__file__).parent
BOOK: Final = load(HERE / "expected.toml")
LINES: Final = [
    line
    for line in (HERE / "expected.csv").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
CASES: Final = list(csv.DictReader(LINES))

LABELS: Final = {"eu": {"region": "EU"}, "winter": {"campaign": "winter"}}
"""Two of the tenants stand for a label of the session."""

Case = dict[str, str]


def used(case: Case) -> Quantities:
    """Return the totals of a line; a time is in seconds."""
    amounts = dict(amount.split("=") for amount in case["used"].split())
    return Quantities(
        **{
            name: int(Decimal(value[:-1]) * 1_000_000) if value.endswith("s") else int(value)
            for name, value in amounts.items()
        }
    )


def nano(parts: str) -> Decimal | None:
    """Work out a sum of products by fractions, and round it half-even to nine digits."""
    if not parts:
        return None
    total = Fraction(0)
    for part in parts.split(" + "):
        factors = part.replace(" / ", " * /").split(" * ")
        product = Fraction(1)
        for factor in factors:
            value = Fraction(factor.removeprefix("/"))
            product = product / value if factor.startswith("/") else product * value
        total += product
    return Decimal(round(total * 10**9)).scaleb(-9)


def rounded_once_a_layer(case: Case) -> Decimal | None:
    """Return the billed amount; a mark-up is on the cost as it is booked."""
    first, times, rest = case["billed"].partition(" * ")
    if times and rest == case["cost"]:
        cost = nano(case["cost"])
        return None if cost is None else nano(f"{first} * {cost:f}")
    return nano(case["billed"])


def name_of(case: Case) -> str:
    """Name a line of the table."""
    return " ".join(it for it in (*list(case.values())[:5], case["used"]) if it)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_meter_costs_and_is_billed_the_sum_of_its_parts(case: Case) -> None:
    """To the nano-dollar; what no layer has a price for is no amount."""
    of = meter(case["modality"], case["provider"], case["model"], case["tier"])
    who = scope(case["tenant"] or None, labels=LABELS.get(case["tenant"], {}))
    own, billing = BOOK.find(of, who, START)
    listed = nano(case["list"])
    cost = listed if own is None else charged(own, of, used(case), listed).amount
    base = listed if billing is not None and billing.of == "list" else cost
    billed = None if billing is None else charged(billing, of, used(case), base).amount
    assert cost == nano(case["cost"])
    assert billed == rounded_once_a_layer(case)


def test_every_entry_is_used() -> None:
    """An entry of the book that no line is about tests nothing."""
    seen = set()
    for case in CASES:
        of = meter(case["modality"], case["provider"], case["model"], case["tier"])
        who = scope(case["tenant"] or None, labels=LABELS.get(case["tenant"], {}))
        seen |= {charge.entry for charge in BOOK.find(of, who, START) if charge is not None}
    assert seen == {f"expected.toml line {entry.line}" for entry in BOOK.entries}
