"""Expected prices: an upgrade of the price list shows its changes here, line by line."""

from __future__ import annotations

import csv
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
import voice_prices
from voice_prices.data import providers

from tests.consumer.pricing.asking import START, kchar, kmin, ksec, mtok, rated, seconds
from voicecosts.consumer.pricing import UnpricedUsage
from voicecosts.producer.events import Quantities

if TYPE_CHECKING:
    from collections.abc import Callable

    from voicecosts.consumer.pricing import Rated

ROWS: Final = {f"{owner.id}/{row.id}": (owner, row) for owner in providers for row in owner.models}


class Usage(NamedTuple):
    """Totals, and how money for them is worked out by hand: a leg for each amount."""

    totals: Quantities
    leg: Callable[[str, int], Decimal]
    amounts: tuple[int, ...]


LLM: Final = {"input_tokens": 10_000, "cache_read_input_tokens": 4_000, "output_tokens": 1_000}
SPEECH: Final = {"characters": 1_234, "audio_us": seconds(77), "requests": 3}

USAGES: Final = {
    # fresh, cached, output
    "llm": Usage(Quantities(**LLM, requests=7), mtok, (6_000, 4_000, 1_000)),
    # fresh, written to the cache, read from it, output
    "claude": Usage(
        Quantities(**LLM, cache_creation_input_tokens=1_000, requests=7),
        mtok,
        (5_000, 1_000, 4_000, 1_000),
    ),
    "stt": Usage(Quantities(audio_us=seconds(90)), ksec, (90,)),
    "stt_tokens": Usage(
        Quantities(audio_us=seconds(90), input_tokens=900, output_tokens=200, requests=3),
        mtok,
        (900, 200),
    ),
    "tts": Usage(Quantities(**SPEECH), kchar, (1_234,)),
    "tts_tokens": Usage(
        Quantities(**SPEECH, input_tokens=300, output_tokens=1_500), mtok, (300, 1_500)
    ),
    # text fresh, cached and output, then audio fresh, cached and output
    "realtime": Usage(
        Quantities(
            input_tokens=10_000,
            text_input_tokens=3_000,
            audio_input_tokens=7_000,
            cache_read_input_tokens=5_000,
            text_cache_read_input_tokens=1_000,
            audio_cache_read_input_tokens=4_000,
            output_tokens=2_000,
            text_output_tokens=500,
            audio_output_tokens=1_500,
            requests=7,
        ),
        mtok,
        (2_000, 1_000, 500, 3_000, 4_000, 1_500),
    ),
    "session": Usage(Quantities(session_us=seconds(180)), kmin, (3,)),
    # rounded up to full minutes
    "leg": Usage(Quantities(session_us=seconds(61), requests=1), kmin, (2,)),
}

Case = dict[str, str]


def cases(name: str) -> list[Case]:
    """Read a table: a line is a modality, a usage, LiveKit's provider label and model, and so on."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


PRICED: Final = cases("priced.csv")
"""What voice agents commonly run on: the row that prices it, and its published rates in the order of
the usage's amounts. Prices by the minute or hour are stored in the list by the thousand seconds with
six decimals, so some totals differ from the vendor's page in the sixth digit."""

UNPRICED: Final = cases("unpriced.csv")
"""What has no right price, and what the reason must say."""


def asked(case: Case) -> Rated:
    """Rate the usage of a line."""
    return rated(case["modality"], case["label"], case["model"], USAGES[case["usage"]].totals)


def expected(case: Case) -> Decimal:
    """Work out the money of a line, leg by leg."""
    _, leg, amounts = USAGES[case["usage"]]
    rates = case["rates"].split()
    return nano(sum((leg(*one) for one in zip(rates, amounts, strict=True)), Decimal(0)))


def nano(amount: Decimal) -> Decimal:
    """Round as the ledger does."""
    return amount.quantize(Decimal("1E-9"), ROUND_HALF_EVEN)


def name_of(case: Case) -> str:
    """Name a line of a table after its label and model."""
    return f"{case['label']} {case['model']}"


@pytest.mark.parametrize("case", PRICED, ids=name_of)
def test_a_known_model_costs_the_sum_of_its_legs(case: Case) -> None:
    """The row found is the expected one, everything has a rate, and the money is exact."""
    result = asked(case)
    assert (result.cost, result.reason, result.model) == (expected(case), None, case["row"])


@pytest.mark.parametrize("case", UNPRICED, ids=name_of)
def test_a_model_without_a_right_price_has_none(case: Case) -> None:
    """Better no number than a wrong one, and the reason says which price is missing."""
    result = asked(case)
    assert result.cost is None
    assert result.unpriced_usage != UnpricedUsage()
    assert result.reason is not None
    assert case["reason"] in result.reason


@pytest.mark.parametrize("case", PRICED, ids=name_of)
def test_the_package_itself_computes_the_same_price(case: Case) -> None:
    """The price list's own calculator agrees on the row to nine digits."""
    owner, listed = ROWS[case["row"]]
    usage = usage_of(case["modality"], USAGES[case["usage"]].totals)
    if listed.provenance and listed.provenance.estimated_fields:
        usage.audio_input_seconds = None  # the package would add its estimate to the bill
    calculated = listed.calc_price(usage, owner, genai_request_timestamp=START)
    assert nano(calculated.total_price) == asked(case).cost


def usage_of(modality: str, totals: Quantities) -> voice_prices.Usage:
    """Say the same in the package's own terms."""
    audio_in, audio_out = totals.audio_input_tokens, totals.audio_output_tokens
    minutes = Decimal(totals.session_us) / 60_000_000
    return voice_prices.Usage(
        input_tokens=totals.input_tokens,
        cache_read_tokens=totals.cache_read_input_tokens,
        cache_write_tokens=totals.cache_creation_input_tokens,
        input_audio_tokens=totals.input_tokens if modality == "stt" else audio_in,
        cache_audio_read_tokens=totals.audio_cache_read_input_tokens,
        output_tokens=totals.output_tokens,
        output_audio_tokens=totals.output_tokens if modality == "tts" else audio_out,
        characters=totals.characters,
        audio_input_seconds=Decimal(totals.audio_us).scaleb(-6) if modality == "stt" else None,
        agent_minutes=None if modality == "telephony" else minutes,
        telephony_minutes=minutes.to_integral_value(ROUND_CEILING)
        if modality == "telephony"
        else None,
    )
