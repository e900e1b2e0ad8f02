"""`costs consume` as it is, in a process that kills itself at one line of its work, at the n-th time.

Before it dies it tells which message of the stream was the last of the group in hand. Groups are
made small, so that a short load is many of them; nothing else is changed.

    python -m tests.support.faulty_ledger LINE N TOLD consume --servers … --data-dir …
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

import voicecosts.consumer.consume
import voicecosts.consumer.store.ledger
from tests.support.processes import program
from voicecosts.analytics.commands import app
from voicecosts.consumer.booking.message import Applied, Message
from voicecosts.consumer.broker.connection import Group
from voicecosts.consumer.broker.feed import Feed
from voicecosts.consumer.store.ledger import Ledger
from voicecosts.consumer.store.overlap import Worked, Written

GROUP_MESSAGES: Final = 20
PIECE_WEIGHT: Final = 30
"""Readings, of the eighty of a group."""


class FaultyLedger:
    """The program below, started by a test. `last` is the last message of the group it died with."""

    def __init__(self, line: str, at: int, folder: Path, arguments: Sequence[str]) -> None:
        told = folder / "told"
        told.unlink(missing_ok=True)
        with (folder / "log").open("ab") as log:
            self.process = program(
                "faulty_ledger",
                *(line, at, told, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            code = self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait(10)
        assert code == -signal.SIGKILL, (folder / "log").read_text()
        self.last = int(told.read_text())


class Trap:
    """Counts how often a line was reached, and ends the process at the n-th time."""

    def __init__(self, at: int, told: Path) -> None:
        self.last = 0
        self._left = at
        self._told = told

    def reached(self) -> None:
        """Die, if this is the time."""
        self._left -= 1
        if self._left == 0:
            self._told.write_text(str(self.last))
            os.kill(os.getpid(), signal.SIGKILL)


def before_commit(trap: Trap) -> None:
    """All rows of the group are written, and the transaction is open."""
    module: Any = voicecosts.consumer.store.ledger
    write_state = module.write_state

    def deadly(*args: Any, **kwargs: Any) -> None:
        write_state(*args, **kwargs)
        trap.reached()

    module.write_state = deadly


def between_pieces(trap: Trap) -> None:
    """The first piece of the group is on disk, and the next is worked out and not written."""
    taken_over = Ledger._taken_over

    def deadly(ledger: Ledger, worked: Worked, written: Written, **following: Any) -> Applied:
        if following:
            trap.reached()
        return taken_over(ledger, worked, written, **following)

    Ledger._taken_over = deadly  # type: ignore[method-assign,assignment]  # the accident under test


def after_commit(trap: Trap) -> None:
    """The group is on disk, and nothing of it is acknowledged."""
    apply = Ledger.apply

    def deadly(ledger: Ledger, messages: Sequence[Message]) -> Applied:
        applied = apply(ledger, messages)
        trap.reached()
        return applied

    Ledger.apply = deadly  # type: ignore[method-assign,assignment]  # the accident under test


def between_acks(trap: Trap) -> None:
    """One half of the group is acknowledged, and the broker has that."""
    acknowledge = Feed.acknowledge

    async def deadly(feed: Feed, group: Group) -> None:
        half = len(group.replies) // 2
        await acknowledge(feed, replace(group, replies=group.replies[:half]))
        await _flush(feed)
        trap.reached()
        await acknowledge(feed, replace(group, replies=group.replies[half:]))

    Feed.acknowledge = deadly  # type: ignore[method-assign,assignment]  # same


def between_ack_and_snapshot(trap: Trap) -> None:
    """The broker has every acknowledgement, and readers have nothing of the group yet."""
    acknowledge, publish_if_due = Feed.acknowledge, Ledger.publish_if_due
    is_acknowledged = False

    async def noted(feed: Feed, group: Group) -> None:
        nonlocal is_acknowledged
        await acknowledge(feed, group)
        await _flush(feed)
        is_acknowledged = True

    def deadly(ledger: Ledger) -> bool:
        nonlocal is_acknowledged
        if is_acknowledged:
            is_acknowledged = False
            trap.reached()
        return publish_if_due(ledger)

    Feed.acknowledge = noted  # type: ignore[method-assign,assignment]  # same
    Ledger.publish_if_due = deadly  # type: ignore[method-assign,assignment]  # same


async def _flush(feed: Feed) -> None:
    """Return when the broker has what was sent to it."""
    assert feed._link is not None
    await feed._link.client.flush()


LINES: Final[dict[str, Callable[[Trap], None]]] = {
    line.__name__: line
    for line in (
        before_commit,
        between_pieces,
        after_commit,
        between_acks,
        between_ack_and_snapshot,
    )
}


def main(line: str, at: int, told: Path, arguments: list[str]) -> None:
    """Run the command until it dies."""
    trap = Trap(at, told)
    module: Any = voicecosts.consumer.consume
    module.GROUP_MESSAGES = GROUP_MESSAGES
    module.Ledger.open = partial(Ledger.open, piece_weight=PIECE_WEIGHT)
    apply = Ledger.apply

    def noted(ledger: Ledger, messages: Sequence[Message]) -> Applied:
        trap.last = max(message.sequence for message in messages)
        return apply(ledger, messages)

    Ledger.apply = noted  # type: ignore[method-assign,assignment]  # listened to, not changed
    LINES[line](trap)
    sys.argv = ["costs", *arguments]
    app.main()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
