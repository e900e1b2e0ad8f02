"""Which file to read, and what its ledger says about itself. No database is opened here.

A data directory holds `costs.duckdb`, a link to the newest `costs-<n>.duckdb`, and `ledger.json`. The
link is followed before anything is opened: DuckDB keeps one instance per path and process, so opening
the link itself would show an old snapshot for as long as an older connection lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, structs

from voicecosts.analytics.config import boot_id, data_dir
from voicecosts.analytics.errors import (
    LedgerGone,
    NoLedger,
    NoSnapshotYet,
    NotALedger,
    SnapshotGone,
)

LINK = "costs.duckdb"
STATUS = "ledger.json"
DEMO_MARK: Final = "made-by-costs-demo"
"""A file in a folder that `costs demo` made."""

_ALIVE: Final = timedelta(seconds=30)
"""A ledger that runs writes its status every second; one that hangs or was killed does not."""

_LOCK: Final = Path("ledger", "lock")
"""The lock of the one writer, in the data directory. The system frees it when its holder ends."""

_MISSED: Final = timedelta(seconds=5)
"""Without a status for so long a free lock means that the ledger was ended. Of another host a younger
status counts more: through a network or a virtual machine a lock that is held may look free."""

_NUMBERED = re.compile(r"costs-([0-9]+)\.duckdb")


class RunBy(Struct, frozen=True):
    """How a ledger is run that reads a stream: the word after `costs`, and its servers, masked."""

    command: str
    servers: tuple[str, ...] = ()


class PricesTrouble(Struct, frozen=True, kw_only=True):
    """That the file of own prices has mistakes, how many, and since when.

    With `uses_last_good` its last good version is in force meanwhile, else list prices alone.
    """

    file: str
    problems: int
    since: datetime
    uses_last_good: bool = False


class Status(Struct, frozen=True, kw_only=True):
    """What the ledger process last wrote about itself in `ledger.json`, and when it did.

    `embedded` says that the ledger is opened only to book what waits, so nobody needs to run it;
    `for_a_moment` that a command has it open, and nobody reads its stream meanwhile.
    `run_by` is how it is run, where it is; `boot` is the start of the host that it wrote this on.
    `was_killed` is true where it says that it runs, and its lock on this host is free: it does not.
    `answered_at` is when the broker last answered the ledger, if it has one and it did. `operations` is the
    number of the newest operation that it has recorded.
    """

    snapshot: int
    as_of: datetime
    waiting: int | None = None
    running: bool = False
    was_killed: bool = False
    embedded: bool = False
    for_a_moment: bool = False
    heard_at: datetime | None = None
    answered_at: datetime | None = None
    stream_bytes: int | None = None
    stream_max_bytes: int | None = None
    run_by: RunBy | None = None
    prices: PricesTrouble | None = None
    operations: int = 0
    boot: str = ""


class Snapshot(Struct, frozen=True, kw_only=True):
    """One published file, with its number if it has one and the status that belongs to it.

    `schema` is the version of its schema, once it is open. `known` keeps what several parts of an answer ask of it:
    a file that is published does not change.
    """

    path: Path
    number: int | None = None
    status: Status | None = None
    schema: int | None = None
    known: dict[str, bool] = {}

    @property
    def is_of_a_demo(self) -> bool:
        """Whether `costs demo` made the folder that it is in."""
        return (self.path.parent / DEMO_MARK).is_file()

    @property
    def as_of(self) -> datetime | None:
        """The moment the status gives for exactly this file; None when only the file can say."""
        if self.status is None or self.status.snapshot != self.number:
            return None
        return self.status.as_of.astimezone(UTC)


def locate(where: str | Path | None = None) -> Snapshot:
    """Return the newest snapshot of a data directory, or the snapshot file that was named.

    A file named by itself is believed over a status beside it that speaks of another snapshot.

    Raises:
        NoLedger: There is none; its subclasses say when something else is there.
    """
    root = data_dir(where)
    try:
        is_directory = root.is_dir()
        path = (root / LINK if is_directory else root).resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise _nothing(root) from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
        raise NotALedger(root, str(error)) from error
    if not path.is_file():
        raise NotALedger(path, "it is not a file")
    numbered = _NUMBERED.fullmatch(path.name)
    number = int(numbered[1]) if numbered else None
    status = read_status(path.parent / STATUS)
    if not is_directory and status is not None and status.snapshot != number:
        status = None
    return Snapshot(path=path, number=number, status=status)


def _nothing(root: Path) -> NoLedger:
    """Return what to say of a folder without a snapshot: it depends on whether its ledger runs."""
    if not (root / STATUS).is_file():
        return NoLedger(root)
    status = read_status(root / STATUS)
    heard_at = None if status is None or not status.running else status.heard_at
    if status is not None and status.embedded:
        return LedgerGone(root)
    if heard_at is not None and abs(datetime.now(UTC) - heard_at) < _ALIVE:
        return NoSnapshotYet(root)
    return SnapshotGone(root)


def read_status(path: Path) -> Status | None:
    """Return what the ledger says about itself, or None when it says nothing readable.

    A status only ever adds to what the snapshot says, so a missing or broken one is not an error.
    """
    try:
        status = msgspec.json.decode(path.read_bytes(), type=Status)
        heard_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (OSError, msgspec.MsgspecError):
        return None
    if status.as_of.tzinfo is None or (status.answered_at and not status.answered_at.tzinfo):
        return None
    is_here = bool(status.boot) and status.boot == boot_id()
    is_late = datetime.now(UTC) - heard_at > _MISSED
    was_killed = status.running and (is_here or is_late) and _is_free(path.parent / _LOCK)
    return structs.replace(
        status,
        heard_at=heard_at,
        running=status.running and not was_killed,
        was_killed=was_killed,
    )


def _is_free(lock: Path) -> bool:
    """Return whether nobody holds the lock of the ledger; False also where that cannot be seen.

    To look is to hold it for a moment, together with others who look; a ledger that starts waits so long.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
        return True
    return False
