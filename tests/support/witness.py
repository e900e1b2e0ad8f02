"""What an answer may claim, by what was offered and what the stream has acknowledged.

The witness stands between the calls and the publisher and between the publisher and the broker, so
it knows of every reading when it was offered and when the broker was heard to have stored it. It
reads no ledger. Each answer is judged by that alone: see `lies`.
"""

from __future__ import annotations

import contextlib
import threading
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from unittest import mock

from msgspec import Struct

from tests.support.load import Key, priced, totals
from voicecosts.producer.events import Event, decode
from voicecosts.producer.outbox.packing import Packed
from voicecosts.producer.publishing import publisher as publisher_module
from voicecosts.producer.publishing.connection import Connection

ON_ITS_WAY: Final = timedelta(seconds=11)
"""What was offered this long before an answer's moment must be in it, or be told of: workers send
every tenth of a second, and a message that has waited for ten seconds is told of."""

ALWAYS_NAMED: Final = frozenset({"dead_letters", "dropped", "unattributed", "unmeasured", "prices"})
"""Sources of findings that would be false: nothing of the kind happens to this load."""

Costs = Mapping[tuple[str, ...], Decimal]
"""By group its money."""


def by_meter(key: Key) -> tuple[str, ...]:
    """Group by session and model."""
    return key


def by_session(key: Key) -> tuple[str, ...]:
    """Group by session."""
    return key[:1]


def by_model(key: Key) -> tuple[str, ...]:
    """Group by model."""
    return key[1:]


class Answer(Struct, frozen=True, kw_only=True):
    """One answer, whoever gave it. `grouped` gives the group of a meter in `costs`.

    `claims_whole` is true where it said that nothing is missing, in a field, a sentence or an exit
    code. `found` are the sources of its findings, `gaps` the reasons of the gaps that it names.
    """

    by: str
    began: datetime
    ended: datetime
    as_of: datetime | None
    answered_at: datetime | None
    claims_whole: bool
    costs: Costs
    grouped: Callable[[Key], tuple[str, ...]]
    found: frozenset[str]
    gaps: frozenset[str]


class _Course:
    """What one meter showed at which moment: amounts that only grow."""

    def __init__(self) -> None:
        self._at: list[datetime] = []
        self._amounts: list[int] = []

    def note(self, at: datetime, amount: int) -> None:
        self._at.append(at)
        self._amounts.append(max(amount, self._amounts[-1] if self._amounts else 0))

    def before(self, at: datetime) -> int:
        """Return the largest amount that was noted before a moment."""
        place = bisect_left(self._at, at)
        return self._amounts[place - 1] if place else 0

    def between(self, after: datetime, before: datetime) -> int:
        """Return the largest amount that was noted after one moment and before another, or 0."""
        first, end = bisect_left(self._at, after), bisect_left(self._at, before)
        return self._amounts[end - 1] if end > first else 0


class Witness:
    """Notes what happens, from several threads, and judges answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offered: dict[Key, _Course] = {}
        self._stored: dict[Key, _Course] = {}
        self._money: dict[Key, dict[int, Decimal]] = {}
        self._away: list[tuple[datetime, datetime | None]] = []
        self._held_until = datetime.min.replace(tzinfo=UTC)
        self._anew_from: datetime | None = None
        self._anew_since: datetime | None = None
        self.judged: dict[str, int] = {}
        self.whole: dict[str, int] = {}

    def offered(self, event: Event) -> None:
        """Note that a call hands this to its publisher now."""
        self._note(self._offered, [event], datetime.now(UTC))

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Note every acknowledgement that publishers hear which begin in this block."""
        witness = self

        class Heard(Connection):
            async def publish(self, message: Packed) -> None:
                await super().publish(message)
                witness._note(witness._stored, decode(message.data).events, datetime.now(UTC))

        with mock.patch.object(publisher_module, "Connection", Heard):
            yield

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Nobody can hear anything from the broker or the ledger in this block."""
        place = len(self._away)
        began = datetime.now(UTC)
        self._away.append((began, None))
        try:
            yield
        finally:
            self._away[place] = (began, datetime.now(UTC))

    def stream_goes(self) -> None:
        """The stream is about to be deleted: what no answer held by now may be lost."""
        self._anew_from = datetime.now(UTC)

    def stream_is_anew(self, since: datetime) -> None:
        """The stream was made anew: what is stored from this moment on is in it."""
        self._anew_since = since

    def lies(self, answer: Answer) -> list[str]:
        """Return in sentences what an answer claims and is not so.

        It must hold whatever was stored before its `as_of`, and no more than was offered when it was
        given. While nothing could be heard from the broker, `as_of` cannot be of that time. When it
        says that nothing is missing, it must hold all that was offered before its `as_of` as well,
        except what was on its way.
        """
        with self._lock:
            said = [*self._too_fresh(answer), *self._too_full(answer), *self._not_so(answer)]
            self.judged[answer.by] = self.judged.get(answer.by, 0) + 1
            if answer.claims_whole:
                self.whole[answer.by] = self.whole.get(answer.by, 0) + 1
            if self._anew_from is None and answer.as_of is not None and not said:
                self._held_until = max(self._held_until, answer.as_of)
        return [f"{answer.by} at {answer.began:%H:%M:%S.%f}: {each}" for each in said]

    def _too_fresh(self, answer: Answer) -> Iterator[str]:
        at = answer.as_of
        if at is None:
            if answer.claims_whole:
                yield "nothing is missing, as of no moment"
            return
        for name, moment in (("as_of", at), ("answered_at", answer.answered_at)):
            if moment is None:
                continue
            if moment > answer.ended:
                yield f"{name} {moment} is in the future"
            for began, ended in self._away:
                is_away = began < answer.began and (ended is None or answer.ended < ended)
                if is_away and moment > began:
                    yield f"{name} {moment} is after {began}, since when nothing was heard"
        excused = "stream_gone" in answer.gaps
        yield from self._less_than(answer, "was stored", lambda key: self._must(key, at, excused))

    def _too_full(self, answer: Answer) -> Iterator[str]:
        if answer.claims_whole and answer.as_of is not None:
            before = answer.as_of - ON_ITS_WAY
            yield from self._less_than(
                answer, "was offered long", lambda key: self._offered[key].before(before)
            )
        most = self._sums(answer, lambda key: self._offered[key].before(answer.ended))
        for group, cost in answer.costs.items():
            if cost > most.get(group, Decimal(0)):
                yield f"{cost} USD of {group} where {most.get(group)} was offered"
            if answer.grouped is by_meter and cost not in self._prices_of(group):
                yield f"{cost} USD of {group} is of no reading"

    def _not_so(self, answer: Answer) -> Iterator[str]:
        if wrong := answer.found & ALWAYS_NAMED:
            yield f"something is missing of {sorted(wrong)}, and nothing is"
        if self._anew_from is None and answer.gaps:
            yield f"there are gaps ({sorted(answer.gaps)}), and there are none"
        if answer.gaps - {"stream_gone"}:
            yield f"there are gaps ({sorted(answer.gaps)}), and only the stream was made anew"
        if answer.claims_whole and answer.found:
            yield f"nothing is missing, and there are findings of {sorted(answer.found)}"

    def _less_than(self, answer: Answer, what: str, least: Callable[[Key], int]) -> Iterator[str]:
        for group, cost in self._sums(answer, least).items():
            shown = answer.costs.get(group, Decimal(0))
            if shown < cost:
                yield f"{shown} USD of {group}, where {cost} {what} before its as_of {answer.as_of}"

    def _must(self, key: Key, at: datetime, excused: bool) -> int:  # noqa: FBT001 - of one place
        course = self._stored.get(key)
        if course is None:
            return 0
        if not excused or self._anew_from is None:
            return course.before(at)
        certain = course.before(min(at, self._held_until))
        if self._anew_since is None:
            return certain
        return max(certain, course.between(self._anew_since, at))

    def _prices_of(self, group: tuple[str, ...]) -> Collection[Decimal]:
        session_id, model = group
        return self._money.get((session_id, model), {}).values()

    def _sums(self, answer: Answer, amount: Callable[[Key], int]) -> dict[tuple[str, ...], Decimal]:
        sums: dict[tuple[str, ...], Decimal] = {}
        for key in self._offered:
            group = answer.grouped(key)
            cost = self._money[key].get(amount(key), Decimal(0))
            sums[group] = sums.get(group, Decimal(0)) + cost
        return sums

    def _note(self, courses: dict[Key, _Course], events: list[Event], at: datetime) -> None:
        with self._lock:
            for key, (number, amount) in totals(events).items():
                courses.setdefault(key, _Course()).note(at, amount)
                _, cost = priced({key: (number, amount)})[key]
                assert cost is not None, key  # a model without a price: every answer has a finding
                self._money.setdefault(key, {})[amount] = cost
