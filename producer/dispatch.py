"""What a dispatched job says of a call: its metadata, its tenant, and where it runs.

The job's metadata wins over the room's, key by key. Everything is read from the dispatched job,
which is complete before the room is connected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from voicecosts.producer.errors import InvalidTenant
from voicecosts.producer.names import name, text

_OPENRTC_DEFAULT_TENANT: Final = "default"
_TENANT = re.compile(r"[A-Za-z0-9_-]{1,128}")


def job_fields(job: Any) -> dict[str, Any]:
    """Return what a LiveKit `JobContext` knows about a session, as fields of `SessionIdentity`."""
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
    """Return dispatch metadata as a mapping, `None` when it is anything else.

    A mapping is returned as it is and the text of a JSON object is parsed. Other JSON, other text,
    blank and absent give `None`, and so does JSON that is nested too deeply to be parsed.
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


def tenant_name(value: Any) -> str | None:
    """Return a tenant as a name of the contract; blank or absent gives `None`."""
    return name(value, "") or None


def valid_tenant(value: Any) -> str | None:
    """Return the tenant that dispatch metadata names; blank or absent gives `None`.

    Raises:
        InvalidTenant: It is not 1 to 128 ASCII letters, digits, dashes and underscores. It is
            refused, because a corrected name could be another tenant's.
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
