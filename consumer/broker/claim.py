"""Whose the consumer is: one ledger reads it at a time, and says so in the consumer's metadata.

Two ledgers on one consumer would share its messages out between them. So a ledger claims it, renews
the claim while it runs, and gives it up when it ends in order. Another ledger takes a claim over
when it was given up or has run out, or on purpose. All moments are the server's own, so that no
clock of a host matters.
"""

from __future__ import annotations

import secrets
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from voicecosts.consumer.errors import StreamClaimed
from voicecosts.producer.settings import boot_id
from voicecosts.producer.subjects import STREAM

KEY: Final = "voicecosts.claim"
"""Of the consumer's metadata."""

_OF_THE_SERVER = "_nats."


class Claim(Struct, frozen=True, kw_only=True):
    """One run of one ledger: `ledger` is its id, which its copies share, `run` is of this run alone.

    `host`, `boot` (which start of the host), `folder` and `inode` (of the folder) are the place: one
    ledger runs there at a time, so an earlier run in the same place has ended. A clone of a host
    differs in `boot` alone.
    """

    ledger: str
    host: str
    folder: str
    inode: int
    boot: str = ""
    run: str = field(default_factory=lambda: secrets.token_hex(8))
    since: datetime | None = None
    renewed: datetime | None = None
    released: bool = False

    @classmethod
    def of(cls, ledger_id: str, data_dir: Path) -> Self:
        """Return the claim of a run that begins now."""
        try:
            inode = data_dir.stat().st_ino
        except OSError:
            inode = 0
        return cls(
            ledger=ledger_id,
            host=socket.gethostname(),
            folder=str(data_dir),
            inode=inode,
            boot=boot_id(),
        )

    def at(self, now: datetime) -> Claim:
        """Return the claim, renewed at a moment of the server."""
        return replace(self, since=self.since or now, renewed=now)

    def is_before(self, other: Claim) -> bool:
        """Return whether it is of an earlier run in the same place, which must have ended."""
        ours, theirs = ((it.host, it.boot, it.folder, it.inode) for it in (self, other))
        return ours == theirs

    def silent_s(self, now: datetime) -> float:
        """Return for how long it was not renewed."""
        return float("inf") if self.renewed is None else (now - self.renewed).total_seconds()


def claim_of(metadata: dict[str, str] | None) -> Claim | None:
    """Return the claim in a consumer's metadata; one that cannot be read is none."""
    try:
        return msgspec.json.decode((metadata or {}).get(KEY, ""), type=Claim)
    except (msgspec.DecodeError, UnicodeError):
        return None


def metadata_with(metadata: dict[str, str] | None, claim: Claim) -> dict[str, str]:
    """Return the metadata with this claim; what the server adds for itself is left to it."""
    own = {k: v for k, v in (metadata or {}).items() if not k.startswith(_OF_THE_SERVER)}
    return own | {KEY: msgspec.json.encode(claim).decode()}


def check(found: Claim | None, own: Claim, now: datetime, *, lease_s: float) -> None:
    """Raise `StreamClaimed` when another ledger may be reading."""
    if found is None or found.run == own.run or found.released or found.is_before(own):
        return
    silent_s = found.silent_s(now)
    if silent_s < lease_s:
        raise StreamClaimed(
            STREAM,
            holder=words(found, own),
            since=found.since,
            free_in_s=lease_s - silent_s,
        )


def words(found: Claim, own: Claim) -> str:
    """Return in words which ledger a claim is of."""
    copy = "a copy of this ledger" if found.ledger == own.ledger else f"the ledger {found.ledger}"
    return f"{copy} in {found.folder} on host {found.host}"


def server_time(info: dict[str, Any]) -> datetime:
    """Return when the server gave this answer; servers before 2.10 do not say it."""
    try:
        return msgspec.convert(info["ts"], type=datetime, strict=False)
    except (KeyError, msgspec.ValidationError):
        return datetime.now(UTC)
