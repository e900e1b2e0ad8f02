"""What is done before the ledger is read: workers without a server leave their usage in an outbox.

The commands `query` and `audit` ask for it to be booked first. How that is done is not known here:
`voicecosts.analytics.commands.app` hands it in. An answer never fails because of it; it says what it does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import typer
from msgspec import Struct

from voicecosts.analytics.errors import NoLedger
from voicecosts.analytics.numbers import counted


class Booked(Struct, frozen=True, kw_only=True):
    """How many messages were booked, how many still wait, and why they do."""

    messages: int = 0
    left: int = 0
    why: str | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentence for people when something still waits."""
        if self.why is None:
            return ()
        what = counted(self.left, "message") if self.left else "what waits"
        return (f"not in these numbers: {what} in the outbox of this host ({self.why})",)


class Outbox(Protocol):
    """The outbox of this host, as the commands see it."""

    def book(self, data_dir: Path | None) -> Booked:
        """Book what waits there into the ledger of `data_dir`, or of the environment's."""


@contextmanager
def booked_first(outbox: Outbox | None, data_dir: Path | None) -> Iterator[Booked]:
    """Book what waits and yield what became of it, for the answer to say.

    Where there is nothing to answer from, that may be the reason, so it is said then too.
    """
    booked = Booked() if outbox is None else outbox.book(data_dir)
    try:
        yield booked
    except NoLedger:
        for warning in booked.warnings:
            typer.echo(f"warning: {warning}", err=True)
        raise
