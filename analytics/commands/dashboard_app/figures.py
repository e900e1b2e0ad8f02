"""What the page shows: the answers of the commands to one choice of period, tenants and agents.

It asks as the commands do, by the same functions, so nothing on the page can differ from them. All answers of
one look are of one snapshot, where one is published no more often than they take to read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from msgspec import Struct

from voicecosts.analytics import config
from voicecosts.analytics.answers.audit import Audit
from voicecosts.analytics.answers.calls import Calls
from voicecosts.analytics.answers.receipts import Receipt
from voicecosts.analytics.answers.report import Report
from voicecosts.analytics.commands import asking
from voicecosts.analytics.commands.dashboard import ONE_AT_A_TIME
from voicecosts.analytics.commands.exits import code_of
from voicecosts.analytics.commands.local_outbox import look_first
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

PER_MINUTE: Final = ("cost", "calls", "minutes", "cost_per_minute")
"""What is asked of agents."""

_TRIES: Final = 3


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


class Names(Struct, frozen=True, kw_only=True):
    """The tenants and agents that can be chosen in a period; None is without a tenant."""

    tenants: tuple[str | None, ...] = ()
    agents: tuple[str, ...] = ()


class Figures(Struct, frozen=True, kw_only=True):
    """The answers to one choice; that by agent says how long calls were."""

    by_tenant: Report
    by_agent: Report
    by_day: Report
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

    def by(columns: str, *, sort: str | None = None, metric: tuple[str, ...] = ()) -> Report:
        with ONE_AT_A_TIME:
            return asking.query(
                columns,
                since=since,
                where=where,
                sort=sort,
                metric=metric,
                data_dir=data_dir,
                now=now,
            )

    tenants, days = by("tenant"), by("day,modality", sort="day")
    agents = by("agent", metric=PER_MINUTE)
    with ONE_AT_A_TIME:
        audit = asking.audit(since=since, where=where, top=UNSETTLED, data_dir=data_dir, now=now)
    with ONE_AT_A_TIME:
        calls = asking.calls(since=since, where=where, top=CALLS, data_dir=data_dir, now=now)
    return Figures(by_tenant=tenants, by_agent=agents, by_day=days, audit=audit, calls=calls)
