"""What a dispatched job says of a call: its metadata, its tenant, and where it runs.

The job's metadata wins over the room's, key by key. Everything is read from the dispatched job,
which is complete before the room is connected. Nothing here refuses a call: metadata that cannot be
read is none, and a tenant that is neither a text nor a number is none as well.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from voicecosts.producer.names import name, text

logger = logging.getLogger(__name__)

LARGEST_READ: Final = 65_536
"""Characters of metadata that are parsed beside a running call: LiveKit's own bound for a room's."""

# OpenRTC's words for a tenant that was left out, and for one that is null.
_FILLED_IN: Final = ("default", "None")


def job_fields(job: Any) -> dict[str, Any]:
    """Return what a LiveKit `JobContext` knows about a session, as fields of `SessionIdentity`.

    What it cannot say, because its own code fails, is empty.
    """
    if job is None:
        return {}
    return {
        "job_id": text(_asked(lambda: job.job.id)),
        "room_name": text(_asked(lambda: job.job.room.name)),
        "room_sid": text(_asked(lambda: job.job.room.sid)),
        "worker_id": text(_asked(lambda: job.worker_id)),
        "deployment": text(_asked(lambda: job.job.deployment)),
        "fake_job": bool(_asked(lambda: job.is_fake_job())),  # noqa: PLW0108 - it may have none,
    }


def _asked(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception:  # noqa: BLE001 - a job is somebody else's, and costs no call its metering
        return None


def metadata_object(value: Any) -> Mapping[str, Any] | None:
    """Return dispatch metadata as a mapping, `None` when it is anything else.

    A mapping is returned as it is and the text of a JSON object is parsed, whatever blanks are
    around it: Python's, which are more than JSON's. Other JSON, other text, blank and absent give
    `None`, and so does JSON that is nested too deeply to be parsed.
    """
    if isinstance(value, Mapping):
        return value
    written = value.strip() if isinstance(value, str) else ""
    if not written:
        return None
    try:
        decoded = json.loads(written)
    except (ValueError, RecursionError):
        return None
    return decoded if isinstance(decoded, dict) else None


def overlaid(room_metadata: Any, job_metadata: Any) -> dict[str, Any]:
    """Return the room's metadata overlaid with the job's: the job wins, key by key."""
    return {**(metadata_object(room_metadata) or {}), **(metadata_object(job_metadata) or {})}


def dispatch_metadata(job: Any) -> Mapping[str, Any]:
    """Return the metadata that a `JobContext` was dispatched with, the room's under the job's."""
    return {} if job is None else overlaid(job.job.room.metadata, job.job.metadata)


def tenant_of(value: Any) -> str | None:
    """Return a tenant as a name of the contract; blank, absent and what has no text give `None`.

    A text is kept as it is, whatever is in it: it is a name to sum up by, and nothing is looked up
    with it. A number is kept as its digits, as OpenRTC does.
    """
    return (name(value, "") or None) if _has_text(value) else None


def tenant_name(value: Any) -> str | None:
    """Return a tenant as `tenant_of` does, and log a warning when one was given and has no text."""
    if value is not None and not _has_text(value):
        logger.warning(
            "a tenant of type %s is ignored, and the session has none: pass a text",
            type(value).__name__,
        )
    return tenant_of(value)


def openrtc_tenant(info: Any, job: Any) -> str | None:
    """Return the tenant of a pool's session, `None` when the dispatch named none.

    OpenRTC writes "default" where no tenant was given, and "None" where it is null. Whether that
    word was given or filled in only the dispatch metadata can tell, so it is looked up there. That
    is not done in metadata of more than 65,536 characters: there the word counts as filled in.
    """
    tenant = tenant_name(getattr(info, "tenant", None))
    fills_in = getattr(info, "fills_in_tenants", True)  # our own pool's info says that it does not
    if tenant not in _FILLED_IN or job is None or not fills_in:
        return tenant
    # What OpenRTC made of the metadata tells its length; a long one takes protobuf a millisecond to
    # hand out, each time.
    if _is_long(getattr(info, "metadata", None)):
        return None
    both = (job.job.room.metadata, job.job.metadata)
    if any(isinstance(it, str) and len(it) > LARGEST_READ for it in both):
        return None
    return tenant_of(overlaid(*both).get("tenant"))


def _is_long(metadata: Any) -> bool:
    """Whether the texts of a room's and a job's metadata cannot both be short enough to be read."""
    room = 2 * LARGEST_READ
    for key, value in metadata.items() if isinstance(metadata, Mapping) else ():
        room -= sum(len(it) for it in (key, value) if isinstance(it, str))
        if room < 0:
            return True
    return False


def _has_text(value: Any) -> bool:
    if isinstance(value, str | int | float | Decimal):
        return True
    writes_itself = any("__str__" in vars(kind) for kind in type(value).__mro__[:-1])
    return writes_itself and not isinstance(value, bytes | bytearray | BaseException)
