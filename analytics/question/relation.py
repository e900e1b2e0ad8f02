"""The rows that every question is asked of: `session_usage`, or the same made of what an older ledger has."""

from __future__ import annotations

from typing import Final

FIRST_UNPRICED_SCHEMA: Final = 5
FIRST_LAYERS_SCHEMA: Final = 8
FIRST_STOPPING_SCHEMA: Final = 9
FIRST_FOLDED_SCHEMA: Final = 10

_ADDED_UP: Final = """
    1 AS rows,
    (unpriced_reason IS NOT NULL)::BIGINT AS unpriced_rows,
    (cost IS NOT NULL)::BIGINT AS priced_rows,
    occurred_at AS first_at,
    occurred_at AS last_at,
    row_number() OVER () AS last_place
"""
_LISTED: Final = """
    (list_cost IS NOT NULL)::BIGINT AS listed_rows,
    (billed IS NOT NULL)::BIGINT AS billed_rows
"""
_OF_ONE_PRICE: Final = """
    cost AS list_cost,
    NULL::DECIMAL(18, 9) AS billed,
    (cost IS NOT NULL)::BIGINT AS listed_rows,
    0 AS billed_rows,
    NULL::VARCHAR AS unbilled_reason,
    NULL::BIGINT AS operation
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

    Before 10 nothing was added up; before 8, cost was the list price; before 5, what had no price was
    not counted by difference.
    """
    if schema >= FIRST_FOLDED_SCHEMA:
        return "session_usage"
    parts = ["*", _ADDED_UP, _LISTED if schema >= FIRST_LAYERS_SCHEMA else _OF_ONE_PRICE]
    if schema < FIRST_UNPRICED_SCHEMA:
        parts.append(_OF_NO_DIFFERENCE)
    return f"(SELECT {', '.join(parts)} FROM usage)"  # noqa: S608 - our own names
