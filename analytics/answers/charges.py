"""What of a tenant's usage no price charges, told by meters and calls.

A sum cannot tell it: one call that is charged would hide another one of the same agent and modality that is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from voicecosts.analytics.answers.layers import HAS_NO_REASON, is_included
from voicecosts.analytics.numbers import counted
from voicecosts.analytics.snapshot.connection import read

if TYPE_CHECKING:
    from voicecosts.analytics.question.filters import Selection
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

# Only calls with a row that lacks a billed amount are looked at, or with one of a closed month, whose first row
# may be an earlier one. What a meter has is said by all of its rows until the end of the period. Whatever has a
# reason, or is included, is charged once what it lacks is there: that is told elsewhere.
_FEW: Final = "(meters <> billed_meters OR corrects IS NOT NULL)"
_FREE: Final = f"""
WITH meters AS (
    SELECT
        project, session_id,
        coalesce(bool_or(operation IS NULL AND {{which}}), FALSE) AS is_meant,
        sum(meters) > 0 AS is_used,
        sum(billed_meters) = 0 AND coalesce(sum(billed), 0) = 0 AND NOT {{included}}
            AND {HAS_NO_REASON} AS is_free
    {{rows}}
    GROUP BY project, session_id, agent_label, modality, provider, model, estimated, size_tier,
        service_tier
),
calls AS (
    SELECT bool_and(is_free) AS is_all, bool_or(is_free) AS is_any
    FROM meters
    WHERE is_meant AND is_used
    GROUP BY project, session_id
)

SELECT count(*) FILTER (is_all), count(*) FILTER (is_any AND NOT is_all)
FROM calls
"""  # noqa: S608 - our own names


class NotCharged(Struct, frozen=True):
    """How many calls no price charges, neither in whole nor in part, and of how many others it charges a part only."""

    calls: int = 0
    in_part: int = 0

    @property
    def said(self) -> str:
        """The same in a sentence that the tenant may read; empty where all is charged."""
        if not self:
            return ""
        if not self.in_part:
            are = "it is" if self.calls == 1 else "they are"
            return f"No price applies to {counted(self.calls, 'call')}: {are} not charged."
        if not self.calls:
            part = counted(self.in_part, "call")
            return f"No price applies to some of the usage of {part}: it is not charged."
        part = counted(self.in_part, "other call")
        return (
            f"No price applies to {counted(self.calls, 'call')}, and to some of the usage of {part}: "
            "that is not charged."
        )

    def __bool__(self) -> bool:
        return bool(self.calls or self.in_part)


def not_charged(
    connection: Connection, snapshot: Snapshot, selection: Selection, *, schema: int
) -> NotCharged:
    """Return of how many calls of a selection something was used that no price charges."""
    rows, until = selection.of_rows(schema), selection.until(schema)
    few = rows.sql(_FEW, schema=schema)
    [(calls, in_part)] = read(
        connection,
        snapshot.path,
        _FREE.format(
            which=" AND ".join(rows.conditions) or "TRUE",
            included=is_included(connection, snapshot),
            rows=until.sql(f"session_id IN (SELECT session_id {few})", schema=schema),
        ),
        [*rows.parameters, *until.parameters, *rows.parameters],
        row=tuple[int, int],
    )
    return NotCharged(calls, in_part)
