"""What a price can be for: the vendor's units, what each counts, and which modalities it can fit.

Where an entry names no modality, its unit tells which ones it is for. A unit that fits a modality
only where the entry says so is set apart: a price by the minute without a modality is never taken
for a voice, which is sold by the character.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, Literal, NamedTuple

from voicecosts.consumer.pricing.billing import CONNECTED, WAYS
from voicecosts.consumer.pricing.charge import EVERY_TOKEN, TIME
from voicecosts.consumer.pricing.units import TOKEN_PARTS

Kind = Literal["time", "tokens", "characters", "requests", "calls"]

SECOND_US: Final = 1_000_000


class Unit(NamedTuple):
    """What is counted, and how many of it (microseconds of time) one price buys."""

    kind: Kind
    per: int


UNITS: Final[Mapping[str, Unit]] = {
    "second": Unit("time", SECOND_US),
    "minute": Unit("time", 60 * SECOND_US),
    "hour": Unit("time", 3600 * SECOND_US),
    "million tokens": Unit("tokens", 1_000_000),
    "thousand characters": Unit("characters", 1_000),
    "million characters": Unit("characters", 1_000_000),
    "request": Unit("requests", 1),
    "call": Unit("calls", 1),
}

MODALITIES: Final = tuple(WAYS)
"""Those that we know. Any other is the operator's own (`observer.record`): `avatar`, `tool`, …"""

_FITS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "time": ("stt", "realtime", *CONNECTED),
    "tokens": ("llm", "decision", "realtime", "stt", "tts"),
    "characters": ("tts",),
    "requests": ("llm", "decision", "realtime", "stt", "tts", "turn_detector", "interruption"),
    "calls": ("agent_session", "telephony"),
}
_WHERE_NAMED: Final[Mapping[Kind, tuple[str, ...]]] = {
    "time": ("tts",),
    "requests": tuple(CONNECTED),
}
KINDS: Final[tuple[Kind, ...]] = tuple(_FITS)

_ELSE: Final[Mapping[str, str]] = {
    "cached_input": "input",
    "cache_write": "input",
    "cached_audio_input": "audio_input",
    "cached_image_input": "image_input",
}
"""Cached tokens without a price of their own cost what fresh ones of their kind cost."""

_AUDIO: Final = ("stt", "tts")


def fits(kind: Kind, modality: str, *, named: bool) -> bool:
    """Return whether a unit can price a modality; `named` is that the entry names it."""
    if modality not in MODALITIES:
        return kind != "calls"
    return modality in _FITS[kind] or (named and modality in _WHERE_NAMED.get(kind, ()))


def units_of(modality: str) -> tuple[str, ...]:
    """Return the units that can price a modality."""
    return tuple(name for name, unit in UNITS.items() if fits(unit.kind, modality, named=True))


def part_of(kind: Kind, modality: str) -> str:
    """Return the part of a meter that one price of a kind is for."""
    match kind:
        case "time":
            if modality in _AUDIO:
                return "audio_us"
            return "session_us" if modality in MODALITIES else TIME
        case "tokens":
            return EVERY_TOKEN
        case "characters":
            return "characters"
        case "requests" | "calls":
            return "requests"


def with_cached(prices: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Return prices by the keys of `TOKEN_PARTS`, with those of cached tokens filled in."""
    return {
        key: prices.get(key, prices[_ELSE.get(key, key)])
        for key in TOKEN_PARTS
        if key in prices or _ELSE.get(key) in prices
    }
