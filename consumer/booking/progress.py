"""How far the ledger has booked one stream, and what of that stream it will never see.

A stream numbers its messages without holes. So the ledger keeps a floor (everything up to it is
booked, or noted as a gap) and the ranges that it booked above it, instead of a highest number. What
is missing between them is either still in the stream, and can be read again, or it is a gap: a fact
that every answer mentions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Self

from msgspec import Struct
from msgspec.structs import replace

Range = tuple[int, int]
"""The first and the last of a run of sequences."""


class Why(StrEnum):
    """Why messages can never reach this ledger. The codes are public."""

    LEFT_THE_STREAM = "left_the_stream"  # they expired, or were purged or deleted, before booking
    STREAM_GONE = "stream_gone"  # the stream was made anew, and they were in the old one
    END_LOST = "end_lost"  # the stream lost its end, and they were in it: others have their numbers
    UNREADABLE = "unreadable"  # the server cannot read any more what it stored of them
    OPERATIONS_LOST = "operations_lost"  # an older copy of the ledger lacks operations on the books
    RESTORED = "restored"  # an older copy of the ledger lacks what was booked from outboxes since


_ONCE = (Why.LEFT_THE_STREAM, Why.UNREADABLE)
"""A message can be missing in this way once. An end can be lost again, with the same numbers."""


class Gap(Struct, frozen=True, kw_only=True):
    """A run of messages that never reached this ledger.

    `stream_us` is when their stream was created, in microseconds since 1970. `last` is None where
    nobody knows how many there were: in a stream that is gone, after the last message known of it.
    What is missing from a restored ledger was in no stream: the numbers are of its snapshots, or of
    its operations.
    """

    stream_us: int | None
    first: int
    last: int | None
    why: Why

    def __str__(self) -> str:
        if self.why is Why.RESTORED:
            return f"what was booked from outboxes of this host in {self._numbers('snapshot')}"
        if self.why is Why.OPERATIONS_LOST:
            return (
                f"{self._numbers('operation')}: do again what is missing, then `costs operations acknowledge "
                "--reason …`"
            )
        if self.last is None:
            return f"whatever came after message {self.first - 1} of the stream that is gone"
        if self.first == self.last:
            return f"message {self.first}"
        return f"messages {self.first} to {self.last} ({self.last - self.first + 1} of them)"

    def _numbers(self, of: str) -> str:
        return (
            f"{of} {self.first}"
            if self.first == self.last
            else f"{of}s {self.first} to {self.last}"
        )


class Room(Struct, frozen=True, kw_only=True):
    """How full the stream is; `max_bytes` is None where it has no bound."""

    bytes: int
    max_bytes: int | None
    messages: int

    @property
    def percent(self) -> int:
        """How much of the bound is taken, in whole percent; 0 without a bound."""
        return self.bytes * 100 // self.max_bytes if self.max_bytes else 0


class Mark(Struct, frozen=True, kw_only=True):
    """The newest booked message, and when the server stored it, in microseconds since 1970.

    A stream that lost its end gives its numbers again: another message is there then.
    """

    sequence: int
    stored_us: int

    @classmethod
    def newest(cls, messages: Iterable[tuple[int, int]]) -> Self | None:
        """Return the mark of messages, as sequence and time; a time of 0 is not known."""
        known = (each for each in messages if all(each))
        sequence, stored_us = max(known, default=(0, 0))
        return cls(sequence=sequence, stored_us=stored_us) if sequence else None


class Seen(Struct, frozen=True, kw_only=True):
    """What the broker says of the stream: its identity, its first and last message, its holes.

    An empty stream has a `first` above its `last`. `deleted` and `unreadable` may be given only where
    they matter. With `is_cut` another message stands at the mark.
    """

    stream_us: int
    first: int
    last: int
    deleted: tuple[Range, ...] = ()
    unreadable: tuple[Range, ...] = ()
    is_cut: bool = False


class Progress(Struct, frozen=True, kw_only=True):
    """What is booked of the stream that was created at `stream_us`; None: not known yet.

    `last` is the highest sequence that the stream is known to have had; `mark` is the newest booked
    message, None where it is not known.
    """

    stream_us: int | None = None
    floor: int = 0
    above: tuple[Range, ...] = ()
    last: int = 0
    mark: Mark | None = None

    @property
    def highest(self) -> int:
        """The highest sequence that is booked."""
        return self.above[-1][1] if self.above else self.floor

    def booked(self, sequences: Iterable[int], mark: Mark | None = None) -> Progress:
        """Return the progress after these were booked; those of no stream (0) do not count.

        `mark` is the newest of them.
        """
        after = self.grown(runs(sequences))
        if mark is None or (self.mark is not None and mark.sequence <= self.mark.sequence):
            mark = self.mark
        return replace(after, last=max(after.last, after.highest), mark=mark)

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
        elif seen.is_cut or seen.last < self.last:
            gaps += self._lost_with_the_end(seen)
            here = self._cut(seen)
        here = replace(here, stream_us=seen.stream_us, last=max(here.last, seen.last))
        absent = here.unbooked(seen.first - 1)
        absent += tuple(within(here.unbooked(seen.last), seen.deleted))
        absent = tuple(runs_of(absent))
        gaps += [_gap(seen.stream_us, each, Why.LEFT_THE_STREAM) for each in absent]
        here = here.grown(absent)
        lost = tuple(within(here.unbooked(seen.last), seen.unreadable))
        gaps += [_gap(seen.stream_us, each, Why.UNREADABLE) for each in lost]
        return here.grown(lost), tuple(gaps)

    def _lost_with_the_end(self, seen: Seen) -> Iterator[Gap]:
        """Yield what the stream is known to have had in its end, and this ledger has not."""
        begin = min(self.highest if seen.is_cut else self.last, seen.last) + 1
        for each in within(self.unbooked(self.last), [(begin, self.last)]):
            yield _gap(self.stream_us, each, Why.END_LOST)

    def _cut(self, seen: Seen) -> Progress:
        """Return the progress in a stream that lost its end (a host lost power).

        Its numbers are given again. Where booked ones are among them nobody knows from which number
        on, so the stream is read again from its first message: that books nothing twice.
        """
        if seen.is_cut or seen.last < self.highest:
            floor = min(self.floor, seen.first - 1)
            return replace(self, floor=floor, above=(), last=seen.last, mark=None)
        return replace(self, last=seen.last)

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
    if gap.last is None or gap.why is Why.END_LOST:  # whatever has those numbers now is another
        return [gap], []
    whole = [(gap.first, gap.last)]
    arrived = list(arrived)
    return (
        [_gap(gap.stream_us, each, gap.why) for each in without(whole, arrived)],
        [_gap(gap.stream_us, each, gap.why) for each in within(whole, arrived)],
    )


def news(gaps: Iterable[Gap], known: Iterable[Gap]) -> tuple[Gap, ...]:
    """Return the gaps without what is known: a stream that is read again shows its holes again."""
    known = list(known)
    found: list[Gap] = []
    for gap in gaps:
        if gap.last is None or gap.why not in _ONCE:
            found.append(gap)
            continue
        same = [it for it in known if (it.stream_us, it.why) == (gap.stream_us, gap.why)]
        said = [(it.first, it.last) for it in same if it.last is not None]
        found += [
            _gap(gap.stream_us, each, gap.why) for each in without([(gap.first, gap.last)], said)
        ]
    return tuple(found)


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
