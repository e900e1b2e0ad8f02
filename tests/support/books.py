"""The books of a feed without a ledger: what it would note, in memory."""

from __future__ import annotations

from collections.abc import Iterable

from voicecosts.consumer.booking.progress import Gap, Mark, Progress, Room, Seen, news


class MemoryBooks:
    """Progress and gaps as a ledger keeps them, for a feed whose messages nobody books by itself."""

    def __init__(self, floor: int = 0, *, ledger_id: str = "a") -> None:
        self.ledger_id = ledger_id
        self.progress = Progress(floor=floor)
        self.kept: Progress | None = None
        self.gaps: list[Gap] = []
        self.trims: list[int] = []
        self.rooms: list[Room] = []

    def book(self, sequences: Iterable[int], newest: Mark | None = None) -> None:
        """Book messages, and publish at once."""
        self.progress = self.kept = self.progress.booked(sequences, newest)

    async def reconcile(self, seen: Seen) -> tuple[Gap, ...]:
        """Compare and note, as a ledger does."""
        self.progress, found = self.progress.compared(seen)
        gaps = news(found, self.gaps)
        self.gaps += gaps
        return gaps

    async def trimmed(self, upto: int) -> None:
        """Note what was removed."""
        self.trims.append(upto)

    def room(self, room: Room) -> None:
        """Note how full the stream is."""
        self.rooms.append(room)
