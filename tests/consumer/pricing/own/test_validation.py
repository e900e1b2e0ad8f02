"""Entries beside each other: no two in force for the same, no day without, no currency without rate."""

from __future__ import annotations

import re

import pytest

from tests.consumer.pricing.own.asking import mistakes
from voicecosts.consumer.pricing.own import read


def entry(validity: str = "", more: str = 'provider = "p"\nmodel = "m"\nunit = "minute"') -> str:
    """Return an entry of six lines with a blank one behind it."""
    first, _, last = validity.partition("..")
    lines = [f"from = {first}" if first else "# from", f"to = {last}" if last else "# to"]
    return "\n".join(["[[cost]]", *more.split("\n"), 'price = "1"', *lines, "", ""])


A = "2026-01-01"
B = "2026-04-01"
C = "2026-07-01"
D = "2026-10-01"


@pytest.mark.parametrize(
    "validities",
    [
        ["", f"{A}.."],  # the newer takes the place of the one without an end
        [f"{B}..", f"{A}.."],  # in any order
        [f"{A}..", f"{B}..{C}"],  # an offer for some months, then the older again
        [f"{A}..{B}", f"{B}.."],
        [f"{A}..{B}", f"{B}..{C}", f"{C}..{D}"],
        [f"..{B}", f"{B}.."],
        [f"{A}..{B}", f"{B}..", f"{D}.."],
        [f"{A}..", f"{B}..{C}", f"{D}.."],  # between, the oldest is in force
    ],
)
def test_one_price_after_the_other_is_no_mistake(validities: list[str]) -> None:
    """A price has a successor, or an offer lies on top of one that has no end."""
    assert len(read("".join(map(entry, validities))).entries) == len(validities)


def test_the_list_price_can_stand_between_two_contracts() -> None:
    """A time without a contract is said as a discount of nothing."""
    text = entry(f"{A}..{B}") + entry(f"{C}..")
    between = f'[[cost]]\nprovider = "p"\nmodel = "m"\ndiscount = "0 %"\nfrom = {B}\nto = {C}\n'
    assert 'discount = "0 %" is the list price' in mistakes(text)[0]
    assert [each.share for each in read(text + between).entries] == [None, None, 1]


@pytest.mark.parametrize(
    ("validities", "told"),
    [
        (["", ""], "9: it says the same as line 1: take one of them out"),
        ([f"{A}..", f"{A}..{B}"], f"9: it is for the same as line 1, both from {A}"),
        (
            [f"{A}..{C}", f"{B}.."],
            f"9: .* line 1, which is valid until {C}: let that one end on {B}",
        ),
        ([f"{A}..{C}", f"{B}..{D}"], "9: it is for the same as line 1"),
        ([f"{A}..{D}", f"{B}..{C}"], "9: it is for the same as line 1"),
        ([f"..{C}", f"{B}.."], "9: it is for the same as line 1"),
        ([f"{A}..", f"{B}..{D}", f"{C}.."], "17: it is for the same as line 9"),
        ([f"{A}..{B}", f"{C}.."], f"9: nothing is in force from {B}, when line 1 ends, to {C}"),
        ([f"{C}..", f"{A}..{B}"], f"1: nothing is in force from {B}, when line 9 ends, to {C}"),
        ([f"..{A}", f"{B}..{C}"], f"9: nothing is in force from {A}, when line 1 ends, to {B}"),
    ],
)
def test_two_at_once_or_none_is_a_mistake(validities: list[str], told: str) -> None:
    """The later line is named, with the earlier one and what to change."""
    (problem,) = mistakes("".join(map(entry, validities)))
    assert re.match(told, problem), problem


MINUTES = 'provider = "p"\nunit = "minute"\nprice = "1"'


@pytest.mark.parametrize(
    "other",
    [
        'provider = "p"\nunit = "thousand characters"\nprice = "1"',
        'provider = "p"\nmodality = "stt"\ndiscount = "5 %"',
        f'model = "*"\n{MINUTES}',
        f'tenant = "a"\n{MINUTES}',
        f'label = {{ a = "1" }}\n{MINUTES}',
        f'service_tier = "x"\n{MINUTES}',
        MINUTES.replace('"p"', '"q"'),
    ],
)
def test_entries_for_something_else_do_not_compete(other: str) -> None:
    """Other selectors, or a unit that never meets the other one, set them apart."""
    assert len(read(f"[[cost]]\n{MINUTES}\n[[cost]]\n{other}\n").entries) == 2


def test_labels_with_other_values_do_not_compete() -> None:
    """A session has one of them."""
    one, other = (f'[[cost]]\nlabel = {{ a = "{it}" }}\n{MINUTES}\n' for it in (1, 2))
    assert len(read(one + other).entries) == 2


def test_units_that_can_meet_in_a_modality_compete() -> None:
    """A voice may be sold by the character or by the token: the modality has to be said."""
    (problem,) = mistakes(
        entry(more='provider = "p"\nunit = "million tokens"')
        + entry(more='provider = "p"\nunit = "thousand characters"')
    )
    assert problem.startswith("8: it is for the same as line 1, both without a first day")
    assert "a modality" in problem


def test_a_price_for_the_call_competes_with_a_share_of_the_same_scope() -> None:
    """One of the two bills everything else: included, or marked up."""
    (problem,) = mistakes(
        '[[billed]]\ntenant = "a"\nunit = "call"\nprice = "1"\n'
        '[[billed]]\ntenant = "a"\nmarkup = "20 %"\n'
    )
    assert problem.startswith("5: it is for the same as line 1")


def test_cost_and_billed_do_not_compete() -> None:
    """They are two layers."""
    both = '[[{}]]\nprovider = "p"\ndiscount = "5 %"\n'
    assert len(read(both.format("cost") + both.format("billed")).entries) == 2


EUROS = '[[cost]]\nmodel = "m"\nunit = "minute"\nprice = "1"\ncurrency = "EUR"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (EUROS, r"1: EUR has no exchange rate: add \[\[exchange\]\] with currency = \"EUR\""),
        (
            f'[[exchange]]\ncurrency = "EUR"\nfrom = {B}\nusd = "1"\n{EUROS}from = {A}',
            f"5: EUR has an exchange rate from {B} on only, and it begins {A}: write from = {B}",
        ),
        (
            f'[[exchange]]\ncurrency = "EUR"\nfrom = {B}\nusd = "1"\n{EUROS}',
            "5: .* it has no first day",
        ),
        (
            '[[exchange]]\ncurrency = "EUR"\nusd = "1"\n' * 2,
            "4: EUR without a first day has a rate on line 1 already",
        ),
        (
            f'[[exchange]]\ncurrency = "EUR"\nusd = "1"\nfrom = {A}\n' * 2,
            f"5: EUR from {A} has a rate on line 1 already",
        ),
    ],
)
def test_a_currency_has_exactly_one_rate_on_every_day_of_a_price(text: str, told: str) -> None:
    """A price is converted at a rate that the operator wrote down, never at another one."""
    (problem,) = mistakes(text)
    assert re.match(told, problem), problem


def test_rates_follow_each_other() -> None:
    """A rate holds until the next one of the currency."""
    rate = '[[exchange]]\ncurrency = "EUR"\nfrom = {}\nusd = "1"\n'
    assert len(read(rate.format(A) + rate.format(B) + EUROS + f"from = {A}").exchange) == 2
