"""The prices of one meter in every layer, as they were found for it.

They are found once: when a meter is first priced. The ledger keeps them for ever, so a cost can be
explained years later, and what a meter costs never jumps because a price list changed in the
middle of a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from msgspec import UNSET, Struct, UnsetType, structs

from voicecosts.consumer.pricing.billing import CALL_TIME
from voicecosts.consumer.pricing.charge import Charge, Found, included
from voicecosts.consumer.pricing.price import Price, Unpriced

if TYPE_CHECKING:
    from datetime import datetime

    from voicecosts.consumer.pricing.price import PriceBook
    from voicecosts.consumer.pricing.scope import Scope
    from voicecosts.producer.events import Meter

_MAX_FOUND: Final = 4096
"""Combinations of prices that are kept, so that equal ones are one object."""


class Terms(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a meter is priced by: the list price, what the operator pays, what the tenant is charged.

    `listed` is `None` where no list has a price, and `unlisted` says why. `cost` is `None` where
    the operator pays the list price. `billed` is `None` where no rule bills the meter; `unbilled` says why,
    where a rule of today would.

    `call` is the price for the whole call that was in force when the meter was first priced, `None` where there
    was none; a version before this one did not keep it. Every meter of a call keeps the same.
    """

    listed: Price | None = None
    unlisted: str | None = None
    cost: Charge | None = None
    billed: Charge | None = None
    unbilled: str | None = None
    call: Charge | UnsetType | None = UNSET

    @property
    def is_priced(self) -> bool:
        """Whether there is a price for what the operator pays."""
        if self.cost is not None and self.cost.share is None:
            return True
        return self.listed is not None

    @property
    def is_included(self) -> bool:
        """Whether a price for the whole call bills the meter, so that it has no amount of its own."""
        return self.billed is not None and self.billed.included

    @property
    def charges_call(self) -> bool:
        """Whether connected time that is billed so is what a price for the whole call is charged with."""
        return self.call is UNSET or (self.billed is not None and self.billed == self.call)

    def without_call(self) -> Terms:
        """Return terms that bill nothing by the price for the whole call, because the call began without one."""
        entry = self.call.entry if isinstance(self.call, Charge) else "a price"
        why = f"{entry} bills the whole of a call, and this one began before it did: `costs rerate` bills it so"
        return structs.replace(self, billed=None, unbilled=why, call=None)

    def kept(self, *, has_cost: bool, has_billed: bool) -> Terms | None:
        """Return what of this a meter keeps once it has money in these layers, `None` if nothing.

        What has no cost is looked up again with every reading, until a price is found.
        """
        if has_cost and self.is_priced:
            return self
        if has_billed and self.billed is not None:
            return Terms(billed=self.billed, call=self.call)
        return None

    @property
    def is_empty(self) -> bool:
        """Whether there is no price in any layer."""
        return self.listed is None and self.cost is None and self.billed is None


class OwnPrices(Protocol):
    """Where the operator's own prices are looked up."""

    def find(self, meter: Meter, scope: Scope, at: datetime) -> Found:
        """Return what the operator pays and what the tenant is charged, in force at `at`."""


class NoPricesOfOnesOwn:
    """There is no file with prices."""

    def find(
        self,
        meter: Meter,  # noqa: ARG002 - a protocol's
        scope: Scope,  # noqa: ARG002 - same
        at: datetime,  # noqa: ARG002 - same
    ) -> Found:
        """Return nothing."""
        return Found()


class Finder:
    """Looks up the terms of meters. The same prices are the same object, while they are kept."""

    def __init__(self, listed: PriceBook, own: OwnPrices) -> None:
        self._listed = listed
        self._own = own
        self._found: dict[tuple[int, ...], tuple[Terms, Price | Unpriced]] = {}

    def __repr__(self) -> str:
        return f"<Finder: {self._listed!r}, {self._own!r}>"

    def find(
        self,
        meter: Meter,
        scope: Scope,
        at: datetime,
        *,
        provider_raw: str,
        call: Charge | UnsetType | None = UNSET,
    ) -> Terms:
        """Return the prices in force at `at`, the start of the session (UTC).

        With `call`, the price for the whole call that other meters of the session keep, or their lack of one.
        """
        listed = self._listed.find(
            modality=meter.modality,
            provider=meter.provider,
            provider_raw=provider_raw,
            model=meter.model,
            at=at,
        )
        found = self._own.find(meter, scope, at)
        terms = self._terms(listed, found)
        return terms if call in (UNSET, found.call) else _of_call(terms, meter, found, call)

    def find_rest(
        self, terms: Terms, meter: Meter, scope: Scope, at: datetime, *, provider_raw: str
    ) -> Terms:
        """Return terms that bill as these do, and whose other prices are those in force at `at`."""
        found = self.find(meter, scope, at, provider_raw=provider_raw)
        return structs.replace(found, billed=terms.billed, unbilled=terms.unbilled, call=terms.call)

    def relabelled(self, terms: Terms, meter: Meter, scope: Scope, at: datetime) -> Terms:
        """Return terms with what prices for the labels of `scope` change in them.

        A layer for which the labels make no difference stays as it was found.
        """
        before = self._own.find(meter, structs.replace(scope, labels={}), at)
        now = self._own.find(meter, scope, at)
        if now.cost != before.cost:
            terms = structs.replace(terms, cost=now.cost)
        call = now.call if now.call != before.call else terms.call
        if now.billed != before.billed or call != terms.call:
            terms = structs.replace(terms, billed=now.billed, unbilled=None, call=now.call)
            if call not in (UNSET, now.call):
                terms = _of_call(terms, meter, now, call)
        return terms

    def _terms(self, listed: Price | Unpriced, own: Found) -> Terms:
        cost, billed, call = own
        key = (id(listed), id(cost), id(billed), id(call))
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _MAX_FOUND:
                self._found.clear()
            terms = Terms(
                listed=listed if isinstance(listed, Price) else None,
                unlisted=listed.reason if isinstance(listed, Unpriced) else None,
                cost=cost,
                billed=billed,
                call=call,
            )
            found = self._found[key] = (terms, listed)  # kept, so that no id is used again
        return found[0]


def _of_call(terms: Terms, meter: Meter, now: Found, call: Charge | UnsetType | None) -> Terms:
    """Return terms of today for a meter of a call that keeps another price for the whole call: `call`, or none.

    The call is billed as it began: by the price it keeps, also where the file has none any more; and by none,
    where it began without, because what it used before is not included.
    """
    is_whole = terms.billed is not None and (terms.billed.included or terms.billed == now.call)
    if isinstance(call, Charge) and (is_whole or now.call is None):
        billed = call if meter.modality == CALL_TIME else included(call)
        return structs.replace(terms, billed=billed, call=call)
    if call is None and is_whole and now.call is not None:
        return structs.replace(terms, call=now.call).without_call()
    return structs.replace(terms, call=call)
