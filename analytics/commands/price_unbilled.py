"""Whose usage is booked without a `[[billed]]` price: of whom the prices of now have one, and of whom none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from voicecosts.analytics.answers.layers import is_included
from voicecosts.analytics.numbers import counted
from voicecosts.analytics.question.filters import shown
from voicecosts.analytics.question.relation import relation
from voicecosts.analytics.snapshot.connection import read
from voicecosts.consumer.booking.difference import session_time
from voicecosts.consumer.pricing.scope import Scope
from voicecosts.producer.events import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot
    from voicecosts.consumer.pricing.own import OwnBook

_NAMED: Final = 3

# Only calls with a row that lacks a billed amount are looked at. What has a reason, or is included in the price for
# its call, has a rule already.
_FREE: Final = """
WITH meters AS (
    SELECT
        modality, provider, model, service_tier, project, session_id,
        any_value(agent_id) AS agent_id, any_value(tenant) AS tenant
    FROM {rows}
    WHERE session_id IN (SELECT session_id FROM {rows} WHERE meters <> billed_meters)
    GROUP BY project, session_id, agent_label, modality, provider, model, estimated, size_tier,
        service_tier
    HAVING sum(meters) > 0 AND sum(billed_meters) = 0 AND NOT {included}
        AND arg_max({{'reason': unbilled_reason}}, last_place) FILTER (priced_meters >= 0).reason IS NULL
),
newest AS (
    SELECT modality, provider, model, service_tier, project, agent_id, tenant, max(session_id) AS session_id
    FROM meters
    GROUP BY modality, provider, model, service_tier, project, agent_id, tenant
)

SELECT newest.* EXCLUDE (session_id), session_id::VARCHAR, labels
FROM newest
LEFT JOIN (SELECT project, session_id, labels FROM sessions) USING (project, session_id)
ORDER BY tenant NULLS LAST
"""


class NotBilled(NamedTuple):
    """Tenants of some usage that nothing bills in the books: whom an entry would bill now, and whom none would."""

    has_now: tuple[str | None, ...] = ()
    has_none: tuple[str | None, ...] = ()


def not_billed(
    connection: Connection, snapshot: Snapshot, book: OwnBook, *, schema: int
) -> NotBilled:
    """Return whose usage nothing bills in the books, if the file has any price for tenants.

    Of each model, agent and tenant the newest call is asked for.
    """
    if not any(it.layer == "billed" for it in book.entries):
        return NotBilled()
    statement = _FREE.format(rows=relation(schema), included=is_included(connection, snapshot))
    rows = read(connection, snapshot.path, statement, row=tuple[Any, ...])
    tenants: dict[bool, dict[str | None, None]] = {True: {}, False: {}}
    for tenant, is_billed_now in _looked_up(rows, book):
        tenants[is_billed_now][tenant] = None
    return NotBilled(tuple(tenants[True]), tuple(tenants[False]))


def labels_of(value: Any) -> dict[str, str]:
    """Return the labels of a session as the view `sessions` has them."""
    if value is None:
        return {}
    found = json.loads(value) if isinstance(value, str) else value
    return {str(name): str(each) for name, each in dict(found).items()}


def _looked_up(rows: list[tuple[Any, ...]], book: OwnBook) -> Iterator[tuple[str | None, bool]]:
    for modality, provider, model, tier, project, agent, tenant, session, labels in rows:
        meter = Meter(session, "", modality, provider, model, estimated=False, service_tier=tier)
        scope = Scope(project=project, agent_id=agent, tenant=tenant, labels=labels_of(labels))
        yield tenant, book.find(meter, scope, session_time(session))[1] is not None


def say_billed_now(tenants: Sequence[str | None]) -> str:
    """Return the sentence about usage that a re-rating would bill."""
    return (
        f"usage of {_named(tenants)} was booked when no [[billed]] price applied, and one applies now: "
        "`costs rerate` shows what it comes to, and --apply books it; with --unpriced only a part of a call "
        "would be billed"
    )


def say_no_rule(tenants: Sequence[str | None]) -> str:
    """Return the sentence about usage that no entry bills, although the file has entries for tenants."""
    return (
        f"usage of {_named(tenants)} is not billed: no [[billed]] price of the file applies to all of it. Where that is "
        'meant, [[billed]] with discount = "100 %" says so'
    )


def _named(tenants: Sequence[str | None]) -> str:
    named = [shown(it) for it in tenants[:_NAMED]]
    others = len(tenants) - len(named)
    named += [counted(others, "more tenant")] if others else []
    return ", ".join(named)
