"""Which parts of a meter's totals a price bills, and which it cannot.

One usage is often measured in several ways (a transcription in seconds and in tokens); a vendor
bills one of them, and the others are only information. Which one is read from the price alone,
never from the usage, so it is the same for every reading of a meter and a cost never jumps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from voicecosts.consumer.pricing.units import (
    INPUT,
    OUTPUT,
    TOKENS,
    input_parts,
    output_parts,
    words,
)
from voicecosts.producer.events import LARGE_REQUEST_TOKENS

if TYPE_CHECKING:
    from decimal import Decimal

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
    "telephony": (("session_us",),),
    "agent_session": (("session_us",),),
    "participant": (("session_us",),),
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
  where a price has a rate for them (Perplexity).
* Connected time, of a telephone leg, an agent or a participant, is billed by the minute."""

CONNECTED: Final = frozenset({"telephony", "agent_session", "participant"})
"""Modalities that are connected time. One meter of them is one connection."""

CALL_TIME: Final = "agent_session"
"""The connected time that a price for the whole call is charged with."""

_MINUTE: Final = 60_000_000
INCREMENTS: Final[Mapping[str, int]] = {
    # "Each individual resource usage is rounded up to the minimum increment prior to summation",
    # which is one minute: https://docs.livekit.io/deploy/admin/billing/
    "livekit": _MINUTE,
    # Partial minutes are rounded up to the next full minute, for Programmable Voice, SIP Interface
    # and Elastic SIP Trunking: https://support.twilio.com/hc/en-us/articles/223132307
    "twilio": _MINUTE,
}
"""What connected time is rounded up to, in microseconds, by price list. For whom there is no line it
is counted exactly."""

_MEASURES: Final = (
    "input_tokens",
    "output_tokens",
    "other_tokens",
    "characters",
    "audio_us",
    "session_us",
    "requests",
)
_MEASURE_OF: Final = {
    **dict.fromkeys(INPUT, "input_tokens"),
    **dict.fromkeys(OUTPUT, "output_tokens"),
}
"""What a part without a rate is counted in."""


_TOKENS: Final = ("input_tokens", "output_tokens", "other_tokens")
_OTHER: Final = "other_tokens have no price: nobody can tell what they were"


class Miss(NamedTuple):
    """Usage that cannot be priced, by its measure, and why.

    The reason is the same for every reading of a meter: it holds no figures.
    """

    usage: Mapping[str, int]
    reason: str


class Bill(NamedTuple):
    """The parts to price, all of which have a rate, and what cannot be priced."""

    parts: Mapping[str, int]
    rates: Mapping[str, Decimal]
    misses: list[Miss]


def billed(price: Price, modality: str, totals: Quantities, size_tier: int = 0) -> Bill:
    """Return what a price bills of the totals of requests of one size."""
    rates = price.rates
    misses: list[Miss] = []
    way = _way(rates, modality)
    is_mixed = way is TOKENS and is_of_any_size(size_tier, totals)
    parts: dict[str, int] = {}
    if way is TOKENS:
        by_size = rates if is_mixed else price.rates_of_size(size_tier)
        if isinstance(by_size, int):
            if amounts := _amounts(totals, _TOKENS):
                misses.append(Miss(amounts, _tiers(price, by_size)))
        else:
            rates = by_size
            parts = _tokens(modality, totals, misses)
    else:
        for part in way:
            parts[part] = getattr(totals, part)
        if modality in CONNECTED:
            parts["session_us"] = _rounded_up(price, totals.session_us)
    used = {part: amount for part, amount in parts.items() if amount}
    if "requests" in rates and totals.requests:
        used["requests"] = totals.requests
    if not used.keys() <= rates.keys():
        misses.append(_without_rate(price, used, rates))
    elif not used and not misses and (names := measures(modality, totals)):
        misses.append(Miss(_amounts(totals, names), _other_way(price, way, names)))
    if is_mixed and price.tiers:
        misses.append(Miss({"requests": totals.large_requests}, _upgrade(price)))
    return Bill(used, rates, misses)


def _way(rates: Mapping[str, Decimal], modality: str) -> tuple[str, ...]:
    """Return the way in which a modality is billed by a price with these rates."""
    for way in WAYS[modality]:
        for part in way:
            if part in rates:
                return way
    return ()


def _rounded_up(price: Price, session_us: int) -> int:
    """Return the connected time of one connection as the owner of a price bills it."""
    increment = INCREMENTS.get(price.model.partition("/")[0], 1)
    return -(-session_us // increment) * increment


def is_of_any_size(size_tier: int, totals: Quantities) -> bool:
    """Return whether requests of several sizes are in the totals: an older worker does not tell."""
    return not size_tier and totals.large_requests > 0


def measures(modality: str, totals: Quantities) -> tuple[str, ...]:
    """Return what `totals` hold of the quantities that a modality can be billed by.

    Where it is nothing of them, what was used is all that was reported: that it is measured in another way
    does not make it free. Requests alone are no usage, except where nothing else is counted, and of a
    connection, which took some time.
    """
    ways = WAYS.get(modality)
    parts = set(_MEASURES) if ways is None else {part for way in ways for part in way}
    if "input_tokens" in parts:
        parts.add("other_tokens")
    used = [name for name in _MEASURES if getattr(totals, name)]
    return tuple(name for name in used if name in parts) or tuple(
        name for name in used if name != "requests" or modality in CONNECTED
    )


def _tokens(modality: str, totals: Quantities, misses: list[Miss]) -> dict[str, int]:
    parts: dict[str, int] = {}
    for split, measure in ((input_parts, "input_tokens"), (output_parts, "output_tokens")):
        found = split(modality, totals)
        parts |= found.parts
        if found.unknown:
            misses.append(Miss({measure: found.unknown}, found.reason))
    if totals.other_tokens:
        misses.append(Miss({"other_tokens": totals.other_tokens}, _OTHER))
    return parts


def _amounts(totals: Quantities, names: tuple[str, ...]) -> dict[str, int]:
    return {name: getattr(totals, name) for name in names if getattr(totals, name)}


def _without_rate(price: Price, used: dict[str, int], rates: Mapping[str, Decimal]) -> Miss:
    """Take what has no rate out of `used`."""
    missing = [part for part in used if part not in rates]
    amounts: dict[str, int] = {}
    for part in missing:
        measure = _MEASURE_OF.get(part, part)
        amounts[measure] = amounts.get(measure, 0) + used.pop(part)
    return Miss(amounts, f"{price.model!r} has no rate for {', '.join(missing)}")


def _tiers(price: Price, start: int) -> str:
    return (
        f"{price.model!r} charges requests above {start} input tokens differently, and they are "
        "counted together with smaller ones"
    )


def _upgrade(price: Price) -> str:
    starts = " and ".join(str(tier.start) for tier in price.tiers)
    return (
        f"requests above {LARGE_REQUEST_TOKENS} input tokens are priced like smaller ones, but "
        f"{price.model!r} charges those above {starts} differently: upgrade the worker, which "
        "counts them apart"
    )


def _other_way(price: Price, way: tuple[str, ...], names: tuple[str, ...]) -> str:
    if not way:
        return f"{price.model!r} has no rate for {', '.join(names)}"
    meter = "tokens" if way is TOKENS else words(way)
    return f"{price.model!r} is billed by {meter}, but what was reported is {words(names)}"
