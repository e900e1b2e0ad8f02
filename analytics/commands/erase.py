"""`costs erase`: take everything of a tenant out of the ledger, for good."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from voicecosts.analytics.commands.exits import FAILED
from voicecosts.analytics.commands.ledger_requests import (
    answered,
    at_folder,
    data_folder,
    operate,
    refuse_early,
)
from voicecosts.analytics.commands.operations import require_reason
from voicecosts.analytics.commands.options import DataDir, Reason, ReasonSource
from voicecosts.analytics.commands.signals import changing_nothing
from voicecosts.analytics.errors import BadFilter, BadQuestion, require
from voicecosts.analytics.numbers import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from voicecosts.analytics.answers.erased import Held

app = typer.Typer(rich_markup_mode=None)


@app.command()
def erase(
    *,
    tenant: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The tenant, exactly as booked; '\\(none)' is one of that name.",
        ),
    ],
    project: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only of this project; else of all.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    reason: Reason = None,
    source: ReasonSource = "",
    data_dir: DataDir = None,
) -> None:
    """Erase a tenant: its calls, its rows, its dead letters, in every file of the data directory.

    It cannot be undone. What is recorded of it says when, why and how much, and names nobody. What comes of the
    tenant later is refused and kept as dead letters: `costs dead-letters purge --reason erased` removes them, and
    `costs operations revert` ends the refusal. Figures of closed months change, and answers say so. Exits with 1
    when nothing of the tenant was booked.
    """
    from voicecosts.analytics.answers.erased import held  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.answers.operations import known, listed  # noqa: PLC0415 - same
    from voicecosts.analytics.commands.output import say  # noqa: PLC0415 - same
    from voicecosts.analytics.question.filters import shown  # noqa: PLC0415 - same
    from voicecosts.consumer.booking.operations import Erase  # noqa: PLC0415 - same

    tenant = _named(tenant)
    require("duckdb", "voice_prices", needed_by="`costs erase`", extra="consumer")
    from voicecosts.consumer.store.erasing import Name  # noqa: PLC0415 - it needs the extra

    name = Name(tenant, project)
    if name.is_in_words(reason) or name.is_in_words(source):
        raise BadQuestion(
            "the reason is kept for ever, and names the tenant: say it without, such as a ticket's number"
        )
    work = Erase(tenant=tenant, project=project)
    with changing_nothing():
        refuse_early(work, data_dir, "`costs erase`")
        there = held(data_dir, tenant, project)
    where = "in every project" if project is None else f"in project {project}"
    say(f"tenant {shown(tenant)} {where}: {_said(there)}")
    if not there.projects:
        near = get_close_matches(tenant, known(data_dir).tenant, 1)
        meant = f" ({shown(near[0])} is one)" if near else ""
        say(f"! nothing in these books has that tenant{meant}: is it spelled as booked?")
    elif project is not None and project not in there.projects:
        say(
            f"! nothing of that tenant is in project {project}: it is in {', '.join(there.projects)}"
        )
    if there.closed:
        say(f"! closed months lack it afterwards: {', '.join(there.closed)}")
    if there.lacking:
        say(
            f"! {counted(there.lacking, 'file')} of sealed days cannot be looked through, not being there: put what is "
            "lost back before, or erase again if it comes back"
        )
    for sentence in _out_of_reach(tenant, data_dir):
        say(f"! {sentence}")
    why = require_reason(reason)
    if not yes and not typer.confirm("Erase it? It cannot be undone."):
        typer.echo("nothing was changed")
        raise typer.Exit(FAILED)
    number = operate(work, reason=why, source=source, data_dir=data_dir, command="`costs erase`")
    letters = _late(data_dir)
    at = at_folder(data_dir)
    if letters:
        say(
            f"! {counted(letters, 'dead letter')} of what came late: `costs dead-letters purge --reason erased{at}` "
            "removes them"
        )
    refused = f"what comes of it is refused until `costs operations revert {number} --reason …{at}`"
    took = any(it.sessions or it.rows for it in listed(data_dir) if it.operation == number)
    if not (there.sessions or there.rows or took):
        say(
            f"nothing of it was booked, and no figure has changed. By operation {number}, {refused}"
        )
        raise typer.Exit(FAILED)
    say(f"it is erased, by operation {number}, which names nobody; {refused}")


def _named(tenant: str) -> str:
    """Return the tenant that is meant, as in `--where tenant=…`, but for a star, which is one."""
    from voicecosts.analytics.question.columns import Group  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.question.filters import named  # noqa: PLC0415 - same

    try:
        found = named(Group.TENANT, tenant)
    except BadFilter:
        raise BadQuestion("--tenant holds bytes that are not UTF-8 text, as no name does") from None
    if found is None:
        raise BadQuestion(
            "--tenant names one, as `costs query --by tenant` shows it: calls without a tenant name nobody"
        )
    return str(found)


def _said(there: Held) -> str:
    if not (there.sessions or there.rows):
        return "no call and no row is booked (dead letters are looked through)"
    return (
        f"{counted(there.sessions, 'call')}, {counted(there.rows, 'row')} of {counted(there.days, 'day')}, "
        f"{there.first} to {there.last}, and its dead letters"
    )


def _out_of_reach(tenant: str, data_dir: Path | None) -> Iterator[str]:
    """Yield what an erasure of the ledger does not reach."""
    yield (
        f"not reached: messages in the stream until their age is over (`costs stream{at_folder(data_dir)}`), the outboxes of workers, "
        "logs, and every backup or copy that was made before: make a new one, and remove those. After a restore, "
        "erase again"
    )
    from voicecosts.consumer.config import prices_from_env  # noqa: PLC0415 - `--help` is quick

    own = prices_from_env(data_folder(data_dir))
    if own.is_file() and tenant in own.read_text("utf-8", "replace"):
        yield f"your own prices name it: edit {own}"


def _late(data_dir: Path | None) -> int:
    from voicecosts.consumer.store.requests import Action, Request  # noqa: PLC0415 - `--help` is quick

    asked = Request(action=Action.FIND, reasons=("erased",))
    return answered(asked, data_dir, "`costs erase`").letters
