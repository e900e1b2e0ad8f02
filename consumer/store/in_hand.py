"""What the ledger was booking when it died, so that it does not die of the same for ever.

A small file beside the ledger names the group in hand: it is written before the group is decoded and
emptied after the commit. A ledger that finds it filled has a predecessor that was ended in between,
by the kernel for its memory or by a fault in a library. It takes half as many messages at a time,
down to one, and sets a message aside with which it died alone `LAST_CHANCES` times. What goes well
is taken in groups that grow again. The file is only advice: lost or unreadable, there was no death.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from voicecosts.consumer.booking.message import Message

LAST_CHANCES: Final = 3
"""Deaths with the same message alone, after which it is set aside. Something else may have been the
reason for one or two of them."""

GROUPS_UNTIL_MORE: Final = 16
"""Groups that must be booked before the next ones may be twice as large."""


DOUBT_S: Final = 300.0
"""How long to wait for the messages of the last death before groups may grow again; without the right
to rewind, the broker offers them after a minute."""


class _Noted(Struct, omit_defaults=True):
    """The file: how many messages to take at most (0: all there are), and those in hand."""

    at_most: int = 0
    in_hand: int = 0
    first: int = 0
    last: int = 0
    deaths_alone: int = 0


class InHand:
    """How many messages may be taken at once, and which of them must not be touched again.

    `died_with` is how many messages the predecessor had in hand, 0 if it did not die.
    """

    def __init__(
        self, path: Path, *, full: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._full = full
        self._clock = clock
        noted = _load(path)
        self.died_with = noted.in_hand
        self._at_most = min(noted.at_most or full, full)
        self._doubted = range(0)  # the messages of the last death, until they are booked
        self._doubted_until = clock() + DOUBT_S
        self._deaths_alone = 0
        self._went_well = 0
        if noted.in_hand > 0:
            self._at_most = max(1, min(self._at_most, noted.in_hand) // 2)
            self._doubted = range(noted.first, noted.last + 1)
            self._deaths_alone = noted.deaths_alone + 1 if noted.in_hand == 1 else 0

    @property
    def at_most(self) -> int:
        """How many messages to take at once."""
        return self._at_most

    def is_deadly(self, messages: Sequence[Message]) -> bool:
        """Return whether this is the one message that ended the ledger each time."""
        return self._deaths_alone >= LAST_CHANCES and self._is_suspect(messages)

    def begin(self, messages: Sequence[Message]) -> None:
        """Note that these messages are about to be booked."""
        deaths_alone = self._deaths_alone if self._is_suspect(messages) else 0
        places = [message.sequence for message in messages]
        self._write(_Noted(self._at_most, len(messages), min(places), max(places), deaths_alone))

    def put_down(self) -> None:
        """Note that nothing is in hand: all is booked, or the ledger ends in order."""
        self._write(_Noted(self._at_most))

    def went_well(self, messages: Sequence[Message]) -> None:
        """Note that these are booked. After some groups the next ones may be larger."""
        if self._doubted and any(each.sequence == self._doubted[-1] for each in messages):
            self._doubted = range(0)
        self._went_well += 1
        is_doubtful = self._doubted and self._clock() < self._doubted_until
        if self._went_well >= GROUPS_UNTIL_MORE and not is_doubtful:
            self._went_well = 0
            self._at_most = min(self._full, self._at_most * 2)
        self.put_down()

    def _is_suspect(self, messages: Sequence[Message]) -> bool:
        place = messages[0].sequence
        return len(messages) == 1 and self._doubted == range(place, place + 1)

    def _write(self, noted: _Noted) -> None:
        """Replace the file's content in one call, which a death cannot divide; no disk is waited for."""
        with contextlib.suppress(OSError):  # booking itself will say that the disk is full
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(descriptor, msgspec.json.encode(noted).ljust(_LENGTH), 0)
            finally:
                os.close(descriptor)


_LENGTH: Final = 256  # more than any content has


def _load(path: Path) -> _Noted:
    with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(path.read_bytes(), type=_Noted)
    return _Noted()
