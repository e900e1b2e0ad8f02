"""What a meter's totals consist of, in parts that do not overlap.

The event contract counts general before special (`input_tokens` includes the cached and the audio
ones). A price applies to parts that exclude each other, so the special is subtracted from the
general here, and only here. A remainder below zero, or totals that leave open what a token was, is
a `Fault`: it names the quantities and their values, and never becomes a negative or a guessed part.

A part carries the name of the quantity it comes from; `input_tokens`, `cache_read_input_tokens`
and `output_tokens` then mean the text in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voicecosts.producer.events import Quantities

INPUT: Final = (
    "input_tokens",
    "audio_input_tokens",
    "image_input_tokens",
    "cache_read_input_tokens",
    "audio_cache_read_input_tokens",
    "image_cache_read_input_tokens",
    "cache_creation_input_tokens",
)
OUTPUT: Final = ("output_tokens", "audio_output_tokens", "image_output_tokens")
TOKENS: Final = INPUT + OUTPUT

PER: Final[Mapping[str, int]] = {
    **dict.fromkeys(TOKENS, 1_000_000),
    "characters": 1_000,
    "requests": 1_000,
    "audio_us": 1_000_000_000,
    "session_us": 60_000_000_000,
}
"""How many units one rate buys. The price list's own denominators are kept (a million tokens, a
thousand characters, requests, seconds or minutes), so a rate is the published number, not a
quotient of it: a dollar per thousand minutes has no finite decimal per microsecond."""


class Fault(NamedTuple):
    """Totals that contradict themselves or leave open what was used, in words."""

    reason: str


def input_parts(modality: str, totals: Quantities) -> dict[str, int] | Fault:
    """Return the input tokens in parts that add up to `input_tokens`.

    What no split names is text, with two exceptions. A transcription without any split heard
    audio (LiveKit's OpenAI plugin reports one sum), so all of it is audio. A realtime model hears
    and reads at prices that differ tenfold, so without a split it is a fault; the same holds for
    cached tokens without a split beside input of several kinds.
    """
    total = totals.input_tokens
    media = {
        "text": totals.text_input_tokens,
        "audio": totals.audio_input_tokens,
        "image": totals.image_input_tokens,
    }
    cached = {
        "text": totals.text_cache_read_input_tokens,
        "audio": totals.audio_cache_read_input_tokens,
        "image": totals.image_cache_read_input_tokens,
    }
    created = totals.cache_creation_input_tokens
    if fault := _complete(media, total, "input", "input_tokens", _medium(modality, "stt")):
        return fault
    unsplit = _only(media) if modality in {"realtime", "stt"} else "text"
    if fault := _complete(
        cached, totals.cache_read_input_tokens, "cached input", "cache_read_input_tokens", unsplit
    ):
        return fault
    for medium, amount in media.items():
        spent = cached[medium] + (created if medium == "text" else 0)
        if spent > amount:
            return Fault(
                f"cache_read+cache_creation {medium} tokens {spent} exceed "
                f"{medium} input tokens {amount}",
            )
    return {
        "input_tokens": media["text"] - cached["text"] - created,
        "audio_input_tokens": media["audio"] - cached["audio"],
        "image_input_tokens": media["image"] - cached["image"],
        "cache_read_input_tokens": cached["text"],
        "audio_cache_read_input_tokens": cached["audio"],
        "image_cache_read_input_tokens": cached["image"],
        "cache_creation_input_tokens": created,
    }


def output_parts(modality: str, totals: Quantities) -> dict[str, int] | Fault:
    """Return the output tokens in parts that add up to `output_tokens`.

    What no split names is text (reasoning included), except that a voice without any split spoke
    audio, and a realtime model without a split is a fault. Reasoning above the output means the
    provider counts it apart from the output, so the output cannot be trusted.
    """
    total = totals.output_tokens
    media = {
        "text": totals.text_output_tokens,
        "audio": totals.audio_output_tokens,
        "image": totals.image_output_tokens,
    }
    if fault := _complete(media, total, "output", "output_tokens", _medium(modality, "tts")):
        return fault
    reasoning = totals.reasoning_output_tokens
    if reasoning > total:
        return Fault(f"reasoning_output_tokens {reasoning} exceed output_tokens {total}")
    return {
        "output_tokens": media["text"],
        "audio_output_tokens": media["audio"],
        "image_output_tokens": media["image"],
    }


def _medium(modality: str, speech: str) -> str | None:
    """Return what tokens without any split are; `None` when that cannot be known."""
    if modality == "realtime":
        return None
    return "audio" if modality == speech else "text"


def _only(media: Mapping[str, int]) -> str | None:
    """Return the one kind that was used, or `None` when there were several."""
    used = [medium for medium, amount in media.items() if amount]
    return used[0] if len(used) == 1 else None


def _complete(
    media: dict[str, int], total: int, kind: str, name: str, unsplit: str | None
) -> Fault | None:
    """Add to `media` what of `total` it does not name yet."""
    known = sum(media.values())
    if known == total:
        return None
    if known > total:
        parts = "+".join(medium for medium, amount in media.items() if amount)
        return Fault(f"{parts} {kind} tokens {known} exceed {name} {total}")
    if known:
        media["text"] += total - known
    elif unsplit is None:
        return Fault(f"{name} {total} are not split into text and audio")
    else:
        media[unsplit] += total
    return None
