"""What has no price among the rows of a question: how much of which model, and why.

Said in usage, not in rows: the amounts are booked by difference, so what has found its price in the
meantime is not in them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from voicecosts.analytics.answers.layers import is_included
from voicecosts.analytics.answers.report import Finding, Source, Unbilled, Unpriced
from voicecosts.analytics.answers.states import corrects_months, schema_of
from voicecosts.analytics.numbers import counted, seconds
from voicecosts.analytics.question.columns import (
    UNPRICED,
)
from voicecosts.analytics.question.months import may_answer, rows_of
from voicecosts.analytics.question.relation import FIRST_LAYERS_SCHEMA, relation
from voicecosts.analytics.snapshot.connection import read

if TYPE_CHECKING:
    from voicecosts.analytics.question.filters import Selection
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

_NAMED: Final = 3
"""How many models a sentence names."""

_SUMS: Final = ", ".join(f"coalesce(sum({column}), 0)" for column in UNPRICED)

# A row without any of it takes no part.
_LACKS: Final = " OR ".join(
    ["unpriced_reason IS NOT NULL", *(f"{it} <> 0" for it in ("unpriced_rows", *UNPRICED))]
)
_BY_MODEL: Final = f"""
SELECT
    modality, provider, model, coalesce(arg_max(unpriced_reason, last_place), ''),
    sum(unpriced_rows)::BIGINT AS lacking, {_SUMS}, service_tier
{{rows}}
GROUP BY modality, provider, model, service_tier
HAVING {" OR ".join(f"sum({column}) <> 0" for column in UNPRICED)}
ORDER BY lacking DESC, modality, provider, model, service_tier
"""


_ANY_UNBILLED: Final = "SELECT 1 FROM {rows} WHERE unbilled_reason IS NOT NULL LIMIT 1"

_BILLED: Final = "(billed IS NOT NULL OR unbilled_reason IS NOT NULL)"

_UNBILLED: Final = """
WITH meters AS (
    SELECT
        modality, provider, model,
        CASE WHEN NOT {included} THEN arg_max({{'reason': unbilled_reason}}, last_place).reason END AS reason
    {rows}
    GROUP BY project, session_id, agent_label, modality, provider, model, estimated, size_tier,
        service_tier
)

SELECT modality, provider, model, min(reason)
FROM meters
WHERE reason IS NOT NULL
GROUP BY modality, provider, model
ORDER BY modality, provider, model
"""


def unpriced(
    connection: Connection, snapshot: Snapshot, selection: Selection
) -> tuple[Unpriced, ...]:
    """Return the models of a selection of whose usage something has no price, by service tier."""
    schema = schema_of(connection, snapshot)
    rows = selection.of_rows(schema)
    corrects = corrects_months(connection, snapshot, schema)
    if may_answer(rows, rows.named, schema=schema, corrects=corrects):
        source, given = rows_of(rows, f"({_LACKS})")
    else:
        of = rows.standing if corrects else rows.sql
        source, given = of(f"({_LACKS})", schema=schema), rows.parameters
    found = read(
        connection,
        snapshot.path,
        _BY_MODEL.format(rows=source),
        given,
        row=tuple[str, str, str, str, int, int, int, int, int, int, int, int, str],
    )
    return tuple(
        Unpriced(
            modality=row[0],
            provider=row[1],
            model=row[2],
            reason=row[3],
            rows=row[4],
            requests=row[5],
            input_tokens=row[6],
            output_tokens=row[7],
            other_tokens=row[8],
            characters=row[9],
            audio_seconds=Decimal(row[10]).scaleb(-6),
            session_seconds=Decimal(row[11]).scaleb(-6),
            service_tier=row[12],
        )
        for row in found
    )


def unbilled(
    connection: Connection, snapshot: Snapshot, selection: Selection
) -> tuple[Unbilled, ...]:
    """Return the models of a selection of whose usage a rule bills a part only.

    What a price for the whole call includes is not among them: of that, calls are counted (`layers`).
    """
    schema = schema_of(connection, snapshot)
    if schema < FIRST_LAYERS_SCHEMA:
        return ()
    any_unbilled = _ANY_UNBILLED.format(rows=relation(schema))
    if not read(connection, snapshot.path, any_unbilled, row=tuple[int]):
        return ()
    rows = selection.of_rows(schema)
    found = read(
        connection,
        snapshot.path,
        _UNBILLED.format(
            rows=rows.sql(_BILLED, schema=schema), included=is_included(connection, snapshot)
        ),
        rows.parameters,
        row=tuple[str, str, str, str],
    )
    return tuple(
        Unbilled(modality=row[0], provider=row[1], model=row[2], reason=row[3]) for row in found
    )


def say_unbilled(lacking: tuple[Unbilled, ...]) -> Finding:
    """Return the finding for models that a rule does not bill, or bills in part."""
    named = [
        f"{it.provider}/{it.model} ({it.modality}), or a part of it: {it.reason}"
        for it in lacking[:_NAMED]
    ]
    others = len(lacking) - len(named)
    named += [f"{counted(others, 'more model')} in the view `usage`"] if others else []
    return Finding(source=Source.PRICES, text=f"not in what is billed: {'; '.join(named)}")


def say_unpriced(lacking: tuple[Unpriced, ...]) -> Finding:
    """Return the finding for models without a price, the most used first."""
    named = [
        f"{_amount(it)} {it.provider}/{it.model} ({_kind(it)}), which has no price: {it.reason}"
        for it in lacking[:_NAMED]
    ]
    others = len(lacking) - len(named)
    named += [f"{counted(others, 'more model')}"] if others else []
    text = f"not in these costs: {'; '.join(named)}; `costs prices check` shows what to write"
    return Finding(source=Source.PRICES, text=text)


def _kind(it: Unpriced) -> str:
    """Return the modality, with the service tier where it has one: another tier may have a price."""
    return f"{it.modality}, service tier {it.service_tier}" if it.service_tier else it.modality


def _amount(it: Unpriced) -> str:
    """Return how much was used, in what the model is asked for as a rule; connected time is no request."""
    connected = f"{seconds(it.session_seconds)} s connected to"
    if it.session_seconds:
        return f"{counted(it.requests, 'request')} and {connected}" if it.requests else connected
    tokens = it.input_tokens + it.output_tokens + it.other_tokens
    if it.requests:
        return f"{counted(it.requests, 'request')} to"
    if tokens:
        return f"{counted(tokens, 'token')} of"
    if it.characters:
        return f"{counted(it.characters, 'character')} of"
    return f"{seconds(it.audio_seconds)} s of audio of"


def source_of(source: str | None, version: str | None, model: str | None) -> str:
    """Return where a booked price came from; an entry of the operator names its file itself."""
    if model is not None and source is not None and model.startswith(source):
        return model
    return " ".join(filter(None, (source, version, model)))
