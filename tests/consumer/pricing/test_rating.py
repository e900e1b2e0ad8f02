"""The rules of rating: what is billed, what is only information, and what has no price."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.consumer.pricing.asking import krequest, mtok, rated, seconds
from voicecosts.consumer.pricing import Price, Unpriced
from voicecosts.producer.events import LARGE_REQUEST_TOKENS, Quantities

if TYPE_CHECKING:
    from datetime import datetime


class OnePrice:
    """A book with one page."""

    def __init__(self, page: Price | Unpriced) -> None:
        self.page = page

    def find(
        self, *, modality: str, provider: str, provider_raw: str, model: str, at: datetime
    ) -> Price | Unpriced:
        """Return that page for everything."""
        return self.page


def price(*, free: bool = False, tier_start: int | None = None, **rates: str) -> Price:
    """Write a price with its rates as strings."""
    return Price(
        source="test",
        version="1",
        model="acme/m",
        free=free,
        rates={part: Decimal(rate) for part, rate in rates.items()},
        tier_start=tier_start,
    )


def test_an_unknown_model_has_no_cost_and_says_so() -> None:
    """No price is never zero."""
    result = rated("llm", "acme", "m", Quantities(input_tokens=5, output_tokens=1, requests=1))
    assert result.cost is None
    assert result.unpriced == ("input_tokens", "output_tokens")
    assert result.reason == "no price list for provider 'acme'"
    assert (result.source, result.version, result.model) == (None, None, None)


def test_a_model_that_was_not_used_costs_nothing() -> None:
    """A cancelled request that reported no tokens needs no price."""
    result = rated("llm", "acme", "m", Quantities(requests=3))
    assert (result.cost, result.unpriced, result.reason) == (Decimal(0), (), None)


def test_a_free_model_costs_exactly_nothing() -> None:
    """Free is a price: zero, with nothing unpriced."""
    book = OnePrice(price(free=True))
    result = rated("llm", "acme", "m", Quantities(input_tokens=10**12), book=book)
    assert (result.cost, result.unpriced, result.reason) == (Decimal(0), (), None)
    assert result.model == "acme/m"


def test_a_listed_free_model_costs_exactly_nothing() -> None:
    """The list marks free models apart from models without a rate."""
    result = rated("tts", "livekit", "fishaudio/s2.1-pro-free", Quantities(characters=5000))
    assert (result.cost, result.reason) == (Decimal(0), None)


def test_what_has_a_rate_is_priced_beside_what_has_none() -> None:
    """Image tokens without a rate are named; they are not priced as text."""
    totals = Quantities(
        input_tokens=1500, text_input_tokens=500, image_input_tokens=1000, requests=1
    )
    result = rated("realtime", "api.openai.com", "gpt-realtime", totals)
    assert result.cost == mtok("4", 500)
    assert result.unpriced == ("image_input_tokens",)
    assert result.reason == "'openai/gpt-realtime' has no rate for image_input_tokens"


def test_totals_that_contradict_themselves_are_unpriced_and_the_rest_is_priced() -> None:
    """A negative remainder neither raises nor becomes money; the other direction keeps its cost."""
    totals = Quantities(
        input_tokens=10,
        text_input_tokens=5,
        audio_input_tokens=7,
        output_tokens=100,
        audio_output_tokens=100,
    )
    result = rated("realtime", "api.openai.com", "gpt-realtime", totals)
    assert result.cost == mtok("64", 100)
    assert result.unpriced == ("input_tokens", "text_input_tokens", "audio_input_tokens")
    assert result.reason == "text+audio input tokens 12 exceed input_tokens 10"


def test_all_reasons_are_given() -> None:
    """Two faults are two reasons, and nothing is priced then."""
    totals = Quantities(input_tokens=1, cache_read_input_tokens=2, output_tokens=3)
    result = rated("realtime", "api.openai.com", "gpt-realtime", totals)
    assert result.cost is None
    assert result.reason == (
        "input_tokens 1 are not split into text and audio; "
        "output_tokens 3 are not split into text and audio"
    )


GEMINI = ("llm", "Gemini", "gemini-2.5-pro")


def test_a_sum_over_many_requests_never_reaches_a_tier() -> None:
    """Ten million tokens in small requests cost the base price."""
    totals = Quantities(input_tokens=10_000_000, requests=1000)
    assert rated(*GEMINI, totals).cost == mtok("1.25", 10_000_000)


def test_a_large_request_makes_tokens_at_a_tiered_price_unpriced() -> None:
    """Which of the tokens cost more cannot be told, so none get a number."""
    totals = Quantities(input_tokens=300_000, output_tokens=5, requests=3, large_requests=1)
    result = rated(*GEMINI, totals)
    assert result.cost is None
    assert result.unpriced == ("input_tokens", "output_tokens")
    assert result.reason == (
        f"1 large_requests (above {LARGE_REQUEST_TOKENS} input tokens): "
        "'google/gemini-2.5-pro' charges more from 200000"
    )


def test_large_requests_mean_nothing_at_a_flat_price() -> None:
    """A model without tiers charges every size the same."""
    totals = Quantities(input_tokens=300_000, requests=1, large_requests=1)
    assert rated("llm", "Gemini", "gemini-2.5-flash", totals).cost == mtok("0.3", 300_000)


def test_a_tier_below_what_is_counted_leaves_tokens_unpriced() -> None:
    """Requests above a smaller size are not counted, so any of them may have cost more."""
    book = OnePrice(price(input_tokens="1", tier_start=32_000))
    result = rated("llm", "acme", "m", Quantities(input_tokens=10), book=book)
    assert result.cost is None
    assert result.reason == "'acme/m' charges requests above 32000 input tokens more; not counted"


def test_seconds_bill_a_transcription_and_its_tokens_are_information() -> None:
    """A price per second covers the usage; its tokens are not unpriced."""
    book = OnePrice(price(audio_us="0.1"))
    totals = Quantities(audio_us=seconds(60), input_tokens=600, output_tokens=100)
    result = rated("stt", "acme", "m", totals, book=book)
    assert (result.cost, result.reason) == (Decimal("0.006"), None)


def test_tokens_bill_a_transcription_and_its_seconds_are_information() -> None:
    """A price per token covers the usage; its seconds are not unpriced."""
    totals = Quantities(audio_us=seconds(60), input_tokens=600, output_tokens=100)
    result = rated("stt", "api.openai.com", "gpt-4o-transcribe", totals)
    assert result.cost == mtok("6", 600) + mtok("10", 100)
    assert result.reason is None


def test_a_model_billed_otherwise_than_measured_is_unpriced() -> None:
    """OpenAI's dollars per minute are its own estimate of a bill by tokens, not the bill."""
    result = rated(
        "stt", "api.openai.com", "gpt-4o-transcribe", Quantities(audio_us=seconds(60), requests=1)
    )
    assert result.cost is None
    assert result.unpriced == ("audio_us",)
    assert result.reason == (
        "'openai/gpt-4o-transcribe' is billed by tokens, but only audio_us was reported"
    )


@pytest.mark.parametrize(
    ("rates", "cost"),
    [
        ({"characters": "0.05"}, "0.05"),
        ({"input_tokens": "1", "audio_output_tokens": "20"}, "0.0162"),
        ({"audio_us": "0.1"}, "0.006"),
    ],
)
def test_a_voice_is_billed_by_characters_or_tokens_or_seconds(
    rates: dict[str, Any], cost: str
) -> None:
    """One of its measures is billed; the others are information."""
    totals = Quantities(
        characters=1000, input_tokens=200, output_tokens=800, audio_us=seconds(60), requests=4
    )
    result = rated("tts", "acme", "m", totals, book=OnePrice(price(**rates)))
    assert (result.cost, result.reason) == (Decimal(cost), None)


def test_a_session_billed_by_time_needs_no_token_price() -> None:
    """An agent minute covers what was said in it."""
    totals = Quantities(session_us=seconds(90), input_tokens=10, output_tokens=10)
    result = rated("realtime", "api.x.ai", "grok-voice-think-fast-2.0", totals)
    assert (result.cost, result.reason) == (Decimal("0.12"), None)


def test_session_time_is_information_where_tokens_are_billed() -> None:
    """A model priced by tokens does not become unpriced by reporting how long it was connected."""
    totals = Quantities(session_us=seconds(90), input_tokens=10, text_input_tokens=10)
    result = rated("realtime", "api.openai.com", "gpt-realtime", totals)
    assert (result.cost, result.reason) == (mtok("4", 10), None)


def test_requests_are_billed_only_where_the_price_has_a_rate_for_them() -> None:
    """Most models count requests without charging for them; a search model charges each."""
    totals = Quantities(input_tokens=1000, requests=2)
    assert rated("llm", "api.openai.com", "gpt-4o", totals).cost == mtok("2.5", 1000)
    sonar = rated("llm", "api.perplexity.ai", "sonar", totals)
    assert sonar.cost == mtok("1", 1000) + krequest("12", 2)


@pytest.mark.parametrize("modality", ["interruption", "turn_detector"])
def test_requests_are_the_usage_of_detectors(modality: str) -> None:
    """Without a price they are unpriced; with one they cost it."""
    totals = Quantities(requests=5)
    missing = rated(modality, "livekit", "adaptive interruption", totals)
    assert (missing.cost, missing.unpriced) == (None, ("requests",))
    assert missing.reason is not None
    priced = rated(modality, "acme", "m", totals, book=OnePrice(price(requests="0.2")))
    assert priced.cost == krequest("0.2", 5)


def test_a_modality_nobody_knows_is_unpriced() -> None:
    """A new kind of usage is not billed by the rules of another."""
    result = rated(
        "avatar", "acme", "m", Quantities(session_us=9), book=OnePrice(price(session_us="1"))
    )
    assert (result.cost, result.unpriced) == (None, ("session_us",))
    assert result.reason == "no rule how modality 'avatar' is billed"


def test_a_missing_part_is_named_by_a_quantity_that_the_totals_hold() -> None:
    """A ledger row is matched to its reason by quantities that moved, so no others are named."""
    book = OnePrice(price(input_tokens="1"))
    result = rated("tts", "acme", "m", Quantities(input_tokens=5, output_tokens=7), book=book)
    assert result.unpriced == ("output_tokens",)


@pytest.mark.parametrize(
    ("nanos", "rounded"), [("0.5", "0E-9"), ("1.5", "2E-9"), ("2.5", "2E-9"), ("0.51", "1E-9")]
)
def test_halves_of_the_last_digit_go_to_the_even_one(nanos: str, rounded: str) -> None:
    """Money is rounded half-even at the ninth digit."""
    book = OnePrice(price(input_tokens=str(Decimal(nanos) / 1000)))
    result = rated("llm", "acme", "m", Quantities(input_tokens=1), book=book)
    assert result.cost == Decimal(rounded)
    assert str(result.cost) == str(Decimal(rounded))


def test_money_is_rounded_once_on_the_sum_of_its_legs() -> None:
    """Two legs of four tenths of a nano-dollar are eight tenths, not twice nothing."""
    book = OnePrice(price(input_tokens="0.0004", output_tokens="0.0004"))
    totals = Quantities(input_tokens=1, output_tokens=1)
    assert rated("llm", "acme", "m", totals, book=book).cost == Decimal("1E-9")
