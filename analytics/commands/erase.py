"""`costs erase`: take everything of a tenant out of the ledger, for good."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from voicecosts.analytics.commands.exits import FAILED
from voicecosts.analytics.commands.ledger_requests import answered, data_folder, operate
from voicecosts.analytics.commands.operations import require_reason
from voicecosts.analytics.commands.options import DataDir, Reason, ReasonSource
from voicecosts.analytics.errors import BadQuestion, require
from voicecosts.analytics.numbers import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from voicecosts.analytics.answers.erased import Held

NONE = "(none)"
"""How an answer shows that there is no tenant."""

app = typer.Typer(rich_markup_mode=None)


@app.command()
def erase(
    *,
    tenant: Annotated[str, typer.Option(metavar="NAME", help="The tenant, exactly as booked.")],
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
    `costs operations revert` ends the refusal. Figures of closed months change, and answers say so.
    """
    from voicecosts.analytics.answers.erased import held  # noqa: PLC0415 - `--help` is quick
    from voicecosts.analytics.answers.operations import known  # noqa: PLC0415 - same
    from voicecosts.analytics.text.grid import printable  # noqa: PLC0415 - same
    from voicecosts.consumer.booking.operations import Erase  # noqa: PLC0415 - same

    why = require_reason(reason)
    if not tenant.strip() or tenant == NONE:
        raise BadQuestion(
            "--tenant names one, as `costs query --by tenant` shows it: calls without a tenant name nobody"
        )
    if tenant in why or tenant in source:
        raise BadQuestion(
            "the reason is kept for ever, and names the tenant: say it without, such as a ticket's number"
        )
    require("duckdb", "voice_prices", needed_by="`costs erase`", extra="consumer")
    there = held(data_dir, tenant, project)
    where = "in every project" if project is None else f"in project {printable(project)}"
    typer.echo(f"tenant {printable(tenant)} {where}: {_said(there)}")
    if not (there.sessions or there.rows):
        near = get_close_matches(tenant, known(data_dir).tenant, 1)
        meant = f" ({printable(near[0])} is one)" if near else ""
        typer.echo(f"! nothing in these books has that tenant{meant}: is it spelled as booked?")
    if there.closed:
        typer.echo(f"! closed months lack it afterwards: {', '.join(there.closed)}")
    for sentence in _out_of_reach(tenant, data_dir):
        typer.echo(f"! {sentence}")
    if not yes and not typer.confirm("Erase it? It cannot be undone."):
        typer.echo("nothing was changed")
        raise typer.Exit(FAILED)
    work = Erase(tenant=tenant, project=project)
    number = operate(work, reason=why, source=source, data_dir=data_dir, command="`costs erase`")
    letters = _late(data_dir)
    typer.echo(
        f"it is erased, by operation {number}: `costs operations show {number}` names nobody"
    )
    if letters:
        typer.echo(
            f"! {counted(letters, 'dead letter')} of what came late: `costs dead-letters purge --reason erased` "
            "removes them"
        )


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
        "not reached: messages in the stream until their age is over (`costs stream`), the outboxes of workers, "
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
