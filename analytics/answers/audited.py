"""The answer of an audit: the states of sessions, a total of each, and single sessions.

Money is Decimal. `cost` is None when nothing is priced, `missing_at_most` when nobody can say; neither
is ever zero for want of knowledge.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final
from uuid import UUID

from msgspec import Struct


class State(StrEnum):
    """What can be said of a session, the worst first."""

    SHORT = "short"
    ABANDONED = "abandoned"
    OPEN = "open"
    REPAIRED = "repaired"
    COMPLETE = "complete"


UNSETTLED: Final = (State.SHORT, State.ABANDONED, State.OPEN)
FAULTY: Final = (State.SHORT, State.ABANDONED)


class StateTotal(Struct, frozen=True, kw_only=True):
    """How many sessions are in a state. `missing_at_most` is None when nobody can say."""

    state: State
    sessions: int
    cost: Decimal | None
    missing_at_most: Decimal | None


class Audited(Struct, frozen=True, kw_only=True):
    """One session. `cause` says why it is short; `readings_made` is None without an end."""

    session: UUID
    state: State
    cause: str | None
    project: str | None
    tenant: str | None
    agent: str | None
    cost: Decimal | None
    missing_at_most: Decimal | None
    last_seen_at: datetime | None
    readings_made: int | None
    readings_arrived: int


class Audit(Struct, frozen=True, kw_only=True):
    """The answer: a total of every state, in the order of `State`, and the sessions asked for.

    `listed` counts the sessions that `sessions` would hold without a `top`.
    """

    states: tuple[StateTotal, ...]
    sessions: tuple[Audited, ...]
    listed: int
    since: datetime | None
    until: datetime | None
    open_for: timedelta
    currency: str
    as_of: datetime | None
    warnings: tuple[str, ...]

    @property
    def faulty(self) -> int:
        """How many sessions are short or abandoned."""
        return sum(it.sessions for it in self.states if it.state in FAULTY)
