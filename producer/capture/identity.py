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

from voicecosts.producer.errors import InvalidTenant

MAX_NAME: Final = 128
_MAX_TEXT: Final = 256
_OPENRTC_DEFAULT_TENANT: Final = "default"
_PHONE_NUMBER = re.compile(r"(?:\+|(?<!\d)00)\d[\d ().-]{5,20}\d|\d{9,}")
_TENANT = re.compile(r"[A-Za-z0-9_-]{1,128}")


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
    text = plain(value).strip() if value is not None else ""
    if not text:
        return default
    if len(text) <= MAX_NAME:
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{text[: MAX_NAME - 17]}~{digest}"


def plain(value: Any) -> str:
    """Return `value` as text that can be encoded: JSON may bring half a surrogate pair."""
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def tenant_name(value: Any) -> str | None:
    """Return a tenant as the contract carries it; blank or absent stays absent."""
    return name(value, "") or None


def text(value: Any) -> str:
    """Return an identifying text, cut to what the contract carries, without phone numbers.

    LiveKit names the rooms of telephone calls after the caller's number (`call-_+15551234567_x`).
    What begins like an international number, and any run of nine digits or more, becomes `#`.
    """
    return _PHONE_NUMBER.sub("#", plain(value or ""))[:_MAX_TEXT]


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


def metadata_object(value: Any) -> Mapping[str, Any] | None:
    """Return dispatch metadata as a mapping, `None` when it is none.

    A mapping is taken as it is and the text of a JSON object is parsed; text that is no JSON, a
    scalar, a list, blank and absent are no metadata, however they are nested.
    """
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, str) or not value.strip():
        return None
    try:
        decoded = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) else None


def overlaid(room_metadata: Any, job_metadata: Any) -> dict[str, Any]:
    """Return the room's metadata overlaid with the job's: the job wins, key by key."""
    return {**(metadata_object(room_metadata) or {}), **(metadata_object(job_metadata) or {})}


def dispatch_metadata(job: Any) -> Mapping[str, Any]:
    """Return the metadata that a `JobContext` was dispatched with, the room's under the job's."""
    return {} if job is None else overlaid(job.job.room.metadata, job.job.metadata)


def valid_tenant(value: Any) -> str | None:
    """Return the tenant that dispatch metadata names; blank or absent stays absent.

    Raises:
        InvalidTenant: It is not 1 to 128 ASCII letters, digits, dashes and underscores. Such a name
            is refused rather than changed, because it could become another tenant's.
    """
    tenant = "" if value is None else str(value).strip()
    if not tenant:
        return None
    if not _TENANT.fullmatch(tenant):
        raise InvalidTenant(tenant)
    return tenant


def openrtc_tenant(info: Any, job: Any) -> str | None:
    """Return the tenant of an OpenRTC session, `None` when the dispatch named none.

    OpenRTC writes "default" where no tenant was given. Whether that word was given or filled in
    only the dispatch metadata can tell, so it is looked up there.
    """
    tenant = tenant_name(getattr(info, "tenant", None))
    if tenant == _OPENRTC_DEFAULT_TENANT and job is not None:
        return tenant_name(dispatch_metadata(job).get("tenant"))
    return tenant
