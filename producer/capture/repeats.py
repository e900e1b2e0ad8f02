"""What a wrapper and the objects inside it both report is one usage.

A wrapper hands on what the object inside it answers, with its usage, and LiveKit's base classes report
it for both. So the same amounts of the same kind, reported inside a moment ago for the same session,
are the same usage; so is the sum of several, where a request inside served the wrapper's.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from msgspec import Struct

from voicecosts.producer.capture import contexts

_WITHIN_S: Final = 60.0
"""How long after an object inside a wrapper the wrapper reports the same usage."""

_AMOUNTS: Final = {
    "llm_metrics": ("prompt_tokens", "completion_tokens"),
    "tts_metrics": ("characters_count", "output_tokens"),
    "stt_metrics": ("audio_duration", "input_tokens"),
}
"""By which fields a wrapper's report is known to repeat another."""


class Amounts(Struct, frozen=True):
    """What was reported of one kind for one session (by identity, of the running context)."""

    kind: str
    session: int
    amounts: tuple[float, ...]

    def is_alike(self, other: Amounts) -> bool:
        """Whether both are of one kind and session."""
        return self.kind == other.kind and self.session == other.session


class Reported:
    """The amounts that a provider object reported lately, at monotonic seconds."""

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last: deque[tuple[Amounts, float]] = deque(maxlen=64)

    def add(self, amounts: Amounts) -> None:
        """It reports them now."""
        self.last.append((amounts, time.monotonic()))

    def repeats(self, amounts: Amounts, inside: Iterable[Reported], *, is_served: bool) -> bool:
        """Whether what it reports now repeats reports of the objects `inside`, each repeated once.

        `is_served`: a request inside served the one that is reported.
        """
        since = time.monotonic() - _WITHIN_S
        alike = [
            (by, known)
            for by in inside
            for known in list(by.last)
            if known[0].is_alike(amounts) and known[1] > since
        ]
        same = [each for each in alike if each[1][0].amounts == amounts.amounts][-1:]
        if alike and not same and is_served:  # it may hand on the sum of several
            total = tuple(map(sum, zip(*(known[0].amounts for _, known in alike), strict=True)))
            same = alike if total == amounts.amounts else []
        for by, known in same:
            by.last.remove(known)
        if same:
            self.add(amounts)  # for a wrapper around this one
        return bool(same)


def amounts_of(metrics: Any) -> Amounts | None:
    """Return what a model, voice or recogniser reported, to be compared; `None` for nothing."""
    values, running = vars(metrics), contexts.activity()
    session = contexts.recognising() or (None if running is None else running.session)
    amounts = tuple(values.get(name) or 0 for name in _AMOUNTS.get(metrics.type, ()))
    return Amounts(metrics.type, id(session), amounts) if any(amounts) else None
