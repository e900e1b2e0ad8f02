"""In which layers of money a meter has an amount now. Rows book the difference, as of everything else.

So a sum knows what it is a sum of: where it has meters and none of them has an amount, nobody knows it, and
zero would be wrong. It makes no difference how usage was split, in which order it came, or what operations
did and undid. Pure.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from voicecosts.consumer.pricing import Rated


class Counted(Struct, frozen=True, omit_defaults=True, gc=False):
    """What a meter counts for: each is 0 or 1, and a row has the difference to the row before.

    The names are columns of the ledger. `meters` is whether it used anything; the others, whether that has
    a cost, a list price, and an amount that the tenant is charged.
    """

    meters: int = 0
    priced_meters: int = 0
    listed_meters: int = 0
    billed_meters: int = 0


NOTHING: Final = Counted()


def counted(rated: Rated) -> Counted:
    """Return what a meter that used something counts for. An amount of zero is one."""
    return _counted(rated.cost is not None, rated.list_cost is not None, rated.billed is not None)


@cache
def _counted(*layers: bool) -> Counted:
    return Counted(1, *map(int, layers))


def counted_since(now: Counted, before: Counted) -> Counted:
    """Return how much more a meter counts for than before."""
    if now == before:
        return NOTHING
    return Counted(
        now.meters - before.meters,
        now.priced_meters - before.priced_meters,
        now.listed_meters - before.listed_meters,
        now.billed_meters - before.billed_meters,
    )
