"""What commands ask of a ledger that runs: it alone may write, so it is asked by a file.

A request is a file in a folder of the ledger, put there by a rename. The ledger takes it away, does what
it says, and writes an answer. If it dies in between, who asked hears nothing and may ask again: a request
that ends a ledger must not end the next one as well.
"""

from __future__ import annotations

import contextlib
import os
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import msgspec
from msgspec import Struct

from voicecosts.consumer.booking.operations import Work
from voicecosts.consumer.errors import LedgerBusy
from voicecosts.consumer.store.files import make_folder, write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ALWAYS: Final = 2**53
"""Microseconds since 1970, in the year 2255: every letter was received before."""

_LOOK_S: Final = 0.05

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
    """An operation on the books that is to be recorded and done."""

    work: Work
    reason: str
    source: str = ""


class Watch(Struct, frozen=True, kw_only=True, tag="watch", tag_field="about"):
    """An operation of which is to be said whether it has ended."""

    operation: int


class Outcome(Struct, frozen=True, kw_only=True):
    """How many letters were chosen, and of how many nothing could be done; `problem` if it failed.

    Of an operation: its number, and whether it is done. Of letters that were to be found, also: how many were chosen and how many are open, by reason, some
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


Asked = Request | Operate | Watch


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


def ask(folder: Path, request: Asked, *, timeout_s: float) -> Outcome:
    """Ask the ledger that runs, and return what it did.

    Raises:
        LedgerBusy: It did not answer in time. The request is withdrawn, unless the ledger took it.
        OSError: The folder cannot be written.
    """
    make_folder(folder)
    path = folder / f"{uuid4().hex}.json"
    took = False
    try:
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
