"""Time zones: which UTC moment a local one is, and the SQL of the local time at which a session started.

DuckDB knows zones by an extension that may be missing and brings its own rules. So the moments at which a zone's
offset changes come from Python's `zoneinfo`, and SQL has them as constants: both answer alike.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from voicecosts.analytics.errors import BadQuestion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

UTC_NAME: Final = "UTC"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2100, 1, 1, tzinfo=UTC)
_STEP: Final = timedelta(days=1)
_HOUR_S: Final = 3600
_USUAL: Final = (2020, 2040)

Change = tuple[int, int]
"""From which second since 1970 on a zone is how many seconds ahead of UTC."""


def zone(name: str) -> ZoneInfo:
    """Return the time zone of a name such as `Europe/Berlin`; raises `BadQuestion`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = get_close_matches(name, available_timezones(), n=1)
        meant = f", did you mean {near[0]!r}?" if near else ":"
        raise BadQuestion(
            f"unknown time zone {name!r}{meant} write one of the IANA database, such as Europe/Berlin or UTC "
            "(where the system has none, `pip install tzdata` brings them)"
        ) from None


def utc(local: datetime, name: str) -> datetime:
    """Return the UTC moment of a time without an offset in a zone: of two the first, of a skipped one as far after the change."""
    return local.replace(tzinfo=zone(name)).astimezone(UTC)


def midnight(day: date, name: str) -> datetime:
    """Return the UTC moment at which a day begins in a zone."""
    return utc(datetime.combine(day, time()), name)


@lru_cache(maxsize=8)
def changes(name: str) -> tuple[Change, ...]:
    """Return every offset of a zone from 1970 to 2100, to the second, in the order of time."""
    info = zone(name)
    found = [(0, _offset(_EPOCH, info))]
    at = _EPOCH
    while at < _LAST:
        if _offset(at + _STEP, info) != found[-1][1]:
            moment = _change(at, at + _STEP, info)
            found.append((_seconds(moment), _offset(moment, info)))
            at = moment
            continue
        at += _STEP
    return tuple(found)


def shifted(us: str, name: str) -> str:
    """Return the SQL of the local time, in microseconds since 1970, of a UTC one."""
    return f"({us} + {_piecewise(us, changes(name), lambda it: str(it * 1_000_000))})"


def suffix(us: str, name: str) -> str:
    """Return the SQL of a zone's offset at a UTC time in microseconds since 1970, as `+02:00`."""
    return _piecewise(us, changes(name), lambda it: f"'{_written(it)}'")


def first_moment(day: str, name: str) -> tuple[str, str]:
    """Return the SQL of the local time, in microseconds since 1970, at which a day begins in a zone, and of its offset.

    That is `midnight` of it: where the clocks skip midnight, so much later.
    """
    us = f"epoch_us({day}::TIMESTAMP)"
    skipped, offsets = _of_midnights(changes(name))
    local = f"({us} + {_piecewise(us, skipped, lambda it: str(it * 1_000_000))})"
    return local, _piecewise(us, offsets, lambda it: f"'{_written(it)}'")


def _of_midnights(found: Sequence[Change]) -> tuple[list[Change], list[Change]]:
    """Return how much later a local time is that is skipped, and its offset; both from which local second on."""
    skipped, offsets = [(0, 0)], [found[0]]
    for (_, before), (second, offset) in pairwise(found):
        if offset > before:
            skipped += [(second + before, offset - before), (second + offset, 0)]
        offsets.append((second + before, offset))
    return skipped, offsets


def _piecewise(us: str, pieces: Sequence[Change], of: Callable[[int], str]) -> str:
    """Return the SQL of what holds at a time.

    Nearly all calls began in `_USUAL` years. For them a row is compared with a few moments only, by halves; for others with
    a list of all moments. As cases, those of 130 years take longer to plan than most ledgers to read.
    """
    if len(pieces) == 1:
        return of(pieces[0][1])
    first, last = (_seconds(datetime(year, 1, 1, tzinfo=UTC)) for year in _USUAL)
    before = [value for second, value in pieces if second <= first][-1]
    usual = [(first, before), *(it for it in pieces if first < it[0] < last)]
    moments = ", ".join(str(second * 1_000_000) for second, _ in pieces[1:])
    values = ", ".join(of(value) for _, value in pieces)
    return (
        f"CASE WHEN {us} >= {first * 1_000_000} AND {us} < {last * 1_000_000} THEN {_by_halves(us, usual, of)} "
        f"ELSE [{values}][len([it FOR it IN [{moments}] IF it <= {us}]) + 1] END"
    )


def _by_halves(us: str, pieces: Sequence[Change], of: Callable[[int], str]) -> str:
    if len(pieces) == 1:
        return of(pieces[0][1])
    half = len(pieces) // 2
    before, after = (_by_halves(us, it, of) for it in (pieces[:half], pieces[half:]))
    return f"CASE WHEN {us} < {pieces[half][0] * 1_000_000} THEN {before} ELSE {after} END"


def _written(offset: int) -> str:
    hours, rest = divmod(abs(offset), _HOUR_S)
    return f"{'-' if offset < 0 else '+'}{hours:02}:{rest // 60:02}"


def _change(before: datetime, after: datetime, info: ZoneInfo) -> datetime:
    """Return the first second from which on a zone has another offset than at the first of two moments."""
    old = _offset(before, info)
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        before, after = (middle, after) if _offset(middle, info) == old else (before, middle)
    return after


def _offset(moment: datetime, info: ZoneInfo) -> int:
    return _seconds_of(moment.astimezone(info).utcoffset())


def _seconds_of(offset: timedelta | None) -> int:
    return 0 if offset is None else offset // timedelta(seconds=1)


def _seconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(seconds=1)
