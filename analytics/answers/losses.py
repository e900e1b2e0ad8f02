"""What is in no row of the ledger, whatever is asked: counted, and in amounts.

An event that could not be booked, attributed or measured belongs to no call that the ledger knows,
so no filter finds it: every answer tells of it, for the whole ledger. A producer reports running
totals, so its last report counts.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from voicecosts.analytics.answers.report import Gap, Unattributed
from voicecosts.analytics.answers.states import BEFORE_ALL, schema_of
from voicecosts.analytics.snapshot.connection import read

if TYPE_CHECKING:
    from voicecosts.analytics.question.times import Period
    from voicecosts.analytics.snapshot.connection import Connection
    from voicecosts.analytics.snapshot.files import Snapshot

FIRST_SCHEMA: Final = 3
"""Ledgers before it do not say what could not be measured, nor what the unattributed events used."""

_FIRST_TOLD_SCHEMA: Final = 4
"""Ledgers before it do not say when they were told."""

_FIRST_GAP_SCHEMA: Final = 6
"""Ledgers before it do not know which messages of the stream never reached them."""

_FIRST_STATE_SCHEMA: Final = 7
"""Ledgers before it count dead letters by row, and cannot book them later."""

_AFTER_ALL: Final = datetime.max.replace(tzinfo=UTC)

_DEAD_LETTERS: Final = """
SELECT coalesce(sum(events), 0)
FROM dead_letters
WHERE state = 'open' AND received_at >= ? AND received_at < ?
"""
_DEAD_LETTERS_OF_OLDER: Final = """
SELECT count(*) FROM dead_letters WHERE received_at >= ? AND received_at < ?
"""

_GAPS: Final = """
SELECT first_sequence, last_sequence, messages, why
FROM gaps
WHERE noted_at >= ?
ORDER BY noted_at, first_sequence
"""

# Not the view `losses`: older snapshots do not have it.
_LOST: Final = """
SELECT coalesce(sum(dropped), 0), coalesce(sum(unattributed), 0)
FROM (
    SELECT max(dropped) AS dropped, max(unattributed) AS unattributed
    FROM producer_reports
    GROUP BY project, producer_id
)
"""

_ANY_UNMEASURED: Final = "SELECT max(unmeasured) > 0 FROM producer_reports WHERE number > 0"
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
        project, producer_id, reported_at, coalesce(received_at, reported_at) AS received_at, unattributed,
        coalesce(unmeasured, 0) AS unmeasured, dropped
    FROM producer_reports
),
producers AS (
    SELECT
        project,
        producer_id,
        max(unattributed) AS unattributed,
        coalesce(max(unattributed) FILTER (received_at < $1), 0) AS unattributed_before,
        coalesce(max(unattributed) FILTER (received_at < $2), 0) AS unattributed_until,
        max(unmeasured) AS unmeasured,
        coalesce(max(unmeasured) FILTER (received_at < $1), 0) AS unmeasured_before,
        coalesce(max(unmeasured) FILTER (received_at < $2), 0) AS unmeasured_until,
        coalesce(max(dropped) FILTER (received_at < $2), 0)
        - coalesce(max(dropped) FILTER (received_at < $1), 0) AS dropped
    FROM reports
    GROUP BY project, producer_id
),
ends AS (
    SELECT
        project,
        session_id,
        coalesce(max(e.producer_id), any_value(s.producer_id)) AS producer_id,
        any_value(s.started_at) AS started_at,
        max(unmeasured) AS unmeasured,
        coalesce(max(unmeasured) FILTER (coalesce(e.received_at, e.ended_at) < $1), 0) AS before,
        coalesce(max(unmeasured) FILTER (coalesce(e.received_at, e.ended_at) < $2), 0) AS until
    FROM session_ends AS e
    LEFT JOIN session_starts AS s USING (project, session_id)
    WHERE {ends}
    GROUP BY project, session_id
),
at_start AS (
    SELECT ends.project, session_id, max(reports.unmeasured) AS unmeasured
    FROM ends
    INNER JOIN reports
        ON reports.project = ends.project
        AND reports.producer_id = ends.producer_id
        AND reports.reported_at < ends.started_at
    GROUP BY ends.project, session_id
),
said AS (
    SELECT
        project,
        producer_id,
        sum(ends.unmeasured) AS unmeasured,
        sum(before) AS before,
        sum(until) AS until,
        sum(least(
            ends.unmeasured - before,
            greatest(unmeasured_before - coalesce(at_start.unmeasured, 0) - before, 0)
        )) AS moved
    FROM ends
    INNER JOIN producers USING (project, producer_id)
    LEFT JOIN at_start USING (project, session_id)
    GROUP BY project, producer_id
),
lost AS (
    SELECT
        dropped,
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
    LEFT JOIN said USING (project, producer_id)
)
SELECT
    coalesce(sum(unattributed + greatest(unmeasured - before, 0)), 0),
    coalesce(sum(dropped), 0)
FROM lost
"""

_LOST_OF_OLDER: Final = """
SELECT
    coalesce(sum(coalesce(lost, 0) - coalesce(before, 0)), 0),
    coalesce(sum(dropped), 0)
FROM (
    SELECT
        coalesce(max(dropped) FILTER (reported_at < $2), 0)
        - coalesce(max(dropped) FILTER (reported_at < $1), 0) AS dropped,
        max(unattributed) FILTER (reported_at < $2) AS lost,
        max(unattributed) FILTER (reported_at < $1) AS before
    FROM producer_reports
    GROUP BY project, producer_id
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
    dead = _dead_letters(connection, snapshot, BEFORE_ALL, _AFTER_ALL)
    [(dropped, unattributed)] = read(connection, snapshot.path, _LOST, row=tuple[int, int])
    if schema_of(connection, snapshot) < FIRST_SCHEMA:
        return Losses(dead_letters=dead, dropped=dropped, unattributed=unattributed)
    unmeasured: int | None = 0
    if _any_unmeasured(connection, snapshot):
        [(unmeasured,)] = read(connection, snapshot.path, _UNMEASURED, row=tuple[int | None])
    return Losses(
        dead_letters=dead,
        dropped=dropped,
        unattributed=unattributed,
        unattributed_usage=_unattributed(connection, snapshot),
        unmeasured=unmeasured,
    )


def count_gaps(
    connection: Connection, snapshot: Snapshot, since: datetime = BEFORE_ALL
) -> tuple[Gap, ...] | None:
    """Return the gaps that the ledger noted from `since` on; None when it is too old to know any."""
    if schema_of(connection, snapshot) < _FIRST_GAP_SCHEMA:
        return None
    found = read(
        connection,
        snapshot.path,
        _GAPS,
        [since.replace(tzinfo=None)],
        row=tuple[int, int | None, int | None, str],
    )
    return tuple(
        Gap(first=first, last=last, messages=messages, why=why)
        for first, last, messages, why in found
    )


def lost_in(connection: Connection, snapshot: Snapshot, period: Period) -> tuple[int, int]:
    """Return how many events are in no row for good, of those that the ledger was told of then.

    The second number is of the events that workers dropped. They are not among the first: a reading
    that was dropped is repaired, or its session is short; but a whole call may have been dropped.
    """
    is_older = schema_of(connection, snapshot) < _FIRST_TOLD_SCHEMA
    since, until = period.since or BEFORE_ALL, period.until or _AFTER_ALL
    which = "unmeasured > 0" if is_older or _any_unmeasured(connection, snapshot) else "FALSE"
    [(events, dropped)] = read(
        connection,
        snapshot.path,
        _LOST_OF_OLDER if is_older else _LOST_IN.format(ends=which),
        [since.replace(tzinfo=None), until.replace(tzinfo=None)],
        row=tuple[int, int],
    )
    return events + _dead_letters(connection, snapshot, since, until), dropped


def _any_unmeasured(connection: Connection, snapshot: Snapshot) -> bool:
    """Return whether a report of a producer may count what ends of sessions count as well."""
    found = read(connection, snapshot.path, _ANY_UNMEASURED, row=tuple[bool | None])
    return found != [(False,)]


def _dead_letters(
    connection: Connection, snapshot: Snapshot, since: datetime, until: datetime
) -> int:
    """Return how many events could not be booked, of those that came then, and still are not."""
    is_older = schema_of(connection, snapshot) < _FIRST_STATE_SCHEMA
    [(events,)] = read(
        connection,
        snapshot.path,
        _DEAD_LETTERS_OF_OLDER if is_older else _DEAD_LETTERS,
        [since.replace(tzinfo=None), until.replace(tzinfo=None)],
        row=tuple[int],
    )
    return events


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
