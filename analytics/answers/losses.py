"""What is in no row of the ledger, whatever is asked: counted, in amounts, and in sentences.

An event that could not be booked, attributed or measured belongs to no call that the ledger knows,
so no filter finds it: every answer tells of it, for the whole ledger. A producer reports running
totals, so its last report counts.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from voicecosts.analytics.answers.report import Unattributed
from voicecosts.analytics.answers.states import BEFORE_ALL, schema_of
from voicecosts.analytics.numbers import counted, seconds
from voicecosts.analytics.snapshot.connection import read

if TYPE_CHECKING:
    from voicecosts.analytics.answers.report import Completeness
    from voicecosts.analytics.question.times import Period
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

FIRST_SCHEMA: Final = 3
"""Ledgers before it do not say what could not be measured, nor what the unattributed events used."""

_FIRST_TOLD_SCHEMA: Final = 4
"""Ledgers before it do not say when they were told."""

_AFTER_ALL: Final = datetime.max.replace(tzinfo=UTC)

_NAMED: Final = 3
"""How many models a sentence names."""

_DEAD_LETTERS: Final = "SELECT count(*) FROM dead_letters"

# Not the view `losses`: older snapshots do not have it.
_LOST: Final = """
SELECT coalesce(sum(dropped), 0), coalesce(sum(unattributed), 0)
FROM (
    SELECT max(dropped) AS dropped, max(unattributed) AS unattributed
    FROM producer_reports
    GROUP BY producer_id
)
"""

_UNMEASURED: Final = "SELECT unmeasured FROM losses"

_UNATTRIBUTED: Final = """
SELECT
    modality, provider, model, sum(requests), sum(input_tokens), sum(output_tokens), sum(characters),
    sum(audio_us), sum(session_us)
FROM unattributed
GROUP BY modality, provider, model
ORDER BY
    model = '(more)',  -- where a worker had too many models: it is none
    row_number() OVER (
        PARTITION BY modality
        ORDER BY
            model = '(more)', sum(requests) DESC, sum(input_tokens + output_tokens) DESC, sum(characters) DESC,
            sum(audio_us + session_us) DESC, provider, model
    ),
    modality
"""

# Of a period is what became known in it, from $1 until before $2; what counts is when the ledger was told, as
# with dead letters, because a worker's clock may be wrong. A producer's unmeasured events are counted
# without those that a session's end says: that session is short.
#
# Of the events known before the period, some may be of sessions whose end came later. They are said
# there, so they must not hide others: `moved` is how many that may be. Of one session it is no more
# than its end says, and no more than its producer's count grew between its start and the period
# (both by the producer's clock). Where that leaves several answers, the largest loss is given: as
# little as possible was known before the period, and as little as possible after it.
_LOST_IN: Final = """
WITH reports AS (
    SELECT
        producer_id, reported_at, coalesce(received_at, reported_at) AS received_at, unattributed,
        coalesce(unmeasured, 0) AS unmeasured
    FROM producer_reports
),
producers AS (
    SELECT
        producer_id,
        max(unattributed) AS unattributed,
        coalesce(max(unattributed) FILTER (received_at < $1), 0) AS unattributed_before,
        coalesce(max(unattributed) FILTER (received_at < $2), 0) AS unattributed_until,
        max(unmeasured) AS unmeasured,
        coalesce(max(unmeasured) FILTER (received_at < $1), 0) AS unmeasured_before,
        coalesce(max(unmeasured) FILTER (received_at < $2), 0) AS unmeasured_until
    FROM reports
    GROUP BY producer_id
),
ends AS (
    SELECT
        session_id,
        coalesce(max(e.producer_id), any_value(s.producer_id)) AS producer_id,
        any_value(s.started_at) AS started_at,
        max(unmeasured) AS unmeasured,
        coalesce(max(unmeasured) FILTER (coalesce(e.received_at, e.ended_at) < $1), 0) AS before,
        coalesce(max(unmeasured) FILTER (coalesce(e.received_at, e.ended_at) < $2), 0) AS until
    FROM session_ends AS e
    LEFT JOIN session_starts AS s USING (session_id)
    WHERE unmeasured > 0
    GROUP BY session_id
),
at_start AS (
    SELECT session_id, max(reports.unmeasured) AS unmeasured
    FROM ends
    INNER JOIN reports
        ON reports.producer_id = ends.producer_id AND reports.reported_at < ends.started_at
    GROUP BY session_id
),
said AS (
    SELECT
        producer_id,
        sum(ends.unmeasured) AS unmeasured,
        sum(before) AS before,
        sum(until) AS until,
        sum(least(
            ends.unmeasured - before,
            greatest(unmeasured_before - coalesce(at_start.unmeasured, 0) - before, 0)
        )) AS moved
    FROM ends
    INNER JOIN producers USING (producer_id)
    LEFT JOIN at_start USING (session_id)
    GROUP BY producer_id
),
lost AS (
    SELECT
        unattributed_until - unattributed_before AS unattributed,
        greatest(
            least(
                producers.unmeasured - coalesce(said.unmeasured, 0),
                unmeasured_until - coalesce(said.until, 0)
            ),
            0
        ) AS unmeasured,
        greatest(
            unmeasured_before - coalesce(said.before, 0) - coalesce(said.moved, 0), 0
        ) AS before
    FROM producers
    LEFT JOIN said USING (producer_id)
)
SELECT
    (SELECT count(*) FROM dead_letters WHERE received_at >= $1 AND received_at < $2)
    + coalesce(sum(unattributed + greatest(unmeasured - before, 0)), 0)
FROM lost
"""

_LOST_OF_OLDER: Final = """
SELECT
    (SELECT count(*) FROM dead_letters WHERE received_at >= $1 AND received_at < $2)
    + coalesce(sum(coalesce(lost, 0) - coalesce(before, 0)), 0)
FROM (
    SELECT
        max(unattributed) FILTER (reported_at < $2) AS lost,
        max(unattributed) FILTER (reported_at < $1) AS before
    FROM producer_reports
    GROUP BY producer_id
)
"""


class Losses(Struct, frozen=True, kw_only=True):
    """The counts of `Completeness` that are of the whole ledger, under the same names."""

    dead_letters: int
    dropped: int
    unattributed: int
    unattributed_usage: tuple[Unattributed, ...] = ()
    unmeasured: int | None = None


def count_losses(connection: Connection, snapshot: Snapshot) -> Losses:
    """Return what is in no row; what an older ledger does not say is None or empty."""
    [(dead,)] = read(connection, snapshot.path, _DEAD_LETTERS, row=tuple[int])
    [(dropped, unattributed)] = read(connection, snapshot.path, _LOST, row=tuple[int, int])
    if schema_of(connection, snapshot) < FIRST_SCHEMA:
        return Losses(dead_letters=dead, dropped=dropped, unattributed=unattributed)
    [(unmeasured,)] = read(connection, snapshot.path, _UNMEASURED, row=tuple[int | None])
    return Losses(
        dead_letters=dead,
        dropped=dropped,
        unattributed=unattributed,
        unattributed_usage=_unattributed(connection, snapshot),
        unmeasured=unmeasured,
    )


def lost_in(connection: Connection, snapshot: Snapshot, period: Period) -> int:
    """Return how many events are in no row for good, of those that the ledger was told of then.

    Dropped events are not among them: a reading that was dropped is repaired, or its session is
    short.
    """
    is_older = schema_of(connection, snapshot) < _FIRST_TOLD_SCHEMA
    since, until = period.since or BEFORE_ALL, period.until or _AFTER_ALL
    [(events,)] = read(
        connection,
        snapshot.path,
        _LOST_OF_OLDER if is_older else _LOST_IN,
        [since.replace(tzinfo=None), until.replace(tzinfo=None)],
        row=tuple[int],
    )
    return events


def say_losses(missing: Completeness) -> list[str]:
    """Return one sentence for each kind of loss there is."""
    said = []
    if missing.dead_letters:
        said.append(
            f"{counted(missing.dead_letters, 'event')} could not be booked and "
            f"{_are(missing.dead_letters)} in no row; to see why, in Python: "
            'voicecosts.connect().sql("FROM dead_letters")'
        )
    if missing.unattributed:
        said.append(_say_unattributed(missing))
    if missing.unmeasured:
        said.append(
            f"not in these costs: what {counted(missing.unmeasured, 'usage event')} used that "
            "could not be measured; the log of the worker says why"
        )
    if missing.dropped:
        said.append(
            f"workers lost {counted(missing.dropped, 'event')} (no room, damage, or accepted by no "
            "server): only a later reading of the same meter, or the session's end, makes up for "
            "a lost reading"
        )
    return said


def _unattributed(connection: Connection, snapshot: Snapshot) -> tuple[Unattributed, ...]:
    found = read(
        connection,
        snapshot.path,
        _UNATTRIBUTED,
        row=tuple[str, str, str, int, int, int, int, int, int],
    )
    return tuple(
        Unattributed(
            modality=row[0],
            provider=row[1],
            model=row[2],
            requests=row[3],
            input_tokens=row[4],
            output_tokens=row[5],
            characters=row[6],
            audio_seconds=Decimal(row[7]).scaleb(-6),
            session_seconds=Decimal(row[8]).scaleb(-6),
        )
        for row in found
    )


def _say_unattributed(missing: Completeness) -> str:
    named = [
        f"{used.provider}/{used.model} {used.modality}: {_amounts(used)}"
        for used in missing.unattributed_usage[:_NAMED]
    ]
    others = len(missing.unattributed_usage) - len(named)
    if others:
        named.append(f"{counted(others, 'more model')} in the view `unattributed`")
    what = f" ({'; '.join(named)})" if named else ""
    return (
        f"not in these costs: {counted(missing.unattributed, 'usage event')} that could not be "
        f"attributed to a call{what}; the log of the worker says how to avoid it"
    )


def _amounts(used: Unattributed) -> str:
    """Return every amount that is not zero, with its unit."""
    amounts = [
        counted(amount, one)
        for amount, one in (
            (used.requests, "request"),
            (used.input_tokens, "input token"),
            (used.output_tokens, "output token"),
            (used.characters, "character"),
        )
        if amount
    ]
    amounts += [f"{seconds(used.audio_seconds)} s of audio"] if used.audio_seconds else []
    amounts += [f"{seconds(used.session_seconds)} s connected"] if used.session_seconds else []
    return ", ".join(amounts) or "see the view `unattributed`"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
