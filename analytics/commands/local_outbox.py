"""Booking what workers without a server left in the outbox of this host.

`costs query` and `costs audit` do it before they answer, `costs outbox drain` without a question, and
`costs up` and `costs consume` do it while they run. One process at a time reads an outbox; a second
one waits for it, because its answer should hold what the first has booked.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from msgspec import Struct

from voicecosts.analytics import config as here
from voicecosts.analytics.answers.findings import say_not_booked
from voicecosts.analytics.answers.report import NotBooked, Outbox
from voicecosts.analytics.errors import LedgerGone, MissingExtra, NoLedger, require
from voicecosts.analytics.snapshot.files import STATUS, read_status
from voicecosts.producer.config import ProducerConfig, command_project, outbox_folder
from voicecosts.producer.errors import OutboxError, OutboxHeld
from voicecosts.producer.events import now_us
from voicecosts.producer.outbox import late
from voicecosts.producer.outbox.log import LocalLog, has_news
from voicecosts.producer.outbox.survey import outboxes, unsent
from voicecosts.producer.settings import NoHomeDirectory

logger = logging.getLogger(__name__)

WAIT_S: Final = 15.0
"""How long another process may take to book what waits."""

_LOOK_S: Final = 0.05
_CLOSE_S: Final = 2.0


class Booked(Struct, frozen=True, kw_only=True):
    """How many messages were booked, and what could not be."""

    messages: int = 0
    left: NotBooked | None = None


@contextlib.contextmanager
def look_first(data_dir: str | Path | None) -> Iterator[Outbox | None]:
    """Book what waits, then yield what is left in the outbox of this host, for the answer to say.

    A snapshot that was named is read as it is, and nobody looks: then it is None. An answer fails because of
    it only where a setting of this process is wrong (`InvalidConfig`). Where there is no ledger to answer from,
    what was not booked may be the reason, and is said with the error.
    """
    root = None if data_dir is None else Path(data_dir)
    if _directory(root).is_file():
        yield None
        return
    left = book(root).left
    try:
        folder = outbox_folder(data_dir=_directory(root))
        waits = _unsent(folder)  # first: what it does not find any more has left its mark
        yield Outbox(not_booked=left, unsent=waits, sent_late_at=_sent_late_at(folder))
    except NoLedger as error:
        if left is None:
            raise
        said = say_not_booked(left)
        raise NoLedger(
            error.path, said if isinstance(error, LedgerGone) else f"{error}; {said}"
        ) from error


def _unsent(folder: Path) -> int | None:
    """Return how many messages wait on this host for a server, for longer than sending takes.

    None where it is not known.
    """
    try:
        return unsent(folder, now_us() - late.ON_ITS_WAY_US)
    except OutboxError:
        return None


def _sent_late_at(folder: Path) -> datetime | None:
    at_us = late.last(folder)
    return None if at_us is None else datetime.fromtimestamp(at_us / 1e6, UTC)


def has_waiting(data_dir: str | Path | None) -> bool:
    """Return whether there may be something for `look_first` to book; a ledger that runs does it by itself."""
    root = _directory(None if data_dir is None else Path(data_dir))
    if root.is_file():
        return False
    status = read_status(root / STATUS)
    if status is not None and status.running and not status.embedded:
        return False
    try:
        return has_news(outbox_folder(data_dir=root))
    except OutboxError:
        return False


def book(data_dir: Path | None, folder: Path | None = None) -> Booked:
    """Book what waits for the ledger of `data_dir`, or of the environment's.

    The outbox is `folder`, or the one that belongs to the data directory. What cannot be booked goes on
    waiting, and the answer says why; only `InvalidConfig` is raised, where a setting of this process, such
    as the file of prices that it names, is wrong. Ownership is permanent, so an outbox
    that no ledger owns yet is given only to the ledger of the environment, or to the one that is
    asked for when the folder is named: a look at some other ledger changes nothing.
    """
    root = _directory(data_dir)
    may_own = folder is not None or _is_of_the_environment(root)
    folder = folder or outbox_folder(data_dir=root)
    asked_at = datetime.now(UTC)
    try:
        status = read_status(root / STATUS)
        if not has_news(folder) and not (status and status.embedded):
            return Booked()
        return _book(folder, root, asked_at, may_own=may_own)
    except OutboxError as error:
        why = error.reason
    except _NotBookable as error:
        why = str(error)
    return Booked(left=_left(folder, why))


def opener(data_dir: Path) -> Callable[[], LocalLog | None]:
    """Return what opens the log for a ledger that runs: `None` while nothing is to be read."""
    root = _directory(data_dir)
    folder = outbox_folder(data_dir=root)
    may_own = _is_of_the_environment(root)
    said = ""

    def open_log() -> LocalLog | None:
        nonlocal said
        try:
            if not has_news(folder):
                return None
            log = LocalLog(folder, root, now_us=now_us, may_own=may_own)
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
def adopting(servers: tuple[str, ...], data_dir: Path) -> Iterator[None]:
    """Publish what ended processes left for `servers`, for as long as this is entered.

    The outbox is the one that belongs to the data directory, as for booking.
    """
    from voicecosts.producer.publishing.publisher import Publisher  # noqa: PLC0415 - loads the broker client

    config = ProducerConfig(
        project=command_project(),
        servers=servers,
        outbox_dir=outbox_folder(data_dir=data_dir),
    )
    publisher = Publisher(config)
    try:
        yield
    finally:
        publisher.close(_CLOSE_S)


class _NotBookable(Exception):  # noqa: N818 - it says what happened
    """What waits cannot be booked now; the text says why."""


def _book(folder: Path, data_dir: Path, asked_at: datetime, *, may_own: bool) -> Booked:
    try:
        require("duckdb", "voice_prices", needed_by="booking", extra="consumer")
    except MissingExtra as error:
        if not has_news(folder):
            return Booked()
        raise _NotBookable(str(error)) from error
    from voicecosts.consumer.config import max_reading_from_env, prices_from_env  # noqa: PLC0415 - the consumer may be absent
    from voicecosts.consumer.errors import InvalidConfig, LedgerError, LedgerInUse  # noqa: PLC0415 - same
    from voicecosts.consumer.local import open_and_book  # noqa: PLC0415 - same

    # whoever asks can correct these
    max_reading, prices = max_reading_from_env(), prices_from_env(data_dir)
    log = _opened(folder, data_dir, may_own=may_own) if has_news(folder) else None
    try:
        messages = open_and_book(
            data_dir, log, asked_at=asked_at, max_reading=max_reading, prices=prices
        )
    except InvalidConfig as error:
        raise _NotBookable(str(error)) from error
    except LedgerInUse as error:
        holder = "another process" if error.pid is None else f"process {error.pid}"
        raise _NotBookable(f"{holder} has the ledger open, and books what waits") from error
    except LedgerError as error:
        raise _NotBookable(str(error).rstrip(".")) from error
    except OSError as error:  # a directory that can only be read
        raise _NotBookable(f"{data_dir} cannot be written: {error.strerror or error}") from error
    finally:
        if log is not None:
            log.close()
    if log is not None and log.problems:
        return Booked(messages=messages, left=_left(folder, "; ".join(log.problems)))
    return Booked(messages=messages)


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


def _left(folder: Path, why: str) -> NotBooked:
    messages = None
    with contextlib.suppress(OutboxError):
        messages = sum(found.messages for found in outboxes(folder) if found.is_embedded)
    return NotBooked(messages=messages, why=why)


def _directory(data_dir: Path | None) -> Path:
    return here.data_dir(data_dir).absolute()


def _is_of_the_environment(root: Path) -> bool:
    """Tell whether commands without `--data-dir` mean this ledger. Without a home they mean none."""
    with contextlib.suppress(NoHomeDirectory):
        return root == _directory(None)
    return False
