"""NATS subjects of the event contract: `costs.v1.<project>.<agent>.<slot>`.

Every token is safe to publish and to put into a permission; the true values travel in the body.
All readings of a session share one slot, so a partition of slots owns whole sessions.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

PREFIX: Final = "costs.v1"
STREAM: Final = "COSTS"
STREAM_SUBJECTS: Final = f"{PREFIX}.>"
SLOTS: Final = 64

REPORTS: Final = "_producer"
"""The agent token of events that belong to the process, not to an agent."""

_SAFE = re.compile(r"[A-Za-z0-9_-]{1,48}")
_HASHED_PREFIX = "_h"


def token(value: str) -> str:
    """Return `value` as one subject token.

    `[A-Za-z0-9_-]{1,48}` passes unchanged. Anything else (spaces, dots, wildcards, other scripts,
    longer text, and what would look like a hash already) becomes `_h` and 24 base32 characters of
    a 120-bit blake2b hash: stable, and two values never share a token in practice.
    """
    if _SAFE.fullmatch(value) and not value.startswith(_HASHED_PREFIX):
        return value
    digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=15).digest()
    return _HASHED_PREFIX + base64.b32encode(digest).decode("ascii").lower()


def slot(producer_id: str) -> str:
    """Return the slot of a producer, `00` to `63`."""
    digest = hashlib.blake2b(producer_id.encode(), digest_size=8).digest()
    return f"{int.from_bytes(digest, 'big') % SLOTS:02d}"


def subject(project: str, agent_id: str, producer_id: str) -> str:
    """Return the subject on which a producer publishes the events of one agent of one project."""
    return f"{PREFIX}.{token(project)}.{token(agent_id)}.{slot(producer_id)}"


def owner_tokens(subject: str) -> tuple[str, str] | None:
    """Return the project and agent token of a subject of ours, `None` for any other subject.

    The credentials of a worker may pin them, so they are what the consumer believes when the body
    says something else.
    """
    parts = subject.split(".")
    if len(parts) != 5 or f"{parts[0]}.{parts[1]}" != PREFIX:  # noqa: PLR2004 - the five tokens of the form above
        return None
    return parts[2], parts[3]
