"""Notes on a session beside its bookings, so that an incomplete session is not called complete.

A note is made only where something is unusual. Readings and ends come in any order and any number
of times: the same event makes the same notes, and the ledger keeps each of them once.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from voicecosts.consumer.booking.difference import Reading, holds, worst_case
from voicecosts.consumer.pricing import Rate
from voicecosts.producer.events import Meter, Quantities

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicecosts.consumer.booking.sessions import SessionState

NO_START: Final = "no_start"
NOTHING_NEW: Final = "nothing_new"
AFTER_END: Final = "after_end"
CONTRADICTS_END: Final = "contradicts_end"
OTHER_TENANT: Final = "other_tenant"
OTHER_AGENT: Final = "other_agent"

_NOTHING = Quantities()


class Note(Struct, frozen=True):
    """A note as `insert_session_notes.sql` reads it. `at_most` is money that may be missing."""

    project: str
    session_id: str
    number: int
    reason: str
    occurred_at: int | None
    at_most: str | None
    producer_id: str


class Doubt(Struct, frozen=True):
    """Why the ledger differs from an event on a meter, and what that is worth at most."""

    reason: str
    at_most: Decimal | None
    meter: Meter


def overtaken(session: SessionState) -> bool:
    """Return whether readings made after the end of a session were booked before it."""
    return any(state.number > session.ended for state in session.meters.values())


def disagreements(
    finals: list[Reading], session: SessionState, refused: set[Meter], rate: Rate
) -> Iterator[Doubt]:
    """Yield a doubt for each meter on which the ledger differs from a booked end.

    More than the end says is no difference where a later reading came first; a meter that the end
    does not name is one.
    """
    for final in finals:
        if final.meter not in refused and not holds(session.meters[final.meter], final):
            yield Doubt(CONTRADICTS_END, worst_case(final, rate), final.meter)
    named = {final.meter for final in finals}
    for meter, state in session.meters.items():
        if meter not in named and state.number < session.ended and state.totals != _NOTHING:
            yield Doubt(CONTRADICTS_END, None, meter)


def summed(doubts: list[Doubt]) -> list[tuple[str, str | None]]:
    """Return each reason once, with the sum of its doubts if all of them have an amount."""
    found: list[tuple[str, str | None]] = []
    if not doubts:
        return found
    for reason in dict.fromkeys(doubt.reason for doubt in doubts):
        amounts = [doubt.at_most for doubt in doubts if doubt.reason == reason]
        known = [amount for amount in amounts if amount is not None]
        total = sum(known, Decimal(0))
        is_known = len(known) == len(amounts) and total < 10**9
        found.append((reason, f"{total:f}" if is_known else None))
    return found
