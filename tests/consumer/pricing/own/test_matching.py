"""The most specific entry wins, then the newest, in whatever order the file has them."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.consumer.pricing.own.asking import START, found, line_of, meter, scope
from voicecosts.consumer.pricing.own import read
from voicecosts.consumer.pricing.own.matching import fits_pattern

NOVA: Final = meter("stt", "deepgram", "nova-3-general")


def minutes(*selectors: str, price: str = "1") -> str:
    """Return a price by the minute for something; three lines more than its selectors."""
    return "\n".join(["[[cost]]", *selectors, 'unit = "minute"', f'price = "{price}"', ""])


def winner(of: object, *entries: str, who: object = None, region: str = "") -> str | None:
    """Return the price that wins, in both orders of the file."""
    answers = set()
    for order in (entries, entries[::-1]):
        charge, _ = found("".join(order), of, who, region=region)  # type: ignore[arg-type]
        answers.add(None if charge is None else charge.original_price)
    (answer,) = answers
    return answer


P, M = 'provider = "deepgram"', 'model = "nova-3-general"'
PATTERN, SHORTER = 'model = "nova-3*"', 'model = "nova*"'
STT = 'modality = "stt"'
FROM_WEAKEST: Final = [
    [STT],
    [P],
    [P, STT],
    [SHORTER],
    [PATTERN],
    [PATTERN, P],
    [M],
    [M, P],
    [M, P, STT],
    [STT, 'project = "prod"'],
    [M, 'project = "prod"'],
    [P, 'agent = "dental"'],
    [P, 'agent = "dental"', 'project = "prod"'],
    [P, 'tenant = "acme"'],
    [M, 'tenant = "acme"'],
    [P, 'tenant = "acme"', 'agent = "dental"'],
    [P, 'label = { campaign = "winter" }'],
    [P, 'label = { campaign = "winter" }', 'tenant = "acme"'],
    [P, 'label = { campaign = "winter", team = "b" }'],
]
ACME: Final = scope("acme", labels={"campaign": "winter", "team": "b", "more": "x"})


@pytest.mark.parametrize(("weaker", "stronger"), [*pairwise(FROM_WEAKEST)], ids=str)
def test_the_more_specific_entry_wins(weaker: list[str], stronger: list[str]) -> None:
    """For whom goes before what: label, tenant, agent, project; then model, provider and the rest."""
    entries = minutes(*weaker, price="1"), minutes(*stronger, price="2")
    assert winner(NOVA, *entries, who=ACME) == "2"


@settings(max_examples=50)
@given(st.data())
def test_who_wins_does_not_depend_on_the_order_of_the_file(data: st.DataObject) -> None:
    """Of any of these entries, in any order, the one that stands last in the list above wins."""
    chosen = data.draw(st.sets(st.integers(0, len(FROM_WEAKEST) - 1), min_size=1, max_size=6))
    order = data.draw(st.permutations(sorted(chosen)))
    text = "".join(minutes(*FROM_WEAKEST[nth], price=str(nth)) for nth in order)
    cost, _ = found(text, NOVA, ACME)
    assert cost is not None
    assert cost.original_price == str(max(chosen))


def test_between_equals_the_newest_wins() -> None:
    """An entry without a first day is the oldest."""
    old = minutes(P)
    newer = minutes(P, "from = 2026-01-01", price="2")
    newest = minutes(P, "from = 2026-06-01", price="3")
    future = minutes(P, "from = 2027-01-01", price="4")
    assert winner(NOVA, old, newest, newer, future) == "3"
    assert winner(NOVA, old, newer) == "2"


@pytest.mark.parametrize(
    ("selector", "who"),
    [
        ('tenant = "acme"', scope()),
        ('tenant = "acme"', scope("ACME")),
        ('project = "staging"', scope()),
        ('agent = "front"', scope()),
        ('label = { campaign = "winter" }', scope(labels={"campaign": "summer"})),
        ('label = { campaign = "winter", team = "b" }', scope(labels={"campaign": "winter"})),
        ('region = "eu"', scope()),
        ('region = "eu"', scope(labels={"region": "us"})),
        ('model = "nova-3"', scope()),
        ('model = "nova-3*-medical"', scope()),
        ('provider = "deep"', scope()),
        ('modality = "tts"', scope()),
        ('service_tier = "priority"', scope()),
    ],
)
def test_an_entry_for_something_else_does_not_apply(selector: str, who: object) -> None:
    """Names of yours are compared letter by letter; a session without a tenant has none."""
    text = selector if "provider" in selector else f"{P}\n{selector}"
    assert winner(NOVA, minutes(*text.split("\n")), who=who) is None


def test_providers_and_models_are_compared_in_any_case() -> None:
    """As vendors write them."""
    assert winner(NOVA, minutes('provider = "DeepGram"', 'model = "NOVA-3*"')) == "1"
    assert winner(meter("stt", "DEEPGRAM", "Nova-3-General"), minutes(P, M)) == "1"


def test_a_region_is_a_label_of_the_session_or_what_the_caller_says() -> None:
    """No meter has a region today, so the label `region` says it."""
    entry = minutes(P, 'region = "EU"')
    assert winner(NOVA, entry, who=scope(labels={"region": "eu"})) == "1"
    assert winner(NOVA, entry, region="eu") == "1"
    assert winner(NOVA, entry, who=scope(labels={"region": "eu"}), region="us") is None


def test_a_price_without_a_tier_is_for_the_standard_tier() -> None:
    """Priority costs more, so it is not priced by what the standard tier costs."""
    entry = '[[cost]]\nmodel = "gpt-4.1"\n{}unit = "million tokens"\nprice = "{}"\n'
    standard, priority = entry.format("", 1), entry.format('service_tier = "Priority"\n', 2)
    fast = meter("llm", "openai", "gpt-4.1", service_tier="priority")
    assert winner(fast, standard) is None
    assert winner(fast, standard, priority) == "2"
    assert winner(meter("llm", "openai", "gpt-4.1"), standard, priority) == "1"


def test_a_share_is_for_every_tier() -> None:
    """What it is a share of counts the tier already."""
    fast = meter("llm", "openai", "gpt-4.1", service_tier="priority")
    assert winner(fast, '[[cost]]\nprovider = "openai"\ndiscount = "5 %"\n') == "discount 5 %"


@pytest.mark.parametrize(
    ("unit", "modalities"),
    [
        ("minute", "stt realtime agent_session participant telephony avatar"),
        ("million tokens", "llm decision realtime stt tts avatar"),
        ("thousand characters", "tts avatar"),
        ("request", "llm decision realtime stt tts turn_detector interruption avatar"),
        ("call", "agent_session telephony"),
    ],
)
def test_without_a_modality_the_unit_tells_what_a_price_is_for(unit: str, modalities: str) -> None:
    """A price by the minute is not for a voice, which is sold by the character."""
    every = [
        "stt",
        "llm",
        "tts",
        "realtime",
        "turn_detector",
        "interruption",
        "decision",
        "agent_session",
        "participant",
    ]
    every += ["telephony", "avatar"]
    entry = f'[[cost]]\nprovider = "p"\nunit = "{unit}"\nprice = "1"\n'
    reached = [it for it in every if winner(meter(it, "p", "m"), entry)]
    assert sorted(reached) == sorted(modalities.split())


@pytest.mark.parametrize(("unit", "modality"), [("minute", "tts"), ("request", "telephony")])
def test_a_named_modality_widens_what_a_unit_is_for(unit: str, modality: str) -> None:
    """Where the unit does not tell, the entry can."""
    entry = f'[[cost]]\nprovider = "p"\nmodality = "{modality}"\nunit = "{unit}"\nprice = "1"\n'
    assert winner(meter(modality, "p", "m"), entry) == "1"


LETTERS = st.text("ab*", max_size=8)


@given(LETTERS, st.text("ab", max_size=10))
def test_a_pattern_stands_for_any_text_at_its_stars(pattern: str, name: str) -> None:
    """As the same pattern written as a regular expression, without its cost on many stars."""
    expression = "".join(".*" if it == "*" else it for it in pattern)
    assert fits_pattern(pattern, name) == bool(re.fullmatch(expression, name))


def test_a_pattern_is_nothing_but_stars_and_letters() -> None:
    """A dot, a question mark or a bracket in a name stands for itself."""
    assert fits_pattern("gpt-4.1*", "gpt-4.1-mini")
    assert not fits_pattern("gpt-4.1*", "gpt-4o1-mini")
    assert not fits_pattern("nova-?", "nova-3")
    assert not fits_pattern("ab*ba", "aba")  # both ends would be the same letter
    assert fits_pattern("*" + "a*" * 60 + "b", "a" * 100 + "b")


def test_the_line_of_the_entry_is_told() -> None:
    """An answer says which entry it comes from."""
    cost, billed = found("\n\n" + minutes(P), NOVA)
    assert (line_of(cost), billed) == (3, None)
    assert (
        read(minutes(P), "prices.toml").find(NOVA, scope(), START)[0] == found(minutes(P), NOVA)[0]
    )
