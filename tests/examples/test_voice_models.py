"""Voice models that agents commonly run on: each has its list price, or a reason and a line to add.

What the list prices of the others come to, and the reasons, stand in `priced.csv` and `unpriced.csv` of
`tests/consumer/pricing/`; here stands what a line of `examples/prices.toml` makes of those it misses.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest

from tests.consumer.pricing.asking import ANYBODY, START, mtok
from tests.consumer.pricing.asking import BOOK as LISTED
from tests.consumer.pricing.test_expected_prices import (
    PRICED,
    UNPRICED,
    USAGES,
    Case,
    asked,
    expected,
)
from voicecosts.consumer.pricing import Rated, rate_by
from voicecosts.consumer.pricing.own import load
from voicecosts.producer.events import Meter
from voicecosts.producer.providers import normalise_provider

BY_LIST: Final = """
stt: Deepgram nova-3, Deepgram nova-2-general, Deepgram flux-general-en
stt: AssemblyAI universal-streaming-english, AssemblyAI universal-3-5-pro, Cartesia ink-2
stt: ElevenLabs scribe_v2_realtime, Gladia solaria-1, Speechmatics enhanced
stt: Google Cloud Platform latest_long, Amazon Transcribe unknown, api.openai.com whisper-1
stt: api.openai.com gpt-4o-mini-transcribe, api.groq.com whisper-large-v3-turbo
stt: livekit deepgram/nova-3:en, livekit cartesia/ink-whisper
tts: Cartesia sonic-3, ElevenLabs eleven_turbo_v2_5, ElevenLabs eleven_multilingual_v2
tts: Deepgram aura-2-andromeda-en, Rime mistv2, Amazon Polly generative
tts: Inworld inworld-tts-1.5-max, api.openai.com tts-1
tts: livekit cartesia/sonic-2:a-voice, livekit inworld/inworld-tts-1.5-max
realtime: api.openai.com gpt-realtime, api.openai.com gpt-realtime-mini
realtime: Gemini gemini-2.5-flash-native-audio-preview-09-2025
realtime: AWS Bedrock amazon.nova-sonic-v1:0, api.x.ai grok-voice-think-fast-2.0
"""
"""By modality: the provider's label in LiveKit, and the model."""

BY_OWN_LINE: Final = {
    # 90 seconds of audio, by the hour
    ("stt", "AssemblyAI universal-streaming"): Decimal("0.15") * 90 / 3600,
    ("stt", "Azure STT unknown"): Decimal("1.00") * 90 / 3600,
    ("stt", "Soniox stt-rt-v3"): Decimal("0.12") * 90 / 3600,
    # 1,234 characters, by the thousand or million; 77 seconds of speech, by the minute
    ("tts", "Rime arcana"): Decimal("0.04") * 1234 / 1000,
    ("tts", "PlayHT PlayDialog"): Decimal("0.06") * 1234 / 1000,
    ("tts", "Inworld inworld-tts-1"): Decimal(5) * 1234 / 1_000_000,
    ("tts", "api.openai.com gpt-4o-mini-tts"): Decimal("0.015") * 77 / 60,
    # text and audio that came in, cached or not, then text and audio that went out
    ("realtime", "Vertex AI gemini-live-2.5-flash-native-audio"): mtok("0.50", 3_000)
    + mtok("3.00", 7_000)
    + mtok("2.00", 500)
    + mtok("12.00", 1_500),
}
"""Those that the list misses: what their line in the example makes of the usage."""

Key = tuple[str, str]
OWN: Final = load(Path(__file__).parents[2] / "examples" / "prices.toml")


def key_of(case: Case) -> Key:
    """Return how a line of a table is named here."""
    return case["modality"], f"{case['label']} {case['model']}"


def named(lines: str) -> list[Key]:
    """Return the models of a list by modality."""
    return [
        (modality, name)
        for modality, _, names in (line.partition(": ") for line in lines.strip().splitlines())
        for name in names.split(", ")
    ]


PRICES: Final = {key_of(case): case for case in PRICED}
REASONS: Final = {key_of(case): case for case in UNPRICED}


def rated_by_example(case: Case) -> Rated:
    """Rate the usage of a line by the list and the prices of the example."""
    meter = Meter(
        session_id="",
        agent_label="",
        modality=case["modality"],
        provider=normalise_provider(case["label"]),
        model=case["model"],
        estimated=False,
    )
    totals = USAGES[case["usage"]].totals
    return rate_by(LISTED, OWN)(meter, totals, START, provider_raw=case["label"], scope=ANYBODY)


def test_they_are_thirty_nine() -> None:
    """None is named twice, and what has a price has one of the two kinds of price."""
    models = [*named(BY_LIST), *BY_OWN_LINE]
    assert len(models) == len(set(models)) == 39
    assert Counter(modality for modality, _ in models) == {"stt": 19, "tts": 14, "realtime": 6}


@pytest.mark.parametrize("key", named(BY_LIST), ids=" ".join)
def test_most_have_their_list_price(key: Key) -> None:
    """The row of the list is the right one, all usage has a rate, and the money is exact."""
    found = asked(PRICES[key])
    assert (found.cost, found.reason) == (expected(PRICES[key]), None)
    assert found.model == PRICES[key]["row"]


@pytest.mark.parametrize("key", named(BY_LIST), ids=" ".join)
def test_they_have_a_price_beside_the_example_too(key: Key) -> None:
    """A line of the example takes a price from none, and where it has none the list price stays."""
    found = rated_by_example(PRICES[key])
    assert (found.reason, found.list_cost) == (None, expected(PRICES[key]))
    is_own = found.source == "prices.toml"
    assert is_own == (found.cost != found.list_cost)
    assert not is_own or key[1].startswith("Deepgram nova-3")


@pytest.mark.parametrize("key", BY_OWN_LINE, ids=" ".join)
def test_the_rest_has_the_right_reason_and_a_line(key: Key) -> None:
    """Unpriced by the list, for a reason that names what is missing; then exact by the example."""
    case = REASONS[key]
    missed = asked(case)
    assert missed.cost is None
    assert missed.reason is not None
    assert case["reason"] in missed.reason
    found = rated_by_example(case)
    assert (found.cost, found.reason) == (BY_OWN_LINE[key].quantize(Decimal("1E-9")), None)
    assert found.source == "prices.toml"
    assert found.list_cost is None
