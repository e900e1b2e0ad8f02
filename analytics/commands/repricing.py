"""What a re-rating would change, by tenant and by model, worked out from a snapshot without writing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import astuple, replace

from voicecosts.analytics.answers.completeness import as_of
from voicecosts.analytics.answers.states import schema_of
from voicecosts.analytics.errors import BadQuestion
from voicecosts.analytics.question.relation import FIRST_COUNTED_SCHEMA
from voicecosts.analytics.snapshot.connection import closing, open_newest
from voicecosts.consumer.booking.sessions import SessionKey, SessionState

if TYPE_CHECKING:
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.consumer.booking.operations import Rerate
    from voicecosts.consumer.booking.rerating import Rerated
    from voicecosts.consumer.pricing import Rate, Rated, Scope, Terms
    from voicecosts.producer.events import Meter, Quantities

_SLICE: Final = 500
_ZERO: Final = Decimal(0)
_TOKENS: Final = ("input_tokens", "output_tokens", "other_tokens")

Model = tuple[str, str]
"""A provider and a model of it."""


class Change(Struct):
    """What some meters cost before and after, by layer; None where none of them has such money.

    `unpriced_…` counts those of which something has no price. `is_unknown` says that some of them were
    given to a model of which something has no price: nobody knows what they would have cost. `is_bill_unknown` says
    that a rule bills some of them, and that what it charges on is not known.
    """

    list_before: Decimal | None = None
    list_after: Decimal | None = None
    cost_before: Decimal | None = None
    cost_after: Decimal | None = None
    billed_before: Decimal | None = None
    billed_after: Decimal | None = None
    meters: int = 0
    unpriced_before: int = 0
    unpriced_after: int = 0
    is_unknown: bool = False
    is_bill_unknown: bool = False

    @property
    def difference(self) -> Decimal | None:
        """How much more the operator pays; None where nobody knows."""
        if self.is_unknown:
            return None
        return (self.cost_after or _ZERO) - (self.cost_before or _ZERO)

    @property
    def billed_difference(self) -> Decimal | None:
        """How much more the tenants are charged; None where nobody knows."""
        if self.is_bill_unknown:
            return None
        return (self.billed_after or _ZERO) - (self.billed_before or _ZERO)

    def add(self, found: Rerated, rated: Rated | None, *, is_other: bool) -> None:
        """Add a meter, by the prices of another model where `is_other`; without `rated` it stays as it is."""
        state = found.state
        is_short = any(astuple(state.unpriced))
        counted = state.counted
        before = (
            state.list_cost if counted.listed_meters else None,
            state.cost if counted.priced_meters else None,
            state.billed if counted.billed_meters else None,
        )
        after = before
        is_short_after = is_short
        if rated is not None:
            after = (rated.list_cost, rated.cost, rated.billed)
            is_short_after = any(astuple(rated.unpriced_usage))
            lacks_bill = rated.billed is None and rated.unbilled is not None
            self.is_bill_unknown |= lacks_bill and (is_other or found.row is not None)
        self.list_before, self.cost_before, self.billed_before = (
            _plus(one, two)
            for one, two in zip(
                (self.list_before, self.cost_before, self.billed_before), before, strict=True
            )
        )
        self.list_after, self.cost_after, self.billed_after = (
            _plus(one, two)
            for one, two in zip(
                (self.list_after, self.cost_after, self.billed_after), after, strict=True
            )
        )
        self.meters += 1
        self.unpriced_before += is_short
        self.unpriced_after += is_short_after
        self.is_unknown |= is_other and is_short_after


class Corrected(Struct):
    """What would be booked of a closed month, in US dollars."""

    cost: Decimal = _ZERO
    billed: Decimal = _ZERO


class Changes(Struct):
    """The answer: by tenant, by modality, provider and model, and in all.

    `left` counts the meters that stay as they are because their new money cannot be booked, `left_why` says
    why, of one of them. `reasons` says why something would have no price, and of how many meters. It is `estimated` where tokens are priced as another model's: that one would have counted them otherwise.
    `uncharged` has the calls that a price would bill as a whole and that nothing would charge, by tenant and by
    whether their connected time was counted.
    `keep_billed` has those that are billed as before, because the conditions choose a part of their meters.
    `billed_in_part` has those of which `--unpriced` would bill what had no price, and leave the rest without an amount
    although the prices of today bill it.
    `corrected` has what belongs to closed months, which stay as they are, by month and by the day where it would be.
    """

    total: Change
    by_tenant: dict[str | None, Change]
    by_model: dict[tuple[str, str, str], Change]
    as_of: datetime | None
    left: int = 0
    left_why: str = ""
    estimated: bool = False
    reasons: dict[str, int] = {}
    uncharged: dict[tuple[str | None, bool], set[SessionKey]] = {}
    keep_billed: set[SessionKey] = set()
    billed_in_part: set[SessionKey] = set()
    corrected: dict[tuple[date, date], Corrected] = {}


def changes(
    work: Rerate, rate: Rate, data_dir: Path | None, *, instead: Mapping[Model, Model]
) -> Changes:
    """Return what a re-rating would change; with `instead`, what other models would have cost.

    Raises:
        NoLedger: There is no snapshot.
        BadQuestion: An older version wrote it.
    """
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        if schema_of(connection, snapshot) < FIRST_COUNTED_SCHEMA:
            raise BadQuestion(
                f"{snapshot.path} was written by an older version: start the ledger once, then ask again"
            )
        found = Changes(
            total=Change(), by_tenant={}, by_model={}, as_of=as_of(connection, snapshot)
        )
        rate = _rate_of_others(rate, instead) if instead else rate
        for each, facts in _meters(connection, work, rate):
            _add(found, each, instead, facts)
    return found


class _OfSession(Struct, frozen=True):
    """What is known of the session of a meter: whether connected time of it was counted, and what is left out of it.

    `leaves_unbilled` says that a meter of it that is not meant has no billed amount, and would have one.
    """

    has_time: bool
    leaves_unbilled: bool


def _meters(
    connection: Connection, work: Rerate, rate: Rate
) -> Iterator[tuple[Rerated, _OfSession]]:
    """Yield every meter that is meant."""
    from voicecosts.consumer.booking.months import Months  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.booking.prices import PricesUsed  # noqa: PLC0415 - same
    from voicecosts.consumer.booking.rerating import rerated  # noqa: PLC0415 - same
    from voicecosts.consumer.store import sql  # noqa: PLC0415 - same
    from voicecosts.consumer.store.load import load_sessions  # noqa: PLC0415 - same
    from voicecosts.consumer.store.operations import rerated_values  # noqa: PLC0415 - same

    closed = connection.execute("SELECT month FROM closed_months").fetchall()
    months = Months(frozenset(month for (month,) in closed), datetime.now(UTC).date())
    prices = PricesUsed(connection.execute(sql.LOAD_PRICES_USED).fetchall())
    rows = connection.execute(sql.FIND_RERATED, rerated_values(work)).fetchall()
    keys = [SessionKey(*row) for row in rows]
    for at in range(0, len(keys), _SLICE):
        sessions = load_sessions(connection, keys[at : at + _SLICE], prices)
        timed = {
            key
            for key, session in sessions.items()
            if any(meter.modality == "agent_session" for meter in session.meters)
        }

        def at_today(work: Rerate, sessions: Mapping[SessionKey, SessionState]) -> list[Rerated]:
            return list(
                rerated(
                    work, sessions, rate, operation=None, now_us=0, prices=prices, months=months
                )
            )

        meant = at_today(work, sessions)
        lacking = set()
        if work.unpriced:
            chosen = {it.meter for it in meant}
            touched = {key: sessions[key] for key in dict.fromkeys(map(_key, meant))}
            lacking = {
                _key(it)
                for it in at_today(replace(work, unpriced=False), touched)
                if it.meter not in chosen and _is_billed_first(it)
            }
        for each in meant:
            key = _key(each)
            yield each, _OfSession(key in timed, key in lacking)


def _is_billed_first(it: Rerated) -> bool:
    """Return whether a meter has no billed amount and gets one."""
    return not it.state.counted.billed_meters and it.rated.billed is not None


def _key(each: Rerated) -> SessionKey:
    return SessionKey(each.identity.project, each.meter.session_id)


def _add(found: Changes, each: Rerated, instead: Mapping[Model, Model], facts: _OfSession) -> None:
    from voicecosts.consumer.booking.difference import Refusal  # noqa: PLC0415 - `--help` is quick

    row = each.row
    if (
        not instead
        and row is not None
        and not isinstance(row, Refusal)
        and row.day
        and row.corrects
    ):
        moved = found.corrected.setdefault((row.corrects, row.day), Corrected())
        moved.cost += Decimal(row.cost or 0)
        moved.billed += Decimal(row.billed or 0)

    meter = each.meter
    if instead:
        if (meter.provider, meter.model) not in instead:
            return
        if any(getattr(each.state.totals, name) for name in _TOKENS):
            found.estimated = True
    rated = None if isinstance(each.row, Refusal) else each.rated
    if isinstance(each.row, Refusal):
        found.left += 1
        found.left_why = found.left_why or each.row.detail
    if rated is not None and rated.reason and any(astuple(rated.unpriced_usage)):
        found.reasons[rated.reason] = found.reasons.get(rated.reason, 0) + 1
    _add_bill(found, each, rated, facts)
    model = (meter.modality, meter.provider, meter.model)
    for change in (
        found.total,
        found.by_tenant.setdefault(each.identity.tenant, Change()),
        found.by_model.setdefault(model, Change()),
    ):
        change.add(each, rated, is_other=bool(instead))


def _add_bill(found: Changes, each: Rerated, rated: Rated | None, facts: _OfSession) -> None:
    """Add to the calls that are not billed as the prices of today say."""
    key = _key(each)
    if each.keeps_billed:
        found.keep_billed.add(key)
    elif facts.leaves_unbilled and _is_billed_first(each):
        found.billed_in_part.add(key)
    terms = None if rated is None else rated.terms
    if rated is not None and terms is not None and terms.is_included and rated.billed is None:
        found.uncharged.setdefault((each.identity.tenant, facts.has_time), set()).add(key)


def _rate_of_others(rate: Rate, instead: Mapping[Model, Model]) -> Rate:
    def rated(
        meter: Meter,
        totals: Quantities,
        at: datetime,
        *,
        provider_raw: str,
        scope: Scope,
        terms: Terms | None = None,
        relabelled: bool = False,
        book: str | UnsetType = UNSET,
    ) -> Rated:
        other = instead.get((meter.provider, meter.model))
        if other is not None:
            meter = replace(meter, provider=other[0], model=other[1])
            provider_raw = other[0]
        return rate(
            meter,
            totals,
            at,
            provider_raw=provider_raw,
            scope=scope,
            terms=terms,
            relabelled=relabelled,
            book=book,
        )

    return rated


def _plus(one: Decimal | None, two: Decimal | None) -> Decimal | None:
    if one is None or two is None:
        return one if two is None else two
    return one + two
