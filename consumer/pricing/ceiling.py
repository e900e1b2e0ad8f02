"""What a meter may come to before its readings are no longer believed.

A worker that is broken, or not ours, could book any amount, and true readings after it would seem to
run backwards. So a reading that says more than a call can use is kept aside as a dead letter, and
its session is short. The limits are on a meter's running totals, not on what one reading adds to
them: else it would depend on the order of arrival what is refused. Pure.
"""

from __future__ import annotations

from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from msgspec.structs import astuple

from voicecosts.consumer.config import MAX_READING_OPTION, MAX_READING_VARIABLE
from voicecosts.producer.events import QUANTITIES

if TYPE_CHECKING:
    from voicecosts.producer.events import Quantities

MAX_AMOUNT: Final = 10**10
"""Tokens, characters or requests of one meter, at most, whatever they cost."""

MAX_TIME_US: Final = 366 * 86_400 * 1_000_000
"""Audio or connected time of one meter, at most."""

MAX_REPORTED: Final = Decimal(1_000_000)
"""US dollars that a provider may report for one meter, at most."""

_TIMES: Final = ("audio_us", "session_us")
_COUNTS: Final = tuple(name for name in QUANTITIES if name not in _TIMES)
_counts = attrgetter(*_COUNTS)


def excess(totals: Quantities, cost: Decimal | None, most: Decimal) -> str | None:
    """Return what of a meter is above its limit, as a figure and the limit; `None` if nothing is."""
    if max(astuple(totals)) > MAX_AMOUNT:  # the smaller limit: nearly every meter is below it
        if max(_counts(totals)) > MAX_AMOUNT:
            return _amount(totals, _COUNTS, MAX_AMOUNT)
        if max(totals.audio_us, totals.session_us) > MAX_TIME_US:
            return _amount(totals, _TIMES, MAX_TIME_US)
    if cost is not None and cost > most:
        return (
            f"it costs {cost:f} US dollars, above the limit of {most:f} "
            f"({MAX_READING_VARIABLE}, {MAX_READING_OPTION})"
        )
    return None


def _amount(totals: Quantities, names: tuple[str, ...], most: int) -> str:
    name, amount = next(
        (name, amount) for name in names if (amount := getattr(totals, name)) > most
    )
    return f"{name} is {amount}, above the fixed limit of {most}"
