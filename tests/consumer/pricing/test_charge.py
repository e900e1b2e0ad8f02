"""What totals come to by a price of the operator: exact, rounded once, and never zero for unpriced."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.consumer.pricing.test_rating_properties import USAGE, totals_of
from voicecosts.consumer.pricing.billing import Miss, billed
from voicecosts.consumer.pricing.charge import EVERY_TOKEN, TIME, Charge, Rate, charged
from voicecosts.consumer.pricing.price import Price
from voicecosts.consumer.pricing.scope import Scope
from voicecosts.producer.events import Meter, Quantities

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
ENTRY: Final = "prices.toml line 3"


def meter(modality: str) -> Meter:
    """Return a meter of a modality."""
    return Meter("", "", modality, "deepgram", "nova-3", estimated=False)


def by(part: str, price: str, per: int = 1, **more: object) -> Charge:
    """Return a charge with one part."""
    fields = {"entry": ENTRY, "parts": (Rate(part, Decimal(price), per),), **more}
    return msgspec.convert(fields, Charge)


def amount(charge: Charge, modality: str, base: str | None = None, **totals: int) -> Decimal | None:
    """Return what totals come to."""
    given_base = None if base is None else Decimal(base)
    return charged(charge, meter(modality), Quantities(**totals), given_base).amount


BY_MINUTE: Final = by("audio_us", "0.0043", MINUTE)
ROUNDED_UP: Final = by("session_us", "0.12", MINUTE, increment=MINUTE)
TEN_SECONDS: Final = by("audio_us", "0.006", MINUTE, minimum=10 * SECOND)
TOKENS: Final = Charge(
    entry=ENTRY,
    parts=(
        Rate("input_tokens", Decimal("3.50"), 1_000_000),
        Rate("cache_read_input_tokens", Decimal("0.875"), 1_000_000),
        Rate("output_tokens", Decimal("14.00"), 1_000_000),
    ),
)


@pytest.mark.parametrize(
    ("charge", "modality", "totals", "expected"),
    [
        (BY_MINUTE, "stt", {"audio_us": 90 * SECOND}, "0.006450000"),
        (BY_MINUTE, "stt", {"audio_us": 1}, "0.000000000"),
        (BY_MINUTE, "stt", {}, "0.000000000"),
        (ROUNDED_UP, "telephony", {"session_us": 1}, "0.120000000"),
        (ROUNDED_UP, "telephony", {"session_us": MINUTE}, "0.120000000"),
        (ROUNDED_UP, "telephony", {"session_us": MINUTE + 1}, "0.240000000"),
        (TEN_SECONDS, "stt", {"audio_us": 1}, "0.001000000"),
        (TEN_SECONDS, "stt", {"audio_us": 11 * SECOND}, "0.001100000"),
        (TOKENS, "llm", {"input_tokens": 1000, "cache_read_input_tokens": 400}, "0.002450000"),
        (TOKENS, "llm", {"output_tokens": 10, "reasoning_output_tokens": 10}, "0.000140000"),
        (by(EVERY_TOKEN, "1", 1_000_000), "realtime", {"input_tokens": 5, "output_tokens": 2,
            "other_tokens": 3}, "0.000010000"),
        (by(TIME, "0.06", MINUTE), "avatar", {"session_us": MINUTE, "audio_us": 5}, "0.060000000"),
        (by(TIME, "0.06", MINUTE), "tool", {"audio_us": MINUTE}, "0.060000000"),
        (by("characters", "0.05", 1000), "tts", {"characters": 15, "audio_us": 9}, "0.000750000"),
        (by("requests", "0.005"), "tool", {"requests": 3, "session_us": 9}, "0.015000000"),
        (by("session_us", "0.001", 3600 * SECOND), "agent_session", {"session_us": SECOND},
         "0.000000278"),
    ],
)  # fmt: skip
def test_totals_come_to_their_parts(
    charge: Charge, modality: str, totals: dict[str, int], expected: str
) -> None:
    """A minimum and a round-up apply to the whole of what was used, and to nothing when nothing was."""
    found = charged(charge, meter(modality), Quantities(**totals), None)
    assert found.amount is not None
    assert (f"{found.amount:f}", list(found.misses)) == (expected, [])


def test_a_tie_is_rounded_to_the_even_digit_once() -> None:
    """Half of a nano-dollar goes to the even neighbour, of the sum and not of each part."""
    half = by("requests", "0.0000000005")
    assert [amount(half, "tool", requests=n) for n in (1, 2, 3)] == [
        Decimal("0E-9"),
        Decimal("1E-9"),
        Decimal("2E-9"),
    ]
    two = Charge(entry=ENTRY, parts=(*half.parts, Rate("input_tokens", Decimal("0.0000000005"), 1),
                                     Rate("output_tokens", Decimal(0), 1)))  # fmt: skip
    assert amount(two, "llm", requests=1, input_tokens=1) == Decimal("1E-9")


def test_a_share_is_of_the_layer_that_is_given() -> None:
    """15 % off the list, 20 % on the cost; without an amount to take it of there is none."""
    off = Charge(entry=ENTRY, share=Decimal("0.85"))
    assert amount(off, "llm", "0.000000010", input_tokens=1) == Decimal("0.000000008")
    assert amount(off, "llm", "0.000000030", input_tokens=1) == Decimal("0.000000026")
    assert amount(off, "llm", None, input_tokens=1) is None


def test_what_is_included_is_billed_nothing() -> None:
    """A meter of a call that is billed by the minute comes to zero, priced or not."""
    assert amount(Charge(entry=ENTRY, included=True), "llm", None, input_tokens=9) == 0


def test_a_least_amount_applies_once_something_was_used() -> None:
    """It is for the meter; a meter that has used nothing comes to nothing."""
    charge = by("session_us", "0.12", MINUTE, at_least=Decimal("0.05"))
    assert amount(charge, "telephony", session_us=SECOND) == Decimal("0.05")
    assert amount(charge, "telephony", session_us=MINUTE) == Decimal("0.12")
    assert amount(charge, "telephony") == 0
    share = Charge(entry=ENTRY, share=Decimal("1.2"), at_least=Decimal("0.05"))
    assert amount(share, "llm", "0.01", requests=1) == Decimal("0.05")
    assert amount(share, "llm", "0.10", requests=1) == Decimal("0.12")
    assert amount(share, "llm", "0") == 0
    assert amount(share, "llm", None, requests=1) is None


def test_a_part_without_a_rate_is_unpriced_beside_the_rest() -> None:
    """Unpriced is never zero: the amount and the reason are there, the rest has its price."""
    totals = Quantities(
        input_tokens=100, text_input_tokens=40, audio_input_tokens=60, output_tokens=10,
        text_output_tokens=10, other_tokens=7,
    )  # fmt: skip
    found = charged(TOKENS, meter("realtime"), totals, None)
    assert found.amount == Decimal("0.000280000")
    assert [miss.usage for miss in found.misses] == [{"other_tokens": 7}, {"input_tokens": 60}]
    assert found.misses[1].reason == f"{ENTRY} has no price for audio_input: add it"
    nothing = charged(TOKENS, meter("realtime"), Quantities(input_tokens=60), None)
    assert nothing.amount is None
    assert [miss.usage for miss in nothing.misses] == [{"input_tokens": 60}]


def test_usage_in_another_measure_is_unpriced() -> None:
    """A model that is charged by audio and reports tokens alone has no price, and it is said."""
    found = charged(BY_MINUTE, meter("stt"), Quantities(input_tokens=9, requests=1), None)
    reason = f"{ENTRY} charges audio, but what was reported is input tokens"
    assert found == (None, (), [Miss({"input_tokens": 9}, reason)])
    tool = charged(by(TIME, "1", MINUTE), meter("tool"), Quantities(requests=3), None)
    assert (tool.amount, tool.misses[0].usage) == (None, {"requests": 3})
    by_call = by("requests", "2", unit="call")
    [call] = charged(by_call, meter("agent_session"), Quantities(session_us=9), None).misses
    assert call.reason == f"{ENTRY} charges calls, and none was counted: record requests=1 for each"


@pytest.mark.parametrize(
    ("modality", "charge", "totals"),
    [
        ("stt", BY_MINUTE, {"session_us": 40 * SECOND}),
        ("llm", TOKENS, {"characters": 7}),
        ("agent_session", ROUNDED_UP, {"requests": 1}),
        ("telephony", ROUNDED_UP, {"requests": 1}),
    ],
)
def test_usage_that_no_way_of_its_modality_measures_is_unpriced_and_not_free(
    modality: str, charge: Charge, totals: dict[str, int]
) -> None:
    """Nobody knows what it costs, at a price of one's own as at a list price."""
    found = charged(charge, meter(modality), Quantities(**totals), None)
    assert (found.amount, [miss.usage for miss in found.misses]) == (None, [totals])
    rates = {rate.part: rate.price for rate in charge.parts}
    price = Price(source="s", version="1", model="acme/x", rates=rates)
    listed = billed(price, modality, Quantities(**totals))
    assert (listed.parts, [miss.usage for miss in listed.misses]) == ({}, [totals])


def test_the_lines_say_what_was_used_and_what_is_counted() -> None:
    """An explanation needs the amount before and after minimum and increment."""
    found = charged(ROUNDED_UP, meter("telephony"), Quantities(session_us=61 * SECOND), None)
    assert found.lines == ((ROUNDED_UP.parts[0], 61 * SECOND, 2 * MINUTE),)


PRICE: Final = st.decimals(0, 999_999, places=12) | st.decimals(0, 1, places=6)
CHARGES: Final = st.builds(
    lambda price, per, minimum, increment, at_least: Charge(
        entry=ENTRY,
        parts=(Rate("session_us", price, per),),
        minimum=minimum,
        increment=increment,
        at_least=at_least,
    ),
    PRICE,
    st.sampled_from([1, SECOND, MINUTE, 60 * MINUTE]),
    st.integers(0, 5 * MINUTE),
    st.integers(1, 5 * MINUTE),
    st.none() | st.decimals(0, 5, places=4),
)
TIMES: Final = st.integers(0, 2**53 - 1) | st.integers(0, 10 * MINUTE)


@given(CHARGES, TIMES, TIMES)
def test_more_usage_never_costs_less(charge: Charge, one: int, other: int) -> None:
    """Whatever minimum, increment and least amount there are, an amount never falls."""
    less, more = sorted((one, other))
    low, high = (amount(charge, "telephony", session_us=it) for it in (less, more))
    assert low is not None
    assert high is not None
    assert low <= high


TABLE: Final = Charge(
    entry=ENTRY,
    parts=tuple(
        Rate(part, Decimal(price), per)
        for part, price, per in [
            ("input_tokens", "3.50", 1_000_000),
            ("cache_read_input_tokens", "0.875", 1_000_000),
            ("cache_creation_input_tokens", "4.00", 1_000_000),
            ("audio_input_tokens", "32", 1_000_000),
            ("audio_cache_read_input_tokens", "0.40", 1_000_000),
            ("output_tokens", "14", 1_000_000),
            ("audio_output_tokens", "64", 1_000_000),
            ("requests", "0.005", 1),
        ]
    ),
    at_least=Decimal("0.001"),
)
OF_ANY_KIND: Final = [
    ("llm", TABLE),
    ("realtime", TABLE),
    ("llm", TOKENS),
    ("realtime", TOKENS),
    ("stt", by(EVERY_TOKEN, "2", 1_000_000, minimum=1000, increment=7)),
    ("tts", by("characters", "0.03", 1000, minimum=100, increment=50)),
    ("stt", by("audio_us", "0.006", MINUTE, minimum=10 * SECOND, increment=MINUTE)),
    ("avatar", by(TIME, "0.37", MINUTE, increment=SECOND)),
    ("llm", by("requests", "0.001")),
]


@settings(max_examples=60)
@given(st.sampled_from(OF_ANY_KIND), st.lists(USAGE, min_size=2, max_size=5))
def test_more_of_any_usage_never_costs_less(
    kind: tuple[str, Charge], steps: list[dict[str, int]]
) -> None:
    """Whatever a reading adds to the totals, it takes no money back of what was there before."""
    modality, charge = kind
    so_far = dict.fromkeys(steps[0], 0)
    before = Decimal(0)
    for step in steps:
        so_far = {part: so_far[part] + step[part] for part in so_far}
        found = charged(charge, meter(modality), totals_of(modality, so_far), None).amount
        now = Decimal(0) if found is None else found
        assert now >= before
        before = now


@given(CHARGES, TIMES)
def test_an_amount_is_exact(charge: Charge, used: int) -> None:
    """It is the exact fraction, rounded half-even once."""
    rate = charge.parts[0]
    steps = -(-max(used, charge.minimum) // charge.increment) if used else 0
    exact = steps * charge.increment * Fraction(rate.price) / rate.per
    if used and charge.at_least is not None:
        exact = max(exact, Fraction(charge.at_least))
    found = amount(charge, "telephony", session_us=used)
    assert found is not None
    assert Fraction(found) * 10**9 == round(exact * 10**9)


@pytest.mark.parametrize(
    "charge",
    [
        TOKENS,
        by("audio_us", "0.000000001", MINUTE, minimum=10 * SECOND, increment=MINUTE),
        Charge(
            entry=ENTRY,
            share=Decimal("1.20"),
            of="cost",
            at_least=Decimal("0.01"),
            source="contract 4711",
            currency="EUR",
            exchange_rate=Decimal("1.0850"),
            original_price="0.0043",
            unit="minute",
            valid_from=date(2026, 1, 1),
            valid_to=date(2026, 7, 1),
        ),
        Charge(entry=ENTRY, included=True),
    ],
)
def test_a_charge_survives_json(charge: Charge) -> None:
    """What the ledger keeps beside a row is the same charge, its decimals as text."""
    text = msgspec.json.encode(charge)
    assert msgspec.json.decode(text, type=Charge) == charge
    assert b'"price":"' in text or not charge.parts


def test_a_scope_names_whose_usage_it_was() -> None:
    """Without a tenant and labels there are none."""
    scope = Scope(project="prod", agent_id="dental")
    assert (scope.tenant, scope.labels) == (None, {})
