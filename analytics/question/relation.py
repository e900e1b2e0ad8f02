"""The rows that every question is asked of: `session_usage`, or the same made of what an older ledger has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from voicecosts.analytics.question.columns import UNPRICED, Group, fact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from voicecosts.analytics.question.columns import Column

FIRST_UNPRICED_SCHEMA: Final = 5
FIRST_LAYERS_SCHEMA: Final = 8
FIRST_STOPPING_SCHEMA: Final = 9
FIRST_FOLDED_SCHEMA: Final = 10
FIRST_COUNTED_SCHEMA: Final = 11
FIRST_FORGETTING_SCHEMA: Final = 14
FIRST_MONTHS_SCHEMA: Final = 15
FIRST_OUTCOME_SCHEMA: Final = 16

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
    NULL::DATE AS corrects,
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

_COUNTS: Final = ("meters", "priced_meters", "listed_meters", "billed_meters", *UNPRICED)
METER: Final = (
    "project", "session_id", "agent_label", "modality", "provider", "model", "estimated", "size_tier", "service_tier",
)  # fmt: skip
"""What tells a meter from all others."""

_METER: Final = ", ".join(METER)
_GIVEN_BACK: Final = f"""
SELECT
    {_METER},
    any_value(agent_id) AS agent_id,
    any_value(tenant) AS tenant,
    max(day) AS day,
    max(corrects) AS corrects,
    0 AS operation,  -- no session counts for it
    {", ".join(f"greatest(-sum({name}), 0)::BIGINT AS {name}" for name in _COUNTS)}
FROM session_usage
WHERE {{which}}
GROUP BY {_METER} {{by_day}}
HAVING {" OR ".join(f"sum({name}) < 0" for name in _COUNTS)}
"""  # noqa: S608 - our own names


def first_schema(asked: Iterable[Column]) -> int:
    """Return the first schema whose ledgers noted enough to be asked by some columns."""
    columns = set(asked)
    if Group.OUTCOME in columns:
        return FIRST_OUTCOME_SCHEMA
    return FIRST_COUNTED_SCHEMA if Group.TURN in columns or any(map(fact, columns)) else 0


def given_back(which: Iterable[str], *, by_day: bool) -> str:
    """Return rows to be added to those of some time, of a ledger that corrects closed months.

    What a correction takes back from a meter whose other rows are not among them was not theirs, and must not
    hide what they lack: its counts and unpriced amounts are given back. `which` are conditions on the
    corrections whose meters have their other rows elsewhere; with `by_day`, rows of each day are apart.
    """
    return _GIVEN_BACK.format(
        which=" AND ".join(["corrects IS NOT NULL", "session_id IS NOT NULL", *which]),
        by_day=", day" if by_day else "",
    )


TAKEN_BACK: Final = """
SELECT
    project, session_id, day, agent_id, tenant, agent_label, modality, provider, model, service_tier, corrects,
    0 AS operation,
    -sessions AS sessions
FROM session_usage
WHERE
    sessions > 0
    AND session_id IN (SELECT unnest(?::UUID[]))
    AND list_contains(?::VARCHAR[], concat(project, ' ', session_id))
"""
"""Rows to be added so that voided sessions are counted by none that opens them; its parameters are the last two of
`of_voided`. A join skips most of the table, however far apart the sessions are."""


def of_voided(voided: Sequence[tuple[str, UUID]]) -> list[object]:
    """Return the parameters of `OF_VOIDED` for some sessions, each after its project.

    They are the first id and the last, which is quick to compare with, all ids, and project and id with a blank between.
    """
    ids = [session_id for _, session_id in voided]
    return [min(ids), max(ids), ids, [f"{project} {each}" for project, each in voided]]


def united(relation: str, more: Iterable[str]) -> str:
    """Return what stands behind FROM for the rows of a relation and more."""
    parts = [f"SELECT * FROM {relation}", *more]  # noqa: S608 - our own names
    return relation if len(parts) == 1 else f"({' UNION ALL BY NAME '.join(parts)})"


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
