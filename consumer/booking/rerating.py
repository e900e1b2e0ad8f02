"""Meters at the prices of today: which ones a re-rating is about, and the rows that it books. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import UNSET, Struct
from msgspec.structs import astuple, replace

from voicecosts.consumer.booking.difference import Booking, MeterState, Refusal, session_time
from voicecosts.consumer.booking.message import Reason
from voicecosts.consumer.booking.repricing import Origin, repriced
from voicecosts.consumer.booking.sessions import Identity, SessionKey, SessionState
from voicecosts.consumer.booking.whole_calls import charges, is_charged, kept_book, time_first
from voicecosts.consumer.pricing import Rated, Scope, Terms, uncharged
from voicecosts.consumer.pricing.billing import CALL_TIME

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from voicecosts.consumer.booking.months import Months
    from voicecosts.consumer.booking.operations import Rerate
    from voicecosts.consumer.booking.prices import PricesUsed
    from voicecosts.consumer.pricing import Rate
    from voicecosts.producer.events import Meter


_OF_THE_METER: Final = ("agent_label", "modality", "provider", "model", "service_tier")

COLUMNS: Final = ("project", "agent", "tenant", *_OF_THE_METER)
"""By what a re-rating can be narrowed; another name would be of everything."""


class Rerated(Struct, frozen=True):
    """One meter, what it costs by the prices of today, and the row that makes it so.

    `row` is None where the books say so already; a refusal leaves the meter as it is. With `keeps_billed`
    it is billed as before (`_bills_a_part`).
    """

    identity: Identity
    meter: Meter
    state: MeterState
    rated: Rated
    row: Booking | Refusal | None
    keeps_billed: bool = False


def rerated(
    work: Rerate,
    sessions: Mapping[SessionKey, SessionState],
    rate: Rate,
    *,
    operation: int | None,
    now_us: int,
    prices: PricesUsed,
    months: Months,
    decided: Collection[tuple[str, Meter]] = (),
) -> Iterator[Rerated]:
    """Yield every meter of some sessions that a re-rating is about.

    Of a meter in `decided`, after its project, another operation decided the price. What confirms that
    has a row as well: it stands when the other one is reverted.

    A session that was voided has used nothing, and is left out.
    """
    rows = _Rows(prices, months)
    for session in sessions.values():
        identity = session.identity
        if identity is None or session.voided or not _is_chosen(work, identity):
            continue
        origin = origin_of(identity, operation, now_us)
        scope = scope_of(identity, session)
        meant = {
            meter: state for meter, state in session.meters.items() if _is_meant(work, meter, state)
        }
        keeps_billed = 0 < len(meant) < len(session.meters) and _bills_a_part(session, rate, scope)
        charged = {meter for meter, state in session.meters.items() if is_charged({meter: state})}
        made: list[Rerated] = []
        for meter in time_first(meant):
            state = meant[meter]
            rated = _rated(rate, meter, state, scope)
            if keeps_billed and rated.terms is not None:
                kept = state.terms or Terms()
                terms = replace(
                    rated.terms, billed=kept.billed, unbilled=kept.unbilled, book=kept.book
                )
                rated = _rated(rate, meter, state, scope, terms)
            if not charged and _is_included(rated.terms):
                rated = uncharged(rated)
            confirms = (identity.project, meter) in decided
            row = rows.row(origin, meter, state, rated, confirms=confirms)
            if meter.modality == CALL_TIME and not isinstance(row, Refusal):
                has_amount = rated.billed is not None
                is_new = charges(meter, rated.terms, has_amount=has_amount)
                charged = charged | {meter} if is_new else charged - {meter}
            made.append(Rerated(identity, meter, state, rated, row, keeps_billed))
        yield from _all_or_none(made, rows, origin, goes_on=not session.ended)


class _Rows(Struct, frozen=True):
    """Makes the rows: by which prices they are numbered, and in which months dated."""

    prices: PricesUsed
    months: Months

    def row(
        self, origin: Origin, meter: Meter, state: MeterState, rated: Rated, *, confirms: bool
    ) -> Booking | Refusal | None:
        """Return the row that makes it so, `None` where it is so, or why it cannot be booked."""
        if rated.excess is not None:
            return Refusal(Reason.ABOVE_CEILING, _of_meter(meter, rated, rated.excess))
        found = repriced(
            meter,
            state,
            rated,
            origin=origin,
            prices=self.prices,
            months=self.months,
            confirms=confirms,
        )
        row = found[0] if isinstance(found, tuple) else found
        if isinstance(row, Refusal):
            return Refusal(row.reason, _of_meter(meter, rated, row.detail))
        return row


def _all_or_none(
    made: list[Rerated], rows: _Rows, origin: Origin, *, goes_on: bool
) -> Iterator[Rerated]:
    """Yield the meters of one session.

    Where one has a row, or the call goes on, every meter that gets another text of the price file has one: what is
    read later of the call is billed as these are.
    """
    is_changed = goes_on or any(isinstance(it.row, Booking) for it in made)
    for it in made:
        is_behind = is_changed and it.row is None and _is_of_other_book(it)
        if is_behind:
            row = rows.row(origin, it.meter, it.state, it.rated, confirms=True)
            it = replace(it, row=row)  # noqa: PLW2901 - the same meter
        yield it


def _is_of_other_book(it: Rerated) -> bool:
    now = UNSET if it.rated.terms is None else it.rated.terms.book
    return now != (UNSET if it.state.terms is None else it.state.terms.book)


def narrows_calls(work: Rerate) -> bool:
    """Return whether a re-rating may be about a part of a call's meters."""
    return work.unpriced or not work.where.keys().isdisjoint(_OF_THE_METER)


def _rated(
    rate: Rate, meter: Meter, state: MeterState, scope: Scope, terms: Terms | None = None
) -> Rated:
    at = session_time(meter.session_id)
    return rate(meter, state.totals, at, provider_raw=state.provider_raw, scope=scope, terms=terms)


def _bills_a_part(session: SessionState, rate: Rate, scope: Scope) -> bool:
    """Return whether a price for the whole call begins or ceases to bill a session, or to charge it.

    Then what is billed changes for all of its meters or for none: otherwise the call would be billed as a
    whole and by its parts as well, or by neither.
    """
    rated = {meter: _rated(rate, meter, state, scope) for meter, state in session.meters.items()}
    is_included = [_is_included(each.terms) for each in rated.values()]
    if is_included != [_is_included(state.terms) for state in session.meters.values()]:
        return True
    is_new = any(
        charges(meter, it.terms, has_amount=it.billed is not None) for meter, it in rated.items()
    )
    # Of time that an older version booked it is not known by what it is charged, unless something is included.
    is_known = any(is_included) or kept_book(session.meters) is not UNSET
    return is_new != (is_known and is_charged(session.meters))


def _is_included(terms: Terms | None) -> bool:
    return terms is not None and terms.is_included


def origin_of(identity: Identity, operation: int | None, now_us: int) -> Origin:
    """Return what a row of an operation says of its session."""
    return Origin(
        identity.project,
        identity.agent_id,
        identity.tenant,
        now_us,
        identity.producer_id or "",
        operation=operation,
    )


def scope_of(identity: Identity, session: SessionState) -> Scope:
    """Return what a price of the operator may depend on."""
    return Scope(
        project=identity.project,
        agent_id=identity.agent_id,
        tenant=identity.tenant,
        labels=session.labels,
    )


def _of_meter(meter: Meter, rated: Rated, why: str) -> str:
    """Return which meter is too dear, by which price: an entry of the operator names its line."""
    price = " ".join(filter(None, (rated.source, rated.version, rated.model)))
    if rated.source and rated.model and rated.model.startswith(rated.source):
        price = rated.model
    by = f"by {price} " if price else ""
    return (
        f"of {meter.modality} {meter.provider} {meter.model} in call {meter.session_id}, {by}{why}"
    )


def _is_chosen(work: Rerate, identity: Identity) -> bool:
    where = work.where
    return (
        _is_one_of(where, "project", identity.project)
        and _is_one_of(where, "agent", identity.agent_id)
        and _is_one_of(where, "tenant", identity.tenant)
    )


def _is_meant(work: Rerate, meter: Meter, state: MeterState) -> bool:
    if work.unpriced and not any(astuple(state.unpriced)):
        return False
    return all(_is_one_of(work.where, name, getattr(meter, name)) for name in _OF_THE_METER)


def _is_one_of(where: Mapping[str, tuple[str | None, ...]], column: str, value: str | None) -> bool:
    return column not in where or value in where[column]
