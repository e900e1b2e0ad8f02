"""Which parts of a meter's totals a price bills, and which it cannot.

One usage is often measured in several ways (a transcription in seconds and in tokens); a vendor
bills one of them, and the others are only information. Which one is read from the price alone,
never from the usage, so it is the same for every reading of a meter and a cost never jumps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from voicecosts.consumer.pricing.units import TOKENS, Fault, input_parts, output_parts
from voicecosts.producer.events import LARGE_REQUEST_TOKENS, QUANTITIES

if TYPE_CHECKING:
    from voicecosts.consumer.pricing.price import Price
    from voicecosts.producer.events import Quantities

WAYS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "llm": (TOKENS,),
    "decision": (TOKENS,),
    "stt": (("audio_us",), TOKENS),
    "tts": (("characters",), TOKENS, ("audio_us",)),
    "realtime": (TOKENS, ("session_us",)),
    "interruption": (("requests",),),
    "turn_detector": (("requests",),),
}
"""The ways a modality can be billed. The first that the price has a rate for is the way of the
model; today no row of the list has two, once the vendors' own estimates are left out (`rates`).

* A transcription is billed by the second almost everywhere. OpenAI's gpt-4o-transcribe and Soniox
  bill tokens (the list's notes on these rows), and then seconds are not what is on the bill.
* A voice is billed by the character almost everywhere, by tokens at OpenAI (gpt-4o-mini-tts) and
  Soniox; no row has seconds of speech yet, but the list has a field for them.
* A realtime model is billed by tokens, or by connected time where the list has agent minutes
  (xAI, Ultravox). LiveKit reports that time as `session_duration`.
* Detectors count requests and nothing else. Elsewhere requests are billed only beside the rest,
  where a price has a rate for them (Perplexity)."""

_INPUT: Final = tuple(name for name in QUANTITIES if name.endswith("input_tokens"))
_OUTPUT: Final = tuple(name for name in QUANTITIES if name.endswith("output_tokens"))
_MEASURES: Final = (
    "input_tokens",
    "output_tokens",
    "characters",
    "audio_us",
    "session_us",
    "requests",
)
# A part that no split named is missed under the name of the total it was counted in.
_WHOLE: Final = {
    "audio_input_tokens": "input_tokens",
    "audio_cache_read_input_tokens": "cache_read_input_tokens",
    "image_cache_read_input_tokens": "cache_read_input_tokens",
    "audio_output_tokens": "output_tokens",
}


class Miss(NamedTuple):
    """Quantities that cannot be priced, and why."""

    quantities: tuple[str, ...]
    reason: str


def billed(price: Price, modality: str, totals: Quantities) -> tuple[dict[str, int], list[Miss]]:
    """Return the parts to price, all of which have a rate, and what cannot be priced."""
    rates = price.rates
    way = next((way for way in WAYS[modality] if not rates.keys().isdisjoint(way)), ())
    if way is TOKENS:
        parts, misses = _tokens(price, modality, totals)
    else:
        parts, misses = {part: getattr(totals, part) for part in way}, []
    used = {part: amount for part, amount in parts.items() if amount}
    if "requests" in rates and totals.requests:
        used["requests"] = totals.requests
    if not used.keys() <= rates.keys():
        missing = [part for part in used if part not in rates]
        names = tuple(part if getattr(totals, part) else _WHOLE[part] for part in missing)
        misses.append(Miss(names, f"{price.model!r} has no rate for {', '.join(names)}"))
        for part in missing:
            del used[part]
    elif not used and not misses and (names := measures(modality, totals)):
        misses.append(Miss(names, _other_way(price, way, names)))
    return used, misses


def measures(modality: str, totals: Quantities) -> tuple[str, ...]:
    """Return what `totals` hold of the quantities that a modality can be billed by.

    Requests alone are no usage, except where nothing else is counted.
    """
    ways = WAYS.get(modality)
    parts = _MEASURES if ways is None else {part for way in ways for part in way}
    return tuple(name for name in _MEASURES if name in parts and getattr(totals, name))


def _tokens(price: Price, modality: str, totals: Quantities) -> tuple[dict[str, int], list[Miss]]:
    start = price.tier_start
    if start is not None and (totals.large_requests or start < LARGE_REQUEST_TOKENS):
        names = _nonzero(totals, _INPUT + _OUTPUT)
        return {}, [Miss(names, _tiers(price, start, totals))] if names else []
    parts: dict[str, int] = {}
    misses: list[Miss] = []
    for split, whole in ((input_parts, _INPUT), (output_parts, _OUTPUT)):
        found = split(modality, totals)
        if isinstance(found, Fault):
            misses.append(Miss(_nonzero(totals, whole), found.reason))
        else:
            parts |= found
    return parts, misses


def _nonzero(totals: Quantities, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if getattr(totals, name))


def _tiers(price: Price, start: int, totals: Quantities) -> str:
    """Say why a price with tiers cannot be applied.

    Only requests above `LARGE_REQUEST_TOKENS` are counted apart. A tier that starts below could
    have been reached by any request.
    """
    if start < LARGE_REQUEST_TOKENS:
        return f"{price.model!r} charges requests above {start} input tokens more; not counted"
    return (
        f"{totals.large_requests} large_requests (above {LARGE_REQUEST_TOKENS} input tokens): "
        f"{price.model!r} charges more from {start}"
    )


def _other_way(price: Price, way: tuple[str, ...], names: tuple[str, ...]) -> str:
    if not way:
        return f"{price.model!r} has no rate for {', '.join(names)}"
    meter = "tokens" if way is TOKENS else " and ".join(way)
    return f"{price.model!r} is billed by {meter}, but only {', '.join(names)} was reported"
