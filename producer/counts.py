"""Running counts by meter: increments of usage go in, the totals of a meter come out.

A session's meters are counted with it on the voice loop, and what belongs to no session in the
publisher's thread: whatever a provider counted is summed, named and rounded in one way. Used by one
thread at a time; nothing here waits.
"""

from __future__ import annotations

from bisect import bisect_left
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from msgspec import Struct

from voicecosts.producer.events import (
    SIZE_TIERS,
    Meter,
    MeterTotals,
    Quantities,
    RequestDetail,
)
from voicecosts.producer.names import name, plain
from voicecosts.producer.providers import normalise_provider

UNKNOWN: Final = "unknown"
"""Provider or model of a plugin that names neither."""

_MORE: Final = "(more)"
_US: Final = 1_000_000
_MAX_AMOUNT: Final = 2**53 - 1
_MAX_COST: Final = Decimal(999_999_999)
_NANO: Final = Decimal("1E-9")

_SIZED: Final = frozenset({"llm", "realtime"})
"""Modalities whose requests some vendor charges by their size."""

_SMALLEST: Final = SIZE_TIERS[0]

_Spelling = tuple[str, str, str, str, bool, int, str]
"""Agent label, modality, provider, model and estimated, as LiveKit gives them, size tier and
service tier."""


class Usage(Struct, frozen=True, kw_only=True, gc=False):
    """One metrics event as an increment: whole quantities, and durations in seconds.

    Durations stay in seconds because they are rounded to microseconds once, on a meter's running
    total, so that a thousand reports of a third of a second do not drift. `unread` names the fields
    that held no amount (text, NaN, less than nothing, more than can be): they count as nothing, and
    what they stood for is missing from the numbers. `service_tier` is the contract's, empty for the
    standard one. `reported_cost` is in US dollars: what a provider itself says it charged.
    """

    modality: str
    provider_raw: str
    model: str
    occurred_at: int
    quantities: dict[str, int]
    audio_s: float = 0.0
    session_s: float = 0.0
    detail: RequestDetail | None = None
    unread: tuple[str, ...] = ()
    service_tier: str = ""
    reported_cost: Decimal | None = None


class Count:
    """One running count. Seconds and money are summed as they come and rounded once, on the total.

    `now` is replaced as a whole by each addition, so that another thread never reads half of one.
    """

    __slots__ = (
        "_reported_cost",
        "audio_s",
        "is_used",
        "meter",
        "now",
        "provider_raw",
        "reported_cost",
        "session_s",
        "totals",
    )

    def __init__(self, meter: Meter, provider_raw: str) -> None:
        self.meter = meter
        self.provider_raw = provider_raw
        self.totals: dict[str, int] = {}
        self.is_used = False
        self.now = Quantities()
        self.audio_s = 0.0
        self.session_s = 0.0
        self.reported_cost: str | None = None
        self._reported_cost = Decimal(0)

    def add(self, usage: Usage) -> Quantities:
        """Add `usage` and return the totals after it."""
        totals = self.totals
        for quantity, amount in usage.quantities.items():
            totals[quantity] = totals.get(quantity, 0) + amount
        if usage.audio_s:
            self.audio_s += usage.audio_s
            totals["audio_us"] = round(self.audio_s * _US)
        if usage.session_s:
            self.session_s += usage.session_s
            totals["session_us"] = round(self.session_s * _US)
        if usage.reported_cost is not None:
            self._reported_cost += usage.reported_cost
            self.reported_cost = f"{self._reported_cost.quantize(_NANO, ROUND_HALF_EVEN):f}"
        self.now = Quantities(**totals)
        self.is_used = True
        return self.now

    def has_room_for(self, usage: Usage) -> bool:
        """Whether the totals stay within what an event can carry, so that one amount spoils none."""
        return (
            all(
                self.totals.get(quantity, 0) + amount <= _MAX_AMOUNT
                for quantity, amount in usage.quantities.items()
            )
            and max(self.audio_s + usage.audio_s, self.session_s + usage.session_s) * _US
            <= _MAX_AMOUNT
            and self._reported_cost + (usage.reported_cost or 0) <= _MAX_COST
        )

    def final(self) -> MeterTotals:
        """Return the totals with the names of their meter."""
        meter = self.meter
        return MeterTotals(
            agent_label=meter.agent_label,
            modality=meter.modality,
            provider=meter.provider,
            provider_raw=self.provider_raw,
            model=meter.model,
            estimated=meter.estimated,
            totals=self.now,
            reported_cost=self.reported_cost,
            size_tier=meter.size_tier,
            service_tier=meter.service_tier,
        )


def size_tier(usage: Usage) -> int:
    """Return the size tier of a request: the highest of `SIZE_TIERS` below its input tokens, or 0.

    Several requests in one usage are taken at their mean size.
    """
    tokens = usage.quantities.get("input_tokens", 0)
    if tokens <= _SMALLEST or usage.modality not in _SIZED:
        return 0
    tokens = -(-tokens // max(1, usage.quantities.get("requests", 1)))
    place = bisect_left(SIZE_TIERS, tokens)
    return SIZE_TIERS[place - 1] if place else 0


class Counts:
    """The counts of one session, or of what has none (`session_id` is empty).

    A meter is known by its names in the contract. What LiveKit calls them is only a shortcut to
    it: two spellings of one provider must end on one meter, or the second would seem to run
    backwards. A request is counted on the meter of its size and service tier, because a price may
    depend on them. Past `most` meters all further ones of a modality and size share one, so that a
    model or a tier whose name changes with every request can neither grow the worker nor the event
    with the totals.
    """

    def __init__(self, session_id: str, *, most: int) -> None:
        self._session_id = session_id
        self._most = most
        self._counts: dict[Meter, Count] = {}
        self._shortcuts: dict[_Spelling, Count] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def of(self, usage: Usage, agent_label: str, *, estimated: bool = False) -> Count:
        """Return the count that `usage` belongs to; the first of a meter opens it."""
        spelling = (
            agent_label,
            usage.modality,
            usage.provider_raw,
            usage.model,
            estimated,
            size_tier(usage) if usage.quantities.get("input_tokens", 0) > _SMALLEST else 0,
            usage.service_tier,
        )
        return self._shortcuts.get(spelling) or self._find(spelling)

    def totals(self) -> list[MeterTotals]:
        """Return the totals of every meter that has any, in the order of their first usage.

        May be called on another thread while usage is added.
        """
        return [count.final() for count in list(self._counts.values()) if count.is_used]

    def has(self, modality: str) -> bool:
        """Whether there is a meter of a modality."""
        return any(meter.modality == modality for meter in self._counts)

    def _find(self, spelling: _Spelling) -> Count:
        """Open a meter, or find the one that another spelling of the same names opened."""
        label, modality, provider_raw, model, estimated, size, tier = spelling
        provider = name(normalise_provider(provider_raw), UNKNOWN)
        names = name(label, UNKNOWN), modality, provider, name(model, UNKNOWN)
        meter = Meter(self._session_id, *names, estimated, size, tier)
        if meter not in self._counts and len(self._counts) >= self._most:
            meter = Meter(self._session_id, _MORE, modality, _MORE, _MORE, estimated, size)
        count = self._counts.get(meter)
        if count is None:
            count = self._counts[meter] = Count(meter, plain(provider_raw)[:128])
        if len(self._shortcuts) < 2 * self._most:
            self._shortcuts[spelling] = count
        return count
