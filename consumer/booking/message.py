"""What comes in from the stream, and what became of it.

Nothing that came in is ever thrown away: it is booked, it adds nothing because it is known
already, or it becomes a dead letter with a stable reason, a detail for a person, and its bytes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

WHOLE_MESSAGE: Final = -1
"""The index of a dead letter that stands for a whole message."""

_MAX_DETAIL = 400


class Message(Struct, frozen=True):
    """One message of the stream: where it was published, its place in the stream, its bytes."""

    subject: str
    sequence: int
    data: bytes


class Reason(StrEnum):
    """Why something could not be booked. The codes are public: they never change their meaning."""

    NOT_A_BATCH = "not_a_batch"  # truncated, garbage, no batch of ours
    NEWER_VERSION = "newer_version"  # kept for a ledger that knows this version
    FOREIGN_SUBJECT = "foreign_subject"
    UNKNOWN_EVENT = "unknown_event"
    INVALID_EVENT = "invalid_event"  # wrong type, out of range, too long, a field is missing
    PROJECT_MISMATCH = "project_mismatch"  # the body names another project than the subject
    BACKWARDS = "backwards"  # a running total below what is booked already
    OUT_OF_RANGE = "out_of_range"  # more money than a ledger row can hold


class DeadLetter(Struct, frozen=True):
    """Something that could not be booked: `index` is its place in the batch of the message.

    `session_id` is given when an unreadable reading or end can be read so far, and then `number`,
    unless that is unreadable too (0).
    """

    subject: str
    sequence: int
    index: int
    reason: Reason
    detail: str
    payload: bytes
    session_id: str | None = None
    number: int = 0


class Applied(Struct, frozen=True, kw_only=True):
    """What the ledger was given, and how many rows that added.

    Known things add nothing: applying the same messages again has all row counts at zero.
    """

    messages: int
    events: int
    bookings: int = 0
    session_starts: int = 0
    session_ends: int = 0
    session_notes: int = 0
    producer_reports: int = 0
    dead_letters: int = 0

    @property
    def rows(self) -> int:
        """All rows added."""
        sessions = self.session_starts + self.session_ends + self.session_notes
        return self.bookings + sessions + self.producer_reports + self.dead_letters


def shorten(detail: str) -> str:
    """Return `detail` at a length that a person reads; bytes are kept in the payload anyway."""
    return detail if len(detail) <= _MAX_DETAIL else detail[: _MAX_DETAIL - 1] + "…"
