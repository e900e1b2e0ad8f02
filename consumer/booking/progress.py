"""How far the ledger has booked one stream, and what of that stream it will never see.

A stream numbers its messages without holes. So the ledger keeps a floor (everything up to it is
booked, or noted as a gap) and the ranges that it booked above it, instead of a highest number. What
is missing between them is either still in the stream, and can be read again, or it is a gap: a fact
that every answer mentions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

Range = tuple[int, int]
"""The first and the last of a run of sequences."""


class Why(StrEnum):
    """Why messages can never reach this ledger. The codes are public."""

    LEFT_THE_STREAM = "left_the_stream"  # they expired, or were purged or deleted, before booking
    STREAM_GONE = "stream_gone"  # the stream was made anew, and they were in the old one


class Gap(Struct, frozen=True, kw_only=True):
    """A run of messages that never reached this ledger.

    `stream_us` is when their stream was created, in microseconds since 1970. `last` is None where
    nobody knows how many there were: in a stream that is gone, after the last message known of it.
    """

    stream_us: int | None
    first: int
    last: int | None
    why: Why

    def __str__(self) -> str:
        if self.last is None:
            return f"whatever came after message {self.first - 1} of the stream that is gone"
        if self.first == self.last:
            return f"message {self.first}"
        return f"messages {self.first} to {self.last} ({self.last - self.first + 1} of them)"


class Room(Struct, frozen=True, kw_only=True):
    """How full the stream is; `max_bytes` is None where it has no bound."""

    bytes: int
    max_bytes: int | None
    messages: int

    @property
    def percent(self) -> int:
        """How much of the bound is taken, in whole percent; 0 without a bound."""
        return self.bytes * 100 // self.max_bytes if self.max_bytes else 0


class Seen(Struct, frozen=True, kw_only=True):
    """What the broker says of the stream: its identity, its first and last message, its holes.

    An empty stream has a `first` above its `last`. `deleted` may be given only where it matters.
    """

    stream_us: int
    first: int
    last: int
    deleted: tuple[Range, ...] = ()


class Progress(Struct, frozen=True, kw_only=True):
    """What is booked of the stream that was created at `stream_us`; None: not known yet.

    `last` is the highest sequence that the stream is known to have had.
    """

    stream_us: int | None = None
    floor: int = 0
    above: tuple[Range, ...] = ()
    last: int = 0

    @property
    def highest(self) -> int:
        """The highest sequence that is booked."""
        return self.above[-1][1] if self.above else self.floor

    def booked(self, sequences: Iterable[int]) -> Progress:
        """Return the progress after these were booked; those of no stream (0) do not count."""
        after = self.grown(runs(sequences))
        return replace(after, last=max(after.last, after.highest))

    def unbooked(self, upto: int) -> tuple[Range, ...]:
        """Return what is neither booked nor noted, from the floor to `upto`."""
        return tuple(without([(self.floor + 1, upto)], self.above))

    def compared(self, seen: Seen) -> tuple[Progress, tuple[Gap, ...]]:
        """Return the progress in the stream that is there now, and the gaps that it shows."""
        gaps: list[Gap] = []
        here = self
        if self._is_another(seen):
            gaps += self._left_behind()
            here = Progress()
        elif seen.last < self.highest:
            # The stream lost its end (a host lost power): the numbers are given again.
            cut = tuple((first, min(last, seen.last)) for first, last in self.above)
            kept = tuple(each for each in cut if each[0] <= each[1])
            here = replace(self, floor=min(self.floor, seen.last), above=kept, last=seen.last)
        here = replace(here, stream_us=seen.stream_us, last=max(here.last, seen.last))
        absent = here.unbooked(seen.first - 1)
        absent += tuple(within(here.unbooked(seen.last), seen.deleted))
        absent = tuple(runs_of(absent))
        gaps += [_gap(seen.stream_us, each, Why.LEFT_THE_STREAM) for each in absent]
        return here.grown(absent), tuple(gaps)

    def _is_another(self, seen: Seen) -> bool:
        if self.stream_us is None:  # an older version did not note which stream it read
            return self.floor > seen.last
        return self.stream_us != seen.stream_us

    def _left_behind(self) -> Iterator[Gap]:
        """Yield what the old stream had and this ledger has not: what is known of, and the rest."""
        for each in self.unbooked(self.last):
            yield _gap(self.stream_us, each, Why.STREAM_GONE)
        end = max(self.last, self.highest)
        yield Gap(stream_us=self.stream_us, first=end + 1, last=None, why=Why.STREAM_GONE)

    def grown(self, ranges: Iterable[Range]) -> Progress:
        """Return the progress when these ranges are booked, or noted, as well."""
        floor, above = self.floor, []
        for first, last in runs_of([*self.above, *ranges]):
            if first <= floor + 1:
                floor = max(floor, last)
            else:
                above.append((first, last))
        return replace(self, floor=floor, above=tuple(above))


def fill(gap: Gap, arrived: Iterable[Range]) -> tuple[list[Gap], list[Gap]]:
    """Split a gap into what is still missing and what has arrived after all."""
    if gap.last is None:
        return [gap], []
    whole = [(gap.first, gap.last)]
    arrived = list(arrived)
    return (
        [_gap(gap.stream_us, each, gap.why) for each in without(whole, arrived)],
        [_gap(gap.stream_us, each, gap.why) for each in within(whole, arrived)],
    )


def runs(sequences: Iterable[int]) -> Iterator[Range]:
    """Yield sequences as runs, in order; those of no stream (0) are left out."""
    yield from runs_of((each, each) for each in sequences if each > 0)


def runs_of(ranges: Iterable[Range]) -> Iterator[Range]:
    """Yield ranges in order, with those that touch or overlap made one."""
    begun: Range | None = None
    for first, last in sorted(ranges):
        if begun is None:
            begun = first, last
        elif first <= begun[1] + 1:
            begun = begun[0], max(begun[1], last)
        else:
            yield begun
            begun = first, last
    if begun is not None:
        yield begun


def without(ranges: Iterable[Range], taken: Iterable[Range]) -> Iterator[Range]:
    """Yield what of `ranges` is not in `taken`."""
    taken = list(runs_of(taken))
    for first, last in runs_of(ranges):
        start = first
        for begin, end in taken:
            if begin > last:
                break
            if end < start:
                continue
            if begin > start:
                yield start, begin - 1
            start = end + 1
        if start <= last:
            yield start, last


def within(ranges: Iterable[Range], others: Iterable[Range]) -> Iterator[Range]:
    """Yield what of `ranges` is in `others` as well."""
    others = list(runs_of(others))
    for first, last in runs_of(ranges):
        for begin, end in others:
            if begin <= last and end >= first:
                yield max(first, begin), min(last, end)


def _gap(stream_us: int | None, each: Range, why: Why) -> Gap:
    return Gap(stream_us=stream_us, first=each[0], last=each[1], why=why)
