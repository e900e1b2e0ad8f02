"""The rules of rating: what is billed, what is only information, and what has no price."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import asdict

from tests.consumer.pricing.asking import krequest, mtok, rated, seconds
from voicecosts.consumer.pricing import Price, Rated, Unpriced
from voicecosts.consumer.pricing.price import Tier
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


def missing(result: Rated) -> dict[str, int]:
    """Return what has no price, by its measure."""
    return {name: amount for name, amount in asdict(result.unpriced_usage).items() if amount}


def price(*, free: bool = False, tiers: tuple[Tier, ...] = (), **rates: str) -> Price:
    """Write a price with its rates as strings."""
    return Price(
        source="test",
        version="1",
        model="acme/m",
        free=free,
        rates={part: Decimal(rate) for part, rate in rates.items()},
        tiers=tiers,
    )


def test_an_unknown_model_has_no_cost_and_says_so() -> None:
    """No price is never zero."""
    result = rated("llm", "acme", "m", Quantities(input_tokens=5, output_tokens=1, requests=1))
    assert result.cost is None
    assert missing(result) == {"requests": 1, "input_tokens": 5, "output_tokens": 1}
    assert result.reason == "no price list for provider 'acme'"
    assert (result.source, result.version, result.model) == (None, None, None)


def test_requests_without_tokens_have_no_cost_either() -> None:
    """What a cancelled request of an unknown model costs nobody knows; of a known one it is nothing."""
    result = rated("llm", "acme", "m", Quantities(requests=3))
    assert (result.cost, result.list_cost, missing(result)) == (None, None, {"requests": 3})
    assert result.reason == "no price list for provider 'acme'"
    known = rated("llm", "openai", "gpt-4.1-mini", Quantities(requests=3))
    assert (known.cost, missing(known), known.reason) == (Decimal(0), {}, None)


def test_a_free_model_costs_exactly_nothing() -> None:
    """Free is a price: zero, with nothing unpriced."""
    book = OnePrice(price(free=True))
    result = rated("llm", "acme", "m", Quantities(input_tokens=10**12), book=book)
    assert (result.cost, missing(result), result.reason) == (Decimal(0), {}, None)
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
    assert missing(result) == {"requests": 1, "input_tokens": 1000}
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
    assert missing(result) == {"input_tokens": 10}
    assert result.reason == "text, audio and image input tokens exceed input_tokens"


def test_all_reasons_are_given() -> None:
    """Two faults are two reasons, and nothing is priced then."""
    totals = Quantities(input_tokens=2, cache_read_input_tokens=1, output_tokens=3)
    result = rated("realtime", "api.openai.com", "gpt-realtime", totals)
    assert result.cost is None
    assert missing(result) == {"input_tokens": 2, "output_tokens": 3}
    assert result.reason == (
        "input tokens are not split into text and audio; "
        "output tokens are not split into text and audio"
    )


GEMINI = ("llm", "Gemini", "gemini-2.5-pro")


def test_a_sum_over_many_requests_never_reaches_a_tier() -> None:
    """Ten million tokens in small requests cost the base price."""
    totals = Quantities(input_tokens=10_000_000, requests=1000)
    assert rated(*GEMINI, totals).cost == mtok("1.25", 10_000_000)


@pytest.mark.parametrize(
    ("size_tier", "rates"),
    [
        (0, ("1.25", "10")),
        (32_000, ("1.25", "10")),
        (128_000, ("1.25", "10")),
        (200_000, ("2.5", "15")),
        (272_000, ("2.5", "15")),
        (512_000, ("2.5", "15")),
    ],
)
def test_the_prices_own_threshold_decides(size_tier: int, rates: tuple[str, str]) -> None:
    """A size below the start of a tier is priced at the base, one above it at the tier's rates."""
    large = 2 if size_tier >= LARGE_REQUEST_TOKENS else 0
    totals = Quantities(input_tokens=600_000, output_tokens=500, requests=2, large_requests=large)
    result = rated(*GEMINI, totals, size_tier=size_tier)
    assert result.cost == mtok(rates[0], 600_000) + mtok(rates[1], 500)
    assert (result.reason, missing(result)) == (None, {})


def test_a_size_that_a_threshold_goes_through_is_unpriced_and_no_other() -> None:
    """Which of those requests are above it cannot be told; all others are priced exactly."""
    tier = Tier(start=60_000, rates={"input_tokens": Decimal(2)})
    book = OnePrice(price(input_tokens="1", tiers=(tier,)))
    totals = Quantities(input_tokens=120_000, output_tokens=0, requests=2)
    result = rated("llm", "acme", "m", totals, book=book, size_tier=32_000)
    assert result.cost is None
    assert missing(result) == {"requests": 2, "input_tokens": 120_000}
    assert result.reason == (
        "'acme/m' charges requests above 60000 input tokens differently, and they are counted "
        "together with smaller ones"
    )
    for size, rate in ((0, "1"), (128_000, "2")):
        exact = rated("llm", "acme", "m", totals, book=book, size_tier=size)
        assert (exact.cost, exact.reason) == (mtok(rate, 120_000), None)


def test_the_large_requests_of_an_older_worker_keep_the_base_price_and_are_said() -> None:
    """It counts all sizes together: nothing is taken back, and the doubt is in requests."""
    before = rated(*GEMINI, Quantities(input_tokens=100_000, output_tokens=4, requests=2))
    totals = Quantities(input_tokens=400_000, output_tokens=5, requests=3, large_requests=1)
    result = rated(*GEMINI, totals)
    assert result.cost == mtok("1.25", 400_000) + mtok("10", 5)
    assert before.cost is not None
    assert result.cost > before.cost
    assert missing(result) == {"requests": 1}
    assert result.reason == (
        "requests above 128000 input tokens are priced like smaller ones, but "
        "'google/gemini-2.5-pro' charges those above 200000 differently: upgrade the worker, "
        "which counts them apart"
    )


def test_large_requests_mean_nothing_at_a_flat_price() -> None:
    """A model without tiers charges every size the same."""
    totals = Quantities(input_tokens=300_000, requests=1, large_requests=1)
    for size in (0, 272_000):
        result = rated("llm", "Gemini", "gemini-2.5-flash", totals, size_tier=size)
        assert (result.cost, result.reason) == (mtok("0.3", 300_000), None)


def test_a_service_tier_has_no_price_yet() -> None:
    """What was asked for at another price is not priced at the standard one."""
    totals = Quantities(input_tokens=10, output_tokens=2, requests=1)
    result = rated("llm", "api.openai.com", "gpt-4o", totals, service_tier="priority")
    assert result.cost is None
    assert missing(result) == {"requests": 1, "input_tokens": 10, "output_tokens": 2}
    assert result.reason == "'openai/gpt-4o' has no price for the service tier 'priority'"


def test_tokens_that_nobody_knows_have_no_price_and_the_rest_has() -> None:
    """They are neither input nor output, so no rate applies."""
    totals = Quantities(input_tokens=100, output_tokens=10, other_tokens=7, requests=3)
    result = rated("llm", "api.openai.com", "gpt-4o", totals)
    assert result.cost == mtok("2.5", 100) + mtok("10", 10)
    assert missing(result) == {"requests": 3, "other_tokens": 7}
    assert result.reason == "other_tokens have no price: nobody can tell what they were"


def test_tokens_that_nobody_knows_are_information_where_time_is_billed() -> None:
    """An agent minute covers whatever was said in it."""
    totals = Quantities(session_us=seconds(90), other_tokens=10)
    result = rated("realtime", "api.x.ai", "grok-voice-think-fast-2.0", totals)
    assert (result.cost, result.reason) == (Decimal("0.12"), None)


def test_realtime_input_that_no_split_names_is_unpriced_and_not_text() -> None:
    """Video is in Gemini's sum and in no split; it costs what audio costs, or something else."""
    totals = Quantities(
        input_tokens=50_000,
        text_input_tokens=20_000,
        audio_input_tokens=10_000,
        output_tokens=9_000,
        audio_output_tokens=8_000,
        requests=4,
    )
    result = rated("realtime", "Gemini", "gemini-live-2.5-flash-preview", totals)
    assert result.cost == mtok("0.5", 20_000) + mtok("3", 10_000) + mtok("12", 8_000)
    assert missing(result) == {"requests": 4, "input_tokens": 20_000, "output_tokens": 1_000}


def test_audio_is_unpriced_at_a_row_without_an_audio_rate() -> None:
    """Text in the same response keeps its price."""
    totals = Quantities(
        input_tokens=1000,
        text_input_tokens=400,
        audio_input_tokens=600,
        output_tokens=90,
        audio_output_tokens=90,
        requests=1,
    )
    result = rated("realtime", "api.openai.com", "gpt-4o", totals)
    assert result.cost == mtok("2.5", 400)
    assert missing(result) == {"requests": 1, "input_tokens": 600, "output_tokens": 90}
    assert (
        result.reason == "'openai/gpt-4o' has no rate for audio_input_tokens, audio_output_tokens"
    )


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
    assert missing(result) == {"requests": 1, "audio_us": seconds(60)}
    assert result.reason == (
        "'openai/gpt-4o-transcribe' is billed by tokens, but what was reported is audio"
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
    unknown = rated(modality, "livekit", "adaptive interruption", totals)
    assert (unknown.cost, missing(unknown)) == (None, {"requests": 5})
    assert unknown.reason is not None
    priced = rated(modality, "acme", "m", totals, book=OnePrice(price(requests="0.2")))
    assert priced.cost == krequest("0.2", 5)


def test_a_modality_nobody_knows_is_unpriced() -> None:
    """A new kind of usage is not billed by the rules of another."""
    result = rated(
        "avatar", "acme", "m", Quantities(session_us=9), book=OnePrice(price(session_us="1"))
    )
    assert (result.cost, missing(result)) == (None, {"session_us": 9})
    assert result.reason == "no rule how modality 'avatar' is billed"


def test_a_part_without_a_rate_is_missed_in_its_measure() -> None:
    """Audio that a voice made is output, whatever its rate would be called."""
    book = OnePrice(price(input_tokens="1"))
    result = rated("tts", "acme", "m", Quantities(input_tokens=5, output_tokens=7), book=book)
    assert missing(result) == {"output_tokens": 7}


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
