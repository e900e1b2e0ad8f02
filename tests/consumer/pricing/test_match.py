"""The guard: a loose match of the price list counts only when it explains the whole name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from voice_prices.data import providers
from voice_prices.types import ClauseEquals

from tests.consumer.pricing.asking import BOOK, START
from voicecosts.consumer.pricing import Price, Unpriced
from voicecosts.consumer.pricing import match as guard
from voicecosts.consumer.pricing import providers as labels
from voicecosts.consumer.pricing.match import explains

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voice_prices.types import ModelInfo

REACHED = {*labels._NAMES.values()}

OTHER_MODELS = [
    ("stt", "cartesia", "ink-whisper", "ink-2"),
    ("stt", "cartesia", "ink", "ink-2"),
    ("tts", "cartesia", "sonic", "sonic-3"),
    ("tts", "cartesia", "sonic-2", "sonic-3"),
    ("tts", "cartesia", "sonic-2-2025-03-07", "sonic-3"),
    ("tts", "cartesia", "sonic-turbo", "sonic-3"),
    ("tts", "cartesia", "sonic-preview", "sonic-3"),
    ("tts", "cartesia", "sonic-4", "sonic-3"),
    ("tts", "elevenlabs", "eleven_flash_v2_5_turbo", "eleven_flash_v2_5"),
    ("llm", "google", "gemini-1.5-flash-8b", "gemini-1.5-flash"),
    ("llm", "google", "gemini-3.5-flash-lite", "gemini-3.5-flash"),
    ("llm", "google", "gemini-2.5-pro-preview-tts", "gemini-2.5-pro"),
    ("llm", "mistral", "mistral-medium-latest", "mistral-medium-3"),
    ("llm", "openai", "gpt-5-nano-audio", "gpt-5-nano"),
    ("llm", "openai", "gpt-4o-2024-05-13", "gpt-4o"),
]
SAME_MODELS = [
    ("llm", "openai", "gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini"),
    ("realtime", "openai", "gpt-4o-realtime-preview-2025-06-03", "openai/gpt-4o-realtime-preview"),
    ("llm", "openai", "ft:gpt-4o-mini-2024-07-18:acme::abc123", "openai/ft:gpt-4o-mini"),
    ("llm", "anthropic", "claude-haiku-4-5-20251001", "anthropic/claude-haiku-4-5"),
    ("llm", "anthropic", "claude-3-5-haiku-latest", "anthropic/claude-3-5-haiku-latest"),
    ("llm", "google", "gemini-2.0-flash-001", "google/gemini-2.0-flash"),
    ("llm", "google", "gemini-2.5-pro-preview-05-06", "google/gemini-2.5-pro"),
    ("llm", "google", "claude-sonnet-4@20250514", "google/claude-4-sonnet"),
    ("llm", "aws", "amazon.nova-lite-v1:0", "aws/amazon.nova-lite-v1:0"),
    (
        "llm",
        "aws",
        "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-micro-v1:0",
        "aws/amazon.nova-micro-v1:0",
    ),
    (
        "realtime",
        "google",
        "gemini-live-2.5-flash-preview-native-audio-09-2025",
        "google/gemini-live-2.5-flash-preview",
    ),
    ("tts", "cartesia", "sonic-3-2025-10-27", "cartesia/sonic-3"),
    ("tts", "cartesia", "sonic-3.6-2026-08-27", "cartesia/sonic-3"),
    ("tts", "deepgram", "aura-2-andromeda-en", "deepgram/aura-2"),
    ("tts", "deepgram", "aura-asteria-en", "deepgram/aura-1"),
    ("stt", "soniox", "stt-rt-v3", "soniox/stt-rt"),
]


def found(modality: str, list_id: str, model: str) -> Price | Unpriced:
    """Look a model up by the list's own id."""
    return BOOK.find(modality=modality, provider=list_id, provider_raw="", model=model, at=START)


def reached_rows() -> Iterator[tuple[str, ModelInfo]]:
    """Yield every row that some label points to."""
    for provider in providers:
        if provider.id in REACHED:
            yield from ((provider.id, row) for row in provider.models)


@pytest.mark.parametrize(("modality", "list_id", "model", "known"), OTHER_MODELS)
def test_a_match_of_another_generation_or_variant_is_refused(
    modality: str, list_id: str, model: str, known: str
) -> None:
    """A wrong price becomes no price, with the name of what the list does know."""
    assert found(modality, list_id, model) == Unpriced(
        f"no list price for model {model!r} of provider {list_id!r}: the list only knows {known!r}"
    )


@pytest.mark.parametrize(("modality", "list_id", "model", "row"), SAME_MODELS)
def test_dates_builds_routes_and_voices_are_accepted(
    modality: str, list_id: str, model: str, row: str
) -> None:
    """What does not change the model does not cost it its price."""
    price = found(modality, list_id, model)
    assert isinstance(price, Price), price
    assert price.model == row


def test_a_refused_match_does_not_hide_the_right_row() -> None:
    """Google's list has Sonnet 4 swallow 4.5; Anthropic's list, its fallback, has the real row."""
    price = found("llm", "google", "claude-sonnet-4-5@20250929")
    assert isinstance(price, Price)
    assert price.model == "anthropic/claude-sonnet-4-5"


def test_every_name_that_a_row_spells_out_is_accepted() -> None:
    """The guard only ever judges loose matches, and the few names known to be mispriced."""
    refused = {
        (list_id, clause.equals)
        for list_id, row in reached_rows()
        for clause in guard._clauses(row.match)
        if isinstance(clause, ClauseEquals) and not explains(list_id, row, clause.equals.lower())
    }
    assert refused == guard._REFUSED


def test_every_row_accepts_its_own_id() -> None:
    """A row that its own matcher finds is never refused under its own name."""
    for list_id, row in reached_rows():
        name = row.id.lower()
        assert not row.is_match(name) or explains(list_id, row, name), (list_id, row.id)


def test_the_exceptions_name_rows_that_exist() -> None:
    """An exception for a row that is gone would wait for a namesake."""
    rows = {(list_id, row.id) for list_id, row in reached_rows()}
    assert rows >= guard._WHOLE_FAMILY
    assert rows >= guard._ALSO.keys()
