"""Who a session belongs to: fixed once, when it is attached, and then carried as plain fields.

A tenant that is not there stays absent; nothing is invented for it. Names that the contract could
not carry are shortened rather than refused, because refusing would hurt the call.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, field

MAX_NAME: Final = 128
_MAX_TEXT: Final = 256
_OPENRTC_DEFAULT_TENANT: Final = "default"
_PHONE_NUMBER = re.compile(r"\+\d{7,15}")


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


def now_us() -> int:
    """Return the wall clock in microseconds since 1970, UTC."""
    return time.time_ns() // 1000


def name(value: Any, default: str) -> str:
    """Return `value` as a name the contract carries: 1 to 128 characters.

    A longer one keeps its head and ends in a hash of the whole, so that two long names do not
    become one; blank or absent gives `default`.
    """
    text = str(value).strip() if value is not None else ""
    if not text:
        return default
    if len(text) <= MAX_NAME:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{text[: MAX_NAME - 17]}~{digest}"


def tenant_name(value: Any) -> str | None:
    """Return a tenant as the contract carries it; blank or absent stays absent."""
    return name(value, "") or None


def text(value: Any) -> str:
    """Return an identifying text, cut to what the contract carries, without phone numbers.

    LiveKit names the rooms of telephone calls after the caller's number (`call-_+15551234567_x`);
    such a number is replaced by `+#`.
    """
    return _PHONE_NUMBER.sub("+#", str(value or ""))[:_MAX_TEXT]


def job_fields(job: Any) -> dict[str, Any]:
    """Return what a LiveKit `JobContext` knows about a session, as fields of `SessionIdentity`.

    Reads the dispatched job, which is complete before the room is connected.
    """
    if job is None:
        return {}
    info = job.job
    return {
        "job_id": text(info.id),
        "room_name": text(info.room.name),
        "room_sid": text(info.room.sid),
        "worker_id": text(job.worker_id),
        "deployment": text(getattr(info, "deployment", "")),
        "fake_job": bool(job.is_fake_job()),
    }


def dispatch_metadata(job: Any) -> Mapping[str, Any]:
    """Return the room's metadata overlaid with the job's (the job wins), as far as they are JSON."""
    if job is None:
        return {}
    return {**_json_object(job.job.room.metadata), **_json_object(job.job.metadata)}


def openrtc_tenant(info: Any, job: Any) -> str | None:
    """Return the tenant of an OpenRTC session, `None` when the dispatch named none.

    OpenRTC writes "default" where no tenant was given. Whether that word was given or filled in
    only the dispatch metadata can tell, so it is looked up there.
    """
    tenant = tenant_name(getattr(info, "tenant", None))
    if tenant == _OPENRTC_DEFAULT_TENANT and job is not None:
        return tenant_name(dispatch_metadata(job).get("tenant"))
    return tenant


def _json_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, str) or not value.strip():
        return {}
    try:
        decoded = json.loads(value)
    except ValueError:
        return {}
    return decoded if isinstance(decoded, dict) else {}
