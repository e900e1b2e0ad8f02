"""What the page shows: the answers of the commands to one choice of period, tenants and agents.

It asks as the commands do, by the same functions, so nothing on the page can differ from them. All answers of
one look are of one snapshot, where one is published no more often than they take to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from msgspec import Struct

from voicecosts.analytics import config
from voicecosts.analytics.answers.audit import Audit
from voicecosts.analytics.answers.calls import Calls, per_minute
from voicecosts.analytics.answers.receipts import Receipt
from voicecosts.analytics.answers.report import Report
from voicecosts.analytics.commands import asking
from voicecosts.analytics.commands.dashboard import ONE_AT_A_TIME
from voicecosts.analytics.commands.exits import code_of
from voicecosts.analytics.commands.local_outbox import look_first
from voicecosts.analytics.question.times import period
from voicecosts.analytics.snapshot.connection import closing, open_newest, read
from voicecosts.analytics.snapshot.files import STATUS, locate
from voicecosts.analytics.text.advice import at_ledger

PERIODS: Final[dict[str, str | None]] = {
    "today": "today",
    "24 hours": "24h",
    "7 days": "7d",
    "30 days": "30d",
    "90 days": "90d",
    "all time": None,
}
"""What can be chosen, and the word of `--since` that it means; days are of UTC."""

CALLS: Final = 50
"""Calls that are listed."""

NAMES: Final = 1_000
"""Tenants and agents that can be chosen, those that cost most."""

UNSETTLED: Final = 20
"""Calls that are listed because the ledger may not have all of them."""

_TRIES: Final = 3

_MINUTES: Final = """
SELECT
    agent_id,
    count(*) AS calls,
    count(*) FILTER (duration_us > 0 AND cost IS NOT NULL),
    sum(cost) FILTER (duration_us > 0 AND cost IS NOT NULL),
    sum(duration_us) FILTER (duration_us > 0 AND cost IS NOT NULL)::BIGINT
FROM sessions
WHERE (project, session_id) NOT IN (SELECT (project, session_id) FROM voided)
    AND session_id BETWEEN ?::UUID AND ?::UUID
    AND (? OR list_contains(?::VARCHAR[], tenant) OR tenant IS NULL AND ?)
    AND (? OR list_contains(?::VARCHAR[], agent_id))
GROUP BY agent_id
"""


class Choice(Struct, frozen=True, kw_only=True):
    """What was chosen: a period by the word of `--since`, and tenants and agents; none of them means all."""

    since: str | None = None
    tenants: tuple[str | None, ...] = ()
    agents: tuple[str, ...] = ()

    def where(self) -> dict[str, list[str | None]]:
        """Return the conditions of a query."""
        chosen: dict[str, list[str | None]] = {}
        if self.tenants:
            chosen["tenant"] = list(self.tenants)
        if self.agents:
            chosen["agent"] = list(self.agents)
        return chosen


class Minutes(Struct, frozen=True, kw_only=True):
    """How long the calls of an agent were: `known` of its `calls` have a length and a cost, and this is of them.

    `per_minute` is in US dollars, rounded half to even to nine digits; None where no call has both.
    """

    calls: int
    known: int
    length_us: int | None
    per_minute: Decimal | None


class Names(Struct, frozen=True, kw_only=True):
    """The tenants and agents that can be chosen in a period; None is without a tenant."""

    tenants: tuple[str | None, ...] = ()
    agents: tuple[str, ...] = ()


class Figures(Struct, frozen=True, kw_only=True):
    """The answers to one choice. `minutes` is by agent."""

    by_tenant: Report
    by_agent: Report
    by_day: Report
    minutes: Mapping[str, Minutes]
    audit: Audit
    calls: Calls


def look(
    choice: Choice, data_dir: str | Path | None = None, *, now: datetime | None = None
) -> Figures:
    """Return the figures of the newest snapshot; raises what `voicecosts.query` raises."""
    for _ in range(_TRIES):
        found = _ask(choice, data_dir, now or datetime.now(UTC))
        moments = {it.as_of for it in (found.by_tenant, found.by_agent, found.by_day, found.calls)}
        if len(moments) == 1:
            break
    return found


def names(since: str | None, data_dir: str | Path | None = None) -> Names:
    """Return who can be chosen, those that cost most first."""
    with ONE_AT_A_TIME:
        tenants = asking.query("tenant", since=since, top=NAMES, data_dir=data_dir)
    with ONE_AT_A_TIME:
        agents = asking.query("agent", since=since, top=NAMES, data_dir=data_dir)
    return Names(
        tenants=tuple(row.group["tenant"] for row in tenants.rows),
        agents=tuple(row.group["agent"] or "" for row in agents.rows),
    )


def receipt(name: str, data_dir: str | Path | None = None) -> Receipt:
    """Return one call, as `costs call` does; raises what that raises."""
    with ONE_AT_A_TIME:
        return asking.call(name, data_dir=data_dir)


def state(data_dir: str | Path | None = None) -> tuple[object, ...]:
    """Return what differs as soon as an answer may: which snapshot there is, and when the ledger last wrote of itself.

    What waits on this host is booked first. Nothing is raised: where there is no ledger, the words for that are
    what differs.
    """
    try:
        with ONE_AT_A_TIME, look_first(data_dir) as outbox:
            snapshot = locate(data_dir)
        status = snapshot.status
        told = None if status is None else (status.running, status.was_killed, status.waiting)
        return (str(snapshot.path), snapshot.path.stat().st_mtime_ns, told, outbox)
    except Exception as error:  # noqa: BLE001 - the answers will say it
        return (str(error), (config.data_dir(data_dir) / STATUS).exists())


def words(error: Exception, data_dir: str | Path | None = None) -> str:
    """Return what went wrong, as the command says it."""
    text = " ".join(str(error).split())
    if code_of(error) is None:
        text = f"unexpected {type(error).__name__}: {text}"
    return at_ledger(text, data_dir)


def _ask(choice: Choice, data_dir: str | Path | None, now: datetime) -> Figures:
    where, since = choice.where(), choice.since

    def by(columns: str, sort: str | None = None) -> Report:
        with ONE_AT_A_TIME:
            return asking.query(
                columns, since=since, where=where, sort=sort, data_dir=data_dir, now=now
            )

    tenants, agents, days = by("tenant"), by("agent"), by("day,modality", "day")
    with ONE_AT_A_TIME:
        minutes = _minutes(choice, data_dir, now)
    with ONE_AT_A_TIME:
        audit = asking.audit(since=since, where=where, top=UNSETTLED, data_dir=data_dir, now=now)
    with ONE_AT_A_TIME:
        calls = asking.calls(since=since, where=where, top=CALLS, data_dir=data_dir, now=now)
    return Figures(
        by_tenant=tenants, by_agent=agents, by_day=days, minutes=minutes, audit=audit, calls=calls
    )


def _minutes(choice: Choice, data_dir: str | Path | None, now: datetime) -> dict[str, Minutes]:
    tenants = [it for it in choice.tenants if it is not None]
    parameters = [
        *period(choice.since, None, now=now).ids(),
        *(not choice.tenants, tenants, None in choice.tenants),
        *(not choice.agents, list(choice.agents)),
    ]
    connection, snapshot = open_newest(data_dir)
    with closing(connection):
        found = read(
            connection,
            snapshot.path,
            _MINUTES,
            parameters,
            row=tuple[str | None, int, int, Decimal | None, int | None],
        )
    return {
        agent or "": Minutes(
            calls=calls, known=known, length_us=length_us, per_minute=per_minute(cost, length_us)
        )
        for agent, calls, known, cost, length_us in found
    }
