"""What waits on a host, in words: a table and remarks for people, a record for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from voicecosts.producer.outbox.survey import Quarantined, Waiting

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86400


def table(waiting: Sequence[Waiting], *, now_us: int) -> list[str]:
    """Return the lines of a table, one outbox each."""
    titles = ("For", "Held by", "Messages", "Events", "Size", "Oldest")
    cells = [
        (
            found.destination,
            f"process {found.pid}" if found.is_held else "nobody (its process is gone)",
            f"{found.messages:,}",
            f"{found.events:,}",
            _size(found.bytes),
            _ago(now_us - found.oldest_at) if found.oldest_at else "-",
        )
        for found in waiting
    ]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    return [
        "  ".join(
            f"{cell:{side}{width}}"
            for cell, width, side in zip(line, widths, "<<>>>>", strict=True)
        ).rstrip()
        for line in (titles, *cells)
    ]


def remarks(
    waiting: Sequence[Waiting], quarantined: Quarantined | None = None, broken: Sequence[Path] = ()
) -> list[str]:
    """Return what a person should know, with what to do."""
    said = [
        f"{found.path.name} cannot be read ({found.problem})" for found in waiting if found.problem
    ]
    for destination in dict.fromkeys(it.destination for it in waiting if not it.is_embedded):
        theirs = [it for it in waiting if it.destination == destination and not it.is_held]
        if messages := sum(it.messages for it in theirs):
            said.append(
                f"{counted(messages, 'message')} of dead processes for {destination}: start a worker or "
                "`costs outbox drain --servers …` with its address (--all for another address)"
            )
    if quarantined is not None:
        said.append(
            f"{counted(quarantined.events, 'event')} that no server takes in {quarantined.path}: "
            f"{'; '.join(quarantined.reasons)}"
        )
    if broken:
        said.append(
            f"{counted(len(broken), 'damaged file')} kept for inspection: "
            f"{', '.join(path.name for path in broken)}"
        )
    return said


def record(
    folder: Path,
    waiting: Sequence[Waiting],
    quarantined: Quarantined | None,
    broken: Sequence[Path],
) -> dict[str, Any]:
    """Return the same for programs: names are public, absent values are null or empty."""
    return {
        "folder": str(folder),
        "outboxes": [
            {
                "file": found.path.name,
                "target": found.destination,
                "embedded": found.is_embedded,
                "held": found.is_held,
                "pid": found.pid,
                "messages": found.messages,
                "events": found.events,
                "bytes": found.bytes,
                "oldest_at": _utc(found.oldest_at) if found.oldest_at else None,
                "problem": found.problem,
            }
            for found in waiting
        ],
        "quarantine": quarantined
        and {
            "file": quarantined.path.name,
            "messages": quarantined.messages,
            "events": quarantined.events,
            "reasons": list(quarantined.reasons),
        },
        "damaged": [path.name for path in broken],
    }


def _utc(micros: int) -> str:
    moment = datetime.fromtimestamp(micros / 1_000_000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def counted(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _size(count: int) -> str:
    for unit, size in (("MB", 1_000_000), ("kB", 1_000)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _ago(micros: int) -> str:
    seconds = max(0, micros) // 1_000_000
    for unit, size in (("d", _DAY_S), ("h", _HOUR_S), ("min", _MINUTE_S)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
