"""What is done to the books on purpose: the kinds of operations, and which of them are in force.

An operation is recorded once and never changed. What it did is undone by another one that names it,
and that one can be undone as well; so whether an operation is in force follows from the list. Pure.
"""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from voicecosts.consumer.booking.months import following

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Layer = Literal["list", "cost", "billed"]
"""What is paid by the published price, by the operator, and by the tenant."""


class _Work(Struct, frozen=True, kw_only=True, tag=str.lower, tag_field="kind", omit_defaults=True):
    """What was asked; the tag is the kind of the operation."""

    @property
    def kind(self) -> str:
        """The kind, as it is stored."""
        return type(self).__name__.lower()


class Rerate(_Work, frozen=True, kw_only=True):
    """Sessions that started on a day from `since` on and before `until`, by the prices of today.

    `where` holds the allowed values by column, where `None` is the absent tenant: project, tenant and
    agent of the session; agent_label, modality, provider, model and service_tier of the meter. With `unpriced` only
    meters of which something has no price.
    """

    since: date | None = None
    until: date | None = None
    where: dict[str, tuple[str | None, ...]] = {}
    unpriced: bool = False


class Adjust(_Work, frozen=True, kw_only=True):
    """An amount of US dollars that comes from no session, on a day."""

    amount: Decimal
    day: date
    project: str
    layer: Layer = "cost"
    tenant: str | None = None
    agent: str = ""
    modality: str = "adjustment"
    provider: str = ""
    model: str = ""


class Void(_Work, frozen=True, kw_only=True):
    """A session that is taken out of every sum."""

    project: str
    session_id: str


class Close(_Work, frozen=True, kw_only=True):
    """A month that takes no row any more, by its first day."""

    month: date


def say_numbers(known: Collection[int]) -> str:
    """Return which operations there are, in words: a restored ledger lacks some numbers."""
    if not known:
        return "there is none"
    ordered = sorted(known)
    starts = [at for at in ordered if at - 1 not in known]
    ends = [at for at in ordered if at + 1 not in known]
    runs = [f"{a}" if a == b else f"{a} to {b}" for a, b in zip(starts, ends, strict=True)]
    return f"they are {' and '.join(runs)}"


class Acknowledge(_Work, frozen=True, kw_only=True):
    """Operations that a restored ledger lacks were done again, or are given up: all up to a number."""

    upto: int = 0


class Retain(_Work, frozen=True, kw_only=True):
    """How long detail is kept: days, or months; for ever where neither is given. Sums are kept in any case."""

    days: int = 0
    months: int = 0

    def first_kept(self, today: date) -> date | None:
        """Return the first day of which there is detail; `None` where all of it is kept."""
        if self.days:
            return date.fromordinal(max(1, today.toordinal() - self.days))
        if not self.months:
            return None
        before = max(12, today.year * 12 + today.month - 1 - self.months)
        year, month = divmod(before, 12)
        last = following(date(year, month + 1, 1)) - timedelta(days=1)
        return last.replace(day=min(today.day, last.day))

    def __str__(self) -> str:
        if self.days:
            return f"{self.days}d"
        return f"{self.months}mo" if self.months else "keep"


class Erase(_Work, frozen=True, kw_only=True):
    """Everything of a tenant that is taken out for good, in one project or in all.

    `tenant` is empty as soon as only copies are left to be removed: what is recorded for ever names nobody.
    """

    tenant: str = ""
    project: str | None = None


class Redacted(_Work, frozen=True, kw_only=True):
    """What an operation was, whose words were erased by another one. It cannot be undone or done again."""

    was: str
    by: int

    @property
    def kind(self) -> str:
        """The kind that it had."""
        return self.was


class Revert(_Work, frozen=True, kw_only=True):
    """An operation that is undone."""

    operation: int


Work = Rerate | Adjust | Void | Close | Revert | Acknowledge | Retain | Erase | Redacted

_decoder = msgspec.json.Decoder(Work)


def work_of(text: str | bytes) -> Work:
    """Return what was asked, from its JSON."""
    found: Work = _decoder.decode(text)
    return found


class Operation(Struct, frozen=True, kw_only=True):
    """One operation, as it is recorded. Without `ended_us` it is under way, or was stopped.

    `prices` is the text of the operator's own prices by which a re-rating works from its beginning to its
    end, `None` where there are none. `asked` is the id of the request that asked for it. `left` counts the
    meters whose new money could not be booked, and `left_why` says why, of one of them.
    """

    number: int
    work: Work
    started_us: int
    ended_us: int | None
    reason: str
    source: str = ""
    prices: str | None = None
    asked: str = ""
    stopped_us: int | None = None
    left: int = 0
    left_why: str = ""

    @property
    def is_under_way(self) -> bool:
        """Whether a ledger that runs does some more of it."""
        return self.ended_us is None and self.stopped_us is None

    @property
    def reverts(self) -> int | None:
        """The operation that it undoes."""
        return self.work.operation if isinstance(self.work, Revert) else None


def in_force(operations: Mapping[int, Operation]) -> frozenset[int]:
    """Return the numbers of the operations that no operation in force undoes."""
    undone: set[int] = set()
    found: set[int] = set()
    for number in sorted(operations, reverse=True):  # what undoes one is newer than it
        if number in undone:
            continue
        found.add(number)
        if (other := operations[number].reverts) is not None:
            undone.add(other)
    return frozenset(found)


def origin_of(operations: Mapping[int, Operation], number: int) -> Operation:
    """Return what an operation undoes or does again in the end; any other one is that itself."""
    operation = operations[number]
    while (other := operation.reverts) is not None:
        operation = operations[other]
    return operation


def undone_by(operations: Mapping[int, Operation], number: int) -> int | None:
    """Return the operation in force that undoes one."""
    return next((each for each in in_force(operations) if operations[each].reverts == number), None)
