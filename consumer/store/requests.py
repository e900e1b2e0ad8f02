"""What commands ask of a ledger that runs: it alone may write, so it is asked by a file.

A request is a file in a folder of the ledger, put there by a rename. The ledger takes it away, does what
it says, and writes an answer. If it dies in between, who asked hears nothing and may ask again: a request
that ends a ledger must not end the next one as well.
"""

from __future__ import annotations

import contextlib
import os
import time
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from voicecosts.consumer.booking.operations import Work
from voicecosts.consumer.errors import InvalidConfig, LedgerBusy, LedgerDiskFull
from voicecosts.consumer.store.faults import is_full
from voicecosts.consumer.store.files import make_folder, write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ALWAYS: Final = 2**53
"""Microseconds since 1970, in the year 2255: every letter was received before."""

_LOOK_S: Final = 0.05
_UNANSWERED: Final = ".asked"

ONCE: Final = timedelta(hours=12)
"""How long the same words are the same request where no answer came. Later they are meant anew, as those of
a job that runs every night."""

_FORGOTTEN_S: Final = 10.0
"""Who waits touches the request with every look, so nobody waits for one that is older: whoever asked
was killed, and may have asked again."""


class Action(StrEnum):
    """What is to be done with letters; to find them changes nothing."""

    FIND = "find"
    REQUEUE = "requeue"
    PURGE = "purge"


class Request(Struct, frozen=True, kw_only=True, tag="letters", tag_field="about"):
    """What is to be done with which letters: all of these reasons, with these ids, received before.

    Without reasons or ids, all of them; an id may be given by its beginning.
    """

    action: Action
    reasons: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    before_us: int = ALWAYS


class Operate(Struct, frozen=True, kw_only=True, tag="operate", tag_field="about"):
    """An operation on the books that is to be recorded and done.

    One with an `id` is done once, however often it is asked.
    """

    work: Work
    reason: str
    source: str = ""
    id: str = ""


class Check(Struct, frozen=True, kw_only=True, tag="check", tag_field="about"):
    """An operation of which is to be said what is in its way, before anybody is asked about it."""

    work: Work


class Halt(Struct, frozen=True, kw_only=True, tag="halt", tag_field="about"):
    """A long operation that is to be stopped, or that `goes_on`."""

    operation: int
    goes_on: bool = False


class Watch(Struct, frozen=True, kw_only=True, tag="watch", tag_field="about"):
    """An operation of which is to be said whether it has ended."""

    operation: int


class Outcome(Struct, frozen=True, kw_only=True):
    """How many letters were chosen, and of how many nothing could be done; `problem` if it failed.

    Of an operation: its number, and whether it is done, was stopped, or was done before by the same
    request; `at` is its progress, in words; `left` counts the meters that stay as they are, `left_why` says why,
    of one of them. Of letters that were to be found, also: how many were chosen and how many are open, by reason, some
    ids of the open ones, and what was named and is neither a reason nor the beginning of an id.
    """

    letters: int = 0
    left: int = 0
    problem: str = ""
    chosen: dict[str, int] = {}
    open: dict[str, int] = {}
    examples: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    operation: int = 0
    is_done: bool = True
    is_stopped: bool = False
    was_done: bool = False
    at: str = ""
    left_why: str = ""


Asked = Request | Operate | Check | Halt | Watch


def answer_requests(folder: Path, do: Callable[[Asked], Outcome]) -> None:
    """Do what is asked in `folder`, one request after the other. Cheap where nothing is asked.

    Raises:
        OSError: An answer could not be written; what was asked is done.
    """
    for path in list(_requests(folder)):
        try:
            request: Asked = msgspec.json.decode(path.read_bytes(), type=Asked)
            age_s = time.time() - path.stat().st_mtime
        except (OSError, ValueError):  # it was withdrawn, or it is no request of ours
            path.unlink(missing_ok=True)
            continue
        # 1. Taken away. If we die after this, it is not done again by itself.
        path.unlink(missing_ok=True)
        if age_s > _FORGOTTEN_S:
            continue
        # 2. Done in transactions of the ledger, and answered.
        outcome = do(request)
        write_private(_answer_of(path), msgspec.json.encode(outcome))


def remember(folder: Path, operate: Operate) -> tuple[Operate, timedelta | None]:
    """Return a request with the id under which it is asked, also when it comes again without an answer.

    The id is in a file of the folder until `forget`: whoever lost the answer asks with the same words. Also
    return how long ago they were asked without an answer, `None` where they were not: after `ONCE` the request
    is another one all the same.

    Raises:
        LedgerDiskFull: There is no room for it.
        InvalidConfig: The folder cannot be written.
    """
    with _writing(folder):
        return _remembered(folder, operate)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Raise what keeps a command from writing to the folder of requests as one of ours."""
    try:
        yield
    except OSError as error:
        if is_full(str(error)):
            raise LedgerDiskFull(folder, str(error)) from error
        raise InvalidConfig([f"{folder} cannot be used ({error})"]) from error


def _remembered(folder: Path, operate: Operate) -> tuple[Operate, timedelta | None]:
    make_folder(folder)
    age: timedelta | None = None
    for path in sorted(folder.glob(f"*{_UNANSWERED}")):
        with contextlib.suppress(OSError, ValueError):
            before = msgspec.json.decode(path.read_bytes(), type=Operate)
            since = timedelta(seconds=max(0, time.time() - path.stat().st_mtime))
            is_meant = replace(before, id="") == operate
            if is_meant:
                age = since
            if since > ONCE:
                path.unlink()
            elif is_meant:
                return before, since
    named = replace(operate, id=uuid4().hex)
    write_private(folder / f"{named.id}{_UNANSWERED}", msgspec.json.encode(named), synced=True)
    return named, age


def forget(folder: Path, operate: Operate) -> None:
    """Note that a request was answered, or was never taken: the same words are another one from now on."""
    (folder / f"{operate.id}{_UNANSWERED}").unlink(missing_ok=True)


def ask(folder: Path, request: Asked, *, timeout_s: float) -> Outcome:
    """Ask the ledger that runs, and return what it did.

    Raises:
        LedgerBusy: It did not answer in time. The request is withdrawn, unless the ledger took it.
        LedgerDiskFull: There is no room for the request.
        InvalidConfig: The folder cannot be written.
    """
    path = folder / f"{uuid4().hex}.json"
    took = False
    try:
        with _writing(folder):
            make_folder(folder)
            write_private(path, msgspec.json.encode(request))
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if _answer_of(path).exists():
                break
            time.sleep(_LOOK_S)
            with contextlib.suppress(FileNotFoundError):  # it was taken
                os.utime(path)
    finally:
        try:
            path.unlink()
        except FileNotFoundError:
            took = True
    try:
        outcome = msgspec.json.decode(_answer_of(path).read_bytes(), type=Outcome)
    except FileNotFoundError:
        raise LedgerBusy(folder.parent, timeout_s, took=took) from None
    _answer_of(path).unlink(missing_ok=True)
    return outcome


def _requests(folder: Path) -> Iterator[Path]:
    try:
        yield from (it for it in sorted(folder.iterdir()) if it.suffix == ".json" and it.is_file())
    except FileNotFoundError:
        return


def _answer_of(path: Path) -> Path:
    return path.with_suffix(".answer")
