"""The state of each session.

A session is known by its project and its id together, so no project can touch another one's. All of a
state that matters can be derived from the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct, field

from voicecosts.consumer.booking.difference import NO_LABELS, MeterState
from voicecosts.producer.events import Meter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date
    from decimal import Decimal


class SessionKey(NamedTuple):
    """Which session: the same id in another project is another session."""

    project: str
    session_id: str


class Identity(Struct, frozen=True):
    """Whose a session is, as its first event says; no later event changes it.

    The names are the keys that `insert_session_identities.sql` reads. `producer_id` is `None` where
    an older version did not note it: then any producer may continue the session.
    """

    project: str
    session_id: str
    agent_id: str
    tenant: str | None
    producer_id: str | None
    day: date | None = None  # `None`: the day on which it started


class SessionState(Struct):
    """One session: whose it is, its meters, whether its start is known, its latest end's number.

    `counted` says that it has a row, and `pending` that the ledger's files have it as not settled.

    `labels` are those of its start. `voided` is the operation that took it out of every sum, 0 if none did.

    `noted` holds the reasons of notes that a session needs only once. `refused` is what another
    producer's readings would have cost at most, by producer and meter: its running totals come again
    and again, and each note says only what is new.
    """

    identity: Identity | None = None
    meters: dict[Meter, MeterState] = field(default_factory=dict)
    started: bool = False
    ended: int = 0
    noted: set[str] = field(default_factory=set)
    refused: dict[tuple[str, Meter], Decimal] = field(default_factory=dict)
    labels: Mapping[str, str] = NO_LABELS
    voided: int = 0
    counted: bool = False
    pending: bool = False

    @property
    def size(self) -> int:
        """How many meters it holds."""
        return len(self.meters) + len(self.refused)

    def copy(self) -> SessionState:
        """Return an independent copy; meters and their states never change in place."""
        return SessionState(
            self.identity,
            dict(self.meters),
            self.started,
            self.ended,
            set(self.noted),
            dict(self.refused),
            self.labels,
            self.voided,
            self.counted,
            self.pending,
        )
