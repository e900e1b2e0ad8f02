"""The rows that every question is asked of: `session_usage`, or the same made of what an older ledger has."""

from __future__ import annotations

from typing import Final

FIRST_UNPRICED_SCHEMA: Final = 5
FIRST_LAYERS_SCHEMA: Final = 8
FIRST_STOPPING_SCHEMA: Final = 9
FIRST_FOLDED_SCHEMA: Final = 10
FIRST_COUNTED_SCHEMA: Final = 11

_ADDED_UP: Final = """
    1 AS rows,
    (unpriced_reason IS NOT NULL)::BIGINT AS unpriced_rows,
    1 AS meters,
    (cost IS NOT NULL)::BIGINT AS priced_meters,
    occurred_at AS first_at,
    occurred_at AS last_at,
    row_number() OVER () AS last_place
"""
_LISTED: Final = """
    (list_cost IS NOT NULL)::BIGINT AS listed_meters,
    (billed IS NOT NULL)::BIGINT AS billed_meters
"""
_OF_ONE_PRICE: Final = """
    cost AS list_cost,
    NULL::DECIMAL(18, 9) AS billed,
    (cost IS NOT NULL)::BIGINT AS listed_meters,
    0 AS billed_meters,
    NULL::VARCHAR AS unbilled_reason,
    NULL::BIGINT AS operation
"""
_BY_ROWS: Final = """
    rows AS meters,
    priced_rows AS priced_meters,
    listed_rows AS listed_meters,
    billed_rows AS billed_meters
"""
# A row without a price lacks all that it moved.
_OF_NO_DIFFERENCE: Final = """
    '' AS service_tier,
    CASE WHEN unpriced_reason IS NOT NULL THEN requests END AS unpriced_requests,
    CASE WHEN unpriced_reason IS NOT NULL THEN input_tokens END AS unpriced_input_tokens,
    CASE WHEN unpriced_reason IS NOT NULL THEN output_tokens END AS unpriced_output_tokens,
    0 AS unpriced_other_tokens,
    CASE WHEN unpriced_reason IS NOT NULL THEN characters END AS unpriced_characters,
    CASE WHEN unpriced_reason IS NOT NULL THEN audio_us END AS unpriced_audio_us,
    CASE WHEN unpriced_reason IS NOT NULL THEN session_us END AS unpriced_session_us
"""


def relation(schema: int) -> str:
    """Return what stands behind FROM for a ledger of some schema.

    Before 11 meters were not counted, and each row stands for one: what was taken back is zero there. Before
    10 nothing was added up; before 8, cost was the list price; before 5, what had no price was not counted by
    difference.
    """
    if schema >= FIRST_COUNTED_SCHEMA:
        return "session_usage"
    if schema >= FIRST_FOLDED_SCHEMA:
        return f"(SELECT *, {_BY_ROWS} FROM session_usage)"  # noqa: S608 - our own names
    parts = ["*", _ADDED_UP, _LISTED if schema >= FIRST_LAYERS_SCHEMA else _OF_ONE_PRICE]
    if schema < FIRST_UNPRICED_SCHEMA:
        parts.append(_OF_NO_DIFFERENCE)
    return f"(SELECT {', '.join(parts)} FROM usage)"  # noqa: S608 - our own names
