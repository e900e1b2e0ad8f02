"""What differs in a ledger, as a table for people and as records for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from voicecosts.analytics.text.grid import Column, lines
from voicecosts.analytics.text.names import in_cell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

NOTHING = "-"


class Difference(Protocol):
    """One value that differs; what does not apply is None."""

    @property
    def what(self) -> str:
        """Where it is."""

    @property
    def quantity(self) -> str:
        """Of which quantity."""

    @property
    def expected(self) -> str | None:
        """What it should be."""

    @property
    def found(self) -> str | None:
        """What it is."""

    @property
    def day(self) -> date | None:
        """Of which day."""

    @property
    def project(self) -> str | None:
        """Of which project."""

    @property
    def session_id(self) -> str | None:
        """Of which call."""

    @property
    def meter(self) -> str | None:
        """Of which meter."""

    @property
    def file(self) -> str | None:
        """Of which file."""


def table(found: Sequence[Difference], *, width: int | None) -> Iterator[str]:
    """Yield a line for each difference; a column that none of them needs is not there."""
    columns = {
        "in": [it.what for it in found],
        "day": [NOTHING if it.day is None else f"{it.day}" for it in found],
        "call or file": [it.session_id or it.file or NOTHING for it in found],
        "meter": [it.meter or NOTHING for it in found],
        "quantity": [it.quantity for it in found],
        "expected": [it.expected or NOTHING for it in found],
        "found": [it.found or NOTHING for it in found],
    }
    shown = [
        Column(head, [in_cell(cell) for cell in cells])
        for head, cells in columns.items()
        if set(cells) != {NOTHING}
    ]
    yield from lines(shown, [], width=width)


def record(it: Difference) -> dict[str, object]:
    """Return a difference for JSON."""
    return {
        "in": it.what,
        "day": None if it.day is None else f"{it.day}",
        "project": it.project,
        "session_id": it.session_id,
        "meter": it.meter,
        "file": it.file,
        "quantity": it.quantity,
        "expected": it.expected,
        "found": it.found,
    }
