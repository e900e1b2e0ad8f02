"""The prices of one meter in every layer, as they were found for it.

They are found once: when a meter is first priced. The ledger keeps them for ever, so a cost can be
explained years later, and what a meter costs never jumps because a price list changed in the
middle of a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from msgspec import UNSET, Struct, UnsetType, structs

from voicecosts.consumer.pricing.charge import Charge
from voicecosts.consumer.pricing.price import Price, Unpriced

if TYPE_CHECKING:
    from datetime import datetime

    from voicecosts.consumer.pricing.price import PriceBook
    from voicecosts.consumer.pricing.scope import Scope
    from voicecosts.producer.events import Meter

FORMER: Final = (
    "the prices under which the call began were edited while it went on, and their text is kept nowhere: `costs "
    "rerate` bills it by those of today"
)
"""Why it is not known what a meter is billed."""

_MAX_FOUND: Final = 4096
"""Combinations of prices that are kept, so that equal ones are one object."""


class Terms(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a meter is priced by: the list price, what the operator pays, what the tenant is charged.

    `listed` is `None` where no list has a price, and `unlisted` says why. `cost` is `None` where
    the operator pays the list price. `billed` is `None` where no rule bills the meter; `unbilled` says why,
    where that is not known.

    `book` names the operator's prices by which it is billed, those under which the call began; a version before
    this one did not keep that.
    """

    listed: Price | None = None
    unlisted: str | None = None
    cost: Charge | None = None
    billed: Charge | None = None
    unbilled: str | None = None
    book: str | UnsetType = UNSET

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
        return self.book is UNSET or (self.billed is not None and self.billed.whole)

    def kept(self, *, has_cost: bool, has_billed: bool) -> Terms | None:
        """Return what of this a meter keeps once it has money in these layers, `None` if nothing.

        What has no cost is looked up again with every reading, until a price is found. By what it is billed is kept
        in any case.
        """
        if has_cost and self.is_priced:
            return self
        if self.book is not UNSET or (has_billed and self.billed is not None):
            return Terms(billed=self.billed, unbilled=self.unbilled, book=self.book)
        return None

    @property
    def is_empty(self) -> bool:
        """Whether there is no price in any layer, and nothing that says by which it is billed."""
        has_price = self.is_priced or self.cost is not None or self.billed is not None
        return not has_price and self.book is UNSET


class OwnPrices(Protocol):
    """Where the operator's own prices are looked up."""

    def find(self, meter: Meter, scope: Scope, at: datetime) -> tuple[Charge | None, Charge | None]:
        """Return what the operator pays and what the tenant is charged, in force at `at`."""

    @property
    def digest(self) -> str:
        """What names these prices."""

    def billed_by(
        self, digest: str, meter: Meter, scope: Scope, at: datetime
    ) -> Charge | UnsetType | None:
        """Return what the tenant is charged by former prices; unset where nobody has them any more."""


class NoPricesOfOnesOwn:
    """There is no file with prices."""

    digest: Final = ""

    def find(
        self,
        meter: Meter,  # noqa: ARG002 - a protocol's
        scope: Scope,  # noqa: ARG002 - same
        at: datetime,  # noqa: ARG002 - same
    ) -> tuple[Charge | None, Charge | None]:
        """Return nothing."""
        return None, None

    def billed_by(
        self,
        digest: str,
        meter: Meter,  # noqa: ARG002 - a protocol's
        scope: Scope,  # noqa: ARG002 - same
        at: datetime,  # noqa: ARG002 - same
    ) -> Charge | UnsetType | None:
        """Return nothing, by nothing."""
        return UNSET if digest else None


class Finder:
    """Looks up the terms of meters. The same prices are the same object, while they are kept."""

    def __init__(self, listed: PriceBook, own: OwnPrices) -> None:
        self._listed = listed
        self._own = own
        self._found: dict[tuple[int | str, ...], tuple[Terms, Price | Unpriced]] = {}

    def __repr__(self) -> str:
        return f"<Finder: {self._listed!r}, {self._own!r}>"

    def find(
        self,
        meter: Meter,
        scope: Scope,
        at: datetime,
        *,
        provider_raw: str,
        book: str | UnsetType = UNSET,
    ) -> Terms:
        """Return the prices in force at `at`, the start of the session (UTC); with `book`, billed by that one."""
        listed = self._listed.find(
            modality=meter.modality,
            provider=meter.provider,
            provider_raw=provider_raw,
            model=meter.model,
            at=at,
        )
        terms = self._terms(listed, *self._own.find(meter, scope, at))
        if book in (UNSET, terms.book):
            return terms
        return self._billed(structs.replace(terms, book=book), meter, scope, at)

    def find_rest(
        self, terms: Terms, meter: Meter, scope: Scope, at: datetime, *, provider_raw: str
    ) -> Terms:
        """Return terms that bill as these do, and whose other prices are those in force at `at`."""
        found = self.find(meter, scope, at, provider_raw=provider_raw)
        if found.book == terms.book and found.billed == terms.billed:
            return found  # the same object as for other readings
        return structs.replace(found, billed=terms.billed, unbilled=terms.unbilled, book=terms.book)

    def relabelled(self, terms: Terms, meter: Meter, scope: Scope, at: datetime) -> Terms:
        """Return terms with what prices for the labels of `scope` change in them.

        A layer for which the labels make no difference stays as it was found.
        """
        without = self._own.find(meter, structs.replace(scope, labels={}), at)
        layers = zip(
            (terms.cost, terms.billed), without, self._own.find(meter, scope, at), strict=True
        )
        cost, billed = (now if now != before else kept for kept, before, now in layers)
        if terms.book is UNSET:
            return structs.replace(terms, cost=cost, billed=billed)
        return self._billed(structs.replace(terms, cost=cost), meter, scope, at)

    def _billed(self, terms: Terms, meter: Meter, scope: Scope, at: datetime) -> Terms:
        """Return terms that bill by their book; by nothing, where nobody has that any more."""
        if terms.book is UNSET:
            return terms
        billed = self._own.billed_by(terms.book, meter, scope, at)
        if billed is UNSET:
            return structs.replace(terms, billed=None, unbilled=FORMER)
        return structs.replace(terms, billed=billed, unbilled=None)

    def _terms(self, listed: Price | Unpriced, cost: Charge | None, billed: Charge | None) -> Terms:
        book = self._own.digest
        key = (id(listed), id(cost), id(billed), book)
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _MAX_FOUND:
                self._found.clear()
            terms = Terms(
                listed=listed if isinstance(listed, Price) else None,
                unlisted=listed.reason if isinstance(listed, Unpriced) else None,
                cost=cost,
                billed=billed,
                book=book,
            )
            found = self._found[key] = (terms, listed)  # kept, so that no id is used again
        return found[0]
