"""What list price and billed amount of an answer leave out: without it, a part of a total looks whole.

Each is told in what it cost, because that is the amount beside which the other one stands.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from voicecosts.analytics.answers.report import CURRENCY, Finding, Source, Uncharged
from voicecosts.analytics.answers.states import corrects_months, schema_of
from voicecosts.analytics.numbers import counted, money
from voicecosts.analytics.question.filters import shown
from voicecosts.analytics.question.months import LACKS, may_answer, rows_of
from voicecosts.analytics.question.relation import FIRST_LAYERS_SCHEMA, relation
from voicecosts.analytics.snapshot.connection import read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voicecosts.analytics.answers.report import Row
    from voicecosts.analytics.question.filters import Selection
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

_NAMED: Final = 3

WITHOUT_TIME: Final = (
    "a price for the whole call is charged with its connected time, and none was counted; "
    "COSTS_CONNECTIONS=on has workers count it"
)
"""Why a call is not billed although a price is for it."""

OTHERWISE: Final = (
    "a price for the whole call is charged with its connected time, and that has no amount by this price; "
    "`costs prices explain ID` shows why, of one of them"
)
"""The same of a call whose connected time was counted: another rule bills it, or it lacks what is charged."""

# A row with a cost and without another amount is cheap to find; whether another row of its meter brought that
# is not, so only the sessions that have such a row are looked at. What a meter has is said by all of its rows
# until the end of the period: a correction may move one layer and leave another as it was. What has no cost any
# more (it was voided, or lost its price) takes back what it had until then, in the layers that the same row says.
# Only what an operation booked may be of no session: ids of all others need not be read.
_BILLS: Final = "SELECT EXISTS (SELECT 1 FROM session_usage WHERE billed_meters > 0)"
_ANY_LACKS: Final = "SELECT EXISTS (SELECT 1 {reported}) OR EXISTS (SELECT 1 {done})"
_HOW_MANY: Final = "SELECT coalesce(sum(unlisted_rows), 0), coalesce(sum(unbilled_rows), 0) {rows}"
_HAS_NONE: Final = (
    "CASE WHEN sum(priced_meters) > 0 THEN sum({0}) = 0 AND coalesce(sum({1}), 0) = 0 "
    "ELSE arg_max({0}, last_place) FILTER (priced_meters < 0) = 0 END"
)
HAS_NO_REASON: Final = (
    "arg_max({{'reason': unbilled_reason}}, last_place) FILTER (priced_meters >= 0).reason IS NULL"
)
"""Whether nothing says why a meter is not billed: then no rule is for it. A part of a statement that is formatted."""
_LACKING: Final = f"""
WITH meters AS (
    SELECT
        sum(cost) FILTER ({{which}}) AS cost,
        {_HAS_NONE.format("listed_meters", "list_cost")} AS is_unlisted,
        {_HAS_NONE.format("billed_meters", "billed")} AND NOT {{included}}
            AND {HAS_NO_REASON} AS is_unbilled
    {{rows}}
    GROUP BY project, session_id, agent_label, modality, provider, model, estimated, size_tier,
        service_tier
)

SELECT sum(cost) FILTER (is_unlisted), sum(cost) FILTER (is_unbilled)
FROM meters
"""  # noqa: S608 - our own names

# By the prices that the meter has now: those of its last rows.
_IS_INCLUDED: Final = (
    "coalesce(arg_max({{'price': price_id}}, last_place).price IN ({numbers}), FALSE)"
)
_INCLUDING: Final = """
SELECT price_id FROM prices_used WHERE json_extract_string(terms, '$.billed.included') = 'true'
"""
# A call is unknown while a meter of it, that such a price includes now, has no amount.
_UNCHARGED: Final = """
WITH meters AS (
    SELECT project, session_id, min(tenant) AS tenant, {included} AS is_included,
        sum(meters) > 0 AND sum(billed_meters) = 0 AS is_unknown
    {rows}
    GROUP BY project, session_id, agent_label, modality, provider, model, estimated, size_tier,
        service_tier
),
calls AS (
    SELECT project, session_id, min(tenant) AS tenant
    FROM meters
    WHERE is_included AND is_unknown
    GROUP BY project, session_id
),
timed AS (SELECT DISTINCT project, session_id FROM {of_all} WHERE modality = 'agent_session')

SELECT tenant, timed.session_id IS NOT NULL AS has_time, count(*)
FROM calls
LEFT JOIN timed USING (project, session_id)
GROUP BY tenant, has_time
ORDER BY has_time, count(*) DESC, tenant
"""


def left_out(
    connection: Connection, snapshot: Snapshot, selection: Selection, total: Row
) -> Iterator[str]:
    """Yield what of the cost has no list price or no rule that bills it, where other parts have one.

    Where nothing of it is billed, that is said if anything else in the ledger is.
    """
    schema = schema_of(connection, snapshot)
    if schema < FIRST_LAYERS_SCHEMA or not total.cost:
        return
    layers = {
        ("list_cost", "listed_meters"): total.list_cost is not None,
        ("billed", "billed_meters"): total.billed is not None
        or read(connection, snapshot.path, _BILLS, row=tuple[bool]) == [(True,)],
    }
    if not any(layers.values()):
        return
    lacks = [LACKS.format(*names) for names, is_there in layers.items() if is_there]
    rows, until = selection.of_rows(schema), selection.until(schema)
    corrects = corrects_months(connection, snapshot, schema)
    if may_answer(rows, rows.named, schema=schema, corrects=corrects):
        source, given = rows_of(rows)
        [lacking] = read(
            connection, snapshot.path, _HOW_MANY.format(rows=source), given, row=tuple[int, int]
        )
        if not any(
            many for many, is_there in zip(lacking, layers.values(), strict=True) if is_there
        ):
            return
    which = f"({' OR '.join(lacks)})"
    any_lacks = _ANY_LACKS.format(
        reported=rows.sql("operation IS NULL", which, schema=schema),
        done=rows.sql("operation IS NOT NULL AND session_id IS NOT NULL", which, schema=schema),
    )
    twice = [*rows.parameters, *rows.parameters]
    if read(connection, snapshot.path, any_lacks, twice, row=tuple[bool]) == [(False,)]:
        return
    few = rows.sql("session_id IS NOT NULL", which, schema=schema)
    of_few = f"session_id IN (SELECT session_id {few})"
    [(unlisted, free)] = read(
        connection,
        snapshot.path,
        _LACKING.format(
            which=" AND ".join(rows.conditions) or "TRUE",
            included=is_included(connection, snapshot),
            rows=until.sql(of_few, schema=schema),
        ),
        [*rows.parameters, *until.parameters, *rows.parameters],
        row=tuple[Decimal | None, Decimal | None],
    )
    if total.list_cost is not None and unlisted:
        yield f"list is a part: it leaves out what cost {money(unlisted)} {CURRENCY} and has no list price"
    if free and layers["billed", "billed_meters"]:
        part = "nothing of this is billed" if total.billed is None else "billed is a part"
        yield (
            f"{part}: no [[billed]] price applied to what cost {money(free)} {CURRENCY} when it was "
            "rated; `costs rerate` shows what prices.toml bills of it now"
        )


def uncharged(
    connection: Connection, snapshot: Snapshot, selection: Selection
) -> tuple[Uncharged, ...]:
    """Return how many calls, billed as a whole, what is to charge them does not charge: unknown bills."""
    schema = schema_of(connection, snapshot)
    if schema < FIRST_LAYERS_SCHEMA:
        return ()
    numbers = _including(connection, snapshot)
    if not numbers:
        return ()
    rows, until = selection.of_rows(schema), selection.until(schema)
    few = rows.sql(f"price_id IN ({numbers})", schema=schema)
    found = read(
        connection,
        snapshot.path,
        _UNCHARGED.format(
            included=is_included(connection, snapshot),
            rows=until.sql(f"session_id IN (SELECT session_id {few})", schema=schema),
            of_all=relation(schema),
        ),
        [*until.parameters, *rows.parameters],
        row=tuple[str | None, bool, int],
    )
    return tuple(Uncharged(tenant=row[0], has_time=row[1], calls=row[2]) for row in found)


def is_included(connection: Connection, snapshot: Snapshot) -> str:
    """Return the SQL of whether a price for the whole call includes the rows of one meter."""
    numbers = _including(connection, snapshot)
    return _IS_INCLUDED.format(numbers=numbers) if numbers else "FALSE"


def _including(connection: Connection, snapshot: Snapshot) -> str:
    """Return the numbers of such prices, with commas."""
    found = read(connection, snapshot.path, _INCLUDING, row=tuple[int])
    return ", ".join(str(number) for (number,) in found)


def say_uncharged(lacking: Sequence[Uncharged]) -> Iterator[Finding]:
    """Yield the findings for calls whose bill is not known, counted by tenant."""
    for has_time in (False, True):
        these = [it for it in lacking if it.has_time is has_time]
        if not these:
            continue
        named = [f"{counted(it.calls, 'call')} of {shown(it.tenant)}" for it in these[:_NAMED]]
        others = len(these) - len(named)
        named += [counted(others, "more tenant")] if others else []
        why = OTHERWISE if has_time else WITHOUT_TIME
        yield Finding(
            source=Source.CONNECTED_TIME, text=f"not in what is billed: {', '.join(named)}: {why}"
        )
