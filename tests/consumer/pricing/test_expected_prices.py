"""Expected prices: an upgrade of the price list shows its changes here, line by line."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Final

import pytest
import voice_prices
from voice_prices.data import providers

from tests.consumer.pricing.asking import START, rated
from tests.consumer.pricing.price_table import PRICED, UNPRICED

if TYPE_CHECKING:
    from tests.consumer.pricing.price_table import Case, Missing
    from voicecosts.producer.events import Quantities

ROWS: Final = {f"{owner.id}/{row.id}": (owner, row) for owner in providers for row in owner.models}


def nano(amount: Decimal) -> Decimal:
    """Round as the ledger does."""
    return amount.quantize(Decimal("1E-9"), ROUND_HALF_EVEN)


def name_of(case: tuple[object, ...]) -> str:
    """Name a line of the table after its label and model."""
    return f"{case[1]} {case[2]}"


@pytest.mark.parametrize("case", PRICED, ids=name_of)
def test_a_known_model_costs_the_sum_of_its_legs(case: Case) -> None:
    """The row found is the expected one, everything has a rate, and the money is exact."""
    modality, label, model, totals, row, expected = case
    result = rated(modality, label, model, totals)
    assert (result.cost, result.reason, result.model) == (nano(expected), None, row)


@pytest.mark.parametrize("case", UNPRICED, ids=name_of)
def test_a_model_without_a_right_price_has_none(case: Missing) -> None:
    """Better no number than a wrong one, and the reason says which price is missing."""
    modality, label, model, totals, reason = case
    result = rated(modality, label, model, totals)
    assert result.cost is None
    assert result.unpriced
    assert result.reason is not None
    assert reason in result.reason


@pytest.mark.parametrize("case", PRICED, ids=name_of)
def test_the_package_itself_computes_the_same_price(case: Case) -> None:
    """The price list's own calculator agrees on the row to nine digits."""
    modality, label, model, totals, row, _ = case
    owner, listed = ROWS[row]
    usage = usage_of(modality, totals)
    if listed.provenance and listed.provenance.estimated_fields:
        usage.audio_input_seconds = None  # the package would add its estimate to the bill
    calculated = listed.calc_price(usage, owner, genai_request_timestamp=START)
    assert nano(calculated.total_price) == rated(modality, label, model, totals).cost


def usage_of(modality: str, totals: Quantities) -> voice_prices.Usage:
    """Say the same in the package's own terms."""
    audio_in, audio_out = totals.audio_input_tokens, totals.audio_output_tokens
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
        agent_minutes=Decimal(totals.session_us) / 60_000_000,
    )
