"""The ledger's knowledge of the stream below it, in its own file: progress, gaps, identity.

Everything is written in the transaction that holds the bookings it speaks of, and never by UPDATE:
after one DuckDB refuses a checkpoint for as long as a reader is in the middle of a transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from voicecosts.consumer.booking.progress import Gap, Mark, Progress, Range, Why, fill
from voicecosts.consumer.store import sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import duckdb


class Noted(Struct, frozen=True, kw_only=True):
    """A gap as it stands in the books; `noted_us` and `filled_us` are by the ledger's clock."""

    gap: Gap
    noted_us: int
    filled_us: int | None = None


class Streams(Struct, frozen=True, kw_only=True):
    """All that a ledger knows of the stream below it. Booked messages up to `trimmed_to` were removed."""

    ledger_id: str
    progress: Progress
    trimmed_to: int = 0
    gaps: tuple[Noted, ...] = ()

    def arrived(self, ranges: Iterable[Range], now_us: int) -> tuple[Noted, ...]:
        """Return the gaps after these messages of the present stream came after all."""
        ranges = list(ranges)
        noted: list[Noted] = []
        for each in self.gaps:
            if each.filled_us is not None or each.gap.stream_us != self.progress.stream_us:
                noted.append(each)
                continue
            missing, filled = fill(each.gap, ranges)
            noted += [Noted(gap=gap, noted_us=each.noted_us) for gap in missing]
            noted += [Noted(gap=gap, noted_us=each.noted_us, filled_us=now_us) for gap in filled]
        return tuple(noted)

    def acknowledged(self, upto: int, now_us: int) -> tuple[Noted, ...]:
        """Return the gaps when somebody knows of the operations up to a number, and of no later one, that were lost."""
        noted: list[Noted] = []
        for each in self.gaps:
            if each.gap.why is Why.OPERATIONS_LOST:
                is_known = (each.gap.last or 0) <= upto
                filled_us = (each.filled_us or now_us) if is_known else None
                noted.append(replace(each, filled_us=filled_us))
            else:
                noted.append(each)
        return tuple(noted)


def load_streams(connection: duckdb.DuckDBPyConnection) -> Streams:
    """Return what the ledger knows."""
    row = connection.execute(sql.LOAD_STREAM).fetchone()
    assert row is not None  # noqa: S101 - the migration wrote it, and every write replaces it
    ledger_id, stream_us, floor, above, last, trimmed_to, newest, stored_us = row
    return Streams(
        ledger_id=ledger_id,
        progress=Progress(
            stream_us=stream_us,
            floor=floor,
            above=msgspec.json.decode(above, type=tuple[Range, ...]),
            last=last,
            mark=None if newest is None else Mark(sequence=newest, stored_us=stored_us),
        ),
        trimmed_to=trimmed_to,
        gaps=tuple(
            Noted(
                gap=Gap(stream_us=stream_us, first=first, last=last, why=Why(why)),
                noted_us=noted_us,
                filled_us=filled_us,
            )
            for stream_us, first, last, why, noted_us, filled_us in connection.execute(
                sql.LOAD_GAPS
            ).fetchall()
        ),
    )


def write_streams(connection: duckdb.DuckDBPyConnection, streams: Streams, before: Streams) -> None:
    """Replace what differs from `before`; the caller begins and commits."""
    if (streams.progress, streams.trimmed_to) != (before.progress, before.trimmed_to):
        progress = streams.progress
        connection.execute(sql.CLEAR_STREAM)
        connection.execute(
            sql.WRITE_STREAM,
            {
                "created": progress.stream_us,
                "floor": progress.floor,
                "above": msgspec.json.encode(progress.above).decode(),
                "last": progress.last,
                "trimmed_to": streams.trimmed_to,
                "newest": progress.mark and progress.mark.sequence,
                "stored": progress.mark and progress.mark.stored_us,
            },
        )
    if streams.gaps != before.gaps:
        connection.execute(sql.CLEAR_GAPS)
        for each in _rows(streams.gaps):
            connection.execute(sql.WRITE_GAP, each)


def _rows(gaps: Sequence[Noted]) -> Iterable[dict[str, int | str | None]]:
    for each in gaps:
        yield {
            "created": each.gap.stream_us,
            "first": each.gap.first,
            "last": each.gap.last,
            "why": each.gap.why.value,
            "noted": each.noted_us,
            "filled": each.filled_us,
        }
