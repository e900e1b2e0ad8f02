"""The answer to one question: rows, their total, and how far both can be trusted.

Money is Decimal and None when nothing of it has a price, never zero. The total is counted over all
rows of the ledger that the question is about, so it is right when only the top rows are shown, and it
counts a session once however many groups it falls into.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from enum import StrEnum
from typing import Final

from msgspec import Struct

from voicecosts.analytics.question.columns import OF_LENGTHS

CURRENCY: Final = "USD"


_MINUTE_US: Final = 60_000_000
_NANO: Final = Decimal("0.000000001")
_MICRO: Final = Decimal("0.000001")
_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)


def _ratio(amount: Decimal | None, by: int, digits: Decimal = _NANO) -> Decimal | None:
    """Return an amount divided, rounded half to even; None where it is unknown, or there is nothing to divide by."""
    if amount is None or not by:
        return None
    return _EXACT.quantize(_EXACT.divide(amount, Decimal(by)), digits)


def difference(now: Decimal | int, before: Decimal | int) -> Decimal | int:
    """Return one figure less another, exactly."""
    if isinstance(now, int) and isinstance(before, int):
        return now - before
    return _EXACT.subtract(now, before)


def percent(change: Decimal | int, of: Decimal | int) -> Decimal | None:
    """Return a change in percent, rounded half to even to nine digits; None where it is a change of zero, or of less."""
    if of <= 0:
        return None
    return _EXACT.quantize(_EXACT.divide(_EXACT.multiply(change, 100), of), _NANO)


class Length(Struct, frozen=True):
    """How long calls were together, each from its start to its end, in microseconds, and of how many that is known.

    `cost` is what those of them cost that have a cost, which were `cost_us` long; `billed` is the same of what is billed.
    """

    us: int = 0
    calls: int = 0
    cost: Decimal | None = None
    cost_us: int = 0
    billed: Decimal | None = None
    billed_us: int = 0


class Outcomes(Struct, frozen=True):
    """How many calls were successful, as the worker's code said, and of how many it said anything."""

    successful: int = 0
    calls: int = 0


OF_COST: Final = frozenset(
    (
        "cost",
        "estimated_cost",
        "margin",
        "cost_per_call",
        "cost_per_minute",
        "cost_per_successful_call",
    )
)
"""What is of a part only where something has no price."""


class Row(Struct, frozen=True, kw_only=True):
    """One group and what it used. `group` gives its values by name, None where there is none.

    Beside a session it gives its project as well: an id is one only within a project.

    `cost` is what the operator pays: zero where nothing was used, and None where nothing of what was
    used has a price. `list_cost` is the published price of the same usage, as far as there is one;
    `billed` is what the tenants are charged, None where no rule says so.
    `estimated_cost` is the part of it that rests on estimated quantities. A row of the ledger is
    one booking; for `unpriced_rows` of them a price was missing when they were booked, for all of it or for a
    part, and a re-rating may have found it since. How much
    has no price now, is in the `unpriced_` amounts. `session_seconds` adds up all legs of a call, which are
    connected at the same time: it is a length only where the modality is `agent_session`.
    `length` and `outcomes` are those of the calls of the row, where a metric was asked for that needs them.
    """

    group: dict[str, str | None] = {}
    cost: Decimal | None
    estimated_cost: Decimal | None
    sessions: int
    rows: int
    unpriced_rows: int
    requests: int
    input_tokens: int
    output_tokens: int
    characters: int
    audio_seconds: Decimal
    session_seconds: Decimal
    unpriced_requests: int
    unpriced_input_tokens: int
    unpriced_output_tokens: int
    unpriced_other_tokens: int
    unpriced_characters: int
    unpriced_audio_seconds: Decimal
    unpriced_session_seconds: Decimal
    list_cost: Decimal | None = None
    billed: Decimal | None = None
    length: Length | None = None
    outcomes: Outcomes | None = None

    def metric(self, name: str) -> Decimal | int | None:
        """Return what a row has under the name of a metric; None where it is not known.

        `calls` are its sessions, `tokens` those in and out, `margin` is what is billed less the cost. `minutes`
        is how long its calls were from start to end, each counted once, also where the row is of a part of it only.
        `cost_per_minute` and `billed_per_minute` are of those of its calls of which both the money and the length are
        known; `is_part` says whether there are others.
        `cost_per_successful_call` is what all of its calls cost, by the number of those that were successful. A
        ratio is rounded half to even to nine digits, and is unknown where something that it divides by is not
        known of a call.
        """
        found: Decimal | int | None
        match name:
            case "minutes" | "cost_per_minute" | "billed_per_minute":
                found = self._of_length(name)
            case "calls":
                found = self.sessions
            case "tokens":
                found = self.input_tokens + self.output_tokens
            case "successful_calls":
                found = None if self.outcomes is None else self.outcomes.successful
            case "cost_per_successful_call":
                found = _ratio(self.cost, 0 if self.outcomes is None else self.outcomes.successful)
            case "margin":
                known = self.billed is not None and self.cost is not None
                found = _EXACT.subtract(self.billed or 0, self.cost or 0) if known else None
            case "cost_per_call":
                found = _ratio(self.cost, self.sessions)
            case "billed_per_call":
                found = _ratio(self.billed, self.sessions)
            case _:
                found = getattr(self, name)
        return found

    def is_part(self, name: str) -> bool:
        """Whether a metric that is known is of a part: something of the row has no price, or a call no length."""
        if self.metric(name) is None:
            return False
        if name in OF_LENGTHS and self.length is not None and self.length.calls < self.sessions:
            return True
        return name in OF_COST and self.lacks_prices

    def _of_length(self, name: str) -> Decimal | None:
        """Return minutes, or money by the minute; unknown where no call has what they are of."""
        if self.length is None or (self.length.calls == 0 and self.sessions):
            return None
        if name == "minutes":
            return _ratio(Decimal(self.length.us), _MINUTE_US, _MICRO)
        money, us = self.length.cost, self.length.cost_us
        if name == "billed_per_minute":
            money, us = self.length.billed, self.length.billed_us
        return _ratio(None if money is None else _EXACT.multiply(money, _MINUTE_US), us)

    @property
    def lacks_prices(self) -> bool:
        """Whether anything of it has no price."""
        return any(
            getattr(self, name)
            for name in measure_names()
            if name.startswith("unpriced_") and name != "unpriced_rows"
        )

    def record(self, metrics: Iterable[str] = ()) -> dict[str, object]:
        """Return groups and measures as one flat mapping, groups first; `metrics` beside these."""
        measures = {name: getattr(self, name) for name in measure_names()}
        more = {name: self.metric(name) for name in metrics}
        return {**self.group, **measures, **more}


def measure_names() -> tuple[str, ...]:
    """Return the names of what a row measures, in their order."""
    return tuple(it for it in Row.__struct_fields__ if it not in ("group", "length", "outcomes"))


class Unpriced(Struct, frozen=True, kw_only=True):
    """One model of whose usage something has no price, among the rows asked for: how much, and why.

    `rows` counts the bookings that lacked a price, or a part of one, when they were booked. `service_tier` is empty for the
    standard one.
    """

    modality: str
    provider: str
    model: str
    reason: str
    rows: int
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    other_tokens: int = 0
    characters: int = 0
    audio_seconds: Decimal = Decimal(0)
    session_seconds: Decimal = Decimal(0)
    service_tier: str = ""


class Unbilled(Struct, frozen=True, kw_only=True):
    """One model of whose usage a rule bills a part only, among the rows asked for, and why."""

    modality: str
    provider: str
    model: str
    reason: str


class Uncharged(Struct, frozen=True, kw_only=True):
    """So many calls of a tenant that are billed as a whole, and whose bill is not known.

    `has_time` says whether their connected time was counted: then it has no amount by the price for the call.
    """

    tenant: str | None
    has_time: bool
    calls: int


class Unattributed(Struct, frozen=True, kw_only=True):
    """What one model used for no session that is known, over all workers.

    Cached, text, audio and image tokens are parts of the tokens here; the view `unattributed` has
    each of them.
    """

    modality: str
    provider: str
    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    characters: int
    audio_seconds: Decimal
    session_seconds: Decimal


class NotBooked(Struct, frozen=True, kw_only=True):
    """What waits in the outbox of this host and could not be booked before the answer, and why.

    `messages` is None when they could not be counted.
    """

    messages: int | None
    why: str


class Outbox(Struct, frozen=True, kw_only=True):
    """What the outbox of this host was found to hold before the answer.

    `unsent` counts the messages that wait for a server, for longer than sending them takes; None when
    it is not known. `sent_late_at` is when a server last accepted messages that had waited so long.
    """

    not_booked: NotBooked | None = None
    unsent: int | None = 0
    sent_late_at: datetime | None = None


class Gap(Struct, frozen=True, kw_only=True):
    """Messages of the stream that never reached this ledger, by their numbers.

    `last` and `messages` are None when nobody can say how many there were. `why` is
    `left_the_stream`, `stream_gone`, `end_lost` or `unreadable`.
    """

    first: int
    last: int | None
    messages: int | None
    why: str


class Unfinished(Struct, frozen=True, kw_only=True):
    """An operation on the books that has done a part of its work: it is under way, or was killed in it.

    Where it `is_stopped`, a person did that, and it waits.
    """

    operation: int
    kind: str
    is_stopped: bool = False


class Source(StrEnum):
    """Whom an answer asks whether something is missing from it. The values are public.

    `question` is the question itself: nothing has a name that it asks for.
    """

    QUESTION = "question"
    OUTBOX = "outbox"
    LEDGER = "ledger"
    STREAM = "stream"
    GAPS = "gaps"
    DEAD_LETTERS = "dead_letters"
    DROPPED = "dropped"
    UNATTRIBUTED = "unattributed"
    UNMEASURED = "unmeasured"
    SESSIONS = "sessions"
    PRICES = "prices"
    CONNECTED_TIME = "connected_time"
    OPERATIONS = "operations"


class Finding(Struct, frozen=True, kw_only=True):
    """Why an answer may not say that nothing is missing, in a sentence for people.

    `is_known` is false where the source could not be asked: then something may be missing, or not.
    """

    source: Source
    text: str
    is_known: bool = True


_SAID: Final = {
    True: "Nothing is missing from these numbers: every source was asked.",
    False: "Something is missing from these numbers.",
    None: "It is not known whether something is missing from these numbers.",
}


class Completeness(Struct, frozen=True, kw_only=True):
    """What is missing from the numbers.

    `unpriced`, `unbilled`, `uncharged` and the sessions are those of the question, the rest speaks of the whole ledger. The
    two counts of waiting messages are of those that the ledger has received from the stream, and of
    those in the outbox of this host; either is None when it is not known. `running` is None when the
    ledger does not say; `gaps`, the sessions and `unmeasured` are None when the snapshot was written by a
    version that did not say. `short_at_most` is what the short sessions may lack, None when it is unknown.

    `unfinished` are operations on the books that have done a part of their work, `newest_operation` is the highest
    number among all of them.
    `answered_at` is when the broker last answered the ledger, None where no broker has. `findings` are
    the reasons why something may be missing; `whole` is their sum.

    `unattributed` counts usage events that no session is known to have caused, and
    `unattributed_usage` is what they used; `unmeasured` counts usage events that were heard and
    could not be measured, without those of a session whose end says it: that one is short.
    """

    unpriced: tuple[Unpriced, ...]
    dead_letters: int
    dropped: int
    unattributed: int
    unattributed_usage: tuple[Unattributed, ...]
    unmeasured: int | None
    waiting_in_stream: int | None
    waiting_in_outbox: int | None
    running: bool | None
    answered_at: datetime | None
    gaps: tuple[Gap, ...] | None
    open_sessions: int | None
    abandoned_sessions: int | None
    short_sessions: int | None
    short_at_most: Decimal | None
    unbilled: tuple[Unbilled, ...] = ()
    uncharged: tuple[Uncharged, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()
    newest_operation: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def whole(self) -> bool | None:
        """Whether nothing is missing, as every source says; None when one could not be asked."""
        if any(finding.is_known for finding in self.findings):
            return False
        return None if self.findings else True

    @property
    def said(self) -> str:
        """The same in a sentence."""
        return _SAID[self.whole]

    @property
    def waiting(self) -> int | None:
        """Messages that are not booked yet, wherever they wait; None when it is unknown."""
        if self.waiting_in_stream is None and not self.waiting_in_outbox:
            return None
        return (self.waiting_in_stream or 0) + (self.waiting_in_outbox or 0)


class Report(Struct, frozen=True, kw_only=True):
    """The rows of a question, their total, and the moment they speak of.

    `groups` counts all groups there are; `rows` may hold only the top ones. `is_shared` says that the id of
    a session in `rows` is that of a session of another project too. `as_of` is None while the
    ledger has received nothing. `warnings` are sentences for people, `completeness` is for programs;
    `notes` are sentences about what is as it should be. `metrics` are those that were asked for. Days and hours are
    those of `timezone`. `other` is all
    that is not in `rows` because only the top ones are; None where they are all.
    """

    by: tuple[str, ...]
    rows: tuple[Row, ...]
    total: Row
    groups: int
    since: datetime | None
    until: datetime | None
    currency: str
    as_of: datetime | None
    completeness: Completeness
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_shared: bool = False
    metrics: tuple[str, ...] = ()
    timezone: str = "UTC"
    other: Row | None = None

    def records(self) -> list[dict[str, object]]:
        """Return the rows as flat mappings, for a table, a chart or a data frame."""
        return [row.record(self.metrics) for row in self.rows]
