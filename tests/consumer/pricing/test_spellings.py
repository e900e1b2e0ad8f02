"""Names: the documented differences between what LiveKit reports and what the list calls it."""

from __future__ import annotations

import pytest

from tests.consumer.pricing.asking import BOOK, START
from voicecosts.consumer.pricing.spellings import _RENAMED, spellings


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("deepgram/nova-3", ("deepgram/nova-3",)),
        ("deepgram/nova-3:en", ("deepgram/nova-3:en", "deepgram/nova-3")),
        (
            "deepgram/nova-3:multi",
            ("deepgram/nova-3:multi", "deepgram/nova-3-multi", "deepgram/nova-3"),
        ),
        ("cartesia/sonic-2:A-Voice", ("cartesia/sonic-2:a-voice", "cartesia/sonic-2")),
    ],
)
def test_an_inference_string_is_tried_whole_then_without_its_ending(
    model: str, expected: tuple[str, ...]
) -> None:
    """A language or voice behind the colon does not hide the model; "multi" is a model itself."""
    assert spellings("livekit", "stt", model) == expected


def test_a_colon_means_nothing_in_another_list() -> None:
    """Bedrock's names hold a colon of their own."""
    assert spellings("aws", "llm", "Amazon.Nova-Pro-v1:0") == ("amazon.nova-pro-v1:0",)


@pytest.mark.parametrize(
    "model", ["gemini-2.5-flash", "google/gemini-2.5-flash", "models/gemini-2.5-flash"]
)
def test_a_google_name_may_come_as_a_path(model: str) -> None:
    """The Gemini and Vertex clients write the same model with and without a path."""
    assert spellings("google", "llm", model) == ("gemini-2.5-flash",)


@pytest.mark.parametrize(("list_id", "modality", "model"), _RENAMED)
def test_every_renamed_model_is_priced(list_id: str, modality: str, model: str) -> None:
    """A line in the table of renames that leads nowhere would be dead."""
    price = BOOK.find(modality=modality, provider=list_id, provider_raw="", model=model, at=START)
    assert getattr(price, "model", price) == f"{list_id}/{_RENAMED[list_id, modality, model]}"


def test_a_name_that_says_nothing_is_not_translated_where_several_products_hide_behind_it() -> None:
    """Azure's speech plugins report "unknown" for standard, custom and HD products alike."""
    assert spellings("azure", "stt", "unknown") == ("unknown",)
    assert spellings("azure", "tts", "unknown") == ("unknown",)
