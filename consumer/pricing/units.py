"""What a meter's totals consist of, in parts that do not overlap.

The event contract counts general before special (`input_tokens` includes the cached and the audio
ones). A price applies to parts that exclude each other, so the special is subtracted from the
general here, and only here. What the totals leave open is of no part and has a reason; a remainder
below zero leaves all of it open. Neither becomes a negative or a guessed part.

A part carries the name of the quantity it comes from; `input_tokens`, `cache_read_input_tokens`
and `output_tokens` then mean the text in them.
"""

from __future__ import annotations

import re
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from voicecosts.producer.events import QUANTITIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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

TOKEN_PARTS: Final[Mapping[str, str]] = {
    "input": "input_tokens",
    "cached_input": "cache_read_input_tokens",
    "cache_write": "cache_creation_input_tokens",
    "output": "output_tokens",
    "audio_input": "audio_input_tokens",
    "cached_audio_input": "audio_cache_read_input_tokens",
    "audio_output": "audio_output_tokens",
    "image_input": "image_input_tokens",
    "cached_image_input": "image_cache_read_input_tokens",
    "image_output": "image_output_tokens",
    "request": "requests",
}
"""The keys of a table of prices, and the part of a meter that each prices."""

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


_HEAR: Final = ("realtime", "stt")
_SPEAK: Final = ("realtime", "tts")
"""Modalities whose tokens may be something else than text where no split names them."""

_input_splits = attrgetter(
    *(name for name in QUANTITIES if re.fullmatch("(text|audio|image)_.*input_tokens", name))
)
_output_splits = attrgetter(
    *(name for name in QUANTITIES if re.fullmatch("(text|audio|image)_output_tokens", name))
)

_WORDS: Final = {"audio_us": "audio", "session_us": "connected time", "time_us": "time"}


def word(part: str) -> str:
    """Return a part of usage in words: `cache read input tokens`, `audio`, `connected time`."""
    return _WORDS.get(part, part.replace("_", " "))


def words(parts: Iterable[str]) -> str:
    """Return parts of usage as a list in a sentence."""
    return ", ".join(map(word, parts))


class Split(NamedTuple):
    """Totals in parts, and how many tokens nobody can tell what they were, with the reason."""

    parts: Mapping[str, int]
    unknown: int = 0
    reason: str = ""


def input_parts(modality: str, totals: Quantities) -> Split:
    """Return the input tokens in parts that add up, with the unknown ones, to `input_tokens`.

    What no split names is text, with two exceptions. A transcription without any split heard
    audio (LiveKit's OpenAI plugin reports one sum), so all of it is audio. A realtime model hears
    and reads at prices that differ tenfold, so there it is unknown.

    Cached tokens of no named kind are among the unknown ones. Where there are more of them (from
    an older worker), the rest is left out where it takes the least money away: the parts of a
    meter must never cost less after a response than before it.
    """
    total = totals.input_tokens
    created, read = totals.cache_creation_input_tokens, totals.cache_read_input_tokens
    if modality not in _HEAR and total >= read + created and not any(_input_splits(totals)):
        return Split(
            {
                "input_tokens": total - read - created,
                "cache_read_input_tokens": read,
                "cache_creation_input_tokens": created,
            }
        )
    media = {
        "image": totals.image_input_tokens,
        "text": totals.text_input_tokens,
        "audio": totals.audio_input_tokens,
    }
    cached = {
        "image": totals.image_cache_read_input_tokens,
        "text": totals.text_cache_read_input_tokens,
        "audio": totals.audio_cache_read_input_tokens,
    }
    unnamed = total - sum(media.values())
    open_cached = read - sum(cached.values())
    if unnamed < 0:
        return _contradiction(total, "text, audio and image input tokens exceed input_tokens")
    if open_cached < 0 or read > total:
        return _contradiction(total, "cached input tokens exceed the tokens that they are part of")
    if modality != "realtime":
        media[_unsplit(media, modality, "stt")] += unnamed
        cached["text"] += open_cached
        unnamed = open_cached = 0
    fresh = {medium: media[medium] - cached[medium] for medium in media}
    fresh["text"] -= created
    if min(fresh.values()) < 0:
        return _contradiction(total, "cached input tokens exceed the tokens that they are part of")
    unknown = unnamed
    if open_cached > unnamed:
        unknown += _left_out(fresh, open_cached - unnamed)
    parts = {
        "input_tokens": fresh["text"],
        "audio_input_tokens": fresh["audio"],
        "image_input_tokens": fresh["image"],
        "cache_read_input_tokens": cached["text"],
        "audio_cache_read_input_tokens": cached["audio"],
        "image_cache_read_input_tokens": cached["image"],
        "cache_creation_input_tokens": created,
    }
    return Split(parts, unknown, "input tokens are not split into text and audio")


def output_parts(modality: str, totals: Quantities) -> Split:
    """Return the output tokens in parts that add up, with the unknown ones, to `output_tokens`.

    What no split names is text (reasoning included), except that a voice without any split spoke
    audio, and that it is unknown of a realtime model. Reasoning above the output means that the
    provider counts it apart from the output, so the output cannot be trusted.
    """
    total = totals.output_tokens
    if (
        modality not in _SPEAK
        and total >= totals.reasoning_output_tokens
        and not any(_output_splits(totals))
    ):
        return Split({"output_tokens": total})
    media = {
        "image": totals.image_output_tokens,
        "text": totals.text_output_tokens,
        "audio": totals.audio_output_tokens,
    }
    unnamed = total - sum(media.values())
    if unnamed < 0:
        return _contradiction(total, "text, audio and image output tokens exceed output_tokens")
    if totals.reasoning_output_tokens > total:
        return _contradiction(total, "reasoning_output_tokens exceed output_tokens")
    if modality != "realtime":
        media[_unsplit(media, modality, "tts")] += unnamed
        unnamed = 0
    parts = {
        "output_tokens": media["text"],
        "audio_output_tokens": media["audio"],
        "image_output_tokens": media["image"],
    }
    return Split(parts, unnamed, "output tokens are not split into text and audio")


def _contradiction(total: int, reason: str) -> Split:
    return Split({}, total, reason)


def _unsplit(media: Mapping[str, int], modality: str, speech: str) -> str:
    """Return what tokens are that no split names: text, or speech that has no split at all."""
    return "audio" if modality == speech and not any(media.values()) else "text"


def _left_out(fresh: dict[str, int], tokens: int) -> int:
    """Take tokens away where they cost the least, in the order of `fresh`; return how many."""
    left = tokens
    for medium, amount in fresh.items():
        taken = min(left, amount)
        fresh[medium] -= taken
        left -= taken
    return tokens - left
