"""`costs close`, `costs adjust` and `costs void`: what a bookkeeper does, each as a recorded operation."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voicecosts.analytics.commands.exits import FAILED
from voicecosts.analytics.commands.ledger_requests import (
    at_folder,
    operate,
    refuse_early,
    say_closed,
)
from voicecosts.analytics.commands.operations import require_reason
from voicecosts.analytics.commands.options import DataDir, Reason, ReasonSource
from voicecosts.analytics.commands.signals import changing_nothing
from voicecosts.analytics.errors import BadQuestion, BadTime, require
from voicecosts.analytics.numbers import counted, money

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voicecosts.analytics.answers.operations import Known, Session
    from voicecosts.consumer.booking.operations import Adjust

NONE = "(none)"
"""How an answer shows that there is no tenant."""

OF_NO_CALL = "adjustment"
"""The modality of an adjustment that names none."""

_AMOUNT = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")

app = typer.Typer(rich_markup_mode=None)


class Layer(StrEnum):
    """Which money is adjusted."""

    LIST = "list"
    COST = "cost"
    BILLED = "billed"


@app.command()
def close(
    month: Annotated[str, typer.Argument(metavar="MONTH", help="The month: 2026-10.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    reason: Reason = None,
    source: ReasonSource = "",
    data_dir: DataDir = None,
) -> None:
    """Close a month: no figure of it changes any more.

    What comes late or is corrected is dated in an open month, and names the month that it corrects. A
    month can be closed when it has ended (UTC) and those before it, of which anything is booked, are
    closed. It can be opened again with `costs operations revert`, from the last one on and until something
    corrects it.
    """
    from voicecosts.analytics.commands import asking  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.commands.output import say  # noqa: PLC0415 - same
    from voicecosts.consumer.booking.months import following, not_ended  # noqa: PLC0415 - same
    from voicecosts.consumer.booking.operations import Close  # noqa: PLC0415 - same
    from voicecosts.consumer.errors import OperationRefused  # noqa: PLC0415 - same

    first = _month(month)
    if (problem := not_ended(first, datetime.now(UTC).date())) is not None:
        raise OperationRefused(problem)
    require("duckdb", "voice_prices", needed_by="`costs close`", extra="consumer")
    work = Close(month=first)
    with changing_nothing():
        refuse_early(work, data_dir, "`costs close`")
        report = asking.query("tenant", since=first, until=following(first), data_dir=data_dir)
    cost = "no cost" if report.total.cost is None else f"{money(report.total.cost)} USD"
    typer.echo(f"{first:%Y-%m} has {cost} in {counted(report.total.sessions, 'session')}")
    for sentence in (*(it.text for it in report.completeness.findings), *report.notes):
        say(f"! {sentence}")
    if not yes and not typer.confirm(f"Close {first:%Y-%m}?"):
        typer.echo("nothing was changed")
        raise typer.Exit(FAILED)
    number = operate(
        work,
        reason=reason or "the month has ended",
        source=source,
        data_dir=data_dir,
        command="`costs close`",
    )
    typer.echo(f"{first:%Y-%m} is closed, by operation {number}")


@app.command()
def adjust(
    *,
    amount: Annotated[
        str, typer.Option(metavar="USD", help="US dollars, such as -12.50 for a credit.")
    ],
    project: Annotated[str, typer.Option(metavar="NAME", help="The project.")],
    layer: Annotated[
        Layer, typer.Option(help="List price, what you pay, or what the tenant is charged.")
    ] = Layer.COST,
    day: Annotated[str | None, typer.Option("--day", metavar="DAY", help="The day (UTC).")] = None,
    month: Annotated[
        str | None,
        typer.Option(
            "--month",
            metavar="MONTH",
            help="Or the month, as 2026-10 or this-month: on its first day.",
        ),
    ] = None,
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="Whose it is.")] = None,
    agent: Annotated[str, typer.Option(metavar="NAME", help="The agent.")] = "",
    modality: Annotated[
        str, typer.Option(metavar="NAME", help="The kind of model, where it is of one.")
    ] = OF_NO_CALL,
    provider: Annotated[str, typer.Option(metavar="NAME", help="Who charges or credits it.")] = "",
    model: Annotated[str, typer.Option(metavar="NAME", help="The model.")] = "",
    reason: Reason = None,
    source: ReasonSource = "",
    data_dir: DataDir = None,
) -> None:
    """Enter an amount that comes from no call: a provider's own figure, or a credit.

    It is a row of its own in the sums of the day, project, tenant and provider that it names. Where the
    month of that day is closed, the row is dated in an open month, and names the one that it corrects.
    """
    from voicecosts.analytics.answers.operations import entered, known  # noqa: PLC0415 - `--help` is quick
    from voicecosts.consumer.booking.operations import Adjust  # noqa: PLC0415 - same

    usd = _amount(amount)
    if (day is None) == (month is None):
        raise BadQuestion("give either --day or --month")
    if not project.strip():
        raise BadQuestion(
            "--project is empty: name the one that pays, as in `costs query --by project`"
        )
    if tenant == NONE:
        raise BadQuestion(f"--tenant {NONE} would be a name: for no tenant leave --tenant out")
    dated = _month(month) if month is not None else _day(day or "")
    work = Adjust(
        amount=usd,
        day=dated,
        project=project,
        layer=layer.value,
        tenant=tenant or None,
        agent=agent,
        modality=modality,
        provider=provider,
        model=model,
    )
    why = require_reason(reason)
    require("duckdb", needed_by="`costs adjust`")
    with changing_nothing():
        doubts = list(_doubts(work, known(data_dir)))
    number = operate(
        work,
        reason=why,
        source=source,
        data_dir=data_dir,
        command="`costs adjust`",
    )
    at = entered(data_dir, number)
    where = f"for {dated} (or, where its month is closed, in an open one)"
    if at is not None and at.corrects is not None:
        where = f"on {at.day}, correcting {at.corrects:%Y-%m}, which is closed"
    elif at is not None:
        where = f"on {at.day}"
    typer.echo(f"{work.amount:+f} USD ({layer}) {where}, by operation {number}")
    for doubt in doubts:
        typer.echo(
            f"! {doubt}: if it is wrong, `costs operations revert {number} --reason …{at_folder(data_dir)}`"
        )


def _doubts(work: Adjust, rows: Known) -> Iterator[str]:
    """Yield what of an adjustment nothing in these books has: a name may be misspelled, a day wrong."""
    from voicecosts.analytics.text.grid import printable  # noqa: PLC0415 - `--help` is quick

    for name in ("project", "tenant", "agent", "provider", "model", "modality"):
        value, seen = getattr(work, name), getattr(rows, name)
        if value and value not in seen and (name, value) != ("modality", OF_NO_CALL):
            spelled = {each.lower(): each for each in seen}
            near = get_close_matches(value.lower(), spelled, 1)
            meant = f" ({printable(spelled[near[0]])} is one)" if near else ""
            yield f"nothing else in these books has the {name} {printable(value)}{meant}"
    if work.day > datetime.now(UTC).date():
        yield f"{work.day} is still to come"
    elif rows.first is not None and work.day < rows.first.replace(day=1):
        yield f"{work.day} is before everything else in these books, which begin on {rows.first}"


@app.command()
def void(
    session: Annotated[
        str, typer.Argument(metavar="SESSION", help="Its id, or the first characters of it.")
    ],
    *,
    project: Annotated[
        str, typer.Option(metavar="NAME", help="Where two projects have such an id.")
    ] = "",
    reason: Reason = None,
    source: ReasonSource = "",
    data_dir: DataDir = None,
) -> None:
    """Take a session out of every sum: its usage, its money, its count.

    For one that is absurd or a fraud. What comes of it later is kept as a dead letter. `costs operations
    revert` brings it back, and `costs dead-letters requeue --reason voided` what came meanwhile.
    """
    from voicecosts.consumer.booking.operations import Void  # noqa: PLC0415 - `--help` is quick

    why = require_reason(reason)
    if not session.strip():
        raise BadQuestion("an id is not empty: `costs query --by session` shows them")
    require("duckdb", needed_by="`costs void`")
    with changing_nothing():
        found = _found(session.strip(), project, data_dir)
    number = operate(
        Void(project=found.project, session_id=found.session_id),
        reason=why,
        source=source,
        data_dir=data_dir,
        command="`costs void`",
    )
    cost = "no cost" if found.cost is None else f"{money(found.cost)} USD"
    typer.echo(
        f"session {found.session_id} of project {found.project} ({cost}) is voided, by operation {number}"
    )
    say_closed(number, data_dir)


def _found(session: str, project: str, data_dir: Path | None) -> Session:
    from voicecosts.analytics.answers.operations import sessions  # noqa: PLC0415 - `--help` is quick

    if not session.strip():
        raise BadQuestion("a session's id is not empty: `costs query --by session` shows them")
    found = sessions(data_dir, session, project)
    if not found:
        where = f" of project {project!r}" if project else ""
        raise BadQuestion(
            f"no session{where} has an id that begins with {session!r}, and a room, a job or `last` may be another "
            "call tomorrow: `costs calls` and `costs call last` show the id"
        )
    if len(found) > 1:
        some = ", ".join(f"{each.session_id} ({each.project})" for each in found[:3])
        raise BadQuestion(
            f"several sessions have ids that begin with {session!r}, such as {some}: give more of it, "
            "or --project"
        )
    return found[0]


def _month(text: str) -> date:
    """Return the first day of a month, which may be `this-month` or `last-month`; raises `BadTime`."""
    this = datetime.now(UTC).date().replace(day=1)
    named = {"this-month": this, "last-month": (this - timedelta(days=1)).replace(day=1)}
    if text in named:
        return named[text]
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        raise BadTime(
            text, "is no month: give it as 2026-10, or as last-month or this-month"
        ) from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadTime(text, "is no day: give it as 2026-10-31") from None


def _amount(text: str) -> Decimal:
    if _AMOUNT.fullmatch(text) is None:
        raise BadQuestion(f"{text!r} is no amount: give US dollars in digits, such as -12.50")
    return Decimal(text)
