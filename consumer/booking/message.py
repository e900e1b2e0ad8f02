"""The messages that the ledger receives, and what it made of them.

Nothing that is received is discarded: it is booked, it adds nothing because it is known already, or
it becomes a dead letter with a stable reason, a detail for a person, and its bytes.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import astuple

WHOLE_MESSAGE: Final = -1
"""The index of a dead letter that stands for a whole message."""

_MAX_DETAIL = 400
_MAX_SUBJECT = 160  # ours have 110 at most


class Message(Struct, frozen=True):
    """One message of the stream: its subject, its sequence in the stream, its bytes.

    `stored_us` is when the server stored it, in microseconds since 1970; 0 where that is not known.
    """

    subject: str
    sequence: int
    data: bytes
    stored_us: int = 0


class Reason(StrEnum):
    """Why something could not be booked. The codes are public: they never change their meaning."""

    NOT_A_BATCH = "not_a_batch"  # truncated, garbage, no batch of ours
    NEWER_VERSION = "newer_version"  # kept for a ledger that reads this version
    FOREIGN_SUBJECT = "foreign_subject"
    UNKNOWN_EVENT = "unknown_event"
    INVALID_EVENT = "invalid_event"  # wrong type, out of range, too long, a field is missing
    PROJECT_MISMATCH = "project_mismatch"  # the body names another project than the subject
    AGENT_MISMATCH = "agent_mismatch"  # the body names another agent than the subject
    OTHER_PRODUCER = "other_producer"  # the session is another producer's: this is another count
    BACKWARDS = "backwards"  # a running total below what is booked already
    OUT_OF_RANGE = "out_of_range"  # more money than a row holds, more meters than a session has
    DEADLY = "deadly"  # the ledger ended each time it read this message alone
    VOIDED = "voided"  # an operation took its session out of every sum
    ERASED = "erased"  # its tenant was erased
    ABOVE_CEILING = "above_ceiling"  # more than one meter can be believed to have used


class DeadLetter(Struct, frozen=True):
    """Something that could not be booked: `index` is its place in the batch of the message.

    `session_id` and its project are given where they can be read of an unreadable reading or end;
    `number` as well, or 0 where that is unreadable too. `producer_id` and `batch_number` are of the
    batch that an event was in.
    """

    subject: str
    sequence: int
    index: int
    reason: Reason
    detail: str
    payload: bytes
    session_id: str | None = None
    project: str = ""
    number: int = 0
    producer_id: str | None = None
    batch_number: int | None = None


class Applied(Struct, frozen=True, kw_only=True):
    """How many messages and events were applied, and how many rows of each kind they added.

    Applying the same messages again adds none.
    """

    messages: int
    events: int
    bookings: int = 0
    session_starts: int = 0
    session_ends: int = 0
    session_notes: int = 0
    producer_reports: int = 0
    dead_letters: int = 0

    def __add__(self, other: Applied) -> Applied:
        """Return what two applications did together."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        names = self.__struct_fields__
        return Applied(**dict(zip(names, (one + two for one, two in pairs), strict=True)))

    @property
    def rows(self) -> int:
        """The number of all rows added."""
        sessions = self.session_starts + self.session_ends + self.session_notes
        return self.bookings + sessions + self.producer_reports + self.dead_letters


def shorten_subject(subject: str) -> str:
    """Return a subject as text that can be stored; one that is longer than any of ours by its hash.

    Whoever may publish chooses it, up to some thousand bytes, and the ledger keeps it for ever.
    """
    text = subject.encode("utf-8", "backslashreplace")
    if len(text) <= _MAX_SUBJECT:
        return text.decode()
    digest = hashlib.blake2b(text, digest_size=15).hexdigest()
    return f"{text[:_MAX_SUBJECT].decode('utf-8', 'ignore')}… ({len(text)} bytes, blake2b {digest})"


def shorten(detail: str) -> str:
    """Return `detail` cut to a length that a person reads; the payload keeps all bytes."""
    return detail if len(detail) <= _MAX_DETAIL else detail[: _MAX_DETAIL - 1] + "…"
