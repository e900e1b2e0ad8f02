"""examples/prices.toml: it is a valid file, each entry has its use, and it prices what the list cannot."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest

from tests.consumer.pricing.own.asking import START, cost, meter, scope
from tests.consumer.pricing.test_expected_prices import UNPRICED, USAGES, Case
from voicecosts.consumer.pricing.own import load
from voicecosts.producer.events import Quantities
from voicecosts.producer.providers import normalise_provider

PATH: Final = Path(__file__).parents[2] / "examples" / "prices.toml"
TEXT: Final = PATH.read_text(encoding="utf-8")
BOOK: Final = load(PATH)


@pytest.mark.parametrize("case", UNPRICED, ids=lambda case: f"{case['label']} {case['model']}")
def test_what_the_list_cannot_price_has_a_line(case: Case) -> None:
    """All of its usage is priced, and only what nobody charges for by itself is free."""
    detector = case["modality"] in ("interruption", "turn_detector")
    totals = Quantities(requests=7) if detector else USAGES[case["usage"]].totals
    of = meter(case["modality"], normalise_provider(case["label"]), case["model"])
    found = cost(BOOK, of, totals)
    assert list(found.misses) == []
    assert found.amount is not None
    assert (found.amount == 0) == (detector or case["label"] == "livekit-self-hosted")


@pytest.mark.parametrize(
    ("modality", "provider", "model", "totals", "dollars"),
    [
        ("stt", "deepgram", "nova-3-medical", {"audio_us": 90_000_000}, "0.006435"),
        ("llm", "llm.acme.test", "llama-3.3-70b", {"input_tokens": 1_000_000}, "1.388889"),
        ("agent_session", "livekit", "agent-session", {"session_us": 61_000_000}, "0.02"),
        ("participant", "livekit", "webrtc", {"session_us": 61_000_000}, "0.001"),
        ("telephony", "twilio", "us-local-inbound", {"session_us": 61_000_000}, "0.0156"),
        ("telephony", "twilio", "us-tollfree-inbound", {"session_us": 1}, "0.019"),
        ("avatar", "tavus", "phoenix-3", {"session_us": 90_000_000}, "0.555"),
        ("avatar", "tavus", "phoenix-3", {"session_us": 1}, "0.185"),
        ("tool", "serper", "search", {"requests": 3}, "0.003"),
        ("judge", "openai", "gpt-4.1-mini", {"input_tokens": 1_000_000}, "0.4"),
    ],
)
def test_the_rest_of_the_call_has_a_line(
    modality: str, provider: str, model: str, totals: dict[str, int], dollars: str
) -> None:
    """A contract in euros, a model of one's own, minutes, a carrier, an avatar and a tool."""
    found = cost(BOOK, meter(modality, provider, model), Quantities(**totals))
    assert (found.amount, list(found.misses)) == (Decimal(dollars), [])


def test_the_price_of_a_gpu_is_worked_out_right() -> None:
    """The comment is arithmetic that a reader repeats with figures of his own."""
    worked = re.search(r"(\d[\d.]+) / (\d[\d.]+) = (\d[\d.]+) dollars per million tokens", TEXT)
    load_of = re.search(r"([\d,]+) x ([\d,]+) x ([\d.]+) = ([\d.]+) million", TEXT)
    assert worked is not None
    assert load_of is not None
    speed, seconds, share, millions = (Decimal(it.replace(",", "")) for it in load_of.groups())
    assert speed * seconds * share == millions * 1_000_000
    hour, tokens, price = map(Decimal, worked.groups())
    assert (hour / tokens).quantize(Decimal("0.000001")) == price
    assert tokens == millions
    assert f'price = "{price}"' in TEXT


def test_tenants_are_billed_in_three_ways() -> None:
    """A mark-up, a price by the minute with everything included, and a passing on at cost."""
    session, leg, model = (
        meter("agent_session", "livekit", "agent-session"),
        meter("telephony", "twilio", "us-local-inbound"),
        meter("llm", "openai", "gpt-4.1"),
    )
    ways = {
        (tenant, of.modality): billed
        for tenant in ("acme", "globex")
        for of in (session, leg, model)
        if (billed := BOOK.find(of, scope(tenant), START)[1]) is not None
    }
    assert {way: (it.share, it.included, len(it.parts)) for way, it in ways.items()} == {
        ("acme", "agent_session"): (Decimal("1.2"), False, 0),
        ("acme", "telephony"): (Decimal("1.2"), False, 0),
        ("acme", "llm"): (Decimal("1.2"), False, 0),
        ("globex", "agent_session"): (None, False, 1),
        ("globex", "telephony"): (Decimal(1), False, 0),
        ("globex", "llm"): (None, True, 0),
    }
