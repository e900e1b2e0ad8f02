"""Where the outbox of this host meets the ledger: the producer's log, booked by the consumer.

Part of the composition of the command `costs`, and imported by `voicecosts.analytics.commands.app` alone. One process
at a time reads the outbox; a second one waits for it, as it wants to see what the first has booked.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from voicecosts.analytics.commands.before import Booked
from voicecosts.analytics.config import from_env
from voicecosts.analytics.snapshot.files import STATUS, read_status
from voicecosts.producer.config import ProducerConfig, outbox_folder
from voicecosts.producer.errors import OutboxError, OutboxHeld
from voicecosts.producer.events import now_us
from voicecosts.producer.outbox.log import LocalLog, files
from voicecosts.producer.outbox.survey import outboxes

logger = logging.getLogger(__name__)

WAIT_S: Final = 15.0
"""How long another process may take to book what waits."""

_NEEDED: Final = ("duckdb", "voice_prices")
_LOOK_S: Final = 0.05
_CLOSE_S: Final = 2.0


def book(data_dir: Path, folder: Path | None = None) -> Booked:
    """Book what waits for the ledger of `data_dir`; nothing is raised, and nothing lost.

    The outbox is `folder`, or the one that belongs to the data directory. Whoever names a folder
    means it; else an outbox that no ledger has read yet is only taken for the ledger of the
    environment, so that a look at some other ledger takes nothing there.
    """
    may_own = folder is not None or data_dir == from_env().data_dir.absolute()
    folder = folder or outbox_folder(os.environ, data_dir=data_dir).absolute()
    try:
        status = read_status(data_dir / STATUS)
        if not files(folder) and not (status and status.embedded):
            return Booked()
        return _book(folder, data_dir, may_own=may_own)
    except (OutboxError, _NotNow) as error:
        why = error.reason if isinstance(error, OutboxError) else str(error)
    return Booked(left=_left(folder), why=why)


def _book(folder: Path, data_dir: Path, *, may_own: bool) -> Booked:
    if not all(find_spec(name) for name in _NEEDED):
        raise _NotNow("booking needs the extra 'consumer': pip install 'voicecosts[consumer]'")
    from voicecosts.consumer.errors import LedgerError, LedgerInUse  # noqa: PLC0415 - the consumer may be absent
    from voicecosts.consumer.local import open_and_book  # noqa: PLC0415 - same

    log = _opened(folder, data_dir, may_own=may_own) if files(folder) else None
    try:
        messages = open_and_book(data_dir, log)
    except LedgerInUse as error:
        holder = "another process" if error.pid is None else f"process {error.pid}"
        raise _NotNow(f"{holder} has the ledger open, and books what waits") from error
    except LedgerError as error:
        raise _NotNow(str(error).rstrip(".")) from error
    finally:
        if log is not None:
            log.close()
    if log is not None and log.problems:
        return Booked(messages=messages, left=_left(folder), why="; ".join(log.problems))
    return Booked(messages=messages)


def opener(data_dir: Path) -> Callable[[], LocalLog | None]:
    """Return what opens the log for a ledger that runs: `None` while nothing is to be read."""
    folder = outbox_folder(os.environ, data_dir=data_dir).absolute()
    may_own = data_dir == from_env().data_dir.absolute()
    said = ""

    def open_log() -> LocalLog | None:
        nonlocal said
        try:
            if not files(folder):
                return None
            log = LocalLog(folder, data_dir, now_us=now_us, may_own=may_own)
        except OutboxHeld:
            return None
        except OutboxError as error:
            if str(error) != said:
                said = str(error)
                logger.warning("the outbox of this host is not booked: %s", error)
            return None
        said = ""
        return log

    return open_log


@contextlib.contextmanager
def adopting(servers: tuple[str, ...]) -> Iterator[None]:
    """Publish what dead processes left for `servers`, for as long as this is entered."""
    from voicecosts.producer.publishing.publisher import Publisher  # noqa: PLC0415 - loads the broker client

    config = ProducerConfig(
        project=os.environ.get("COSTS_PROJECT", "").strip() or "voicecosts",
        servers=servers,
        outbox_dir=outbox_folder(os.environ).absolute(),
    )
    publisher = Publisher(config)
    try:
        yield
    finally:
        publisher.close(_CLOSE_S)


class _NotNow(Exception):  # noqa: N818 - it says what happened
    """What waits cannot be booked now, and the words for a person."""


def _opened(folder: Path, data_dir: Path, *, may_own: bool) -> LocalLog:
    """Open the log, waiting for whoever reads it; raises `OutboxError`."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return LocalLog(folder, data_dir, now_us=now_us, may_own=may_own)
        except OutboxHeld:
            if time.monotonic() > deadline:
                raise
        time.sleep(_LOOK_S)


def _left(folder: Path) -> int:
    with contextlib.suppress(OutboxError):
        return sum(found.messages for found in outboxes(folder) if found.is_embedded)
    return 0
