"""The rows of a question about turns: single rows, which alone say for which speech something was used."""

from __future__ import annotations

from typing import Final

from voicecosts.analytics.question.relation import FIRST_FORGETTING_SCHEMA, METER

_OF_DAY: Final = ", ".join((*METER, "day"))
# What a price for the whole call includes is billed zero when that charges the call: a row of no turn says it in the end,
# and another one takes it back where a re-rating does. What a closed month lacks is found in the month that corrects it.
_SINGLE: Final = f"""
SELECT
    usage.* REPLACE (
        CASE WHEN free.session_id IS NULL THEN billed ELSE coalesce(billed, 0) END AS billed,
        CASE WHEN free.session_id IS NULL THEN billed_meters ELSE meters END AS billed_meters
    ),
    1 AS rows,
    (unpriced_reason IS NOT NULL)::BIGINT AS unpriced_rows,
    opens::BIGINT AS sessions,
    place AS last_place,
    CASE WHEN operation IS NULL THEN nullif(speech_id, '') END AS turn
FROM usage
LEFT JOIN (
    SELECT {_OF_DAY}
    FROM session_usage
    WHERE billed IS NOT NULL OR billed_meters <> 0
    GROUP BY {_OF_DAY}
    HAVING sum(billed_meters) > 0 AND sum(billed) = 0
) AS free ON {" AND ".join(f"usage.{it} IS NOT DISTINCT FROM free.{it}" for it in (*METER, "day"))}
"""  # noqa: S608 - our own names
_REMOVED: Final = "day IN (SELECT day FROM detail WHERE removed_rows > 0)"
_WITH_REMOVED: Final = f"""(
{_SINGLE}
WHERE NOT usage.{_REMOVED}
UNION ALL BY NAME
SELECT *, NULL::VARCHAR AS turn
FROM session_usage
WHERE {_REMOVED}
)"""  # noqa: S608 - our own names

FIRST_SCHEMA: Final = 11
"""Ledgers before it did not count meters in single rows."""

NOT_KNOWN: Final = "what was used on those days is in the turn (none)"
"""What an answer by turn says where single rows were removed: sums have them, and turns do not."""


def turns(schema: int) -> str:
    """Return what stands behind FROM, with the column `turn`: NULL where nobody knows it, or there was none.

    Of a day of which single rows were removed, all is read of the sums.
    """
    return f"({_SINGLE})" if schema < FIRST_FORGETTING_SCHEMA else _WITH_REMOVED
