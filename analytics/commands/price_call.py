"""A call taken apart: every meter with its quantities, what is booked of it, and the prices that the ledger kept.

What the call comes to is the sum of all of its rows, whenever they came, so that the meters add up to it. What
was booked after its month was closed is dated in another one, and is counted apart beside it.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from voicecosts.analytics.answers.layers import OTHERWISE, WITHOUT_TIME
from voicecosts.analytics.answers.prices import source_of
from voicecosts.analytics.answers.receipts import ask, find
from voicecosts.analytics.answers.states import schema_of
from voicecosts.analytics.errors import BadQuestion, NotALedger
from voicecosts.analytics.question.columns import MEASURES, UNPRICED
from voicecosts.analytics.question.relation import FIRST_LAYERS_SCHEMA, relation
from voicecosts.analytics.snapshot.connection import closing, open_newest, read
from voicecosts.consumer.booking.prices import PricesUsed
from voicecosts.consumer.booking.whole_calls import charges
from voicecosts.consumer.pricing import rated_by
from voicecosts.consumer.pricing.billing import CALL_TIME
from voicecosts.consumer.pricing.explain import Explanation, Layer, explain
from voicecosts.consumer.pricing.terms import Terms
from voicecosts.producer.events import QUANTITIES, Meter, Quantities

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from voicecosts.analytics.answers.receipts import Question
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

LAYERS: Final = ("list", "cost", "billed")
TOO_OLD: Final = (
    "it was written by an older version, which kept no prices; `costs up` brings it up to date"
)

_FACTS: Final = """
SELECT tenant, agent_id, day FROM sessions WHERE project = ? AND session_id = ?::UUID
"""
_MONEY: Final = ", ".join(MEASURES[name] for name in ("list_cost", "cost", "billed"))
_BOOKED: Final = f"""
SELECT {_MONEY}
FROM {{rows}}
WHERE project = ? AND session_id = ?::UUID
"""  # noqa: S608 - our own names
_BY_OPERATION: Final = """
SELECT b.operation, o.kind, sum(b.list_cost), sum(b.cost), sum(b.billed)
FROM {rows} AS b
LEFT JOIN operations AS o USING (operation)
WHERE b.project = ? AND b.session_id = ?::UUID
GROUP BY b.operation, o.kind
ORDER BY b.operation NULLS FIRST
"""
_CORRECTING: Final = f"""
SELECT corrects, date_trunc('month', day)::DATE AS month, {_MONEY}
FROM {{rows}}
WHERE project = ? AND session_id = ?::UUID AND corrects IS NOT NULL
GROUP BY corrects, month
ORDER BY corrects, month
"""  # noqa: S608 - our own names

# The newest prices of a meter rated all of its totals, so they explain all of its money.
_METERS: Final = f"""
SELECT
    agent_label, modality, provider, model, estimated, size_tier, service_tier,
    {_MONEY},
    arg_max_null(price_id, last_place), arg_max_null(price_source, last_place),
    arg_max_null(price_version, last_place), arg_max_null(price_model, last_place),
    CASE WHEN {" OR ".join(f"sum({name}) <> 0" for name in UNPRICED)}
        THEN coalesce(arg_max(unpriced_reason, last_place), '') ELSE '' END,
    {", ".join(f"sum({name})" for name in QUANTITIES)}
FROM {{rows}}
WHERE project = ? AND session_id = ?::UUID
GROUP BY agent_label, modality, provider, model, estimated, size_tier, service_tier
ORDER BY min(last_place)
"""  # noqa: S608 - names of the event contract
_VOIDED: Final = "SELECT operation FROM voided WHERE project = ? AND session_id = ?::UUID"
_TERMS: Final = "SELECT price_id, terms FROM prices_used WHERE price_id IN (SELECT unnest(?))"


class MeterMoney(Struct, frozen=True, kw_only=True):
    """One meter as it is booked, and its explanation; `None` where its price was not kept.

    `booked` and `besides` are by layer: `besides` is what other rows than readings added.
    """

    meter: Meter
    totals: Quantities
    booked: tuple[Decimal | None, ...]
    source: str
    reason: str
    terms: Terms | None
    explanation: Explanation | None

    @property
    def layers(self) -> tuple[Layer | None, ...]:
        """The layers in their order."""
        told = self.explanation
        return (None,) * 3 if told is None else (told.listed, told.cost, told.billed)

    @property
    def unbilled(self) -> str | None:
        """Why something that was used is not in what is billed, though a rule is for it."""
        if self.explanation is None or self.totals == Quantities():
            return None
        return self.explanation.unbilled

    @property
    def besides(self) -> tuple[Decimal, ...]:
        """What is booked and not explained by quantities, by layer."""
        return tuple(
            (booked or Decimal(0)) - ((layer.amount if layer else None) or Decimal(0))
            for booked, layer in zip(self.booked, self.layers, strict=True)
        )


class Correcting(Struct, frozen=True):
    """What was booked of a call after its month was closed: the two months, and the money by layer."""

    closed: date
    dated: date
    booked: tuple[Decimal | None, ...]


class ByOperation(Struct, frozen=True):
    """What one operation booked of a call, by layer; without a number it is what the readings booked."""

    operation: int | None
    kind: str | None
    booked: tuple[Decimal | None, ...]


class Call(Struct, frozen=True, kw_only=True):
    """One call with all of its meters; `booked` is all that it comes to, `correcting` is a part of it.

    The parts of `by_operation` add up to it; without an operation there are none.
    """

    project: str
    session: str
    tenant: str | None
    agent: str
    day: date
    booked: tuple[Decimal | None, ...]
    meters: tuple[MeterMoney, ...]
    correcting: tuple[Correcting, ...] = ()
    by_operation: tuple[ByOperation, ...] = ()
    warnings: tuple[str, ...] = ()


def answer(
    name: str, data_dir: Path | None, *, project: str | None, warnings: tuple[str, ...] = ()
) -> Call:
    """Return the call that a name means, as for `costs call`: an id, its beginning, a room, a job, or `last`.

    Raises:
        BadQuestion: No call is meant, or several are.
        NoLedger: There is no snapshot, or it is of a version that kept no prices.
    """
    question = ask(name, project=project)
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        schema = schema_of(connection, snapshot)
        if schema < FIRST_LAYERS_SCHEMA:
            raise NotALedger(snapshot.path, TOO_OLD)
        rows = relation(schema)
        row = _call(connection, snapshot, question, schema)
        voided = read(connection, snapshot.path, _VOIDED, list(row[:2]), row=tuple[int])
        warnings += tuple(
            f"operation {number} voided this call: it is in no sum, but for a month that was closed before "
            f"(`costs operations show {number}`)"
            for (number,) in voided
        )
        [booked] = read(
            connection, snapshot.path, _BOOKED.format(rows=rows), list(row[:2]), row=tuple[Any, ...]
        )
        late = read(
            connection,
            snapshot.path,
            _CORRECTING.format(rows=rows),
            list(row[:2]),
            row=tuple[Any, ...],
        )
        parts = read(
            connection,
            snapshot.path,
            _BY_OPERATION.format(rows=rows),
            list(row[:2]),
            row=tuple[Any, ...],
        )
        meters = tuple(_meters(connection, snapshot, rows, row[0], row[1]))
        lacking = (it for it in meters if it.unbilled and not _is_included(it))
        warnings += tuple(
            f"not in what is billed: {it.meter.provider}/{it.meter.model} ({it.meter.modality}), or a part of "
            f"it: {it.unbilled}"
            for it in lacking
        )
        if any(_is_included(it) and it.unbilled for it in meters):
            has_time = any(it.meter.modality == CALL_TIME for it in meters)
            why = OTHERWISE if has_time else WITHOUT_TIME
            warnings += (f"not in what is billed: {why}",)
        return Call(
            project=row[0],
            session=row[1],
            tenant=row[2],
            agent=row[3],
            day=row[4],
            booked=booked,
            meters=meters,
            correcting=tuple(Correcting(it[0], it[1], it[2:]) for it in late),
            by_operation=tuple(ByOperation(it[0], it[1], it[2:]) for it in parts)
            if any(it[0] is not None for it in parts)
            else (),
            warnings=warnings,
        )


def _call(
    connection: Connection, snapshot: Snapshot, question: Question, schema: int
) -> tuple[Any, ...]:
    """Return project, id, tenant, agent and day of the call that is meant."""
    project, session = find(connection, snapshot, question, schema)
    key = [project, str(session)]
    found = read(connection, snapshot.path, _FACTS, key, row=tuple[Any, ...])
    if not found:
        raise BadQuestion(
            f"nothing but its id is known of call {session}, so there is no cost to explain: `costs call {session}` "
            "shows what there is"
        )
    return (*key, *found[0])


def _meters(
    connection: Connection, snapshot: Snapshot, source: str, project: str, session: str
) -> Iterator[MeterMoney]:
    rows = read(
        connection,
        snapshot.path,
        _METERS.format(rows=source),
        [project, session],
        row=tuple[Any, ...],
    )
    numbers = [row[10] for row in rows if row[10] is not None]
    kept = read(connection, snapshot.path, _TERMS, [numbers], row=tuple[int, str])
    prices = PricesUsed(kept)
    found = [
        (
            Meter(session, *row[:7]),
            Quantities(**dict(zip(QUANTITIES, row[15:], strict=True))),
            prices.terms(row[10]),
        )
        for row in rows
    ]
    is_charged = any(
        charges(meter, terms, has_amount=rated_by(terms, meter, totals).billed is not None)
        for meter, totals, terms in found
        if terms is not None
    )
    for row, (meter, totals, terms) in zip(rows, found, strict=True):
        told = None if terms is None else explain(terms, meter, totals, is_charged=is_charged)
        yield MeterMoney(
            meter=meter,
            totals=totals,
            booked=row[7:10],
            source=source_of(*row[11:14]),
            reason=row[14],
            terms=terms,
            explanation=told,
        )


def _is_included(it: MeterMoney) -> bool:
    return it.terms is not None and it.terms.is_included
