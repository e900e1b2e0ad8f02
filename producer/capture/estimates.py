"""What LiveKit does not report: requests that were cut off before their provider reported usage.

A voice that is interrupted while it still makes audio reports no characters, and a language model
that is cut off reports no tokens; the provider bills both. The amounts here are lower bounds:
what was measured and what is estimated never exceed what the provider received. They go to meters
of their own, marked as estimated (`docs/decisions/0007-what-an-estimate-may-claim.md`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct, field

from voicecosts.producer.capture import contexts, requests
from voicecosts.producer.capture.requests import Prompt, Voice, WholeText
from voicecosts.producer.counts import Usage
from voicecosts.producer.events import RequestDetail

_REMEMBERED: Final = 256
"""Open speeches that a session remembers."""

_MEASURED: Final = 8
"""Measured prompts that a session remembers."""

Book = Callable[[Usage, str], None]
"""Counts estimated usage under an agent label."""


class _Speech(Struct):
    handle: Any
    label: str
    # (provider, model) → characters that metrics named and no request that is known reported
    unplaced: dict[tuple[str, str], int] = field(default_factory=dict)

    def without_unplaced(self, voice: Voice) -> int:
        """Return what a voice did not report, less what some voice of its names did."""
        unreported = voice.unreported() or 0
        named = voice.provider, voice.model
        covered = min(unreported, self.unplaced.get(named, 0))
        if covered:
            self.unplaced[named] -= covered
            voice.reported += covered
        return unreported - covered


class _Measured(Struct, frozen=True):
    prompt: Prompt
    provider: str
    model: str
    tokens: int


class Estimates:
    """Follows the requests of one session until it is known what they used. On its thread."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._speeches: dict[str, _Speech] = {}
        self._measured: deque[_Measured] = deque(maxlen=_MEASURED)

    def created(self, handle: Any, label: str) -> None:
        """A speech begins."""
        self._speeches[handle.id] = _Speech(handle, label)
        if len(self._speeches) > _REMEMBERED:
            self._drop(next(iter(self._speeches)))

    def measured(self, usage: Usage, label: str) -> None:
        """Usage was reported, in the context of the request that it is of."""
        if usage.modality == "tts":
            self._voice_measured(usage)
        elif usage.modality == "llm":
            prompt = requests.reporting()
            if isinstance(prompt, Prompt) and prompt.label and not prompt.is_reported:
                prompt.is_reported = True
                if not prompt.is_adapter:
                    self._prompt_measured(prompt, usage, label)

    def finished(self, speech_id: str) -> bool:
        """A speech is over. Return whether a voice of it may have been cut off."""
        speech = self._speeches.get(speech_id)
        if speech is None:
            return False
        if any(voice.unreported() != 0 for voice in requests.voices_of(speech.handle)):
            return True
        self._drop(speech_id)
        return False

    def book_unreported(self, speech_id: str, *, now_us: int) -> None:
        """Count what the voices of a speech took and did not report, and forget the speech.

        It stays open while it or a voice of it goes on; what that uses is counted another time.
        """
        speech = self._speeches.get(speech_id)
        if speech is None or not speech.handle.done():
            return
        voices = list(requests.voices_of(speech.handle))
        if all(voice.unreported() is not None for voice in voices):
            self._drop(speech_id)
        for voice in voices:
            characters = speech.without_unplaced(voice)
            if characters:
                voice.reported += characters
                self._book(
                    Usage(
                        modality="tts",
                        provider_raw=voice.provider,
                        model=voice.model,
                        occurred_at=now_us,
                        quantities={"characters": characters},
                        detail=RequestDetail(speech_id=speech_id),
                    ),
                    speech.label,
                )

    def open_speeches(self) -> list[str]:
        """Return the ids of the speeches that are neither finished nor booked."""
        return list(self._speeches)

    def _drop(self, speech_id: str) -> None:
        requests.forget(self._speeches.pop(speech_id).handle)

    def _voice_measured(self, usage: Usage) -> None:
        detail = usage.detail
        speech = self._speeches.get(detail.speech_id) if detail is not None else None
        if speech is None or isinstance(requests.reporting(), WholeText):
            return
        characters = usage.quantities.get("characters", 0)
        task = contexts.task()
        for voice in requests.voices_of(speech.handle):
            if voice.is_reporting(task):
                voice.reported += characters
                return
        named = usage.provider_raw, usage.model
        speech.unplaced[named] = speech.unplaced.get(named, 0) + characters

    def _prompt_measured(self, prompt: Prompt, usage: Usage, label: str) -> None:
        tokens = usage.quantities.get("input_tokens", 0)
        if tokens:
            self._measured.append(_Measured(prompt, usage.provider_raw, usage.model, tokens))
            return
        if usage.detail is None or not usage.detail.cancelled or _names_tokens(usage):
            return
        # No tokenizer in use joins words: a text has at least as many tokens.
        estimated = {
            "input_tokens": self._least_prompt(prompt, usage),
            "output_tokens": prompt.words,
        }
        quantities = {name: amount for name, amount in estimated.items() if amount}
        if quantities:
            self._book(
                Usage(
                    modality=usage.modality,
                    provider_raw=usage.provider_raw,
                    model=usage.model,
                    occurred_at=usage.occurred_at,
                    quantities=quantities,
                    detail=RequestDetail(speech_id=usage.detail.speech_id),
                    service_tier=usage.service_tier,
                ),
                label,
            )

    def _least_prompt(self, prompt: Prompt, usage: Usage) -> int:
        """Return the tokens of the largest measured prompt that is a part of this one."""
        return max(
            (
                each.tokens
                for each in self._measured
                if (each.provider, each.model) == (usage.provider_raw, usage.model)
                and prompt.contains(each.prompt)
            ),
            default=0,
        )


def _names_tokens(usage: Usage) -> bool:
    return any(name.endswith("tokens") for name in usage.quantities)
