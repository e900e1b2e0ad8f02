"""The questions as functions: the command `costs` and Python ask in the same way.

What waits in the outbox of this host is booked first, where this user's ledger is the one that is
asked. An answer never fails because that cannot be done: it says what it lacks.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, overload

from msgspec import structs

from voicecosts.analytics.answers import audit as audits
from voicecosts.analytics.answers import calls as lists
from voicecosts.analytics.answers import compared, costs, receipts, statements
from voicecosts.analytics.answers.states import OPEN_FOR
from voicecosts.analytics.commands.local_outbox import look_first
from voicecosts.analytics.errors import require
from voicecosts.analytics.text.advice import at_ledger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date, timedelta

    from voicecosts.analytics.answers.audit import Audit
    from voicecosts.analytics.answers.calls import Calls
    from voicecosts.analytics.answers.compared import Comparison
    from voicecosts.analytics.answers.receipts import Receipt
    from voicecosts.analytics.answers.report import Completeness, Finding, Report, Row
    from voicecosts.analytics.answers.statements import Statement
    from voicecosts.analytics.question.filters import Where
    from voicecosts.analytics.question.times import Compare, Moment


@overload
def query(
    by: str | Iterable[str] = ...,
    *,
    since: Moment | None = ...,
    until: Moment | None = ...,
    where: Where = ...,
    top: int | None = ...,
    sort: str | None = ...,
    metric: str | Iterable[str] = ...,
    compare: None = ...,
    timezone: str = ...,
    data_dir: str | Path | None = ...,
    now: datetime | None = ...,
) -> Report: ...


@overload
def query(
    by: str | Iterable[str] = ...,
    *,
    since: Moment | None = ...,
    until: Moment | None = ...,
    where: Where = ...,
    top: int | None = ...,
    sort: str | None = ...,
    metric: str | Iterable[str] = ...,
    compare: Compare,
    timezone: str = ...,
    data_dir: str | Path | None = ...,
    now: datetime | None = ...,
) -> Comparison: ...


def query(
    by: str | Iterable[str] = ("tenant",),
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    where: Where = (),
    top: int | None = None,
    sort: str | None = None,
    metric: str | Iterable[str] = (),
    compare: Compare | None = None,
    timezone: str = "UTC",
    data_dir: str | Path | None = None,
    now: datetime | None = None,
) -> Report | Comparison:
    r"""Return what was used and what it cost, grouped by one or more columns.

    `by` is any of tenant, agent, agent_label, project, provider, model, modality, service_tier, session,
    turn, room, job, deployment, outcome, `label.NAME`, hour, day, week, month and corrects, which is the closed month that a row of a
    later day corrects. A turn is one of its session, which is named with it. `where` holds conditions `name=value` on the same columns: the same name twice means
    either, different names mean all, `name!=value` means all others; in a name `*` stands for any text, and `\*` for
    a star. `tenant=(none)` means without a tenant, `service_tier=(standard)`
    the standard tier, whose name is empty. A mapping does as well, and takes values as they are:
    `{"tenant": ["acme", None], "agent!": "dental"}`, where None is without a tenant. A call belongs to a period, and to
    a day, by its start; `since` is included, `until` is not. Rows come by cost, largest first and
    unpriced ones last, unless `sort` names a column, followed by `:asc` or `:desc` for other than its
    usual direction; `top` keeps that many rows, and `other` is the rest. `metric` names what else is asked for, as
    `Row.metric` has it: `cost_per_minute`, `margin` and others. `timezone` is that of hours, days, weeks and months, and of
    moments without an offset: `Europe/Berlin`.

    With `compare` the answer is of two periods, each group beside itself in the other one: `previous`, which is as long
    and ends where the period begins, `last-week` and `last-month`, the same days earlier, a period such as
    `2026-10`, or its two moments. The metrics are compared, the cost where none is named; rows come by how much
    the first one changed (`sort="change"`).

    What workers without a server left on this host is booked first, as `costs query` does; what
    cannot be booked is said in `warnings`. Only `completeness.whole` says that nothing is missing.

    Raises:
        BadQuestion: A column, moment or condition cannot be read. The ledger was not touched.
        NoLedger: There is no snapshot at `data_dir`.
        LedgerNewer: The snapshot was written by a newer version.
        MissingExtra: duckdb is not installed.
    """
    if compare is not None:
        return comparing(
            by,
            compare,
            since=since,
            until=until,
            where=where,
            top=top,
            sort=sort,
            metric=metric,
            timezone=timezone,
            data_dir=data_dir,
            now=now,
        )
    found = answering(
        by,
        since=since,
        until=until,
        where=where,
        top=top,
        sort=sort,
        metric=metric,
        timezone=timezone,
        data_dir=data_dir,
        now=now,
    )
    with found as (report, rows):
        return structs.replace(report, rows=tuple(rows))


@contextmanager
def answering(
    by: str | Iterable[str],
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    where: Where = (),
    top: int | None = None,
    sort: str | None = None,
    metric: str | Iterable[str] = (),
    timezone: str = "UTC",
    data_dir: str | Path | None = None,
    now: datetime | None = None,
    spill: Path | None = None,
) -> Iterator[tuple[Report, Iterator[Row]]]:
    """Yield the same answer without its rows, and its rows as they are read, in bounded memory with `spill`."""
    question = costs.ask(
        by,
        since=since,
        until=until,
        where=where,
        top=top,
        sort=sort,
        metric=metric,
        timezone=timezone,
        now=now or datetime.now(UTC),
    )
    require("duckdb", needed_by="`voicecosts.query`")
    with (
        look_first(data_dir) as outbox,
        costs.answering(
            question, data_dir, now=now or datetime.now(UTC), outbox=outbox, spill=spill
        ) as found,
    ):
        report, rows = found
        named = structs.replace(
            report,
            completeness=_at_ledger(report.completeness, data_dir),
            warnings=tuple(at_ledger(it, data_dir) for it in report.warnings),
            notes=tuple(at_ledger(it, data_dir) for it in report.notes),
        )
        yield named, rows


def comparing(
    by: str | Iterable[str],
    compare: Compare,
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    where: Where = (),
    top: int | None = None,
    sort: str | None = None,
    metric: str | Iterable[str] = (),
    timezone: str = "UTC",
    data_dir: str | Path | None = None,
    now: datetime | None = None,
    spill: Path | None = None,
) -> Comparison:
    """Return the answer of `query` with `compare`, with less memory where there is a folder `spill`."""
    moment = now or datetime.now(UTC)
    question = compared.ask(
        by,
        compare,
        since=since,
        until=until,
        where=where,
        top=top,
        sort=sort,
        metric=metric,
        timezone=timezone,
        now=moment,
    )
    require("duckdb", needed_by="`voicecosts.query`")
    with look_first(data_dir) as outbox:
        found = compared.answer(question, data_dir, now=moment, outbox=outbox, spill=spill)
    return structs.replace(
        found,
        completeness=_at_ledger(found.completeness, data_dir),
        completeness_before=_at_ledger(found.completeness_before, data_dir),
        warnings=tuple(at_ledger(it, data_dir) for it in found.warnings),
        notes=tuple(at_ledger(it, data_dir) for it in found.notes),
    )


def audit(
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    where: Where = (),
    state: str | Iterable[str] = (),
    top: int = audits.TOP,
    open_for: str | timedelta = OPEN_FOR,
    data_dir: str | Path | None = None,
    now: datetime | None = None,
    spill: Path | None = None,
) -> Audit:
    """Return the state of each call. Period and conditions are those of `query`.

    The totals are of all states; `state` chooses what is listed, else whatever is neither complete nor
    repaired. A call that has no end is open until nothing was heard of it for `open_for`, by the
    ledger's clock. What waits on this host is booked first.
    With a folder `spill` memory is bounded, and what needs more is put there.

    Raises:
        BadQuestion: A state, moment, span or condition cannot be read.
        NoLedger: There is no snapshot at `data_dir`, or it is of a version that noted too little.
        LedgerNewer: The snapshot was written by a newer version.
        MissingExtra: duckdb is not installed.
    """
    question = audits.ask(
        since=since,
        until=until,
        where=where,
        state=state,
        top=top,
        open_for=open_for,
        now=now or datetime.now(UTC),
    )
    require("duckdb", needed_by="an audit")
    with look_first(data_dir) as outbox:
        found = audits.answer(
            question, data_dir, now=now or datetime.now(UTC), outbox=outbox, spill=spill
        )
    return structs.replace(
        found,
        completeness=_at_ledger(found.completeness, data_dir),
        failures=_named(found.failures, data_dir),
        warnings=tuple(at_ledger(it, data_dir) for it in found.warnings),
    )


def calls(
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    where: Where = (),
    sort: str | None = None,
    top: int = lists.TOP,
    data_dir: str | Path | None = None,
    now: datetime | None = None,
    spill: Path | None = None,
) -> Calls:
    """Return single calls, the newest first. Period and conditions are those of `query`.

    A call is listed if any of its rows meets all conditions, and what it cost is of all of its rows, as
    `query("session")` without a period says it. `sort` is started, length, cost, cost_per_minute, billed, agent,
    tenant, room or state (the worst first), followed by `:asc` or `:desc` for other than its usual
    direction; what is not known comes last. What waits on this host is booked first.
    With a folder `spill` memory is bounded, and what needs more is put there.

    Raises:
        BadQuestion: A column, moment or condition cannot be read. The ledger was not touched.
        NoLedger: There is no snapshot at `data_dir`, or it is of a version that noted too little.
        LedgerNewer: The snapshot was written by a newer version.
        MissingExtra: duckdb is not installed.
    """
    question = lists.ask(
        since=since, until=until, where=where, sort=sort, top=top, now=now or datetime.now(UTC)
    )
    require("duckdb", needed_by="`voicecosts.calls`")
    with look_first(data_dir) as outbox:
        found = lists.answer(
            question, data_dir, now=now or datetime.now(UTC), outbox=outbox, spill=spill
        )
    return structs.replace(
        found,
        completeness=_at_ledger(found.completeness, data_dir),
        warnings=tuple(at_ledger(it, data_dir) for it in found.warnings),
        notes=tuple(at_ledger(it, data_dir) for it in found.notes),
    )


def call(
    name: str = receipts.LAST,
    *,
    project: str | None = None,
    data_dir: str | Path | None = None,
    now: datetime | None = None,
    spill: Path | None = None,
) -> Receipt:
    """Return what one call cost: by modality, turn by turn, and by which prices.

    `name` is the id of its session or the beginning of it, its room, its job, or `last`: the one that began last.
    An id in full means that call, whatever a room is called. What waits on this host is booked first.
    With a folder `spill` memory is bounded, and what needs more is put there.

    Raises:
        UnknownCall: There is no such call.
        SeveralCalls: There are several; its `candidates` are the newest ten.
        NoLedger: There is no snapshot at `data_dir`, or it is of a version that noted too little.
        LedgerNewer: The snapshot was written by a newer version.
        MissingExtra: duckdb is not installed.
    """
    question = receipts.ask(name, project=project)
    require("duckdb", needed_by="`voicecosts.call`")
    with look_first(data_dir) as outbox:
        found = receipts.answer(
            question, data_dir, now=now or datetime.now(UTC), outbox=outbox, spill=spill
        )
    return structs.replace(
        found,
        detail_missing=found.detail_missing and at_ledger(found.detail_missing, data_dir),
        completeness=_at_ledger(found.completeness, data_dir),
        warnings=tuple(at_ledger(it, data_dir) for it in found.warnings),
        notes=tuple(at_ledger(it, data_dir) for it in found.notes),
    )


def statement(
    tenant: str | None,
    month: str | date = statements.LAST,
    *,
    project: str | None = None,
    data_dir: str | Path | None = None,
    now: datetime | None = None,
    spill: Path | None = None,
) -> Statement:
    """Return what a tenant is billed for a month, by agent and modality, corrections apart.

    `month` is `2026-10`, a date in it, `last-month` or `this-month`; its days are UTC days, and a call is on that on
    which it began. `tenant` is None, or `(none)`, for calls without one. Money is in US dollars. The total is that of
    `query` for the same tenant, days and project, and the lines add up to it. Costs are in it: it is the text of
    `costs statement` that leaves them out. What waits on this host is booked first.
    With a folder `spill` memory is bounded, and what needs more is put there.

    Raises:
        UnknownTenant: Nothing of this tenant is in the ledger; its `nearest` are names that are like it.
        BadQuestion: The month or the name cannot be read. The ledger was not touched.
        NoLedger: There is no snapshot at `data_dir`, or it is of a version that noted too little.
        LedgerNewer: The snapshot was written by a newer version.
        MissingExtra: duckdb is not installed.
    """
    moment = now or datetime.now(UTC)
    asked = statements.ask(tenant, month, project=project, now=moment)
    require("duckdb", needed_by="`voicecosts.statement`")
    with look_first(data_dir) as outbox:
        found = statements.answer(asked, data_dir, now=moment, outbox=outbox, spill=spill)
    return structs.replace(
        found,
        completeness=_at_ledger(found.completeness, data_dir),
        warnings=tuple(at_ledger(it, data_dir) for it in found.warnings),
        notes=tuple(at_ledger(it, data_dir) for it in found.notes),
    )


def _at_ledger(missing: Completeness, data_dir: str | Path | None) -> Completeness:
    """Return what is missing, in sentences whose commands ask the same ledger."""
    return structs.replace(missing, findings=_named(missing.findings, data_dir))


def _named(findings: Iterable[Finding], data_dir: str | Path | None) -> tuple[Finding, ...]:
    return tuple(structs.replace(it, text=at_ledger(it.text, data_dir)) for it in findings)
