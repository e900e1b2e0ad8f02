"""What LiveKit does not report: requests that were cut off before their provider reported usage.

A speech that is interrupted while its audio is still being made emits no TTS metrics, and an LLM
request that is cut off reports zero tokens; the provider bills both. The amounts here are lower
bounds and go to meters of their own, marked as estimated, never mixed with what was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from voicecosts.producer.counts import UNKNOWN, Usage

_CHARACTERS_PER_TOKEN: Final = 4
_REMEMBERED: Final = 256

Book = Callable[[Usage, str], None]
"""Counts estimated usage under an agent label."""


class _Speech(Struct):
    label: str
    spoken: str | None = None  # None until it is known to have been interrupted
    voice: tuple[str, str] | None = None  # (provider, model) that spoke it
    characters: int = 0
    cut_off: Usage | None = None


class Estimates:
    """Follows the speeches of one session from their creation until what they used is known."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._speeches: dict[str, _Speech] = {}
        self._prompt_tokens = 0

    def created(self, speech_id: str, label: str) -> None:
        """A speech begins."""
        self._speeches[speech_id] = _Speech(label=label)
        if len(self._speeches) > _REMEMBERED:
            self._speeches.pop(next(iter(self._speeches)))

    def measured(self, usage: Usage) -> None:
        """Usage was reported: what is measured is not estimated."""
        detail = usage.detail
        speech = self._speeches.get(detail.speech_id) if detail is not None else None
        prompt = usage.quantities.get("input_tokens", 0)
        if usage.modality == "llm" and prompt:
            self._prompt_tokens = prompt
        if speech is None or detail is None:
            return
        if usage.modality == "tts":
            speech.characters += usage.quantities.get("characters", 0)
        elif usage.modality == "llm" and detail.cancelled and not prompt:
            speech.cut_off = usage

    def finished(self, speech_id: str) -> None:
        """A speech was spoken to its end: all of it is reported."""
        self._speeches.pop(speech_id, None)

    def interrupted(self, speech_id: str, *, spoken: str, tts: Any) -> None:
        """A speech was interrupted after `spoken`, by the voice `tts` if there was one."""
        speech = self._speeches.get(speech_id)
        if speech is None:
            return
        speech.spoken = spoken
        if tts is not None:
            speech.voice = (getattr(tts, "provider", ""), getattr(tts, "model", "") or UNKNOWN)

    def book_unreported(self, speech_id: str, *, now_us: int) -> None:
        """Count what an interrupted speech used and no metrics reported; forget the speech."""
        speech = self._speeches.pop(speech_id, None)
        if speech is None or speech.spoken is None:
            return
        unreported = len(speech.spoken) - speech.characters
        if speech.voice is not None and unreported > 0:
            self._book(
                Usage(
                    modality="tts",
                    provider_raw=speech.voice[0],
                    model=speech.voice[1],
                    occurred_at=now_us,
                    quantities={"characters": unreported},
                ),
                speech.label,
            )
        cut_off = speech.cut_off
        if cut_off is not None:
            tokens = {
                "input_tokens": self._prompt_tokens,
                "output_tokens": -(-len(speech.spoken) // _CHARACTERS_PER_TOKEN),
            }
            quantities = {name: amount for name, amount in tokens.items() if amount}
            if quantities:
                self._book(
                    Usage(
                        modality=cut_off.modality,
                        provider_raw=cut_off.provider_raw,
                        model=cut_off.model,
                        occurred_at=cut_off.occurred_at,
                        quantities=quantities,
                    ),
                    speech.label,
                )

    def open_speeches(self) -> list[str]:
        """Return the ids of the speeches that are neither finished nor booked."""
        return list(self._speeches)
