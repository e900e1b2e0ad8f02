"""How many expected costs there are of each kind, so that no kind is lost when tables are edited.

They are the lines of `priced.csv` and `unpriced.csv`, by the list prices, and of `own/expected.csv`, by
prices of the operator: each is a sum of parts that is worked out without the code it tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest

from tests.consumer.pricing.own import test_expected as own
from tests.consumer.pricing.own.asking import START, meter, scope
from tests.consumer.pricing.test_expected_prices import PRICED, UNPRICED
from voicecosts.consumer.pricing.charge import Charge

LEAST: Final = {
    # by modality, priced by the list or by an own price
    "stt": 34,
    "llm": 58,
    "tts": 22,
    "realtime": 10,
    "interruption": 1,
    "turn_detector": 1,
    "decision": 1,
    "judge": 1,
    "agent_session": 7,
    "participant": 4,
    "telephony": 27,
    "avatar": 5,
    "tool": 1,
    # service tiers
    "tier with a price": 10,
    "tier without a price": 4,
    # what a provider bills, by an own price
    "round-up": 34,
    "minimum": 15,
    "least amount": 4,
    "discount": 8,
    "in EUR": 8,
    "in GBP": 3,
    "in JPY": 1,
    "in INR": 2,
    # what a tenant is billed
    "billed mark-up": 8,
    "billed of the list": 3,
    "billed by price": 11,
    "billed round-up": 7,
    "billed minimum": 6,
    "billed least amount": 4,
    "billed in EUR": 2,
    "billed in GBP": 4,
    "billed as included": 5,
    # none, with the reason
    "without a list price": 30,
}
"""Kind → the least number of expected costs. Raise it with the lines that you add."""


def kinds() -> Iterator[str]:
    """Yield the kinds of each expected cost."""
    for case in PRICED:
        yield case["modality"]
    yield from ("without a list price" for _ in UNPRICED)
    for case in own.CASES:
        of = meter(case["modality"], case["provider"], case["model"], case["tier"])
        who = scope(case["tenant"] or None, labels=own.LABELS.get(case["tenant"], {}))
        cost, billed = own.BOOK.find(of, who, START)
        if case["cost"]:
            yield case["modality"]
        if case["tier"]:
            yield "tier with a price" if case["cost"] else "tier without a price"
        if case["cost"] and cost is not None:
            yield from rules(cost)
            if cost.share is not None:
                yield "discount"
        if case["billed"] and billed is not None:
            yield from (f"billed {rule}" for rule in rules(billed))
            yield way(billed)


def rules(charge: Charge) -> Iterator[str]:
    """Yield what a charge does to an amount."""
    if charge.increment > 1:
        yield "round-up"
    if charge.minimum:
        yield "minimum"
    if charge.at_least is not None:
        yield "least amount"
    if charge.currency != "USD":
        yield f"in {charge.currency}"


def way(charge: Charge) -> str:
    """Return the way in which a tenant is billed."""
    if charge.included:
        return "billed as included"
    if charge.share is None:
        return "billed by price"
    return "billed of the list" if charge.of == "list" else "billed mark-up"


COUNTED: Final = Counter(kinds())


@pytest.mark.parametrize("kind", LEAST)
def test_there_are_no_fewer_of_a_kind(kind: str) -> None:
    """A line that is taken out of a table is missed here."""
    assert COUNTED[kind] >= LEAST[kind]


def test_every_kind_is_named() -> None:
    """A new modality, currency or rule gets its number here."""
    assert set(COUNTED) == set(LEAST)


def test_they_are_many_and_of_many() -> None:
    """All expected costs together, and the providers whose service tiers are among them."""
    costs = [case for case in own.CASES if case["cost"]]
    assert len(PRICED) + len(costs) >= 170
    assert len({case["provider"] for case in own.CASES if case["tier"]}) >= 5
