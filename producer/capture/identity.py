"""Who a session belongs to: fixed once, when it is attached, and then carried as plain fields.

A session without a tenant has none; no default is written in its place.
"""

from __future__ import annotations

import os

from msgspec import Struct, field


class SessionIdentity(Struct, frozen=True, kw_only=True):
    """Everything about a session that stays the same until it ends."""

    session_id: str
    project: str
    agent_id: str
    tenant: str | None = None
    started_at: int
    job_id: str = ""
    room_name: str = ""
    room_sid: str = ""
    worker_id: str = ""
    deployment: str = ""
    fake_job: bool = False
    labels: dict[str, str] = field(default_factory=dict)


def new_session_id(now_us: int) -> str:
    """Return a UUIDv7 (RFC 9562): its 48-bit time is `now_us` in milliseconds, the rest random."""
    value = (now_us // 1000 & (1 << 48) - 1) << 80
    value |= 0x7 << 76 | 0b10 << 62
    random = int.from_bytes(os.urandom(10), "big")
    value |= (random >> 62 & 0xFFF) << 64 | random & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
